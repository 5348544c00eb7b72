"""Owns putting our storage in place of all others in the tests of limits: a plug-in of pytest.

Those tests are given a URI, options, the class that is expected, and a fixture, which makes the
storage empty. Of each list of storages one is kept, and names ours instead."""
import os

import pytest

import engine
from tmem.limits import AsyncTmemStorage, TmemStorage

ARENA = os.environ["TMEM_ARENA"]


@pytest.fixture(autouse=True)
def _empty_arena():
    yield
    try:
        engine.unlink(ARENA)
    except engine.ArenaNotFound:
        pass


@pytest.hookimpl(tryfirst=True)
def pytest_generate_tests(metafunc):
    theirs = metafunc.parametrize

    def parametrize(names, values, **more):
        if "fixture" in names:
            (uri, *_), = [value.values for value in values if value.id == "in-memory"]
            ours = AsyncTmemStorage if uri.startswith("async+") else TmemStorage
            given = {"uri": uri.replace("memory://", f"tmem://{ARENA}"), "args": {}, "expected_instance": ours}
            values = [pytest.param(*(given.get(name) for name in names.split(", ")), id="tmem")]
        theirs(names, values, **more)

    metafunc.parametrize = parametrize

"""Owns our backend where Flask-Caching's suite says SimpleCache, and a clock for it: a plug-in of
pytest.

The suite moves the clock of the program; ours is the kernel's. Instead, every value is given less
time to live, by as much as the clock moves on."""
import os

import flask_caching
import pytest

from engine import Cache

_cache = Cache(os.environ["TMEM_ARENA"], "cachelib")
_set_cache = flask_caching.Cache._set_cache


def set_our_cache(self, app, config):
    if config["CACHE_TYPE"] in ("SimpleCache", "cachelib.SimpleCache"):
        options = {**(config["CACHE_OPTIONS"] or {}), "arena": os.environ["TMEM_ARENA"]}
        config = {**config, "CACHE_TYPE": "tmem.cachelib.TmemCache", "CACHE_OPTIONS": options}
    _set_cache(self, app, config)


def advance(seconds):
    for key in list(_cache):
        left = _cache.expires(key)
        if left is not None:
            _cache.touch(key, left - seconds)


def pytest_configure():
    flask_caching.Cache._set_cache = set_our_cache


@pytest.fixture(autouse=True)
def _empty():
    _cache.clear()


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(fixturedef):
    value = yield
    if fixturedef.argname == "clock":
        value.advance = advance
    return value

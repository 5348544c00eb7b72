"""Owns putting our store in place of joblib's own, the one that its tests of Memory use: a plug-in
of pytest, which the processes that joblib starts import, too."""
import os

import pytest
from joblib.memory import register_store_backend

import engine
from tmem.joblib import TmemStoreBackend

ARENA = os.environ["TMEM_ARENA"]


class LocalStoreBackend(TmemStoreBackend):
    def configure(self, location, verbose=1, backend_options=None):
        super().configure(location, verbose, {**(backend_options or {}), "arena": ARENA, "capacity": "64MiB"})


register_store_backend("local", LocalStoreBackend)


@pytest.fixture(autouse=True, scope="session")
def _no_arena_left():
    yield
    engine.unlink(ARENA)

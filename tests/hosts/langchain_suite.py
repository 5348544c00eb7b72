"""Owns LangChain's standard tests of caches and stores, run on ours."""
import os

import pytest
from langchain_tests.integration_tests.base_store import BaseStoreAsyncTests, BaseStoreSyncTests
from langchain_tests.integration_tests.cache import AsyncCacheTestSuite, SyncCacheTestSuite

from tmem.langchain import TmemCache, TmemStore


class Caches:
    @pytest.fixture
    def cache(self):
        cache = TmemCache(os.environ["TMEM_ARENA"])
        cache.clear()
        return cache


class TestCache(Caches, SyncCacheTestSuite):
    pass


class TestAsyncCache(Caches, AsyncCacheTestSuite):
    pass


class Stores:
    @pytest.fixture
    def three_values(self):
        return b"one", {"two": [2]}, None.__class__

    @pytest.fixture
    def kv_store(self):
        store = TmemStore(os.environ["TMEM_ARENA"])
        store.mdelete(list(store.yield_keys()))
        return store


class TestStore(Stores, BaseStoreSyncTests):
    pass


class TestAsyncStore(Stores, BaseStoreAsyncTests):
    pass

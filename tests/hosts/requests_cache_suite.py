"""Owns our backend and its mapping in the common tests of requests-cache, beside which it is
put."""
import os

from tests.integration.base_cache_test import BaseCacheTest
from tests.integration.base_storage_test import BaseStorageTest
from tmem.requests_cache import TmemCache, TmemDict


class TestTmemDict(BaseStorageTest):
    storage_class = TmemDict
    init_kwargs = {"arena": os.environ["TMEM_ARENA"]}


class TestTmemCache(BaseCacheTest):
    backend_class = TmemCache
    init_kwargs = {"arena": os.environ["TMEM_ARENA"]}

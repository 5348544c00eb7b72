"""Owns our class among the backends that Flask-Caching's suite tests, beside which it is put."""
import os

import pytest
from test_backend_cache import GenericCacheTests

from tmem.cachelib import TmemCache


class TestTmemCache(GenericCacheTests):
    @pytest.fixture
    def make_cache(self):
        return lambda: TmemCache(os.environ["TMEM_ARENA"])

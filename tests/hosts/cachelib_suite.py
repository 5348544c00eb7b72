"""Owns our class in place of cachelib's own in the mixins of its suite, among which it is put."""
import os

import pytest
from cachelib.serializers import BaseSerializer
from clear import ClearTests
from common import CommonTests
from has import HasTests
from serializer import SerializerTests

from tmem.cachelib import TmemCache


class ReprSerializer(BaseSerializer):
    """One of the program's own, set on a class."""

    def dumps(self, value):
        return repr(value).encode()

    def loads(self, data):
        return eval(data.decode())


class CustomCache(TmemCache):
    serializer = ReprSerializer()


@pytest.fixture(autouse=True, params=[TmemCache, CustomCache])
def cache_factory(request):
    def make(self, *args, **kwargs):
        cache = request.param(os.environ["TMEM_ARENA"], *args, **kwargs)
        cache.clear()
        return cache

    request.cls.cache_factory = make


class TestTmemCache(CommonTests, ClearTests, HasTests, SerializerTests):
    """All that applies: it has no prefix of keys, but a name of the cache."""

"""Owns our cache where aiocache's suite makes one in the memory of its process: a plug-in of
pytest."""
import os

from aiocache import Cache, SimpleMemoryCache

from tmem.aiocache import TmemCache


def new(cls, cache_class=SimpleMemoryCache, **kwargs):
    if cache_class is SimpleMemoryCache:
        return TmemCache(os.environ["TMEM_ARENA"], **kwargs)
    return made(cls, cache_class, **kwargs)


made = Cache.__new__
Cache.__new__ = new

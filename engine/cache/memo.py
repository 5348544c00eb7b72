"""Owns memoizing: the answers of a function in a cache, in the shape of `functools.lru_cache`.

The key of an answer is the name of the function with the arguments, as they were passed, keywords
sorted. `self` is an argument as any other.
"""
import functools
import inspect
from typing import NamedTuple

from engine.cache.computing import acompute, compute


class CacheInfo(NamedTuple):
    """What `cache_info` tells: hits and misses of this process, and how many answers there are, of
    all."""

    hits: int
    misses: int
    maxsize: int | None
    currsize: int


class _Counts:
    __slots__ = ("hits", "misses")

    def __init__(self):
        self.hits = self.misses = 0


def memoize(cache, function, ttl, key, typed, stale, beta):
    """The function, with its answers in a cache."""
    name = f"{function.__module__}.{function.__qualname__}"
    counts = _Counts()

    def cache_key(*args, **kwargs):
        """The key under which the answer for these arguments is."""
        if key is not None:
            return (name, key(*args, **kwargs))
        named = tuple(sorted(kwargs.items()))
        if not typed:
            return (name, (args, named))
        return (name, (args, named, tuple(map(type, args)), tuple(type(value) for _, value in named)))

    if inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        async def answered(*args, **kwargs):
            missed = False

            async def ask():
                nonlocal missed
                missed = True
                return await function(*args, **kwargs)

            value = await acompute(cache, cache_key(*args, **kwargs), ask, ttl, stale, beta)
            counts.misses += missed
            counts.hits += not missed
            return value

    else:

        @functools.wraps(function)
        def answered(*args, **kwargs):
            missed = False

            def ask():
                nonlocal missed
                missed = True
                return function(*args, **kwargs)

            value = compute(cache, cache_key(*args, **kwargs), ask, ttl, stale, beta)
            counts.misses += missed
            counts.hits += not missed
            return value

    def cache_info():
        """Hits and misses of this process, and how many answers there are; that takes a walk
        through the cache."""
        return CacheInfo(counts.hits, counts.misses, None, sum(1 for _ in cache._keys_of(name)))

    def cache_clear():
        """Drop all answers of this function; that takes a walk through the cache."""
        for one in list(cache._keys_of(name)):
            cache.delete(one)
        counts.hits = counts.misses = 0

    answered.cache_key = cache_key
    answered.cache_info = cache_info
    answered.cache_clear = cache_clear
    return answered

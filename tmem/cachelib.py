"""Owns the cache for programs that use cachelib, Flask-Caching (CACHE_TYPE =
"tmem.cachelib.TmemCache") and Flask-Session.

Whole numbers are kept as counters, with a serializer or without one, so inc and dec are exact in
however many processes.
"""
import math

from cachelib import BaseCache

from engine import ArenaFull
from tmem.opening import open_cache


class TmemCache(BaseCache):
    """A cache of cachelib that all processes of the machine share.

    arena: the name of one, which is made at the first call if it is not there. default_timeout:
    seconds or a timedelta, 0: for ever. name: of the cache in the arena; caches of other names have
    keys of their own. serializer: an object with dumps and loads, as those of cachelib; without
    one, values are pickled. options: of engine.Cache, as capacity="256MiB"."""

    serializer = None       # may be set on a class, or later on an instance, as on the caches of cachelib

    def __init__(
        self, arena, default_timeout=300, ignore_delete_many_errors=True, *, name="cachelib", serializer=None, **options
    ):
        super().__init__(default_timeout, ignore_delete_many_errors)
        if serializer is not None:
            self.serializer = serializer
        if "ttl" in options:
            raise TypeError("ttl: how long values live is said by default_timeout")
        self._cache = open_cache(arena, name, **options)

    def _life(self, timeout):
        return self._normalize_timeout(timeout) or math.inf

    def _stored(self, value):
        """What is kept of a value: a serializer's work is done before anything of the arena is
        held."""
        return value if self.serializer is None or type(value) is int else self.serializer.dumps(value)

    def get(self, key):
        value = self._cache.get(key)
        return value if self.serializer is None or value is None or type(value) is int else self.serializer.loads(value)

    def set(self, key, value, timeout=None):
        return self._cache.set(key, self._stored(value), self._life(timeout))

    def add(self, key, value, timeout=None):
        return self._cache.add(key, self._stored(value), self._life(timeout))

    def delete(self, key):
        return self._cache.delete(key)

    def has(self, key):
        return self._cache.has(key)

    def clear(self):
        self._cache.clear()
        return True

    def inc(self, key, delta=1):
        """Add to a whole number of 64 bits, in one step: what it comes to; None: there is no memory
        for it. One that is missing starts from 0, and lives for default_timeout. TypeError if the
        value is no such number."""
        try:
            return self._cache.incr(key, delta, ttl=self._life(None))
        except ArenaFull:
            return None

    def dec(self, key, delta=1):
        """The same as inc with -delta."""
        return self.inc(key, -delta)

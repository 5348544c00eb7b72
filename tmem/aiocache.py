"""Owns the cache for aiocache: caches.set_config({"default": {"cache": "tmem.aiocache.TmemCache",
"arena": "shop"}}).

Each verb is carried out where it is called, in the event loop: that takes less time than telling
anybody else to. So there is nothing that a timeout could interrupt.
"""
import math

from aiocache.base import BaseCache
from aiocache.serializers import NullSerializer

from tmem.opening import open_cache


class TmemCache(BaseCache):
    """A cache of aiocache that all processes of the machine share.

    arena: the name of one, which is made at the first call if it is not there. name: of the cache
    in the arena. serializer, plugins, namespace, key_builder, timeout, ttl: as of every cache of
    aiocache; without a serializer values are pickled, and ints are counters. options: of
    engine.Cache, as capacity="256MiB"."""

    NAME = "tmem"

    def __init__(
        self, arena, name="aiocache", *, serializer=None, plugins=None, namespace=None, key_builder=None, timeout=None,
        ttl=None, **options
    ):
        super().__init__(serializer or NullSerializer(), plugins, namespace, key_builder, timeout, ttl)
        self._cache = open_cache(arena, name, **options)

    async def _get(self, key, encoding="utf-8", _conn=None):
        return self._cache.get(key)

    async def _gets(self, key, encoding="utf-8", _conn=None):
        """What an optimistic lock hands back to `_set`: the version of the value."""
        return self._cache.get(key, with_version=True)[1]

    async def _multi_get(self, keys, encoding="utf-8", _conn=None):
        return [self._cache.get(key) for key in keys]

    async def _set(self, key, value, ttl=None, _cas_token=None, _conn=None):
        if _cas_token is not None:
            return bool(self._cache.cas(key, value, _cas_token, ttl or math.inf))
        return self._cache.set(key, value, ttl or math.inf)

    async def _multi_set(self, pairs, ttl=None, _conn=None):
        return not self._cache.set_many(pairs, ttl or math.inf)

    async def _add(self, key, value, ttl=None, _conn=None):
        if not self._cache.add(key, value, ttl or math.inf) and self._cache.has(key):
            raise ValueError(f"key {key!r} is there already; `set` puts another value in its place")
        return True

    async def _exists(self, key, _conn=None):
        return self._cache.has(key)

    async def _increment(self, key, delta, _conn=None):
        return self._cache.incr(key, delta)

    async def _expire(self, key, ttl, _conn=None):
        return self._cache.touch(key, ttl or math.inf)

    async def _delete(self, key, _conn=None):
        return int(self._cache.delete(key))

    async def _clear(self, namespace=None, _conn=None):
        if namespace:
            self._cache.delete_many([key for key in self._cache if isinstance(key, str) and key.startswith(namespace)])
        else:
            self._cache.clear()
        return True

    async def _raw(self, command, *args, encoding="utf-8", _conn=None, **kwargs):
        return getattr(self._cache, command)(*args, **kwargs)

    async def _redlock_release(self, key, value):
        """Drop a lock, if it is still this one: in one step, since its time may be over."""
        found, version = self._cache.get(key, with_version=True)
        return int(version is not None and found == value and bool(self._cache.cas(key, None, version, ttl=0)))

    async def _close(self, *args, _conn=None, **kwargs):
        """Let go of the arena, until the next call."""
        self._cache.close()

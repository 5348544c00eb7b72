"""Owns the backend for requests-cache: CachedSession(backend=TmemCache(arena="shop"))."""
import math

from requests_cache.backends import BaseCache, BaseStorage
from requests_cache.serializers import pickle_serializer

from tmem.opening import open_cache

OPTIONS = ("capacity", "exact", "persistent", "pam", "policy", "cap", "client", "allow")


class TmemCache(BaseCache):
    """A cache of responses that all processes of the machine share.

    cache_name: of the cache in the arena. arena: the name of one, which is made at the first call
    if it is not there. serializer: of requests-cache, or its name. ttl: whether a response goes
    ttl_offset seconds after it has expired; until then it may be revalidated, or used when a server
    fails. kwargs: options of engine.Cache, as capacity="256MiB"; what is meant for the session is
    passed over, as other backends do."""

    def __init__(self, cache_name="http_cache", serializer=None, ttl=True, ttl_offset=3600, *, arena, **kwargs):
        super().__init__(cache_name=cache_name)
        self.responses = TmemDict(
            cache_name, None, serializer or pickle_serializer, ttl=ttl, ttl_offset=ttl_offset, arena=arena, **kwargs
        )
        self.redirects = TmemDict(cache_name, "redirects", serializer=None, arena=arena, **kwargs)


class TmemDict(BaseStorage):
    """One mapping of a backend, which is a cache in the arena. Values may go when memory is short,
    also while others walk through it."""

    def __init__(
        self, cache_name, collection_name=None, serializer=pickle_serializer, decode_content=False, ttl=True,
        ttl_offset=3600, *, arena, **kwargs
    ):
        super().__init__(serializer=serializer, decode_content=decode_content)
        self.ttl = ttl
        self.ttl_offset = ttl_offset
        options = {key: value for key, value in kwargs.items() if key in OPTIONS}
        name = str(cache_name) if collection_name is None else f"{cache_name}:{collection_name}"
        self._cache = open_cache(arena, name, **options)

    def _life(self, item):
        """Seconds that something stays. A response without an end, or which was over when it came,
        stays as long as there is room: it may be revalidated."""
        left = getattr(item, "expires_delta", None)
        return left + self.ttl_offset if self.ttl and left is not None and left + self.ttl_offset > 0 else math.inf

    def __getitem__(self, key):
        return self.deserialize(key, self._cache[key])

    def __setitem__(self, key, item):
        self._cache.set(key, self.serialize(item), self._life(item))

    def __delitem__(self, key):
        del self._cache[key]

    def __contains__(self, key):
        return key in self._cache

    def __iter__(self):
        return iter(self._cache)

    def __len__(self):
        return len(self._cache)

    def keys(self):
        return self._cache.keys()

    def items(self):
        for key, value in self._cache.items():
            yield key, self.deserialize(key, value)

    def values(self):
        for _, value in self.items():
            yield value

    def bulk_delete(self, keys):
        self._cache.delete_many(keys)

    def clear(self):
        self._cache.clear()

    def close(self):
        """Let go of the arena, until the next call."""
        self._cache.close()

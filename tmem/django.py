"""Owns the cache backend for Django: "BACKEND": "tmem.django.TmemCache".

Django makes an object of the backend for each thread, and under ASGI for each request. All those of
a process that say the same are one cache, which stays open for as long as the process lives.
"""
import functools
import math

from django.core.cache.backends.base import DEFAULT_TIMEOUT, BaseCache, InvalidCacheBackendError
from django.utils.module_loading import import_string

from tmem.opening import open_cache

_caches = {}        # {what the settings say: the cache}


def _opened(location, options):
    """The cache of some LOCATION and OPTIONS."""
    if not isinstance(location, str) or not location:
        raise InvalidCacheBackendError(f"LOCATION: the name of an arena, a str that is not empty, not {location!r}")
    culling = sorted({"MAX_ENTRIES", "CULL_FREQUENCY"} & set(options))
    if culling:
        raise InvalidCacheBackendError(
            f"OPTIONS: {' and '.join(culling)}: nothing is culled by number here; the arena has a size in bytes, "
            "'capacity', and what is used least makes room"
        )
    said = location, repr(sorted(options.items()))
    if said not in _caches:
        made_as = {"name": "django", **options}
        serializer = made_as.pop("serializer", None)
        if isinstance(serializer, str):
            serializer = import_string(serializer)
        if isinstance(serializer, type):
            serializer = serializer()
        try:
            cache = open_cache(location, made_as.pop("name"), ttl=None, serializer=serializer, **made_as)
        except (TypeError, ValueError) as error:
            raise InvalidCacheBackendError(f"OPTIONS: {error}".replace("OPTIONS: arena", "LOCATION")) from error
        _caches.setdefault(said, cache)     # another thread may have been faster
    return _caches[said]


def _at_once(verb):
    """A verb for asyncio. It is carried out where it is called: that takes less time than telling a
    thread to, and an increment stays one step, which the base would take apart."""

    @functools.wraps(verb)
    async def carry_out(self, *args, **kwargs):
        return verb(self, *args, **kwargs)

    return carry_out


class TmemCache(BaseCache):
    """A cache of Django that all processes of the machine share.

    LOCATION: the name of an arena, which is made at the first call if it is not there. OPTIONS:
    `name`, of the cache in the arena ("django"); `serializer`, an object with dumps and loads, its
    class, or the path of one; and those of engine.Cache, as `capacity`."""

    def __init__(self, location, params):
        super().__init__(params)
        self._cache = _opened(location, params.get("OPTIONS") or {})

    def get_backend_timeout(self, timeout=DEFAULT_TIMEOUT):
        """Seconds to live, infinity for ever."""
        if timeout is DEFAULT_TIMEOUT:
            timeout = self.default_timeout
        return math.inf if timeout is None else timeout

    def _keys(self, keys, version):
        """{key in the arena: key}"""
        return {self.make_and_validate_key(key, version=version): key for key in keys}

    def add(self, key, value, timeout=DEFAULT_TIMEOUT, version=None):
        key = self.make_and_validate_key(key, version=version)
        return self._cache.add(key, value, self.get_backend_timeout(timeout))

    def get(self, key, default=None, version=None):
        return self._cache.get(self.make_and_validate_key(key, version=version), default)

    def set(self, key, value, timeout=DEFAULT_TIMEOUT, version=None):
        key = self.make_and_validate_key(key, version=version)
        self._cache.set(key, value, self.get_backend_timeout(timeout))

    def touch(self, key, timeout=DEFAULT_TIMEOUT, version=None):
        return self._cache.touch(self.make_and_validate_key(key, version=version), self.get_backend_timeout(timeout))

    def delete(self, key, version=None):
        return self._cache.delete(self.make_and_validate_key(key, version=version))

    def has_key(self, key, version=None):
        return self._cache.has(self.make_and_validate_key(key, version=version))

    def incr(self, key, delta=1, version=None):
        """Add to a whole number of 64 bits, in one step; its time to live stays. ValueError if
        there is none, TypeError if what is there is no such number."""
        try:
            return self._cache.incr(self.make_and_validate_key(key, version=version), delta, initial=None)
        except KeyError:
            raise ValueError(f"Key {key!r} not found") from None

    def get_or_set(self, key, default, timeout=DEFAULT_TIMEOUT, version=None):
        """The value of a key; `default`, which is kept, if there is none. A callable is called by
        one at a time on the whole machine; the others wait for what it gives."""
        key = self.make_and_validate_key(key, version=version)
        make = default if callable(default) else lambda: default
        return self._cache.get_or_compute(key, make, self.get_backend_timeout(timeout))

    def get_many(self, keys, version=None):
        keys = self._keys(keys, version)
        return {keys[key]: value for key, value in self._cache.get_many(keys).items()}

    def set_many(self, data, timeout=DEFAULT_TIMEOUT, version=None):
        """Keep many values. A list of the keys for which there was no memory."""
        keys = self._keys(data, version)
        pairs = ((key, data[said]) for key, said in keys.items())
        return [keys[key] for key in self._cache.set_many(pairs, self.get_backend_timeout(timeout))]

    def delete_many(self, keys, version=None):
        self._cache.delete_many(self._keys(keys, version))

    def clear(self):
        """Drop all values of this LOCATION and name, whatever their prefix and version."""
        self._cache.clear()

    async def aget_or_set(self, key, default, timeout=DEFAULT_TIMEOUT, version=None):
        """As get_or_set; a callable may be a coroutine function, too."""
        key = self.make_and_validate_key(key, version=version)
        make = default if callable(default) else lambda: default
        return await self._cache.aget_or_compute(key, make, self.get_backend_timeout(timeout))

    aadd, aget, aset, atouch, adelete = map(_at_once, (add, get, set, touch, delete))
    ahas_key, aincr, aclear = map(_at_once, (has_key, incr, clear))
    aget_many, aset_many, adelete_many = map(_at_once, (get_many, set_many, delete_many))

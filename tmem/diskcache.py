"""Owns Cache, FanoutCache and DjangoCache in the words of diskcache, for programs that leave it:
`from tmem.diskcache import Cache` is the one line that changes.

What is not here, since an arena has no order of keys, no transactions and no files: Deque, Index,
push, pull, peek, peekitem, transact, reversed, JSONDisk, and resetting settings. What is about
SQLite or about removing what is too much is taken and has no effect.

A value with a tag is kept as a pair, so both come and go together. A change of such a pair, and
taking away what was looked at, goes by the version that was seen, and again if it has changed.
"""
import functools
import hashlib
import io
import math
import os
import re
import time
from typing import Any, NamedTuple

import engine
from tmem.opening import open_cache

# Settings of diskcache that mean nothing here, and those that Django's backends share.
UNUSED = {"statistics", "tag_index", "cull_limit", "MAX_ENTRIES", "CULL_FREQUENCY"}
UNUSED_BEGIN = ("sqlite_", "disk_")
POLICIES = {
    "least-recently-stored": "fifo",
    "least-recently-used": "s3fifo",
    "least-frequently-used": "s3fifo",
    "none": "s3fifo",
}
_missing = object()


class Timeout(Exception):
    """What diskcache raises when its database is busy. Nothing does here; for `except Timeout`."""


class Tagged(NamedTuple):
    """A value that has a tag."""

    value: Any
    tag: Any


def with_tag(value, tag):
    return value if tag is None else Tagged(value, tag)


def parts_of(kept):
    """A value, and its tag or None."""
    return kept if type(kept) is Tagged else (kept, None)


def arena_of(directory):
    """The arena that stands for a directory; what is no path is the name of one."""
    try:
        path = os.path.expandvars(os.path.expanduser(os.fspath(directory)))
    except TypeError:
        raise TypeError(
            f"directory: the name of an arena, or a path that stands for one, not {directory!r}; "
            "an arena does not go by itself, as a directory for a while would"
        ) from None
    if "/" not in path:
        return path
    path = os.path.abspath(path)
    # What a name may have of it is for people; the digest tells apart what looks alike.
    digest = hashlib.blake2s(os.fsencode(path), digest_size=4).hexdigest()
    return f"{re.sub('[^A-Za-z0-9_.]+', '-', path)[-150:].strip('-.')}-{digest}"


def options_of(settings):
    """The options of engine.Cache that settings of diskcache mean."""
    if "ttl" in settings:
        raise TypeError("ttl: how long a value lives is said when it is set, by expire")
    options = {key: value for key, value in settings.items() if key not in UNUSED and not key.startswith(UNUSED_BEGIN)}
    if "size_limit" in options:
        options.setdefault("capacity", options.pop("size_limit"))
    said = options.pop("eviction_policy", "least-recently-stored")
    if said not in POLICIES:
        raise ValueError(f"eviction_policy: one of {', '.join(POLICIES)}, not {said!r}")
    options.setdefault("policy", POLICIES[said])
    options.setdefault("persistent", said == "none")
    return options


def seconds(expire):
    return math.inf if expire is None else expire


class Cache:
    """diskcache.Cache in an arena. `directory` is the name of an arena, or a path that stands for
    one; settings are diskcache's and those of engine.Cache."""

    def __init__(self, directory=None, timeout=60, disk=None, **settings):
        if disk is not None:
            raise TypeError("disk: none can be chosen; values are pickled, or as serializer= says")
        settings.setdefault("name", "diskcache")
        self._cache = open_cache(arena_of(directory), **options_of(settings))
        self._start((0, 0), os.fspath(directory), timeout)

    def _start(self, counted, directory, timeout):
        self._counted = counted         # hits and misses when this object was last told to begin anew
        self.directory = directory
        self.timeout = timeout

    # --- one value --------------------------------------------------------------------------------

    def set(self, key, value, expire=None, read=False, tag=None, retry=False):
        """Keep a value, or with `read` what a file has. False if there is no room for it."""
        return self._cache.set(key, with_tag(value.read() if read else value, tag), seconds(expire))

    def __setitem__(self, key, value):
        self.set(key, value)

    def add(self, key, value, expire=None, read=False, tag=None, retry=False):
        """Keep a value if there is none."""
        return self._cache.add(key, with_tag(value.read() if read else value, tag), seconds(expire))

    def touch(self, key, expire=None, retry=False):
        return self._cache.touch(key, seconds(expire))

    def _look(self, key):
        """What is kept, its version, and the time at which it ends or None: of one moment. The
        version is None if there is nothing."""
        while True:
            kept, version = self._cache.get(key, with_version=True)
            try:
                left = self._cache.expires(key) if version is not None else None
            except KeyError:
                continue
            if version is None or self._cache.get(key, with_version=True)[1] == version:
                return kept, version, None if left is None else time.time() + left

    @staticmethod
    def _answer(kept, ends, expire_time, tag):
        value, its_tag = parts_of(kept)
        answer = (value, *([ends] if expire_time else []), *([its_tag] if tag else []))
        return answer if len(answer) > 1 else value

    def get(self, key, default=None, read=False, expire_time=False, tag=False, retry=False):
        """A value; with expire_time and tag a tuple of it and these. read: bytes come as a file."""
        ends = None
        if expire_time:
            kept, version, ends = self._look(key)
            kept = default if version is None else kept
        else:
            kept = self._cache.get(key, default)
        if read and type(parts_of(kept)[0]) is bytes:
            value, its_tag = parts_of(kept)
            kept = with_tag(io.BytesIO(value), its_tag)
        return self._answer(kept, ends, expire_time, tag)

    def __getitem__(self, key):
        value = self.get(key, _missing)
        if value is _missing:
            raise KeyError(key)
        return value

    def read(self, key, retry=False):
        """The bytes of a key as a file; KeyError if there are none."""
        value = self.get(key, _missing, read=True)
        if value is _missing:
            raise KeyError(key)
        return value

    def __contains__(self, key):
        return key in self._cache

    def pop(self, key, default=None, expire_time=False, tag=False, retry=False):
        """A value that is taken away: one caller gets it."""
        if not expire_time:
            return self._answer(self._cache.pop(key, default), None, False, tag)
        while True:
            kept, version, ends = self._look(key)
            if version is None:
                return self._answer(default, None, expire_time, tag)
            if self._cache.cas(key, None, version, 0):      # nothing, that lives no time
                return self._answer(kept, ends, expire_time, tag)

    def delete(self, key, retry=False):
        return self._cache.delete(key)

    def __delitem__(self, key):
        del self._cache[key]

    def incr(self, key, delta=1, default=0, retry=False):
        """Add to a number: what it comes to. One that is missing starts from `default`; with None
        that is a KeyError."""
        try:
            return self._cache.incr(key, delta, default, math.inf)
        except (TypeError, OverflowError):
            pass                        # it has a tag, or is not an int of 64 bits
        while True:
            kept, version, ends = self._look(key)
            if version is None and default is None:
                raise KeyError(key)
            value, tag = parts_of(default if version is None else kept)
            left = math.inf if ends is None else ends - time.time()
            done = self._cache.cas(key, with_tag(value + delta, tag), version, left)
            if done is None:
                raise engine.ArenaFull(f"arena {self._cache.arena!r}: there is no room for the number of key {key!r}")
            if done:
                return value + delta

    def decr(self, key, delta=1, default=0, retry=False):
        return self.incr(key, -delta, default)

    # --- answers of functions ---------------------------------------------------------------------

    def memoize(self, name=None, typed=False, expire=None, tag=None, ignore=()):
        """A decorator that keeps the answers of a function. One process of all computes an answer
        at a time."""
        return memoized(self._cache, name, typed, seconds(expire), tag, ignore, 0)

    # --- the whole cache --------------------------------------------------------------------------

    def evict(self, tag, retry=False):
        """Drop all values that have a tag, and say how many. Walks through the cache. None is no
        tag, and nothing has it."""
        dropped = 0
        for key in list(self._cache):
            kept, version = self._cache.get(key, with_version=True)
            if type(kept) is Tagged and kept.tag == tag:
                dropped += bool(self._cache.cas(key, None, version, 0))
        return dropped

    def expire(self, now=None, retry=False):
        """Give back the memory of what has expired, and say of how many."""
        before = self._cache.stats()["expired"]
        self._cache.expire()
        return self._cache.stats()["expired"] - before

    def clear(self, retry=False):
        count = len(self._cache)
        self._cache.clear()
        return count

    def check(self, fix=False, retry=False):
        """What is wrong in the arena, which is looked at while all others wait; nothing, as a
        rule."""
        len(self._cache)                # it is there, if it was not
        with engine.attach(self._cache.arena) as eng:
            return eng.check(repair=fix).problems

    def stats(self, enable=True, reset=False):
        """Hits and misses of all processes, which are always counted, since this object was last
        told to `reset` them."""
        counts = self._cache.stats()
        now = (counts["hits"], counts["misses"])
        found = tuple(count - before for count, before in zip(now, self._counted, strict=True))
        if reset:
            self._counted = now
        return found

    def cull(self, retry=False):
        """Nothing: what is used least makes room by itself. 0 values were removed."""
        return 0

    def create_tag_index(self):
        """Nothing: `evict` walks through the cache."""

    drop_tag_index = create_tag_index

    def iterkeys(self):
        """The keys, in no order."""
        return iter(self._cache)

    __iter__ = iterkeys

    def __len__(self):
        return len(self._cache)

    def close(self):
        self._cache.close()

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.close()


class FanoutCache(Cache):
    """diskcache.FanoutCache: here the same as Cache, since writers do not wait for each other."""

    def __init__(self, directory=None, shards=8, timeout=0.010, disk=None, **settings):
        super().__init__(directory, timeout, disk, **settings)

    def cache(self, name, timeout=60, disk=None, **settings):
        """A cache beside this one in the arena, with keys of its own and the same settings."""
        if disk is not None or settings:
            raise TypeError("cache: only a name can be chosen; the rest is as in the cache that it is asked of")
        beside = Cache.__new__(Cache)
        beside._cache = self._cache.namespace(name)
        beside._start((0, 0), os.path.join(self.directory, "cache", *name.split("/")), timeout)
        return beside


# --- recipes --------------------------------------------------------------------------------------


def memoized(cache, name, typed, ttl, tag, ignore, beta):
    """A decorator that keeps the answers of a function in a cache of the engine's."""
    if callable(name):
        raise TypeError("name: a str or None; memoize is called before it decorates, as @cache.memoize()")

    def decorator(function):
        base = name if name is not None else f"{function.__module__}.{function.__qualname__}"

        def cache_key(*args, **kwargs):
            args = tuple(arg for n, arg in enumerate(args) if n not in ignore)
            more = tuple(sorted((key, value) for key, value in kwargs.items() if key not in ignore))
            types = (tuple(map(type, args)), tuple(type(value) for _, value in more)) if typed else ()
            return (base, args, more, *types)

        @functools.wraps(function)
        def wrapper(*args, **kwargs):
            def compute():
                return with_tag(function(*args, **kwargs), tag)

            return parts_of(cache.get_or_compute(cache_key(*args, **kwargs), compute, ttl, beta=beta))[0]

        wrapper.__cache_key__ = cache_key
        return wrapper

    return decorator


def memoize_stampede(cache, expire, name=None, typed=False, tag=None, beta=1, ignore=()):
    """A decorator that keeps the answers of a function and computes them anew a little before their
    time, by chance, so that nobody finds them missing."""
    return memoized(cache._cache, name, typed, expire, tag, ignore, beta)


class Lock:
    """diskcache.Lock, as a lease: it passes on when its holder dies, so `expire` is not needed."""

    def __init__(self, cache, key, expire=None, tag=None):
        self._cache = cache
        self._key = key

    def _lease(self):
        return self._cache._cache.lease(("lock", self._key), any_thread=True)

    def acquire(self):
        self._lease().acquire()

    def release(self):
        self._lease().release()

    def locked(self):
        return self._lease().locked()

    def __enter__(self):
        self.acquire()

    def __exit__(self, *exception):
        self.release()


class RLock(Lock):
    """diskcache.RLock: a thread may take it several times, and gives it back as often."""

    def __init__(self, cache, key, expire=None, tag=None):
        super().__init__(cache, key)
        self._depth = 0                 # only who holds it looks at it

    def _lease(self):
        return self._cache._cache.lease(("rlock", self._key))

    def acquire(self):
        lease = self._lease()
        if lease.mine():
            self._depth += 1
        else:
            lease.acquire()
            self._depth = 1

    def release(self):
        lease = self._lease()
        if self._depth > 1 and lease.mine():
            self._depth -= 1
        else:
            lease.release()


def barrier(cache, lock_factory, name=None, expire=None, tag=None):
    """A decorator that lets one caller at a time, of all processes, run a function."""

    def decorator(function):
        lock = lock_factory(cache, name if name is not None else f"{function.__module__}.{function.__qualname__}")

        @functools.wraps(function)
        def wrapper(*args, **kwargs):
            with lock:
                return function(*args, **kwargs)

        return wrapper

    return decorator


# --- Django ---------------------------------------------------------------------------------------

try:
    from django.core.cache.backends.base import DEFAULT_TIMEOUT, BaseCache
except ImportError:
    BaseCache = None                    # the rest needs no Django

if BaseCache is not None:
    # {what the settings say: the cache}: Django makes an object for each thread, or each request.
    _caches = {}

    class DjangoCache(BaseCache):
        """diskcache.DjangoCache in an arena: "BACKEND": "tmem.diskcache.DjangoCache"."""

        def __init__(self, directory, params):
            super().__init__(params)
            options = {"name": "diskcache-django", **params.get("OPTIONS", {})}
            said = directory, repr(sorted(options.items()))
            if said not in _caches:
                _caches.setdefault(said, FanoutCache(directory, **options))     # another thread may be faster
            self._cache = _caches[said]
            # Verbs that are not about one key are the cache's own.
            for verb in ("evict", "expire", "cull", "clear", "check", "stats", "create_tag_index", "drop_tag_index"):
                setattr(self, verb, getattr(self._cache, verb))
            self.cache = self._cache.cache

        @property
        def directory(self):
            return self._cache.directory

        def get_backend_timeout(self, timeout=DEFAULT_TIMEOUT):
            """Seconds to live, None for ever."""
            return self.default_timeout if timeout is DEFAULT_TIMEOUT else timeout

        def add(self, key, value, timeout=DEFAULT_TIMEOUT, version=None, read=False, tag=None, retry=True):
            return self._cache.add(self.make_key(key, version), value, self.get_backend_timeout(timeout), read, tag)

        def get(self, key, default=None, version=None, read=False, expire_time=False, tag=False, retry=False):
            return self._cache.get(self.make_key(key, version), default, read, expire_time, tag)

        def read(self, key, version=None):
            return self._cache.read(self.make_key(key, version))

        def set(self, key, value, timeout=DEFAULT_TIMEOUT, version=None, read=False, tag=None, retry=True):
            return self._cache.set(self.make_key(key, version), value, self.get_backend_timeout(timeout), read, tag)

        def touch(self, key, timeout=DEFAULT_TIMEOUT, version=None, retry=True):
            return self._cache.touch(self.make_key(key, version), self.get_backend_timeout(timeout))

        def pop(self, key, default=None, version=None, expire_time=False, tag=False, retry=True):
            return self._cache.pop(self.make_key(key, version), default, expire_time, tag)

        def delete(self, key, version=None, retry=True):
            return self._cache.delete(self.make_key(key, version))

        def incr(self, key, delta=1, version=None, default=None, retry=True):
            try:
                return self._cache.incr(self.make_key(key, version), delta, default)
            except KeyError:
                raise ValueError(f"Key {key!r} not found") from None

        def decr(self, key, delta=1, version=None, default=None, retry=True):
            return self.incr(key, -delta, version, default)

        async def aincr(self, key, delta=1, version=None):
            """In one step, which the base would take apart."""
            return self.incr(key, delta, version)

        def has_key(self, key, version=None):
            return self.make_key(key, version) in self._cache

        def memoize(self, name=None, timeout=DEFAULT_TIMEOUT, version=None, typed=False, tag=None, ignore=()):
            ttl = seconds(self.get_backend_timeout(timeout))
            return memoized(self._cache._cache, name, typed, ttl, tag, ignore, 0)

        def close(self, **kwargs):
            """Nothing at the end of a request: all that asks again would open the arena again."""

"""Owns the planted bugs of the canary: pools, and caches, that misbehave once in a while, to prove
that the checkers notice.

Each bug is a wrapper that stands where the pool would; nothing below it is touched. Calls the
public API of what it wraps.
"""
from __future__ import annotations

CHANCE = 0.02
CROWDED = 0.1           # well above what may be missing


class _Wrapper:
    """A pool that does what it should."""

    def __init__(self, pool, rng):
        self._pool, self._rng = pool, rng

    def __getattr__(self, name):
        return getattr(self._pool, name)

    def _now(self) -> bool:
        return self._rng.random() < CHANCE


class _Stale(_Wrapper):
    """A get returns the content that the last put replaced."""

    def __init__(self, pool, rng):
        super().__init__(pool, rng)
        self._last: dict = {}
        self._older: dict = {}

    def put(self, oid, index, data):
        handle = oid, index
        if handle in self._last:
            self._older[handle] = self._last[handle]
        self._last[handle] = bytes(data)
        return self._pool.put(oid, index, data)

    def get(self, oid, index, free=None):
        data = self._pool.get(oid, index, free)
        return self._older.get((oid, index), data) if data is not None and self._now() else data


class _Zombie(_Wrapper):
    """A page that this process flushed is returned once more."""

    def __init__(self, pool, rng):
        super().__init__(pool, rng)
        self._flushed: dict = {}

    def flush_page(self, oid, index):
        data = self._pool.get(oid, index, False)
        if data is not None:
            self._flushed[oid, index] = data
        return self._pool.flush_page(oid, index)

    def get(self, oid, index, free=None):
        data = self._pool.get(oid, index, free)
        return self._flushed.pop((oid, index), None) if data is None else data


class _Flipped(_Wrapper):
    """One bit is wrong."""

    def get(self, oid, index, free=None):
        data = self._pool.get(oid, index, free)
        if data is None or not self._now():
            return data
        at = self._rng.randrange(len(data))
        return data[:at] + bytes([data[at] ^ 1 << self._rng.randrange(8)]) + data[at + 1:]


class _Lost(_Wrapper):
    """A put answers True and keeps nothing."""

    def put(self, oid, index, data):
        accepted = self._pool.put(oid, index, data)
        if accepted and self._now():
            self._pool.flush_page(oid, index)
        return accepted


class _Torn(_Wrapper):
    """A range begins with the first page of the range that this process put before."""

    def __init__(self, pool, rng):
        super().__init__(pool, rng)
        self._first: dict = {}

    def put_range(self, oid, index, data):
        if self._now():
            self._first[oid, index] = bytes(data[:self._pool.page_size])
        return self._pool.put_range(oid, index, data)

    def get_range(self, oid, index, count, free=None):
        data = self._pool.get_range(oid, index, count, free)
        first = self._first.pop((oid, index), None)
        return data if data is None or first is None else first + data[len(first):]


class _Crowded(_Wrapper):
    """A page is evicted now and then, as if its client had more than its share."""

    def get(self, oid, index, free=None):
        if self._rng.random() < CROWDED:
            self._pool.flush_page(oid, index)
        return self._pool.get(oid, index, free)


class _Uncleared(_Wrapper):
    """A clear leaves what is there."""

    def clear(self):
        pass


class _Miscounted(_Wrapper):
    """A count is answered and not kept, one time in four."""

    def incr(self, oid, delta=1, *more):
        if self._rng.randrange(4):
            return self._pool.incr(oid, delta, *more)
        return self._pool.incr(oid, 0, *more) + delta


class _Undated(_Wrapper):
    """A time to live is three times as long."""

    def put_object(self, oid, data, ttl=None, **more):
        return self._pool.put_object(oid, data, ttl=3 * ttl if ttl and ttl > 0 else ttl, **more)


class _Doubled(_Wrapper):
    """Of a cache: an add stores over what is there, one time in four."""

    def add(self, key, value, ttl=None):
        return self._pool.add(key, value, ttl) or (self._rng.randrange(4) == 0 and self._pool.set(key, value, ttl))


class _Resurrected(_Wrapper):
    """Of a cache: a value that has gone, as its time is over or for another reason, is got once
    more, every other time."""

    def __init__(self, pool, rng):
        super().__init__(pool, rng)
        self._gone: dict = {}

    def get(self, key, default=None, with_version=False):
        value, version = self._pool.get(key, default, True)
        if value is not None:
            self._gone[key] = value
        elif self._rng.randrange(2):
            value = self._gone.pop(key, None)
        return (value, version) if with_version else value


BUGS = {"stale": _Stale, "zombie": _Zombie, "flipped": _Flipped, "lost": _Lost, "torn": _Torn, "crowded": _Crowded,
        "uncleared": _Uncleared, "miscounted": _Miscounted, "undated": _Undated}
BUGS_OF_CACHES = {"doubled": _Doubled, "resurrected": _Resurrected}
# The kinds of violation that tell of a planted bug; any other means that something else is wrong.
KINDS = {"stale", "zombie", "lost", "torn", "history", "damaged", "unfair"}


def sabotaged(pool, bug: str, rng):
    """The pool with a bug in front of it, if it is one of pools."""
    return BUGS.get(bug, _Wrapper)(pool, rng)


def sabotaged_cache(cache, bug: str, rng):
    """The same of a cache."""
    return BUGS_OF_CACHES.get(bug, _Wrapper)(cache, rng)

"""Owns the planted bugs of the canary: pools that misbehave once in a while, to prove that the
checkers notice.

Each bug is a wrapper that stands where the pool would; nothing below it is touched. Calls the
public API of the pool it wraps.
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


BUGS = {"stale": _Stale, "zombie": _Zombie, "flipped": _Flipped, "lost": _Lost, "torn": _Torn, "crowded": _Crowded}
# The kinds of violation that tell of a planted bug; any other means that something else is wrong.
KINDS = {"stale", "zombie", "lost", "torn", "history", "damaged", "unfair"}


def sabotaged(pool, bug: str, rng):
    """The pool with a bug in front of it."""
    return BUGS[bug](pool, rng)

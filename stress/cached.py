"""Owns a player's calls on the values of an `engine.Cache`, as *linearizable* records them.

Each is drawn, called and told in the words of `stress/search.py`. The verbs of a cache answer with
a bool: of those that store under a condition, False means that it did not hold, or that there was
no memory (UNSURE). Every value that is got is verified. Calls the public API of the cache.
"""
from __future__ import annotations

import contextlib
import math
from typing import NamedTuple

import engine
from stress.content import MIN_BYTES
from stress.search import DONE, FLUSH, GET, INCR, LOOK, PUT, REPLACE, SWAP, TAKE, TOUCH, UNSURE
from stress.worker import Guest

LIVES_MS = 1, 1, 2, 3, 5
# Verb: kind, and how often of a hundred. Of a counter others.
VERBS = {
    "set": (PUT, 16), "compute": (PUT, 8), "add": (SWAP, 14), "cas": (SWAP, 12), "replace": (REPLACE, 8),
    "get": (GET, 18), "has": (LOOK, 4), "pop": (TAKE, 6), "delete": (FLUSH, 4), "touch": (TOUCH, 8),
    "touch_dead": (FLUSH, 2),
}
OF_COUNTERS = {
    "incr": (INCR, 50), "get": (GET, 30), "has": (LOOK, 4), "pop": (TAKE, 4), "delete": (FLUSH, 4), "touch": (TOUCH, 6),
    "touch_dead": (FLUSH, 2),
}


class Move(NamedTuple):
    """What is called: a verb of VERBS on a key, with what search.py wants to know of it."""

    verb: str
    kind: int
    key: tuple
    version: int
    expected: int
    theirs: int | None      # the expected version in the cache's own words
    life_ns: int

    @property
    def ttl(self):
        return self.life_ns / 1e9 if self.life_ns else math.inf


def life_of(rng) -> int:
    """Nanoseconds, or 0 for ever: mostly."""
    return rng.choice(LIVES_MS) * 1_000_000 if rng.randrange(3) == 0 else 0


class CachedValues:
    """The values of one cache under this player's hands."""

    def __init__(self, g: Guest, cache):
        self.g, self.cache = g, cache
        self.seen: dict[tuple, tuple[int, int | None]] = {}     # of a key: what its value was, in two ways

    def draw(self, key: tuple, counts: bool, fresh) -> Move:
        """The next move; `fresh` makes a version."""
        rng, verbs = self.g.rng, OF_COUNTERS if counts else VERBS
        verb = rng.choices(list(verbs), [often for _, often in verbs.values()])[0]
        kind = verbs[verb][0]
        expected, theirs = self.seen.get(key, (0, None)) if verb == "cas" else (0, None)
        version = fresh() if kind in (PUT, SWAP, REPLACE) else 0
        life = life_of(rng) if kind in (PUT, SWAP, REPLACE, TOUCH, INCR) else 0
        return Move(verb, kind, key, version, expected, theirs, life)

    def play(self, move: Move) -> tuple[int, int]:
        """What the move was, seen from its end, and what it answered."""
        return getattr(self, move.verb)(move)

    def data(self, move: Move) -> bytes:
        return self.g.content.page(tag(move.key), 0, move.version, self.g.rng.choice((0, MIN_BYTES, 700)))

    def verify(self, key: tuple, value) -> int:
        """The version of a value that was got, 0 for none; of a counter what it counts."""
        if value is None or type(value) is int:
            return value or 0
        return self.g.content.verify(value, tag(key), 0, f"cache {self.cache.name} key {key}")

    def set(self, move):
        return PUT, int(self.g.call("put", self.cache.set, move.key, self.data(move), move.ttl))

    def compute(self, move):
        """Whoever did not compute has got what somebody else did."""
        called = []

        def make() -> bytes:
            called.append(1)
            return self.data(move)

        value = self.g.call("put", self.cache.get_or_compute, move.key, make, move.ttl)
        version = self.verify(move.key, value)
        return (PUT, UNSURE) if called else (GET, version)

    def add(self, move):
        return SWAP, DONE if self.g.call("put", self.cache.add, move.key, self.data(move), move.ttl) else UNSURE

    def cas(self, move):
        done = self.g.call("put", self.cache.cas, move.key, self.data(move), move.theirs, move.ttl)
        return SWAP, DONE if done else UNSURE

    def replace(self, move):
        return REPLACE, int(self.g.call("put", self.cache.replace, move.key, self.data(move), move.ttl))

    def get(self, move):
        value, theirs = self.g.call("get", self.cache.get, move.key, None, True)
        version = self.verify(move.key, value)
        self.seen[move.key] = version, theirs
        return GET, version

    def has(self, move):
        return LOOK, int(self.g.call("get", self.cache.has, move.key))

    def pop(self, move):
        return TAKE, self.verify(move.key, self.g.call("get", self.cache.pop, move.key, None))

    def delete(self, move):
        return FLUSH, int(self.g.call("flush", self.cache.delete, move.key))

    def touch(self, move):
        return TOUCH, int(self.g.call("put", self.cache.touch, move.key, move.ttl))

    def touch_dead(self, move):
        return FLUSH, int(self.g.call("flush", self.cache.touch, move.key, 0))

    def incr(self, move):
        with contextlib.suppress(engine.ArenaFull):
            return INCR, self.g.call("put", self.cache.incr, move.key, 1, 0, move.ttl)
        return INCR, 0


def tag(key: tuple) -> tuple[int, int, int]:
    """What a value's content is made from."""
    return key[0], key[1], 8

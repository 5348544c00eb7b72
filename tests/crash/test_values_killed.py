"""Owns the enumeration for objects as values: every verb on them killed at every one of its kill
points leaves the value before or the value after, with key, word, expiry and version of the same
moment.

`make test` visits some of the points, chosen by seed; `make test-all` all.
"""
import itertools
import os
import struct
from typing import NamedTuple

import pytest

import engine
from tests.crash.killing import HUGE, FullScene, Scene
from tests.crash.test_kill_points import EVERY, visited
from tests.support import mixed

pytestmark = pytest.mark.timeout(3600 if os.environ.get("EVERY_POINT") else 120)
OID = (0, 0, 0)
MOST = 2            # points of each that the suite visits
AHEAD_S = 500
POOLS = {"persistent": {"persistent": True}, "ephemeral": {"shared": True},
         "dedup": {"shared": True, "dedup": True}, "lz4": {"pam": "lz4", "persistent": True}}
OLD, COUNT = mixed(6, 700), struct.pack("<q", 40)
_numbers = itertools.count()


def put_pages(pool):
    assert pool.put_range(OID, 0, mixed(7, 9000)) and pool.put(OID, 10**9, b"far away") and pool.touch(OID, 9000)


def put_expired(pool, put):
    put(pool)
    assert pool.touch(OID, AHEAD_S / 2)


# What is there before.
OVER = {
    "nothing": lambda pool: None,
    "value": lambda pool: pool.put_object(OID, OLD, key=b"old", word=1, ttl=7000),
    "plain": lambda pool: pool.put_object(OID, OLD),
    "empty": lambda pool: pool.put_object(OID, b"", key=b"old"),
    "pages": put_pages,
    "long": lambda pool: pool.put_object(OID, mixed(2, 90_000), key=b"old", word=1),
    "count": lambda pool: pool.put_object(OID, COUNT, key=b"k", word=1, ttl=7000),
    "expired": lambda pool: put_expired(pool, OVER["value"]),
    "expired-pages": lambda pool: put_expired(pool, put_pages),
}


def write(pool, length, **how):
    with pool.writing_object(OID, length, **how) as page:
        memoryview(page)[:] = mixed(10, length)


def version(pool):
    found = pool.get_object(OID, info=True)
    return found[1].version if found is not None else 0


def put_if_version(pool):
    assert pool.put_object(OID, mixed(2, 650), if_version=version(pool), key=b"new", word=3, ttl=3000)


def count_in_view(pool):
    with pool.view_object(OID) as view:
        before = bytes(view)
        pool.incr(OID, 2, key=b"k")
        assert view == before


class Verb(NamedTuple):
    """What is done, and over which of OVER, and what the value is afterwards; None: as before."""
    act: object
    over: tuple
    after: bytes = None


EVERYTHING = ("nothing", "value", "plain", "empty", "pages", "long", "expired", "expired-pages")
NOTHING = ("nothing", "expired", "expired-pages")
VERBS = {
    "put": Verb(lambda p: p.put_object(OID, mixed(2, 690)), EVERYTHING, mixed(2, 690)),
    "put-all": Verb(lambda p: p.put_object(OID, mixed(6, 680), key=b"new", word=3, ttl=3000), EVERYTHING,
                    mixed(6, 680)),
    "put-parts": Verb(lambda p: p.put_object(OID, [b"a", mixed(2, 3000), b"z"], key=b"new", ttl=3000), EVERYTHING,
                      b"a" + mixed(2, 3000) + b"z"),
    "put-long": Verb(lambda p: p.put_object(OID, mixed(6, 140_000), key=b"new", ttl=3000), EVERYTHING,
                     mixed(6, 140_000)),
    "put-empty": Verb(lambda p: p.put_object(OID, b"", word=9), EVERYTHING, b""),
    "put-dead": Verb(lambda p: p.put_object(OID, b"new", ttl=0), EVERYTHING),
    "put-if-absent": Verb(lambda p: p.put_object(OID, OLD[:-1], if_absent=True, key=b"new", ttl=3000), EVERYTHING),
    "put-if-version": Verb(put_if_version, ("nothing", "value", "plain", "long", "expired"), mixed(2, 650)),
    "write": Verb(lambda p: write(p, 900, key=b"new", word=3, ttl=3000), EVERYTHING, mixed(10, 900)),
    "write-long": Verb(lambda p: write(p, 90_000, key=b"new"), EVERYTHING, mixed(10, 90_000)),
    "write-dead": Verb(lambda p: write(p, 900, ttl=-1), ("value", "pages")),
    "incr-new": Verb(lambda p: p.incr(OID, 2, 40, ttl=3000, key=b"k", word=5), NOTHING, struct.pack("<q", 42)),
    "incr": Verb(lambda p: p.incr(OID, 2, key=b"k"), ("count",), struct.pack("<q", 42)),
    "incr-in-view": Verb(count_in_view, ("count",), struct.pack("<q", 42)),
    "incr-of-another": Verb(lambda p: p.incr(OID, 2, key=b"new", word=3, ttl=3000), ("count", "value"),
                            struct.pack("<q", 2)),
    "touch": Verb(lambda p: p.touch(OID, 3000), EVERYTHING),
    "touch-dead": Verb(lambda p: p.touch(OID, 0), EVERYTHING),
    "flush": Verb(lambda p: p.flush_object(OID), EVERYTHING),
    "flush-if-version": Verb(lambda p: p.flush_object(OID, if_version=version(p)), ("value", "long", "expired")),
    "get": Verb(lambda p: p.get_object(OID, info=True) and p.get_object_into(OID, bytearray(200_000)),
                ("value", "long", "expired")),
    "look": Verb(lambda p: p.has(OID) and p.expires(OID), ("value", "pages", "expired-pages")),
    "view": Verb(lambda p: p.view_object(OID).release(), ("value", "long", "expired")),
}
CASES = [
    (kind, verb, over)
    for number, (kind, verb, over) in enumerate((k, v, o) for k in POOLS for v in VERBS for o in VERBS[v].over)
    if EVERY or kind == "persistent" or number % 3 == 0
]


class OneScene(Scene):
    """A pool p that has one object, and neighbours that stay."""

    CAPACITY = "2MiB"

    def __init__(self, prefix, how, over, cram=False):
        self.name = f"{prefix}{next(_numbers)}"
        self.engine = engine.create(self.name, self.CAPACITY, max_workers=8, max_pools=4, buckets=1)
        self.p = self.engine.new_pool("p", **how)
        for n in range(1, 6):
            assert self.p.put_object((n, 0, 0), mixed(4 * n + 2, 300 * n), key=b"%d" % n, word=n)
        OVER[over](self.p)
        if cram:
            self.cram()
        if over.startswith("expired"):
            self.engine.set_clock_ahead(AHEAD_S)
        self.version = self.seen()[1]

    def cram(self):
        """Take all other memory with pages that may not go."""
        f = self.engine.new_pool("f", persistent=True)
        for n in itertools.count():
            if not f.put((n // 64, 9, 9), n % 64, FullScene.extra(n)):
                break
        for n in itertools.count():
            if not f.put((n // 64, 9, 8), n % 64, FullScene.extra(n)[:700]):
                break

    def seen(self):
        """What there is of the object, and its version."""
        pool = self.p
        info = pool.object_info(OID)
        if info is None or info[0] != 1:
            whole = pool.get_range(OID, 0, 3, free=False) if info else None
            assert pool.has(OID) is (info is not None)
            return (info, whole, round(pool.expires(OID), -3) if info else None), None
        data, found = pool.get_object(OID, info=True)
        assert pool.get_object(OID) == data and pool.get(OID, 0, free=False) == data
        return (info, data, found.key, found.word, found.expires and round(found.expires, -3)), found.version

    def state(self):
        for n in range(1, 6):
            data, info = self.p.get_object((n, 0, 0), info=True)
            assert data == mixed(4 * n + 2, 300 * n) and (info.key, info.word) == (b"%d" % n, n)
        return self.seen()[0]

    def die(self, act, point, over):
        def prepare(mine):
            if over.startswith("expired"):
                mine.set_clock_ahead(AHEAD_S)

        return self.die_in(prepare, lambda mine: act(mine.pool("p")), point)

    def assert_whole(self, before, after):
        """It is as before or as after, and as old as that; and the place can be used."""
        self.assert_sound(before, after)
        state, version = self.seen()
        if version is not None and before != after:
            assert (version == self.version) == (state == before) or before[1] == after[1], "a version of another value"
        self.engine.set_clock_ahead(0)
        self.p.flush_object(OID)
        assert not self.p.has(OID) and self.p.put_object(OID, b"again", if_absent=True) is True
        assert self.p.get_object(OID) == b"again"
        report = self.engine.check()
        assert report.ok, [str(problem) for problem in report.problems[:5]]


def enumerate_deaths(prefix, how, verb, over, cram=False):
    act = VERBS[verb].act
    with OneScene(prefix, how, over, cram) as scene:
        before = scene.state()
        points = scene.die(act, HUGE, over)
        scene.engine.recover()
        after = scene.state()
    for point in visited(points, MOST, f"{verb} {over} {how}"):
        with OneScene(prefix, how, over, cram) as scene:
            assert scene.die(act, point, over) is None, f"point {point} of {points} was not reached"
            scene.assert_whole(before, after)
    return before, after


@pytest.mark.parametrize(("kind", "verb", "over"), CASES, ids=map("-".join, CASES))
def test_killed_at_every_point_of_a_verb_of_values(arena_name, kind, verb, over):
    if kind == "lz4":
        pytest.importorskip("lz4.block")
    before, after = enumerate_deaths(arena_name, POOLS[kind], verb, over)
    expected = VERBS[verb].after
    assert expected is None or after[1] == expected


FULL = [("put", "value"), ("put-all", "value"), ("put-all", "plain"), ("put-if-version", "value"), ("incr", "count"),
        ("put", "pages"), ("put-all", "expired"), ("put-all", "expired-pages"), ("touch", "value"), ("flush", "pages"),
        ("put-if-absent", "value"), ("put-if-absent", "expired"), ("put-dead", "value"), ("put-empty", "value")]


@pytest.mark.parametrize(("verb", "over"), FULL, ids=map("-".join, FULL))
def test_killed_at_every_point_of_a_verb_of_values_in_a_full_arena(arena_name, verb, over):
    before, after = enumerate_deaths(arena_name, {"persistent": True}, verb, over, cram=True)
    if VERBS[verb].after is not None and "pages" not in over:
        assert after[1] == VERBS[verb].after

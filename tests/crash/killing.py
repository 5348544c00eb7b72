"""Owns killing a worker at the n-th kill point of a verb, and looking at what it leaves behind.

A kill point is a place in the compiled code before or after a step that others can see: a
journalled store, a step of taking or releasing a lock, a commit. Workers die by SIGKILL there, in a
forked child; the parent recovers and looks.
"""
import functools
import itertools
import os
import random
import signal
import struct

import engine
from shm import workers
from tests.stopped import fork
from tests.support import SHM, mixed, text

PAGES = 30
HUGE = 1 << 60
LENGTHS = (100, 300, 700, 1500, 2800, 4096)
FULL_OF = [text(n, 4096) for n in range(16)]
_numbers = itertools.count()


def page(i):
    """The i-th page of the populated arena, of many lengths."""
    return bytes([i & 255]) * (100 + i * 37 % 4000)


def index(i):
    return i * i * 7


def let_die(eng, victim, deaths, at_once=4):
    """Fork `victim(number)` so many times, a few at once; each must end by SIGKILL, and the arena
    is checked now and then, and at the end."""
    victims, number, checks = [], 0, random.Random(9)
    try:
        while number < deaths or victims:
            while number < deaths and len(victims) < at_once:
                victims.append(fork(victim, number))
                number += 1
            _, status = os.waitpid(victims.pop(0), 0)
            assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL, f"a worker ended with {status}"
            if checks.randrange(6) == 0 or not victims:
                eng.recover()
                report = eng.check(frozen=True)
                assert report.ok, [str(problem) for problem in report.problems[:4]]
    finally:
        for pid in victims:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


class Scene:
    """A populated arena: persistent pool p and private ephemeral pool q, the same 30 pages in three
    objects each, and one in a lean object."""

    page = staticmethod(page)

    def __init__(self, prefix, max_workers=8, pam="raw", capacity="2MiB"):
        self.name = f"{prefix}{next(_numbers)}"
        self.engine = engine.create(self.name, capacity, max_workers=max_workers, max_pools=4, buckets=4)
        self.p = self.engine.new_pool("p", persistent=True, pam=pam)
        self.q = self.engine.new_pool("q", shared=False, pam=pam)
        for pool in (self.p, self.q):
            for i in range(PAGES):
                assert pool.put((i % 3, 0, 0), index(i), self.page(i))
            assert pool.put((4, 0, 0), 0, self.page(4))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.engine.close()
        engine.unlink(self.name)

    def state(self):
        """All that a caller can see: every page of every handle the verbs touch, counts, names of
        pools."""
        seen = {"pools": sorted(pool.name for pool in self.engine.pools())}
        for name in seen["pools"]:
            pool = self.engine.pool(name)
            seen[name] = (pool.obj_count, pool.client, pool.policy, pool.cap, pool.allow)
            for obj in range(6):
                handle = pool.object((obj, 0, 0))
                info = handle.object_info()
                if info is None:
                    continue
                seen[name, obj] = info
                for at in {index(i) for i in range(PAGES)} | {10**12} | set(range(100, 172)):
                    data = handle.get(at, free=False)
                    if data is not None:
                        seen[name, obj, at] = data
        return seen

    def die_in(self, prepare, act, point, born=0):
        """Run prepare and act in a worker of its own that dies at kill point `point` of act (or
        `born`: of attaching).

        The number of points of act if it got through, else None."""
        read, write = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                os.close(read)
                workers.kill_newcomers_at(born)
                mine = engine.attach(self.name)
                if prepare is not None:
                    prepare(mine)
                mine.set_kill_point(point)
                act(mine)
                points = mine.kill_points()
                os.write(write, str(points).encode())
            finally:
                os._exit(0)
        os.close(write)
        with os.fdopen(read, "rb") as answer:
            text = answer.read()
        _, status = os.waitpid(pid, 0)
        if text:
            return int(text)
        assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL, (
            f"the worker ended with {status}, not by SIGKILL"
        )
        return None

    def assert_sound(self, *allowed):
        """Recover, check, and compare the visible state with the allowed ones."""
        self.engine.recover()
        report = self.engine.check()
        assert report.ok, [str(problem) for problem in report.problems[:5]]
        assert self.engine.stats()["arena"]["workers"] == 1
        state = self.state()
        if state not in allowed:
            different = {key: (allowed[0].get(key), state.get(key)) for key in set(allowed[0]) | set(state)
                         if allowed[0].get(key) != state.get(key)}
            raise AssertionError(f"neither before nor after: {different}")


    def assert_all_can_go(self):
        """Persistent pages take the place of every ephemeral one before one is refused: no page
        lies in no queue."""
        n = 0
        while self.p.put((n // 64, 8, 8), n % 64, FullScene.extra(n)):
            n += 1
        pages = {name: counts["pages"] for name, counts in self.engine.stats()["pools"].items()}
        assert not any(pages[pool.name] for pool in self.engine.pools() if not pool.persistent), pages
        assert self.engine.check().ok


class PackedScene(Scene):
    """The same with pages that compress, more or less or not at all."""

    page = staticmethod(lambda i: mixed(i, 100 + i * 37 % 4000))


class PackedFullScene(PackedScene):
    """And no memory left, nor pages that may go: a put over a page goes over its chunk."""

    def __init__(self, prefix, max_workers=8, pam="lz4"):
        super().__init__(prefix, max_workers, pam, capacity="1MiB")
        self.q.destroy()                # its pages may go
        n = 0
        while self.p.put((n // 64, 9, 9), n % 64, FULL_OF[n % len(FULL_OF)]):
            n += 1


class TwinScene(Scene):
    """The same; pool q keeps equal pages once, and has some."""

    def __init__(self, prefix, max_workers=8):
        super().__init__(prefix, max_workers)
        self.q.destroy()
        self.q = self.engine.new_pool("q", shared=False, dedup=True)
        for i in range(PAGES):
            assert self.q.put((i % 3, 0, 0), index(i), text(i % 5, 3000))


class FullScene(Scene):
    """The same, with all other memory taken by pages of an ephemeral pool, which may go."""

    EXTRA = 900

    @staticmethod
    def extra(n):
        return b"%d/" % n + bytes([n & 255]) * 4090     # not one word over and over: such a page takes no chunk

    def __init__(self, prefix, max_workers=8):
        super().__init__(prefix, max_workers)
        self.q.destroy()                # its pages would be evicted too
        self.e = self.engine.new_pool("e")
        for n in range(self.EXTRA):
            assert self.e.put((n // 64, 9, 9), n % 64, self.extra(n))

    def state(self):
        """What may not change: all but the pool whose pages may go. Those of its pages that are
        there are looked at here."""
        for n in range(self.EXTRA):
            assert self.e.get((n // 64, 9, 9), n % 64) in (None, self.extra(n))
        return {key: value for key, value in super().state().items() if key != "e"}


class ValueScene(Scene):
    """The same, with a value of 16 pages in pool q, at 100 of object 0."""

    def __init__(self, prefix, max_workers=8):
        super().__init__(prefix, max_workers)
        assert self.q.put_range((0, 0, 0), 100, b"".join(mixed(n, 4096) for n in range(16)))


@functools.cache
def value_pages(n):
    """The pages of the n-th value: up to 12, the last of many lengths; of one in 16 same-filled."""
    rnd = random.Random(n)
    if n % 16 == 5:
        return [b"same as " * 512] * (1 + n % 7)
    return [rnd.randbytes(4096) for _ in range(n % 12 if n % 3 else 0)] + [rnd.randbytes(LENGTHS[n * 7 % len(LENGTHS)])]


class FullOfValuesScene(Scene):
    """The same, with all other memory taken by values of an ephemeral pool, that lie where others
    were; and a pool with a cap that is full of values."""

    VALUES = 350

    @classmethod
    def one_more(cls, n=VALUES):
        return (n, 9, 9), 5, b"".join(value_pages(n))

    def __init__(self, prefix, max_workers=8):
        super().__init__(prefix, max_workers)
        self.q.destroy()                # its pages would be evicted too
        self.e = self.engine.new_pool("e")
        self.c = self.engine.new_pool("c", cap=36, client=3)
        rnd = random.Random(11)
        for n in range(self.VALUES):
            assert self.e.put_range(*self.one_more(n))
            self.e.get((rnd.randrange(n + 1), 9, 9), 5)         # some have hits, and go to the main queue
            if n % 9 == 0:
                assert self.c.put_range(*self.one_more(n))
                self.c.get((n, 9, 9), 5)

    def state(self):
        """What may not change: all but the pools whose values may go. A value is there as it was,
        or has no beginning."""
        for pool in self.e, self.c:
            for n in range(self.VALUES + 1):
                if pool.object_info((n, 9, 9)) is None:
                    continue
                pages = [pool.get((n, 9, 9), 5 + at, free=False) for at in range(len(value_pages(n)))]
                right = [page in (None, expected) for page, expected in zip(pages, value_pages(n), strict=True)]
                assert all(right), (pool.name, n, right)
                assert pages[0] is None or None not in pages, (pool.name, n, pages.index(None))
        return {key: value for key, value in super().state().items() if key not in ("e", "c")}


class CrammedScene(Scene):
    """The same, with all other memory taken by pages of a persistent pool, which may not go."""

    def __init__(self, prefix, max_workers=8):
        super().__init__(prefix, max_workers)
        self.q.destroy()
        self.f = self.engine.new_pool("f", persistent=True)
        self.filled = 0
        while self.f.put((self.filled // 64, 9, 9), self.filled % 64, FullScene.extra(self.filled)):
            self.filled += 1

    def state(self):
        seen = super().state()
        for n in range(self.filled):
            seen["f", n] = self.f.get((n // 64, 9, 9), n % 64)
        return seen


class SplinteredScene(Scene):
    """The same, with all other memory in segments of short pages that stay, a few in each: whoever
    needs any for a longer page moves them."""

    def __init__(self, prefix, max_workers=8):
        super().__init__(prefix, max_workers)
        self.q.destroy()
        self.f = self.engine.new_pool("f", persistent=True)
        filled = 0
        while self.f.put((filled // 64, 9, 9), filled % 64, FullScene.extra(filled)[:300]):
            filled += 1
        self.kept = range(0, filled, 12)
        for n in set(range(filled)) - set(self.kept):
            self.f.flush_page((n // 64, 9, 9), n % 64)
        # What was free before is in use again: the next put of such a page has to move others.
        self.longer = 0
        while self.engine.stats()["arena"]["segments_used"] < self.engine.stats()["arena"]["segments_total"]:
            assert self.f.put((1, 8, 8), self.longer, FullScene.extra(self.longer))
            self.longer += 1

    def leaving(self):
        """Numbers of segments that nobody takes chunks of."""
        # Here, since it reads the source, which is not there where a wheel is tested.
        from tests.hostile.structs import CONSTANTS, SIZES, Map, offset
        with (SHM / self.name).open("rb") as file:      # the table alone: the file is 70 MB long
            places = Map(file.read(4096))
            file.seek(places.segment(0))
            table = file.read(places.geometry["seg_total"] * SIZES["Segment"])
        states = [struct.unpack_from("<Q", table, at + offset("Segment", "state"))[0]
                  for at in range(0, len(table), SIZES["Segment"])]
        return [n for n, state in enumerate(states) if state == CONSTANTS["SEG_LEAVING"]]

    def state(self):
        seen = super().state()
        for n in self.kept:
            seen["f", n] = self.f.get((n // 64, 9, 9), n % 64)
        for n in range(self.longer):
            seen["longer", n] = self.f.get((1, 8, 8), n)
        return seen


def nothing(_):
    """A verb without preparation."""


def _with_magazines(mine):
    for i in range(40):
        mine.pool("p").put((0, 0, 0), 200 + i, b"m" * 4096)
        mine.pool("p").flush_page((0, 0, 0), 200 + i)


def _put_where_all_has_expired(e):
    for n in range(15):
        e.pool("e").touch((n, 9, 9), 1000)
    e.set_clock_ahead(2000)
    e.pool("p").put((5, 0, 0), 10**12, b"n" * 4096)


def _with_one_that_expires(e):
    assert e.pool("q").touch((1, 0, 0), 1000)
    e.set_clock_ahead(2000)


EVICTING = {
    "put-persistent": lambda e: e.pool("p").put((5, 0, 0), 10**12, b"n" * 4096),
    "put-range": lambda e: e.pool("p").put_range((0, 0, 0), 100, b"r" * (20 * 4096 + 5)),
    "put-ephemeral": lambda e: e.pool("e").put((80, 9, 9), 10**6, b"/" + b"n" * 4095),
    "put-another-size": lambda e: e.pool("p").put((5, 0, 0), 10**12, b"n" * 100),
    "put-where-all-has-expired": lambda e: _put_where_all_has_expired(e),
    "put-where-all-was-cleared": lambda e: (e.pool("e").clear(), e.pool("p").put((5, 0, 0), 10**12, b"n" * 4096)),
    "flush-object": lambda e: e.pool("e").flush_object((13, 9, 9)),
    "destroy": lambda e: e.pool("e").destroy(),
    "resize": lambda e: (e.resize("1MiB"), e.resize("2MiB")),
}

# Verbs of a FullOfValuesScene.
EVICTING_VALUES = {
    "put-persistent": lambda e: e.pool("p").put((5, 0, 0), 10**12, b"n" * 4096),
    "put-value": lambda e: e.pool("e").put_range(*FullOfValuesScene.one_more()),
    "put-value-under-a-cap": lambda e: e.pool("c").put_range(*FullOfValuesScene.one_more()),
    "put-that-clears-a-segment": lambda e: e.pool("p").put((5, 0, 0), 10**12, b"n" * 2000),
    "resize": lambda e: (e.resize("1MiB"), e.resize("2MiB")),
}
# Verbs of a ValueScene.
OVER_VALUES = {
    "longer": lambda e: e.pool("q").put_range((0, 0, 0), 100, b"L" * (24 * 4096)),
    "longer-on-both-sides": lambda e: e.pool("q").put_range((0, 0, 0), 96, mixed(3, 4096) * 24),
    "shorter": lambda e: e.pool("q").put_range((0, 0, 0), 103, mixed(3, 4096) * 5 + b"s" * 100),
    "overlapping": lambda e: e.pool("q").put_range((0, 0, 0), 112, mixed(3, 4096) * 10),
    "get-exclusive": lambda e: e.pool("q").get_range((0, 0, 0), 104, 4),
}

PACKED = {
    "put-new-page": lambda e: e.pool("p").put((0, 0, 0), 10**12, text(1, 4096)),
    "put-over": lambda e: e.pool("p").put((1, 0, 0), index(1), text(2, 4000)),
    "put-over-with-noise": lambda e: e.pool("p").put((1, 0, 0), index(1), mixed(2, 4000)),
    "get-exclusive": lambda e: e.pool("q").get((1, 0, 0), index(1)),
    "get-range-exclusive": lambda e: e.pool("q").get_range((0, 0, 0), 0, 1),
    "flush-object": lambda e: e.pool("q").flush_object((1, 0, 0)),
    "put-range": lambda e: e.pool("p").put_range((0, 0, 0), 100, b"".join(mixed(n, 4096) for n in range(5))),
}
PACKED_OVER = {
    "it-fits": lambda e: e.pool("p").put((0, 9, 9), 3, text(3, 3000)),
    "it-does-not": lambda e: e.pool("p").put((0, 9, 9), 3, mixed(2, 4096)),
}

# Verbs on pool q of a TwinScene.
TWINS = {
    "put-another": lambda e: e.pool("q").put((5, 0, 0), 10**12, text(50, 3000)),
    "put-one-more": lambda e: e.pool("q").put((5, 0, 0), 10**12, text(1, 3000)),
    "put-over": lambda e: e.pool("q").put((0, 0, 0), index(0), text(53, 3000)),
    "put-range": lambda e: e.pool("q").put_range((0, 0, 0), 100, (b"r" * 9 + b"s" * 4087) * 4 + text(3, 3000)),
    "get-exclusive": lambda e: e.pool("q").get((0, 0, 0), index(9)),
    "flush-page": lambda e: e.pool("q").flush_page((2, 0, 0), index(2)),
    "flush-object": lambda e: e.pool("q").flush_object((1, 0, 0)),
    "destroy": lambda e: e.pool("q").destroy(),
    "resize": lambda e: e.resize("1MiB"),
}

# Verbs in an arena that is full of persistent pages, with what they answer.
CRAMMED = {
    "refused-new-object": (lambda e: e.pool("p").put((5, 0, 0), 10**12, b"n" * 4096), False),
    "refused-new-page": (lambda e: e.pool("p").put((0, 0, 0), 10**12, b"n" * 4096), False),
    "refused-over-a-shorter": (lambda e: e.pool("p").put((0, 0, 0), 0, b"n" * 4096), False),
    "refused-range-over": (lambda e: e.pool("f").put_range((1, 9, 9), 60, b"r" * (8 * 4096)), False),
    "put-over": (lambda e: e.pool("f").put((1, 9, 9), 7, b"o" * 4096), True),
    "put-over-shorter": (lambda e: e.pool("f").put((1, 9, 9), 7, b"o" * 100), True),
}

# Verbs in a SplinteredScene: each moves what is in the way.
MOVING = {
    "put-new-object": lambda e: e.pool("p").put((5, 0, 0), 10**12, b"n" * 4096),
    "put-over-shorter": lambda e: e.pool("p").put((0, 0, 0), 0, b"o" * 4096),
    "put-range": lambda e: e.pool("p").put_range((0, 0, 0), 100, b"r" * (20 * 4096 + 5)),
}

# Verbs that are many, each by itself: what they do up to the n-th. Killed anywhere, the first of
# them have happened and no other.
_MANY = [((5, 0, 0), 10**12), ((0, 0, 0), index(0)), ((1, 0, 0), 10**12), ((0, 0, 0), 150), ((0, 0, 0), 151)]
_PAGES = [b"n" * 4096, bytearray(b"o" * 300), b"m" * 5, memoryview(b"p" * 2000), b"q"]
_TAKEN = [((1, 0, 0), index(1)), ((1, 0, 0), 9), ((0, 0, 0), index(0)), ((0, 0, 0), index(3)), ((2, 0, 0), index(2))]
BATCHES = {
    "put-many": lambda e, n: e.pool("p").put_many(_MANY[:n], _PAGES[:n]),
    "put-many-of-an-object": lambda e, n: (
        e.pool("p").object((0, 0, 0)).put_many([100, 0, 101, index(3), 102][:n], _PAGES[:n])
    ),
    "get-many-exclusive": lambda e, n: e.pool("q").get_many(_TAKEN[:n]),
}

def _in_view(mine, change):
    with mine.pool("p").view((0, 0, 0), 0) as found:
        before = bytes(found)
        change(mine.pool("p"))
        assert found == before


VERBS = {
    "put-new-object": (nothing, lambda e: e.pool("p").put((5, 0, 0), 10**12, b"n" * 4096)),
    "put-new-lean-object": (nothing, lambda e: e.pool("p").put((5, 0, 0), 0, b"n" * 4096)),
    "put-new-page": (nothing, lambda e: e.pool("p").put((0, 0, 0), 10**12, b"n" * 4096)),
    "put-beside-the-page-of-a-lean-object": (nothing, lambda e: e.pool("p").put((4, 0, 0), 10**12, b"n" * 4096)),
    "put-over-a-lean-object": (nothing, lambda e: e.pool("p").put((4, 0, 0), 0, b"n" * 4096)),
    "flush-lean-object": (nothing, lambda e: e.pool("p").flush_object((4, 0, 0))),
    "flush-page-of-a-lean-object": (nothing, lambda e: e.pool("p").flush_page((4, 0, 0), 0)),
    "put-warm": (_with_magazines, lambda e: e.pool("p").put((0, 0, 0), 10**12, b"n" * 4096)),
    "put-over": (nothing, lambda e: e.pool("p").put((0, 0, 0), 0, b"o" * 300)),
    "put-over-same-length": (nothing, lambda e: e.pool("p").put((1, 0, 0), 7, b"o" * len(page(1)))),
    "get": (nothing, lambda e: e.pool("p").get((0, 0, 0), 0)),
    "get-exclusive": (nothing, lambda e: e.pool("q").get((0, 0, 0), index(9))),
    "get-range-exclusive": (nothing, lambda e: e.pool("q").get_range((0, 0, 0), 0, 1)),
    "get-range-into": (nothing, lambda e: e.pool("p").get_range_into((0, 0, 0), 0, 1, bytearray(4096))),
    "get-range-into-exclusive": (nothing, lambda e: e.pool("q").get_range_into((0, 0, 0), 0, 1, bytearray(4096))),
    "put-range-of-long-bytes": (nothing, lambda e: e.pool("p").put_range((0, 0, 0), 100, b"r" * (32 * 4096))),
    "view": (nothing, lambda e: e.pool("p").view((0, 0, 0), 0).release()),
    "flush-page": (nothing, lambda e: e.pool("p").flush_page((2, 0, 0), index(2))),
    "flush-in-view": (nothing, lambda e: _in_view(e, lambda p: p.flush_page((0, 0, 0), 0))),
    "put-over-in-view": (nothing, lambda e: _in_view(e, lambda p: p.put((0, 0, 0), 0, b"o" * 300))),
    "flush-object": (nothing, lambda e: e.pool("p").flush_object((1, 0, 0))),
    "clear": (nothing, lambda e: e.pool("q").clear()),
    "sweep": (_with_one_that_expires, lambda e: e.tend()),
    "put-range": (nothing, lambda e: e.pool("p").put_range((0, 0, 0), 100, b"r" * (20 * 4096 + 5))),
    "put-range-over": (lambda e: None, lambda e: e.pool("p").put_range((0, 0, 0), 60, b"r" * (8 * 4096))),
    "new-pool": (nothing, lambda e: e.new_pool("new", client=3, policy="sieve", cap=9, allow=[4, 5, 6])),
    "destroy": (nothing, lambda e: e.pool("q").destroy()),
    "close": (_with_magazines, lambda e: e.close()),
    "check": (nothing, lambda e: e.check()),
}

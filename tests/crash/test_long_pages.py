"""Owns the enumeration for long pages: every verb on them, and on one that is being written in
place, killed or stopped at every one of its kill points leaves the state before or the state after,
and all memory usable.

`make test` visits some of the points, chosen by seed; `make test-all` all.
"""
import contextlib
import itertools
import os
import random
import signal
import struct
import time

import pytest

import engine
from tests.crash.killing import HUGE, Scene, nothing
from tests.crash.test_kill_points import EVERY, visited
from tests.hostile import structs
from tests.stopped import Stopped, fork
from tests.support import SHM

pytestmark = pytest.mark.timeout(3600 if os.environ.get("EVERY_POINT") else 120)
KIB, MIB = 1 << 10, 1 << 20
OID = (0, 0, 0)
NOISE = random.Random(2).randbytes(3 * MIB)
LENGTHS = (70_000, 3000, 200_000, 64 * KIB + 1, 1, 130_000)
_numbers = itertools.count()


def page(n, length):
    return (b"%d/" % n + NOISE[n * 64:n * 64 + length])[:length]


def write(pool, index, data, end=True):
    made = pool.writing(OID, index, len(data))
    with made as buffer:
        buffer[:] = data
        if not end:
            made.abort()


class LongScene(Scene):
    """An arena of 4 MiB: persistent pool p of pages of many lengths, up to several segments."""

    CAPACITY = "4MiB"

    def __init__(self, prefix):
        self.name = f"{prefix}{next(_numbers)}"
        self.engine = engine.create(self.name, self.CAPACITY, page_size=4 * KIB, max_workers=8, max_pools=4, buckets=4,
                                    max_pinned="3MiB")
        self.p = self.engine.new_pool("p", persistent=True, page_size="4MiB")
        self.fill()

    def fill(self):
        for n, length in enumerate(LENGTHS):
            assert self.p.put(OID, n, page(n, length))

    def state(self):
        return {n: self.p.get(OID, n) for n in range(2 * len(LENGTHS))}

    def kept(self):
        """What may not be changed by what makes room."""
        return {}

    def assert_all_usable(self):
        """Whatever was half done keeps no memory: all of it goes into one page."""
        for pool in self.engine.pools():
            pool.destroy()
        pool = self.engine.new_pool("all", persistent=True, page_size="4MiB")
        # Whoever died at it may have left the arena smaller, and a hole in no list. Structs keep a
        # few segments, wherever they lie.
        room = self.engine.resize(self.CAPACITY) - 6 * 64 * KIB
        assert pool.put(OID, 0, (NOISE * 2)[:room])
        report = self.engine.check()
        assert report.ok, [str(problem) for problem in report.problems[:5]]


class FullScene(LongScene):
    """And the rest full of short pages of an ephemeral pool; some have hits."""

    EXTRA = 1100

    def fill(self):
        super().fill()
        self.e = self.engine.new_pool("e")
        for n in range(self.EXTRA):
            assert self.e.put((n // 64, 9, 9), n % 64, page(n, (4000, 700)[n % 16 == 0]))
            self.e.get((n // 128, 9, 9), n % 32)

    def state(self):
        for n in range(self.EXTRA):
            assert self.e.get((n // 64, 9, 9), n % 64, free=False) in (None, page(n, (4000, 700)[n % 16 == 0]))
        return super().state()


class SplinteredScene(LongScene):
    """And the rest full of persistent pages with holes between them: a long page finds a place only
    when they are moved."""

    EXTRA = 900

    def fill(self):
        super().fill()
        self.f = self.engine.new_pool("f", persistent=True, page_size="100KiB")
        self.extra = {}
        for n in itertools.count():
            data = page(n, (4000, 2000)[n % 7 == 0])
            if not self.f.put((n // 64, 9, 9), n % 64, data):
                break
            self.extra[n] = data
        for n in list(self.extra):
            if n % 3 != 0:
                self.f.flush_page((n // 64, 9, 9), n % 64)
                del self.extra[n]

    def state(self):
        for n, data in self.extra.items():
            assert self.f.get((n // 64, 9, 9), n % 64) == data, n
        return super().state()


def p(mine):
    return mine.pool("p")


def put(mine, n, data):
    assert p(mine).put(OID, n, data)


PLAIN = {
    "put": lambda e: p(e).put(OID, 7, page(7, 300_000)),
    "put-over-longer": lambda e: p(e).put(OID, 0, page(7, 300_000)),
    "put-over-shorter": lambda e: p(e).put(OID, 2, page(7, 100_000)),
    "put-over-as-long": lambda e: p(e).put(OID, 2, page(7, 200_000)),
    "put-over-a-short-one": lambda e: p(e).put(OID, 1, page(7, 200_000)),
    "put-a-short-one-over": lambda e: p(e).put(OID, 2, page(7, 3000)),
    "put-a-range": lambda e: e.new_pool("r", page_size="70KiB").put_range(OID, 0, page(7, 300_000)),
    "put-many": lambda e: p(e).put_many([(OID, 7)], [page(7, 300_000)]),
    "get-exclusive": lambda e: p(e).get(OID, 2, free=True),
    "flush-page": lambda e: p(e).flush_page(OID, 2),
    "flush-object": lambda e: p(e).flush_object(OID),
    "view": lambda e: p(e).view(OID, 2).release(),
    "write": lambda e: write(p(e), 7, page(7, 300_000)),
    "write-over": lambda e: write(p(e), 2, page(7, 300_000)),
    "write-a-short-one": lambda e: write(p(e), 7, page(7, 3000)),
    "write-and-abort": lambda e: write(p(e), 2, page(7, 300_000), False),
    "resize": lambda e: e.resize("2MiB"),
    "destroy": lambda e: p(e).destroy(),
    "close": lambda e: (put(e, 2, page(2, LENGTHS[2])), e.close()),
}
# Verbs that have to make room.
FULL = {
    "put": lambda e: put(e, 7, page(7, 300_000)),
    "put-over": lambda e: put(e, 2, page(7, 500_000)),
    "write": lambda e: write(p(e), 7, page(7, 300_000)),
    "write-and-abort": lambda e: write(p(e), 7, page(7, 300_000), False),
    "resize": lambda e: (e.resize("2MiB"), e.resize("4MiB")),
}
MOVING = {verb: FULL[verb] for verb in ("put", "write", "put-over")}


def outcomes(scene_of, prefix, act):
    """(points, states before and after) of a verb that nobody kills."""
    with scene_of(prefix) as scene:
        before = scene.state()
        points = scene.die_in(nothing, act, HUGE)
        scene.engine.recover()
        if "p" not in [pool.name for pool in scene.engine.pools()]:
            return points, [before]
        return points, [before, scene.state()]


def look(scene, states):
    scene.engine.recover()
    report = scene.engine.check()
    assert report.ok, [str(problem) for problem in report.problems[:5]]
    assert report.counts["pins"] == report.counts["limbo"] == 0
    assert scene.engine.stats()["arena"]["workers"] == 1
    if "p" in [pool.name for pool in scene.engine.pools()]:
        try:
            state = scene.state()
            assert states is None or state in states, "neither before nor after"
        except engine.PoolDestroyed:
            pass
    scene.assert_all_usable()


def kill_at_all(scene_of, prefix, act, most, seed):
    points, states = outcomes(scene_of, prefix, act)
    chosen = visited(points, most, seed)
    for point in chosen:
        with scene_of(prefix) as scene:
            try:
                scene.state()           # a look is a hit of each page: without it others go, by another way
                assert scene.die_in(nothing, act, point) is None, "not reached"
                look(scene, states)
            except AssertionError as error:
                raise AssertionError(f"point {point} of {points}: {error}") from error
    print(f"{seed}: {len(chosen)} of {points} kill points")


@pytest.mark.parametrize("verb", list(PLAIN))
def test_killed_at_every_point_of_a_verb_on_long_pages(arena_name, verb):
    kill_at_all(LongScene, arena_name, PLAIN[verb], 7, verb)


@pytest.mark.parametrize("verb", list(FULL))
def test_killed_at_every_point_of_a_verb_that_lets_others_go_for_a_long_page(arena_name, verb):
    kill_at_all(FullScene, arena_name, FULL[verb], 6, verb)


@pytest.mark.parametrize("verb", list(MOVING))
def test_killed_at_every_point_of_a_verb_that_empties_a_window(arena_name, verb):
    kill_at_all(SplinteredScene, arena_name, MOVING[verb], 6, verb)


def work_beside(name):
    """What another worker does while one stands still: it gets what it can, and all of it right."""
    with engine.attach(name) as mine:
        pool = mine.new_pool("b", page_size="1MiB")
        for n in range(12):
            pool.put(OID, n, page(n, (150_000, 3000, 70_000)[n % 3]))
        write(pool, 20, page(5, 100_000))
        for n in range(12):
            assert pool.get(OID, n) in (None, page(n, (150_000, 3000, 70_000)[n % 3]))
        assert pool.get(OID, 20) in (None, page(5, 100_000))
        pool.destroy()


@pytest.mark.parametrize("verb", ["put", "write", "put-over"])
@pytest.mark.parametrize("scene_of", [FullScene, LongScene], ids=["full", "plain"])
def test_stopped_at_points_while_another_works(arena_name, scene_of, verb):
    """Who needs a lock of it waits; then it goes on, or is killed after all."""
    act = FULL[verb]
    points, states = outcomes(scene_of, arena_name, act)
    for turn, point in enumerate(visited(points, 4, verb)):
        with scene_of(arena_name) as scene:
            scene.state()
            with Stopped(scene.name, act, point) as stopped:
                assert stopped.stopped
                other = fork(work_beside, scene.name)
                time.sleep(0.05)
                if turn % 2:
                    assert stopped.go_on() == 0
                else:
                    stopped.kill()
                assert os.waitpid(other, 0)[1] == 0
            look(scene, states if scene_of is LongScene else None)


class Interrupted(Exception):
    """What a signal handler raises in a put that waits."""


def wanted_in(name):
    """Numbers of segments that are kept for a worker that empties them for a long page."""
    # Here, since it reads the source, which is not there where a wheel is tested.
    from tests.hostile.structs import Map, offset
    raw = (SHM / name).read_bytes()
    places = Map(raw[:4096])
    return [n for n in range(places.geometry["seg_total"])
            if struct.unpack_from("<Q", raw, places.segment(n) + offset("Segment", "wanted"))[0]]


@pytest.mark.parametrize("part", range(2))
def test_a_put_that_is_interrupted_keeps_nothing_from_others(arena_name, part):
    """It waits for somebody who stands still; the worker's next put that lacks memory opens what it
    had begun to empty, if it could not itself."""
    def alarm(*_):
        raise Interrupted

    rnd = random.Random(part)
    before = signal.signal(signal.SIGALRM, alarm)
    try:
        for _ in range(60 if EVERY else 4):
            act = rnd.choice([lambda e: put(e, 7, page(7, 100_000)), lambda e: p(e).flush_page(OID, 2)])
            with SplinteredScene(arena_name) as scene:
                with Stopped(scene.name, act, rnd.randrange(1, 60)) as stopped:
                    signal.setitimer(signal.ITIMER_REAL, 0.1)
                    with contextlib.suppress(Interrupted):
                        scene.p.put(OID, 9, page(9, 600_000))
                    signal.setitimer(signal.ITIMER_REAL, 0)
                    if stopped.stopped:
                        stopped.go_on()
                n = 0
                while scene.f.put((200 + n // 64, 9, 9), n % 64, page(n, 4000)):
                    n += 1
                assert wanted_in(scene.name) == [] and scene.engine.check().ok
    finally:
        signal.signal(signal.SIGALRM, before)


def wanted(name):
    """The segments of an arena that somebody wants."""
    with open(SHM / name, "rb") as file:
        where = structs.Map(file.read(4096))
        file.seek(where.segment(0))
        total, size = where.geometry["seg_total"], structs.SIZES["Segment"]
        table = file.read(total * size)
    at = structs.offset("Segment", "wanted")
    return [i for i in range(total) if struct.unpack_from("<Q", table, i * size + at)[0]]


def is_idle(name):
    """True if nobody has the depot, which who stands still with it would keep from all others."""
    with open(SHM / name, "rb") as file:
        file.seek(structs.Map(file.read(4096)).depot)
        return struct.unpack("<Q", file.read(8))[0] == 0


@pytest.mark.parametrize("heir", [False, True])
def test_what_the_dead_wanted_is_free_again_while_somebody_resizes(arena_name, heir):
    """Who resizes opens what others were emptying when he begins, and not when he ends. An heir
    does so before he has a name of his own, and has a journal for it."""
    for point in range(1, 60):
        with (
            SplinteredScene(arena_name) as scene,
            Stopped(scene.name, lambda mine: mine.resize("4MiB"), point) as resizer,
        ):
            if resizer.stopped and is_idle(scene.name) and scene.engine.stats()["arena"]["workers"] == 2:
                break
    else:
        pytest.fail("a resize has the depot wherever it stops")
    points, _ = outcomes(SplinteredScene, arena_name, FULL["put"])
    begun = 0
    for late in range(points // 2, points, points // 32):
        with (
            SplinteredScene(arena_name) as scene,
            Stopped(scene.name, lambda mine: mine.resize("4MiB"), point) as resizer,
            Stopped(scene.name, FULL["put"], late) as other,
        ):
            if not other.stopped or not wanted(scene.name):
                continue
            others = []
            with contextlib.suppress(engine.ArenaBusy):
                while heir:         # until the dead one's place is all that is left
                    others.append(engine.attach(scene.name))
            other.kill()
            if heir:
                with engine.attach(scene.name) as next_one:
                    assert not wanted(scene.name)
                    next_one.new_pool("works").put((7, 0, 0), 0, b"page")
            else:
                scene.engine.recover()
            assert not wanted(scene.name)
            for one in others:
                one.close()
            assert resizer.go_on() == 0
            look(scene, [scene.state()])
            begun += 1
            if begun == 4:
                return
    pytest.fail(f"{begun} windows were begun")

"""Owns the check that stops nobody: it sees what lies in buckets, queues and the depot, cries no
wolf while others work, and lets go."""
import contextlib
import itertools
import mmap
import os
import random
import signal
import struct
import threading

import pytest

import engine
from tests.crash.test_repair import damage
from tests.hostile.structs import SIZES, offset
from tests.stopped import Stopped, in_child
from tests.support import KINDS, SHM, page, text

FIELDS = ("pools", "objects", "objnodes", "pages", "segments", "chunks", "far_lost")


def fill(eng, rnd=None):
    """Pools of all kinds with pages in them, and one that was destroyed."""
    rnd = rnd or random.Random(1)
    pools = [eng.new_pool(kind, **KINDS[kind]) for kind in KINDS] + [
        eng.new_pool("equal", dedup=True),
        eng.new_pool("gone"),
    ]
    for pool in pools:
        for n in range(200):
            assert pool.put((n % 9, 0, 0), n * 37 % 5000, page(n % 50) if n % 2 else text(n, rnd.randrange(1, 500)))
    pools[-1].destroy()
    return pools[:-1]


def test_it_counts_what_a_check_counts(eng):
    fill(eng)
    gentle, frozen = eng.check(gentle=True), eng.check()
    assert gentle.ok and gentle.gentle and frozen.ok and not frozen.gentle
    assert [gentle.counts[field] for field in FIELDS] == [frozen.counts[field] for field in FIELDS]
    assert set(gentle.counts) == set(FIELDS)


def test_its_arguments(eng):
    with pytest.raises(TypeError, match="gentle"):
        eng.check(gentle=1)
    with pytest.raises(ValueError, match="gentle"):
        eng.check(repair=True, gentle=True)


def problems(eng, **how):
    try:
        return {problem.id for problem in eng.check(**how).problems}
    except engine.ArenaCorrupted:
        return {"refused"}


def test_what_it_finds_a_check_finds_too(arena_name):
    """Random words changed: it never blames what a check, in a stopped world, does not blame."""
    rnd = random.Random(3)
    found = set()
    for _ in range(150):
        eng = engine.create(arena_name, "2MiB", max_workers=4, max_pools=8, buckets=4)
        fill(eng, rnd)
        for _ in range(8):
            damage(arena_name, rnd)
        with contextlib.suppress(engine.ArenaCorrupted):
            eng.recover()       # of what is damaged on the list of the retired, the first who meets it hears
        gentle, frozen = problems(eng, gentle=True), problems(eng)
        assert frozen or not gentle, gentle
        found |= gentle
        with contextlib.suppress(engine.ArenaCorrupted):
            eng.close()
        engine.unlink(arena_name)
    assert found > {
        "page-back",
        "page-length",
        "objnode-slots",
        "obj-bytes",
        "obj-pages",
        "queue-word",
        "segment-count",
    }, found


def churn(name, seed):
    rnd = random.Random(seed)
    eng = engine.attach(name)
    pools = [eng.pool(kind) for kind in (*KINDS, "equal")]
    while True:
        pool, oid, index = rnd.choice(pools), (rnd.randrange(9), 0, 0), rnd.randrange(200)
        act = rnd.randrange(12)
        if act < 6:
            pool.put(oid, index, rnd.choice((page(rnd.randrange(4)), rnd.randbytes(rnd.randrange(1, 500)))))
        elif act < 8:
            pool.get(oid, index)
        elif act < 10:
            pool.flush_page(oid, index)
        elif act < 11:
            pool.flush_object(oid)
        else:
            mine = eng.new_pool(f"short {seed}")
            mine.put_range((1, 0, 0), 0, bytes(range(256)) * 40)
            mine.destroy()


def test_it_cries_no_wolf_while_others_work(make_arena):
    """Full, so that pages go, segments change their class; and the capacity changes, too."""
    eng = make_arena(capacity="1MiB", max_capacity="2MiB", page_size=512, buckets=4, max_workers=6)
    fill(eng)
    children = []
    for seed in range(2):
        children.append(os.fork())
        if children[-1] == 0:
            try:
                churn(eng.name, seed)
            finally:
                os._exit(1)
    try:
        for turn in range(60):
            report = eng.check(gentle=True)
            assert report.ok, report.problems[:3]
            if turn % 8 == 0:
                try:
                    eng.resize("2MiB" if turn % 16 else "1MiB")
                except engine.TmemError:
                    pass            # persistent pages may need more by now
    finally:
        for child in children:
            os.kill(child, signal.SIGKILL)
            assert os.waitpid(child, 0)[1] == signal.SIGKILL
    eng.recover()
    assert eng.check().ok and eng.check(gentle=True).ok


def test_it_waits_for_who_holds_a_bucket_and_nobody_else_waits_for_it(make_arena):
    eng = make_arena(buckets=4)
    pool = eng.new_pool("p", persistent=True)
    for n in range(64):
        assert pool.put((n, 0, 0), 0, page(n))
    answers = []
    with (
        Stopped(eng.name, lambda mine: mine.pool("p").put((1, 0, 0), 0, b"new"), point=6) as holder,
        engine.attach(eng.name) as other,
    ):
        assert holder.stopped
        checker = threading.Thread(target=lambda: answers.append(other.check(gentle=True)))
        checker.start()
        # As soon as the checker is asleep for that bucket, and before: the others are free.
        free = 0
        while other.stats()["total"]["lock_waits"] == 0 or free < 100:
            for n in range(64):
                if eng.pool("p").get((n, 0, 0), 0) is not None and n % 4 != 1:
                    free += 1
        assert not answers
        assert holder.go_on() == 0
        checker.join()
    assert answers[0].ok and answers[0].counts["objects"] == 64


@pytest.mark.parametrize("point", [1, 2, 3, 5, 8, 13, 40, 41, 42, 43, 44, 45, 200, 400])
def test_a_checker_that_is_killed_leaves_nothing(eng, point):
    fill(eng)

    def act():
        with engine.attach(eng.name) as mine:
            mine.set_kill_point(point)
            mine.check(gentle=True)
    assert in_child(act) == -signal.SIGKILL
    assert eng.check(gentle=True).ok and eng.check().ok
    assert eng.stats()["arena"]["workers"] == 1


# --- an object of more pages than others may wait for ---------------------------------------------

LARGE = (0x1A26E, 7, 7)
SLICE = 4096                            # pages: as in engine/integrity/gentle.py
PAGES = 3 * SLICE + 100


@pytest.fixture
def large(make_arena):
    """A pool with an object of so many pages, beside a small one in the same bucket."""
    pool = make_arena(capacity="64MiB", buckets=1).new_pool("p", persistent=True)
    assert pool.put((1, 0, 0), 0, page(1))
    for first in range(0, PAGES, 1000):
        count = min(1000, PAGES - first)
        assert all(pool.put_many([(LARGE, first + n) for n in range(count)], [page(first + n) for n in range(count)]))
    return pool


def points_of(eng):
    """Kill points of a gentle check: each lock that is taken has some."""
    eng.set_kill_point(1 << 60)
    assert eng.check(gentle=True).ok
    return eng.kill_points()


def test_a_large_object_is_walked_in_slices(large):
    whole, report = points_of(large.engine), large.engine.check(gentle=True)
    assert report.counts["pages"] == PAGES + 1 and report.counts["objects"] == 2
    frozen = large.engine.check()
    assert report.counts["objnodes"] == frozen.counts["objnodes"]
    for index in range(PAGES - SLICE, PAGES):
        assert large.flush_page(LARGE, index)
    less = points_of(large.engine)
    for index in range(PAGES - 2 * SLICE, PAGES - SLICE):
        assert large.flush_page(LARGE, index)
    assert whole - less == less - points_of(large.engine) > 0


def change(path, field, by):
    """Add to a word of the large obj, as it lies in the arena's file."""
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as found:
        at = found.find(struct.pack("<3Q", *LARGE)) - offset("Obj", "oid") + SIZES["Obj"] + offset("Stem", field)
        found[at:at + 8] = struct.pack("<Q", struct.unpack("<Q", found[at:at + 8])[0] + by)


@pytest.mark.parametrize(
    "field, says", [("pampd_count", "obj-pages"), ("nodes", "obj-objnodes"), ("asked", "obj-bytes")]
)
def test_what_a_large_object_says_of_its_pages_is_compared(large, field, says):
    path = SHM / large.engine.name
    one = 2 if field == "nodes" else 1      # its upper bits count the objnodes
    change(path, field, one)
    assert [problem.id for problem in large.engine.check(gentle=True).problems] == [says]
    change(path, field, -one)
    assert large.engine.check(gentle=True).ok and large.engine.check().ok


def test_a_large_object_may_change_between_slices(large):
    def change():
        for n in itertools.count():
            large.put(LARGE, n * 7919 % (PAGES + 900), page(n))
            large.flush_page(LARGE, n * 104729 % (PAGES + 900))
            if n % 5000 == 4999:
                large.flush_object(LARGE)

    pid = os.fork()
    if pid == 0:
        try:
            change()
        finally:
            os._exit(1)
    try:
        for _ in range(40):
            report = large.engine.check(gentle=True)
            assert report.ok, report.problems[:3]
    finally:
        os.kill(pid, signal.SIGKILL)
        assert os.waitpid(pid, 0)[1] == signal.SIGKILL
    large.engine.recover()
    assert large.engine.check().ok


class Enough(Exception):
    """Raised by the signal handlers of these tests."""


@pytest.fixture
def ringing():
    """ringing(function): that function handles a signal that comes every millisecond until the test
    ends."""
    before = signal.getsignal(signal.SIGALRM)

    def begin(function):
        signal.signal(signal.SIGALRM, function)
        signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
    yield begin
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


def test_signal_handlers_run_in_it_and_may_use_the_engine_and_end_it(make_arena, ringing):
    eng = make_arena(capacity="64MiB", buckets=4096, page_size=512)
    pool = eng.new_pool("p")
    for n in range(0, 40_000, 1000):
        pool.put_many([((n + i, 0, 0), 0) for i in range(1000)], [b"x"] * 1000)
    rung = []

    def ring(*_):
        rung.append(pool.put((7, 7, 7), 0, b"from the handler"))
        if len(rung) == 3:
            signal.setitimer(signal.ITIMER_REAL, 0)
            raise Enough
    ringing(ring)
    with pytest.raises(Enough):
        while True:         # one check may be over before the third
            eng.check(gentle=True)
    assert rung == [True] * 3
    assert pool.put((1, 0, 0), 0, b"y") and eng.check().ok


def test_signal_handlers_run_in_a_long_destroy_which_has_taken_effect(make_arena, ringing):
    eng = make_arena(capacity="128MiB", page_size=512)
    pool = eng.new_pool("p", persistent=True)
    for n in range(0, 150_000, 1000):
        pool.put_many([((n + i, 0, 0), 0) for i in range(1000)], [b"x"] * 1000)

    def ring(*_):
        if pool.name not in [found.name for found in eng.pools()]:     # ArenaBusy unless the engine has let go
            signal.setitimer(signal.ITIMER_REAL, 0)
            raise Enough

    def quiet(*_):
        try:
            ring()
        except engine.ArenaBusy:
            pass
    ringing(quiet)
    with pytest.raises(Enough):
        pool.destroy()
    with pytest.raises(engine.PoolDestroyed):
        pool.get((1, 0, 0), 0)
    assert eng.check().ok
    eng.recover()           # gives back the rest
    report = eng.check()
    assert report.ok and report.counts["pages"] == 0

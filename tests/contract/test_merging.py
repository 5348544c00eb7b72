"""Owns the promise that memory which is free in small pieces becomes memory for pages of any size:
what lies among them is moved, and nothing is lost for it."""
import contextlib
import mmap
import multiprocessing
import random
import struct

import pytest

import engine
from tests.hostile.structs import CONSTANTS, SIZES, Map, offset
from tests.stopped import Stopped, in_child
from tests.support import SHM

PAGE = 4096


def page(n, length):
    """A page that names n, and is not one word over and over: such take no chunk."""
    return random.Random(n).randbytes(length)


def fill(pool, length, first=0, most=1 << 30):
    """Put pages until one is refused: how many there are then."""
    n = first
    while n - first < most and pool.put((n >> 6, length, 0), n & 63, page(n, length)):
        n += 1
    return n - first


def holds(pool, length, numbers):
    return all(pool.get((n >> 6, length, 0), n & 63) == page(n, length) for n in numbers)


@pytest.fixture
def fresh(make_arena):
    """How many pages of a length a fresh arena holds."""

    def count(length, capacity):
        eng = make_arena(capacity=capacity, page_size=PAGE)
        return fill(eng.new_pool("p", persistent=True), length)

    return count


@pytest.mark.parametrize(("small", "large"), [(100, 4096), (1000, 4096), (4096, 500), (3000, 4096)])
def test_what_was_flushed_here_and_there_can_be_used_for_another_size(make_arena, fresh, small, large):
    eng = make_arena(capacity="4MiB", page_size=PAGE)
    pool = eng.new_pool("p", persistent=True)
    count = fill(pool, small)
    gone = set(random.Random(1).sample(range(count), count * 9 // 10))
    for n in gone:
        assert pool.flush_page((n >> 6, small, 0), n & 63)
    more = fill(pool, large, first=1 << 20)
    assert more >= 0.8 * fresh(large, "4MiB"), more
    assert holds(pool, small, set(range(count)) - gone) and holds(pool, large, range(1 << 20, (1 << 20) + more))
    assert eng.check().ok


@pytest.mark.parametrize("worker", ["the same", "another"])
def test_a_few_pages_that_stay_do_not_keep_the_rest(make_arena, fresh, worker):
    eng = make_arena(capacity="8MiB", page_size=PAGE, max_workers=4)
    kept = eng.new_pool("kept", persistent=True)
    cache = eng.new_pool("cache")
    for n in range(17000):
        assert cache.put((n >> 6, 0, 0), n & 63, page(n, 500))
        if n % 33 == 0 and n < 12000:
            assert kept.put((n >> 6, 0, 0), n & 63, page(n, 500))
    stayed = range(0, 12000, 33)

    def load():
        with engine.attach(eng.name) as mine:
            pool = mine.pool("cache")
            for n in range(4000):
                assert pool.put((n >> 6, 1, 0), n & 63, page(n, 4000))

    if worker == "another":
        assert in_child(load) == 0
    else:
        for n in range(4000):
            assert cache.put((n >> 6, 1, 0), n & 63, page(n, 4000))
    there = sum(cache.get((n >> 6, 1, 0), n & 63) == page(n, 4000) for n in range(4000))
    assert there >= 0.85 * fresh(4000, "8MiB"), there
    assert all(kept.get((n >> 6, 0, 0), n & 63) == page(n, 500) for n in stayed)
    assert all(kept.put((n, 2, 0), 0, page(n, 4000)) for n in range(200))
    assert eng.check().ok


def test_sizes_may_drift(make_arena, fresh):
    eng = make_arena(capacity="4MiB", page_size=PAGE)
    pool = eng.new_pool("p")
    whole = fresh(PAGE, "4MiB")
    n = 0
    for length, count in ((PAGE, 2000), (100, 30000), (PAGE, 2000), (700, 9000), (64, 30000), (PAGE, 2000)):
        for _ in range(count):
            assert pool.put((n >> 6, length, 0), n & 63, page(n & 255, length)), (length, n)
            n += 1
        if length == PAGE:
            assert eng.stats()["pools"]["p"]["pages"] >= 0.95 * whole
    assert eng.check().ok


def test_what_is_viewed_stays_where_it_is(make_arena):
    eng = make_arena(capacity="4MiB", page_size=PAGE)
    pool = eng.new_pool("p", persistent=True)
    count = fill(pool, 1000)
    kept = range(0, count, 50)
    with pool.view((0, 1000, 0), 0) as first, pool.view((kept[9] >> 6, 1000, 0), kept[9] & 63) as other:
        for n in range(count):
            if n % 50:
                assert pool.flush_page((n >> 6, 1000, 0), n & 63)
        more = fill(pool, PAGE, first=1 << 20)
        assert more > 300 and first == page(0, 1000) and other == page(kept[9], 1000)
    assert holds(pool, 1000, kept)
    assert eng.check().ok


def test_two_workers_make_room_at_one_time(make_arena):
    eng = make_arena(capacity="4MiB", page_size=PAGE, max_workers=4)
    pool = eng.new_pool("p", persistent=True)
    count = fill(pool, 300)
    for n in range(count):
        if n % 10:
            assert pool.flush_page((n >> 6, 300, 0), n & 63)

    def load(worker):
        with engine.attach(eng.name) as mine:
            there = mine.pool("p")
            for n in range(350):
                assert there.put((n, PAGE, worker), 0, page(n, PAGE)), n
                if n % 3 == 0:
                    assert there.flush_page((n, PAGE, worker), 0)
            assert all(there.get((n, PAGE, worker), 0) == page(n, PAGE) for n in range(350) if n % 3)

    fork = multiprocessing.get_context("fork")
    children = [fork.Process(target=load, args=(worker,)) for worker in range(2)]
    for child in children:
        child.start()
    for child in children:
        child.join()
    assert [child.exitcode for child in children] == [0, 0]
    assert holds(pool, 300, range(0, count, 10))
    assert eng.check().ok


def test_a_segment_that_cannot_be_emptied_does_not_go_on_leaving(make_arena):
    # Else nobody could use what is free in it.
    eng = make_arena(capacity="4MiB", page_size=PAGE)
    pool = eng.new_pool("p", persistent=True)
    count = fill(pool, 1000)
    with contextlib.ExitStack() as views:
        for n in range(0, count, 8):
            views.enter_context(pool.view((n >> 6, 1000, 0), n & 63))
        for n in range(count):
            if n % 8:
                assert pool.flush_page((n >> 6, 1000, 0), n & 63)
        assert fill(pool, PAGE, first=1 << 20) < 50         # views stand in the way of nearly all of it
        arena = (SHM / eng.name).read_bytes()
        places = Map(arena)
        at = offset("Segment", "state")
        states = [
            int.from_bytes(arena[places.segment(n) + at : places.segment(n) + at + 8], "little")
            for n in range(places.geometry["seg_total"])
        ]
        assert not any(states)
        again = fill(pool, 1000, first=1 << 21)
        assert again > 1000
    assert fill(pool, PAGE, first=1 << 22) > 100            # with nobody looking
    assert holds(pool, 1000, range(1 << 21, (1 << 21) + again)) and eng.check().ok


def copies_of_descriptors(name):
    """Copy the descriptors of an arena into free chunks, as who moves one does before it is linked,
    and is killed then: how many."""
    with open(SHM / name, "r+b") as file:
        raw = mmap.mmap(file.fileno(), 0)
        places = Map(raw[:4096])
        base, size = places.where["segments"], SIZES["Pampd"]
        free, found = [], []
        for number in range(places.geometry["seg_total"]):
            cls = struct.unpack_from("<Q", raw, places.segment(number) + offset("Segment", "cls"))[0]
            if cls != CONSTANTS["PAMPD_CLASS"] + 1:
                continue
            start = base + number * places.seg_bytes
            count = places.seg_bytes // size
            first = start + ((count + 7) // 8 + 63) // 64 * 64
            for i in range((places.seg_bytes - (first - start)) // size):
                at = first + i * size
                if not raw[start + i // 8] >> i % 8 & 1:
                    free.append(at)
                elif struct.unpack_from("<Q", raw, at)[0] == CONSTANTS["PAMPD_SENTINEL"]:
                    found.append(raw[at:at + size])
        for at, words in zip(free, found, strict=False):
            raw[at:at + size] = words
        raw.close()
    return min(len(free), len(found))


def holds_nothing(name, worker):
    """True if a worker has no lock but its own."""
    raw = (SHM / name).read_bytes()
    places = Map(raw[:4096])
    own = places.slot(worker) + offset("Slot", "own")
    held = struct.unpack_from(f"<{CONSTANTS['HELD_MAX']}Q", raw, places.slot(worker) + offset("Slot", "held"))
    return not any(at and at != own and struct.unpack_from("<Q", raw, at)[0] & 0xFFFF == worker + 1 for at in held)


@pytest.fixture
def littered(make_arena):
    """Make a full arena with copies of its descriptors in free chunks: the engine and its pool
    "p"."""

    def make():
        eng = make_arena(capacity="2MiB", page_size=PAGE, buckets=1, max_workers=4)
        pool, other = eng.new_pool("p"), eng.new_pool("other")
        n = 0
        while eng.stats()["total"]["evicted"] == 0:
            assert (other if n % 2 else pool).put((n >> 6, 0, 0), n & 63, page(n, 1000))
            n += 1
        # They go in another order than they lie in: no segment empties by itself.
        rnd = random.Random(5)
        for i in rnd.sample(range(n), n // 2):
            (other if i % 2 else pool).flush_page((i >> 6, 0, 0), i & 63)
        for i in rnd.sample(range(n), n):
            (other if i % 2 else pool).put((i >> 6, 0, 0), i & 63, page(i, 1000))
        assert copies_of_descriptors(eng.name) > 30
        return eng, pool

    return make


def put_other_lengths(pool, of_each=100):
    numbers = range(3 * of_each)
    return [pool.put((i >> 6, 1, 0), i & 63, page(i, (4096, 300, 2000)[i // of_each])) for i in numbers]


def test_the_copy_that_a_dead_mover_made_is_no_page(littered):
    """Whoever looks through descriptors finds it, in a chunk that nobody has."""
    eng, pool = littered()
    assert all(put_other_lengths(pool))
    report = eng.check()
    assert report.ok, report.problems[:3]


def test_nor_is_one_of_a_pool_that_is_being_destroyed(littered):
    for point in range(150, 190):
        eng, pool = littered()

        def destroy(mine, point=point):
            dying = mine.pool("other")
            mine.set_kill_point(point, True)
            dying.destroy()

        with Stopped(eng.name, destroy):
            nothing_held = holds_nothing(eng.name, 1)
            if nothing_held:
                assert "other" not in eng.stats()["pools"]
                # They are refused, each after a fifth of a second: what is being destroyed is not
                # to be had yet.
                put_other_lengths(pool, 2)
        eng.recover()
        report = eng.check()
        assert report.ok, report.problems[:3]
        if nothing_held:
            return
    raise AssertionError("it holds a lock wherever it stops")


def test_little_stays_stuck_when_lengths_and_pools_change(make_arena):
    """Pages that go for a pool of one length leave holes among the pages of an idle pool of
    another: those are moved together before more of any pool go."""
    eng = make_arena(capacity="8MiB", page_size=PAGE)
    rng = random.Random(7)
    for turn, length in enumerate((190, 700, 150, 1400, 230, 3000)):
        pool = eng.new_pool(f"turn {turn}")
        for n in range(2 * eng.capacity // (length + 80)):
            key = rng.randrange(2 * eng.capacity // (length + 80)) >> (n & 3)
            if pool.get((key >> 3, turn, 0), key & 7) is None:
                assert pool.put((key >> 3, turn, 0), key & 7, page(n, length))
        if turn:
            assert eng.stats()["arena"]["bytes_stuck"] < eng.capacity // 10, turn
    assert eng.check().ok

"""Owns the contract of a capacity that moves: what goes, what never does, what the system gets
back, and who may be in the way."""
import multiprocessing
import os
import random
import signal
import threading

import pytest

import engine
from engine.capacity import resize
from engine.eviction.policies import POLICIES
from tests.stopped import in_child
from tests.support import SHM

MIB = 1 << 20
PAGE = 4096


def page(n, length=PAGE):
    """A page that names n, and is not one word over and over: such take no chunk."""
    return (b"%d/" % n + bytes([n & 255]) * PAGE)[:length]


def backed(eng):
    return os.stat(SHM / eng.name).st_blocks * 512


def sound(eng):
    report = eng.check()
    assert report.ok, [str(problem) for problem in report.problems[:5]]


def test_a_smaller_arena_keeps_persistent_pages_and_gives_memory_back(make_arena):
    eng = make_arena(capacity="64MiB", page_size=PAGE, huge_pages=False)
    cache, store = eng.new_pool("cache"), eng.new_pool("store", persistent=True)
    for n in range(18000):
        assert cache.put((n // 100, 0, 0), n % 100, page(n))
        if n % 9 == 0:
            assert store.put((n // 70, 1, 0), n % 70, page(n, 1 + n % PAGE))
    before = {n: store.object_info((n // 70, 1, 0)) for n in range(0, 18000, 9)}
    tables = backed(eng) - eng.stats()["arena"]["bytes_in_segments"]
    assert eng.resize("16MiB") == eng.capacity == 16 * MIB
    assert backed(eng) <= 16 * MIB + tables
    assert eng.stats()["arena"]["segments_used"] <= 16 * MIB // eng.stats()["arena"]["segment_bytes"]
    for n in range(0, 18000, 9):
        assert store.get((n // 70, 1, 0), n % 70) == page(n, 1 + n % PAGE)
        assert store.object_info((n // 70, 1, 0)) == before[n]
    left = [n for n in range(18000) if cache.get((n // 100, 0, 0), n % 100) is not None]
    assert all(cache.get((n // 100, 0, 0), n % 100) == page(n) for n in left) and len(left) > 1500
    sound(eng)
    # It holds what it may now, and no more; then the old capacity is there again.
    for n in range(6000):
        assert cache.put((n, 2, 0), 0, page(n))
    assert backed(eng) <= 16 * MIB + tables
    assert eng.resize(64 * MIB) == 64 * MIB
    for n in range(14000):
        assert cache.put((n // 100, 3, 0), n % 100, page(n))
    assert eng.stats()["pools"]["cache"]["pages"] > 13000 and backed(eng) > 56 * MIB
    sound(eng)


@pytest.mark.parametrize("policy", list(POLICIES))
def test_what_is_moved_is_evicted_in_its_turn(make_arena, policy):
    """Queues survive the moving of descriptors: pages that were hit stay longer than those that
    were not."""
    eng = make_arena(capacity="8MiB", page_size=512, shards=4, huge_pages=False)
    cache = eng.new_pool("cache", policy=policy)
    for n in range(12000):
        assert cache.put((n // 40, 0, 0), n % 40 * 70, page(n, 300))
    rnd = random.Random(1)
    for capacity in (6, 4, 3, 2, 1):
        eng.resize(capacity * MIB)
        sound(eng)
        for n in range(12000):
            assert cache.get((n // 40, 0, 0), n % 40 * 70) in (None, page(n, 300))
    eng.resize("8MiB")
    for n in range(30000):
        n = rnd.randrange(15000)
        assert cache.put((n // 40, 0, 0), n % 40 * 70, page(n, 300))
    sound(eng)


def test_growing_beyond_the_capacity_it_was_made_with(make_arena):
    eng = make_arena(capacity="2MiB", max_capacity="8MiB", page_size=PAGE)
    store = eng.new_pool("store", persistent=True)
    held = 0
    while store.put((0, 0, 0), held, page(held)):
        held += 1
    assert eng.capacity == 2 * MIB and eng.max_capacity == 8 * MIB and held < 512
    eng.resize("8MiB")
    while store.put((0, 0, 0), held, page(held)):
        held += 1
    assert 1900 < held < 2048
    assert all(store.get((0, 0, 0), n) == page(n) for n in range(held))
    with engine.attach(eng.name) as other:
        assert (other.capacity, other.max_capacity) == (8 * MIB, 8 * MIB)
    sound(eng)


def test_not_below_what_persistent_pages_need(make_arena):
    eng = make_arena(capacity="16MiB", page_size=PAGE)
    cache, store = eng.new_pool("cache"), eng.new_pool("store", persistent=True)
    for n in range(1500):
        assert store.put((n % 7, 0, 0), n, page(n))
    for n in range(1000):
        assert cache.put((n % 7, 1, 0), n, page(n))
    with pytest.raises(engine.TmemError, match="capacity: persistent pages .* need [0-9]+ bytes"):
        eng.resize("4MiB")
    assert eng.capacity == 16 * MIB
    assert all(store.get((n % 7, 0, 0), n) == page(n) for n in range(1500))
    assert all(cache.get((n % 7, 1, 0), n) == page(n) for n in range(1000))
    sound(eng)


def test_what_only_turns_out_on_the_way_changes_nothing_persistent(make_arena):
    """Chunks of many sizes fill segments badly: the sum of the bytes would fit, the segments do
    not."""
    eng = make_arena(capacity="8MiB", page_size=PAGE)
    store = eng.new_pool("store", persistent=True)
    lengths = [60, 130, 200, 300, 400, 600, 900, 1100, 1500, 1700, 2000, 2300, 2500, 2700, 3000, 3300, 3500, 4000]
    for n in range(180):
        assert store.put((n, 0, 0), 0, page(n, lengths[n % 18]))
    with pytest.raises(engine.TmemError, match="leave no room for so little"):
        eng.resize("1MiB")
    assert eng.capacity == 8 * MIB
    assert all(store.get((n, 0, 0), 0) == page(n, lengths[n % 18]) for n in range(180))
    sound(eng)
    for n in range(1000):
        assert store.put((n, 1, 0), 0, page(n))
    sound(eng)


def test_objects_of_every_shape_are_moved(make_arena):
    """Deep trees, single pages, many objects in one bucket, private and foreign pools; handles and
    other engines see the same."""
    eng = make_arena(capacity="48MiB", page_size=512, buckets=2, huge_pages=False)
    filler = eng.new_pool("filler", persistent=True)
    pools = [eng.new_pool("p", persistent=True), eng.new_pool("q", persistent=True, shared=False)]
    rnd = random.Random(3)
    truth = {}
    for n in range(6000):
        assert filler.put((n, 0, 0), 0, page(n, 500))
        pool, oid = rnd.choice(pools), (rnd.randrange(400), rnd.randrange(2), 0)
        index = rnd.choice((0, rnd.randrange(200), rnd.randrange(2**20), 2**64 - 1 - rnd.randrange(100)))
        assert pool.put(oid, index, page(n, 1 + n % 512))
        truth[pool.name, oid, index] = page(n, 1 + n % 512)
    infos = {(name, oid): eng.pool(name).object_info(oid) for name, oid, _ in truth}
    with engine.attach(eng.name) as other:
        handles = {(name, oid): other.pool(name).object(oid) for name, oid in infos}
        for (name, oid, index), data in truth.items():
            assert handles[name, oid].get(index, free=False) == data
        for n in range(6000):
            assert filler.flush_page((n, 0, 0), 0)
        used = eng.stats()["arena"]["segments_used"]
        while True:
            try:
                eng.resize(eng.capacity - MIB)
            except engine.TmemError:
                break
        assert eng.capacity < used * eng.stats()["arena"]["segment_bytes"]
        for (name, oid, index), data in truth.items():
            assert handles[name, oid].get(index, free=False) == data == eng.pool(name).get(oid, index, free=False)
        assert infos == {(name, oid): eng.pool(name).object_info(oid) for name, oid in infos}
    sound(eng)
    for name, oid, index in truth:
        assert eng.pool(name).flush_page(oid, index)
    assert eng.stats()["total"]["objnodes"] == 0
    sound(eng)


@pytest.mark.parametrize(
    ("capacity", "error"),
    [
        (1000, ValueError),
        ("0", ValueError),
        ("17MiB", ValueError),
        (2**70, ValueError),
        (-1, ValueError),
        ("much", ValueError),
        (None, TypeError),
        (True, TypeError),
        (1.5, TypeError),
    ],
)
def test_capacities_that_make_no_sense(eng, capacity, error):
    with pytest.raises(error, match="capacity"):
        eng.resize(capacity)


@pytest.mark.parametrize(
    ("most", "error"), [("1MiB", ValueError), (2**60, ValueError), (True, TypeError), ("x", ValueError)]
)
def test_a_largest_capacity_that_makes_no_sense(arena_name, most, error):
    with pytest.raises(error, match="max_capacity"):
        engine.create(arena_name, "2MiB", max_capacity=most)


# --- others ---------------------------------------------------------------------------------------


def work(name, seed, stop):
    """Put and get, verifying, in an arena whose size moves. Persistent pages are this worker's
    alone."""
    rnd = random.Random(seed)
    mine = {}
    with engine.attach(name) as eng:
        cache, store = eng.pool("cache"), eng.pool("store")
        while not stop.is_set():
            n = rnd.randrange(6000)
            got = cache.get((n // 30, 0, 0), n % 30)
            assert got is None or got == page(n), n
            if got is None:
                cache.put((n // 30, 0, 0), n % 30, page(n))
            index = rnd.randrange(300)
            assert store.get((seed, 1, 0), index) == mine.get(index)
            if rnd.random() < 0.3:
                mine[index] = page(rnd.randrange(10**6), rnd.randrange(1, PAGE))
                if not store.put((seed, 1, 0), index, mine[index]):
                    del mine[index]
            elif rnd.random() < 0.1:
                assert store.flush_page((seed, 1, 0), index) == (index in mine)
                mine.pop(index, None)
            elif rnd.random() < 0.01:
                cache.put_range((n // 30, 2, 0), 0, page(n) * 20)
        assert all(store.get((seed, 1, 0), index) == data for index, data in mine.items())


def test_down_and_up_while_everybody_works(make_arena):
    eng = make_arena(capacity="16MiB", page_size=PAGE, max_workers=8, huge_pages=False)
    eng.new_pool("cache")
    eng.new_pool("store", persistent=True)
    context = multiprocessing.get_context("fork")
    stop = context.Event()
    workers = [context.Process(target=work, args=(eng.name, seed, stop)) for seed in range(3)]
    for worker in workers:
        worker.start()
    try:
        for capacity in [6, 16, 5, 9, 4, 16] * 3:
            assert eng.resize(capacity * MIB) == capacity * MIB
            assert eng.stats()["arena"]["segments_used"] <= capacity * MIB // eng.stats()["arena"]["segment_bytes"]
    finally:
        stop.set()
        for worker in workers:
            worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    sound(eng)


def test_what_an_idle_worker_keeps_is_no_hindrance(make_arena):
    """Chunks in the magazines of workers that do nothing are brought home."""
    eng = make_arena(capacity="4MiB", page_size=PAGE, max_workers=16)
    pool = eng.new_pool("p", persistent=True)
    others = [engine.attach(eng.name) for _ in range(8)]
    for n, other in enumerate(others):
        for size in (100, 700, 2000, PAGE):
            assert other.pool("p").put((n, 0, 0), size, page(n, size))
    assert eng.resize("1MiB") == MIB
    assert all(pool.get((n, 0, 0), size) == page(n, size) for n in range(8) for size in (100, 700, 2000, PAGE))
    for n, other in enumerate(others):
        assert other.pool("p").put((n, 0, 0), 1, page(n, 200))
    sound(eng)
    for other in others:
        other.close()
    sound(eng)


def test_a_worker_that_died_inside_a_call_is_no_hindrance(make_arena):
    eng = make_arena(capacity="4MiB", page_size=PAGE)
    cache = eng.new_pool("cache")
    pid = os.fork()
    if pid == 0:
        with engine.attach(eng.name) as mine:
            mine.set_kill_point(9)
            mine.pool("cache").put((1, 0, 0), 0, page(1))
        os._exit(1)
    assert os.waitpid(pid, 0)[1] == signal.SIGKILL
    for n in range(900):
        assert cache.put((n, 0, 0), 0, page(n))
    assert eng.resize("1MiB") == MIB
    sound(eng)


class Stuck:
    """A back end whose get waits until it is told to go on."""

    def __init__(self, began, go):
        self.began, self.go = began, go

    def create(self, pool_id, oid, index, data):
        return 1

    def get_data(self, pool_id, oid, index, pampd):
        self.began.set()
        self.go.wait()
        return b"x"

    def get_data_and_free(self, pool_id, oid, index, pampd):
        return None

    def free(self, pool_id, oid, index, pampd):
        pass

    def new_obj(self, pool_id, oid):
        pass

    free_obj = new_obj

    def is_remote(self, pampd):
        return True         # waits with no lock held

    def replace_in_obj(self, pool_id, oid, index, old, new):
        return False


def sit_in_a_call(name, began, go):
    engine.register_pam("stuck", lambda: Stuck(began, go))
    with engine.attach(name) as eng:
        eng.pool("stuck").get((1, 0, 0), 0)


def test_memory_goes_back_only_when_nobody_can_be_reading_it(make_arena, monkeypatch):
    eng = make_arena(capacity="8MiB", page_size=PAGE)
    context = multiprocessing.get_context("fork")
    began, go = context.Event(), context.Event()
    engine.register_pam("stuck", lambda: Stuck(began, go))
    assert eng.new_pool("stuck", persistent=True, pam="stuck").put((1, 0, 0), 0, b"x")
    cache = eng.new_pool("cache")
    for n in range(1900):
        assert cache.put((n, 0, 0), 0, page(n))
    child = context.Process(target=sit_in_a_call, args=(eng.name, began, go))
    child.start()
    began.wait()
    before = backed(eng)
    monkeypatch.setattr(resize, "PATIENCE_S", 0.05)
    with pytest.raises(engine.ArenaBusy, match=f"process {child.pid} has been in one call"):
        eng.resize("4MiB")
    assert eng.capacity == 4 * MIB and backed(eng) >= before
    go.set()
    child.join()
    assert child.exitcode == 0
    monkeypatch.setattr(resize, "PATIENCE_S", 30.0)
    eng.resize("4MiB")
    assert backed(eng) < before - 3 * MIB
    sound(eng)


def test_one_resizes_at_a_time(make_arena):
    eng = make_arena(capacity="8MiB", page_size=PAGE)
    cache = eng.new_pool("cache")
    for n in range(1900):
        assert cache.put((n, 0, 0), 0, page(n))
    context = multiprocessing.get_context("fork")

    def swing():
        with engine.attach(eng.name) as mine:
            for capacity in (2, 8, 3, 7) * 5:
                mine.resize(capacity * MIB)
    workers = [context.Process(target=swing) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0]
    assert eng.capacity == 7 * MIB
    sound(eng)


def test_threads_of_one_engine_may_not_resize_at_once(eng):
    errors = []
    gate = threading.Barrier(2)

    def swing():
        gate.wait()
        for _ in range(30):
            try:
                eng.resize("2MiB")
                eng.resize("16MiB")
            except engine.ArenaBusy as error:
                errors.append(error)
    threads = [threading.Thread(target=swing) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all("by this very engine" in str(error) for error in errors)
    assert eng.resize("4MiB") == 4 * MIB
    sound(eng)


def test_segments_that_only_others_have_touched_are_emptied(make_arena):
    # What a worker knows of the arena's memory ends with the last segment that it has had to do
    # with.
    eng = make_arena(capacity="8MiB", page_size=4096, max_workers=4)
    eng.new_pool("p", dedup=True)
    small = eng.new_pool("small")
    for n in range(500):
        assert small.put((1, 0, 0), n, b"%d" % n)       # descriptors enough for what follows
    small.flush_object((1, 0, 0))
    assert all(small.put((2, 0, 0), n, b"%d/" % n + bytes(4000)) for n in range(400))

    def fill():
        with engine.attach(eng.name) as mine:
            there = mine.pool("p")
            for n in range(96):
                assert there.put((1, 0, 0), n, b"%d/" % n + bytes(1990))
            for n in range(0, 96, 2):
                assert there.flush_page((1, 0, 0), n)

    assert in_child(fill) == 0
    # One segment less at a time, until it is the turn of one of these.
    while eng.stats()["pools"]["p"]["pages"] == 48:
        arena = eng.stats()["arena"]
        eng.resize(arena["bytes_in_segments"] - arena["segment_bytes"])
        assert eng.stats()["arena"]["bytes_in_segments"] < arena["bytes_in_segments"]
    assert eng.stats()["pools"]["p"]["pages"] > 0
    assert eng.check().ok

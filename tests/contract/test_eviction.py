"""Owns the contract of ephemeral and persistent pages when memory is short: who goes, who never
does, and what a put answers."""
import multiprocessing
import os
import pickle
import random
import threading

import pytest

import engine
from engine.eviction.policies import POLICIES
from tests.hostile.structs import Map, offset
from tests.stopped import in_child
from tests.support import SHM

PAGE = 4096


def page(n, length=PAGE):
    """A page that names n, and is not one word over and over: such take no chunk."""
    return (b"%d/" % n + bytes([n & 255]) * PAGE)[:length]


def full(make_arena, **more):
    return make_arena(**{"capacity": "2MiB", "page_size": PAGE, **more})


def test_a_put_into_a_full_arena_of_ephemeral_pages_succeeds(make_arena):
    eng = full(make_arena)
    pool = eng.new_pool("p")
    for n in range(3000):
        assert pool.put((n % 40, 0, 0), n, page(n))
    stats = eng.stats()["pools"]["p"]
    assert stats["puts_ok"] == 3000 and stats["pages"] + stats["evicted"] == 3000 and stats["pages"] > 300
    assert pool.get((2999 % 40, 0, 0), 2999) == page(2999)
    assert eng.check().ok


@pytest.mark.parametrize("length", [1, 64, 65, 500, 2000, 4000])
def test_every_page_is_the_one_put_or_gone(make_arena, length):
    eng = full(make_arena, capacity="1MiB")
    pool = eng.new_pool("p")
    rnd = random.Random(length)
    for _n in range(6000):
        index = rnd.randrange(3000)
        got = pool.get((index % 7, 0, 0), index)
        assert got is None or got == page(index, length)
        assert pool.put((index % 7, 0, 0), index, page(index, length))
    assert eng.check().ok


def test_a_persistent_put_evicts_and_a_persistent_page_never_goes(make_arena):
    eng = full(make_arena)
    cache, store = eng.new_pool("cache"), eng.new_pool("store", persistent=True)
    for n in range(1000):
        assert cache.put((1, 0, 0), n, page(n))
    held = 0
    while store.put((2, 0, 0), held, page(held)):
        held += 1
    assert held > 300 and eng.stats()["pools"]["cache"]["pages"] == 0
    # Nothing can be evicted any more: refused, the handle empty, nothing else changed; over a page
    # it succeeds.
    before = eng.stats()["pools"]["store"]["pages"]
    assert not store.put((3, 0, 0), 0, page(1)) and store.get((3, 0, 0), 0) is None
    assert not cache.put((3, 0, 0), 0, page(1)) and cache.get((3, 0, 0), 0) is None
    assert eng.stats()["pools"]["store"]["pages"] == before
    assert store.put((2, 0, 0), 5, b"n" * PAGE) and store.get((2, 0, 0), 5) == b"n" * PAGE
    assert all(store.get((2, 0, 0), n) == page(n) for n in range(held) if n != 5)
    assert eng.check().ok


def test_memory_moves_between_sizes(make_arena):
    """Full of short pages, then of long ones: the capacity is there again."""
    eng = full(make_arena, capacity="4MiB")
    pool = eng.new_pool("p")
    for n in range(8000):
        assert pool.put((n // 64, 0, 0), n % 64, page(n, 1000))
    for n in range(4000):
        assert pool.put((n // 64, 1, 0), n % 64, page(n))
    assert eng.stats()["pools"]["p"]["pages"] * PAGE > 0.85 * eng.capacity
    for n in range(20000):
        assert pool.put((n // 64, 2, 0), n % 64, page(n, 100))
    assert eng.stats()["pools"]["p"]["pages"] > 10000
    assert eng.check().ok


def test_a_range_takes_the_room_it_needs(make_arena):
    eng = full(make_arena)
    pool = eng.new_pool("p")
    for n in range(40):
        data = b"".join(page(n + i) for i in range(100))
        assert pool.put_range((n, 0, 0), 0, data) and pool.get_range((n, 0, 0), 0, 100) == data
    assert eng.check().ok


def test_a_cap_holds(make_arena):
    eng = full(make_arena, shards=1)
    pool = eng.new_pool("p", cap=20)
    for n in range(100):
        assert pool.put((n, 0, 0), 0, b"x")
    assert eng.stats()["pools"]["p"]["pages"] == 20


@pytest.mark.parametrize("policy", list(POLICIES))
def test_flushed_and_fetched_pages_leave_their_queues(make_arena, policy):
    eng = full(make_arena)
    pool = eng.new_pool("p", shared=False, policy=policy)
    rnd = random.Random(3)
    for n in range(6000):
        oid, index = (rnd.randrange(12), 0, 0), rnd.randrange(80)
        verb = rnd.randrange(8)
        if verb == 0:
            pool.flush_page(oid, index)
        elif verb == 1:
            pool.flush_object(oid)
        elif verb <= 3:
            pool.get(oid, index)
        elif verb == 4:
            pool.get(oid, index, free=False)
        else:
            assert pool.put(oid, index, page(n, rnd.randrange(1, 4000)))
    assert eng.check().ok
    pool.destroy()
    assert eng.stats()["total"]["pages"] == 0 and eng.check().ok


def _work(name, seed, turns):
    rnd = random.Random(seed)
    with engine.attach(name) as eng:
        cache, store = eng.pool("cache"), eng.pool("store")
        for _n in range(turns):
            oid, index = (rnd.randrange(30), 0, 0), rnd.randrange(64)
            got = cache.get(oid, index)
            assert got is None or got == page(oid[0] * 100 + index)
            verb = rnd.randrange(20)
            if verb == 0:
                cache.flush_object(oid)
            elif verb == 1:
                cache.flush_page(oid, index)
            elif verb == 2:
                store.put((seed, 0, 0), rnd.randrange(8), b"%d" % seed * 500)
            else:
                assert cache.put(oid, index, page(oid[0] * 100 + index))


@pytest.mark.parametrize("policy", ["s3fifo", "sieve"])
def test_many_workers_hammer_a_full_arena(make_arena, policy):
    eng = full(make_arena)
    eng.new_pool("cache", policy=policy)
    eng.new_pool("store", persistent=True)
    fork = multiprocessing.get_context("fork")
    crew = [fork.Process(target=_work, args=(eng.name, seed, 3000)) for seed in range(6)]
    for process in crew:
        process.start()
    for process in crew:
        process.join()
    assert [process.exitcode for process in crew] == [0] * 6
    report = eng.check()
    assert report.ok, report.problems[:3]
    assert eng.stats()["pools"]["cache"]["evicted"] > 0


@pytest.mark.parametrize("arguments,error", [
    ({"policy": "lru"}, "policy: one of"), ({"policy": 3}, "policy: one of"), ({"cap": -1}, "cap: from 0"),
    ({"cap": 5, "persistent": True}, "cap: only an ephemeral pool"),
])
def test_bad_arguments(eng, arguments, error):
    with pytest.raises((TypeError, ValueError), match=error):
        eng.new_pool("p", **arguments)


def _evict(name, seed, stop):
    rnd = random.Random(seed)
    with engine.attach(name) as eng:
        cache = eng.pool("cache")
        while not stop.is_set():
            for _ in range(200):
                n = rnd.randrange(4000)
                assert cache.put((n, 0, 0), 0, page(n))  # an object a page: trees lose and gain nodes all the time


def _come_and_go(name, seed, turns, stop):
    try:
        with engine.attach(name) as eng:
            for turn in range(turns):
                pool = eng.new_pool(f"{seed}-{turn}", policy=("fifo", "s3fifo")[turn % 2])
                for n in range(200):
                    assert pool.put((n, turn, seed), 0, page(n))
                pool.destroy()
    finally:
        stop.set()


def test_pools_are_destroyed_while_others_evict_from_them(make_arena):
    """The tree of a dying pool is taken apart leaf by leaf: it is no red-black tree any more, and
    nobody may balance it."""
    eng = full(make_arena, capacity="1MiB", buckets=1)
    eng.new_pool("cache")
    fork = multiprocessing.get_context("fork")
    stop = fork.Event()
    crew = [fork.Process(target=_evict, args=(eng.name, seed, stop)) for seed in range(2)]
    crew += [fork.Process(target=_come_and_go, args=(eng.name, seed, 400, stop)) for seed in range(2)]
    for process in crew:
        process.start()
    for process in crew:
        process.join()
    assert [process.exitcode for process in crew] == [0] * 4
    report = eng.check()
    assert report.ok, report.problems[:3]


def test_who_leaves_queues_its_pages_first(make_arena):
    """A page that its worker could not queue, because the shard was locked, is nobody's to evict:
    close waits for the lock."""
    eng = make_arena(shards=1)
    pool = eng.new_pool("p")
    leaving, holder = engine.attach(eng.name), engine.attach(eng.name)
    with open(SHM / eng.name, "r+b", buffering=0) as file:
        layout = Map(os.pread(file.fileno(), 4096, 0))
        gen = os.pread(file.fileno(), 8, layout.slot(holder.worker_id) + offset("Slot", "gen"))
        # Held by a worker that lives, in its middle of something.
        os.pwrite(
            file.fileno(),
            (int.from_bytes(gen, "little") << 16 | holder.worker_id + 1).to_bytes(8, "little"),
            layout.shard(0),
        )
        before = eng.stats()["total"]["lock_waits"]
        assert leaving.pool("p").put((1, 0, 0), 0, b"page")
        closer = threading.Thread(target=leaving.close)
        closer.start()
        while closer.is_alive() and eng.stats()["total"]["lock_waits"] == before:
            os.sched_yield()
        waited = closer.is_alive()
        os.pwrite(file.fileno(), bytes(8), layout.shard(0))
        closer.join()
    assert waited and pool.get((1, 0, 0), 0) == b"page"
    report = eng.check()
    assert report.ok, [str(problem) for problem in report.problems]
    holder.close()


def test_a_worker_makes_room_where_it_has_touched_nothing_yet(make_arena):
    # All memory has gone to short pages of somebody else; whoever puts a long one looks through all
    # of it.
    eng = make_arena(capacity="2MiB", page_size=4096, max_workers=4)
    pool = eng.new_pool("p")

    def fill():
        with engine.attach(eng.name) as mine:
            there = mine.pool("p")
            for n in range(20000):
                there.put((n // 64, 0, 0), n % 64, b"%d" % n * 20)

    assert in_child(fill) == 0
    for n in range(100):
        assert pool.put((0, 0, 1), n, bytes([n]) * 4000 + b"."), n
        assert pool.get((0, 0, 1), n) == bytes([n]) * 4000 + b"."


def set_policy(eng, pool, number):
    """Write the number of a policy into the record of a pool, as nobody should."""
    with open(SHM / eng.name, "r+b", buffering=0) as file:
        at = Map(file.read(4096)).record(pool.id) + offset("PoolRecord", "policy")
        file.seek(at)
        file.write(number.to_bytes(8, "little"))


@pytest.mark.parametrize("number", [4, 255, 2**64 - 1])
def test_a_policy_that_there_is_not(make_arena, number):
    """Whoever comes upon it hears that the arena is damaged: who opens the pool, who has it open
    and wants to evict, and the check. A repair makes the pool one of which nothing was said."""
    eng = full(make_arena, shards=1)
    pool = eng.new_pool("p", policy="sieve")
    assert pool.put((1, 0, 0), 0, b"page")
    set_policy(eng, pool, number)
    for open_again in (lambda: eng.pool("p"), lambda: eng.pools(), lambda: pickle.loads(pickle.dumps(pool))):
        with pytest.raises(engine.ArenaCorrupted, match="policy"):
            open_again()
    with pytest.raises(engine.ArenaCorrupted, match="policy"):
        for n in range(1000):
            pool.put((2, 0, 0), n, page(n))
    assert "pool-policy" in {problem.id for problem in eng.check().problems}
    report = eng.check(repair=True)
    assert report.ok and eng.pool("p").policy == "s3fifo"
    assert pool.get((1, 0, 0), 0) == b"page"
    for n in range(1000):
        assert pool.put((3, 0, 0), n, page(n))
    assert eng.check().ok


@pytest.mark.parametrize("pages", [1, 8])
def test_what_an_exclusive_get_took_is_not_new_when_it_is_put_again(make_arena, pages):
    """It comes into the main queue, which a scan does not reach."""
    eng = make_arena(capacity="16MiB", shards=1)
    pool = eng.new_pool("p", shared=False, cap=400)
    data = random.Random(1).randbytes(512 * pages)
    for n in range(300):
        pool.put((9, n, 0), 0, b"%d" % n)
    for n in range(20):
        assert pool.put_range((1, n, 0), 0, data) and pool.get_range((1, n, 0), 0, pages) == data
    for n in range(20):
        assert pool.put_range((1, n, 0), 0, data)
    for n in range(300, 3000):
        pool.put((9, n, 0), 0, b"%d" % n)
    assert all(pool.get_range((1, n, 0), 0, pages) == data for n in range(20))
    assert eng.check().ok


def test_a_pool_is_not_idle_because_the_one_before_it_was(make_arena):
    """It may have the record of a pool that nobody had asked for anything in a long time."""
    eng = make_arena(capacity="2MiB", page_size=PAGE, shards=1)
    busy, idle = eng.new_pool("busy"), eng.new_pool("idle")
    idle.put((1, 0, 0), 0, page(1))
    for n in range(3000):
        busy.put((n, 0, 0), 0, page(n))
    assert idle.get((1, 0, 0), 0) is None and idle.id == 1      # it went, since nobody asked for it
    idle.destroy()
    new = eng.new_pool("new")
    assert new.id == 1
    raw = (SHM / eng.name).read_bytes()
    record = Map(raw[:4096]).record(new.id)
    noted = [int.from_bytes(raw[record + at : record + at + 8], "little")
             for at in (offset("PoolRecord", name) for name in ("mean", "asked", "quiet"))]
    assert noted == [0, 0, 0] and eng.check().ok

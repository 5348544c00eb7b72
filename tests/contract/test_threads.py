"""Owns threads that share one engine: they take turns, and each is answered as if it were alone."""
import random
import sys
import threading
import time

import pytest

import engine
from tests.support import KINDS, ModelPool, page

THREADS = 4


def together(count, target):
    """Run target(0), target(1), ... in threads that start together; what any of them raised is
    raised here."""
    barrier, errors = threading.Barrier(count), []

    def run(n):
        barrier.wait()
        try:
            target(n)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(n,)) for n in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


@pytest.mark.parametrize("kind", KINDS)
def test_threads_with_objects_of_their_own(eng, kind):
    pool = eng.new_pool("p", **KINDS[kind])
    models = [ModelPool(pool.persistent, pool.shared) for _ in range(THREADS)]

    def work(n):
        rng, model = random.Random(n), models[n]
        for _ in range(3000):
            oid, index = (rng.randrange(5), n, 0), rng.choice((0, 1, 64, rng.randrange(5000)))
            verb = rng.choice(("put", "put", "get", "flush_page", "flush_object", "get_range", "object_info"))
            arguments = {
                "put": (oid, index, page(rng.getrandbits(64), rng.randint(1, 512))), "get": (oid, index),
                "flush_page": (oid, index), "get_range": (oid, 0, 2), "flush_object": (oid,), "object_info": (oid,),
            }[verb]
            assert getattr(pool, verb)(*arguments) == getattr(model, verb)(*arguments)

    together(THREADS, work)
    for model in models:
        for oid, index, data in model.pages():
            assert pool.get(oid, index, free=False) == data
    assert pool.obj_count == sum(model.obj_count for model in models)
    assert eng.stats()["arena"]["workers"] == 1 and eng.check().ok


def test_a_page_is_taken_by_one_thread(eng):
    pool = eng.new_pool("p", persistent=True)
    for index in range(2000):
        assert pool.put((1, 2, 3), index, page(index))
    taken = [[] for _ in range(THREADS)]

    def take(n):
        for index in range(2000):
            data = pool.get((1, 2, 3), index, free=True)
            if data is not None:
                assert data == page(index)
                taken[n].append(index)

    together(THREADS, take)
    assert sorted(sum(taken, [])) == list(range(2000)) and eng.check().ok


def test_a_name_is_given_to_one_thread(eng):
    winners = []

    def make(n):
        for round in range(10):
            try:
                winners.append((round, eng.new_pool(f"p{round}").id))
            except engine.PoolExists:
                pass

    together(THREADS, make)
    assert sorted(round for round, _ in winners) == list(range(10)) and len(eng.pools()) == 10


def test_stats_and_check_while_others_work(eng):
    pool = eng.new_pool("p", persistent=True)

    def work(n):
        for index in range(400):
            if n == 0 and index % 8 == 0:
                assert eng.check().ok
                assert eng.stats()["pools"]["p"]["pages"] >= 0
            elif n:
                assert pool.put((n, 0, 0), index, page(index))

    together(THREADS, work)
    assert eng.stats()["pools"]["p"]["pages"] == 3 * 400


def test_close_while_others_work(make_arena):
    eng = make_arena()
    pool = eng.new_pool("p", persistent=True)
    stopped = []

    def work(n):
        if n == 0:
            while not pool.obj_count:
                pass
            eng.close()
            return
        try:
            for index in range(10**9):
                assert pool.put((n, 0, 0), index % 50, page(index))
        except engine.TmemError as error:
            assert "closed" in str(error)
            stopped.append(n)

    together(THREADS, work)
    assert sorted(stopped) == list(range(1, THREADS))
    with engine.attach(eng.name) as again:
        assert again.check().ok


def test_engines_of_one_process_are_workers_of_their_own(eng):
    pool = eng.new_pool("p", persistent=True)

    def work(n):
        with engine.attach(eng.name) as mine:
            own = mine.pool("p")
            for index in range(500):
                assert own.put((index % 3, 0, 0), index, page(index)) and own.get((index % 3, 0, 0), index) == page(
                    index
                )

    together(THREADS, work)
    assert pool.obj_count == 3 and eng.stats()["pools"]["p"]["pages"] == 500 and eng.check().ok


@pytest.mark.parametrize("verb", ["get_range", "get_range_into", "put_range"])
def test_others_run_while_a_long_range_is_copied(make_arena, verb):
    """The interpreter is told not to make anybody switch: the other thread can only run because the
    copying one lets it."""
    count = 2048
    eng = make_arena(capacity="64MiB", page_size=4096)
    pool = eng.new_pool("p", persistent=True)
    buffer = bytearray(random.Random(1).randbytes(4096) * count)
    assert pool.put_range((1, 2, 3), 0, buffer)
    call = {
        "get_range": lambda: pool.get_range((1, 2, 3), 0, count),
        "get_range_into": lambda: pool.get_range_into((1, 2, 3), 0, count, buffer),
        "put_range": lambda: pool.put_range((1, 2, 3), 0, buffer),
    }[verb]
    started, calls, seen = threading.Event(), 0, False

    def work():
        nonlocal calls
        started.set()
        while not seen and calls < 2000:
            call()
            calls += 1

    thread = threading.Thread(target=work)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1000)
    try:
        thread.start()
        started.wait()
        seen = True
        thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert calls < 2000 and eng.check().ok


@pytest.mark.parametrize("verb", ["get", "get_into", "get_range", "get_range_into"])
def test_others_run_while_a_long_page_or_range_is_taken_away(make_arena, verb):
    """As above; others also run while it is put again. Nothing goes back to the system meanwhile,
    which would take its time, too."""
    eng = make_arena(capacity="32MiB", page_size=4096, preallocate=True)
    pages = 512 if "range" in verb else 1
    pool = eng.new_pool("p", shared=False, page_size=(8 << 20) // pages)
    oid, data = (1, 2, 3), random.Random(1).randbytes(8 << 20)
    buffer = bytearray(data)
    call = {
        "get": lambda: pool.get(oid, 0) == data,
        "get_into": lambda: pool.get_into(oid, 0, buffer) == len(data),
        "get_range": lambda: pool.get_range(oid, 0, pages) == data,
        "get_range_into": lambda: pool.get_range_into(oid, 0, pages, buffer) == len(data),
    }[verb]
    calls, where, seen = 0, "nowhere", set()

    def work():
        nonlocal calls, where
        while "get" not in seen and calls < 1000:
            where = "put"
            assert pool.put_range(oid, 0, data)
            where = "get"
            got = call()
            where = "compared"
            assert got and pool.get(oid, 0) is None
            calls += 1

    thread = threading.Thread(target=work)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1000)
    try:
        thread.start()
        while thread.is_alive():
            seen.add(where)
            time.sleep(0)
        thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert "get" in seen and eng.check().ok

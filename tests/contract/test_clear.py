"""Owns the contract of Pool.clear: all that was put before is gone at one moment, the handle stays,
and what is dead is taken apart by whoever comes by."""
import multiprocessing
import threading

import pytest

import engine
from tests.support import text

KINDS = {"raw": {}, "persistent": {"persistent": True}, "dedup": {"dedup": True}, "capped": {"cap": 100}}


@pytest.fixture(params=KINDS)
def pool(request, make_arena):
    eng = make_arena(capacity="8MiB", page_size=512, buckets=16)
    yield eng.new_pool("p", **KINDS[request.param])
    report = eng.check()
    assert report.ok, [str(problem) for problem in report.problems[:3]]


def fill(pool, count=50):
    for n in range(count):
        assert pool.put_object((n, 0, 0), text(n, 300), key=b"k%d" % n)
        assert pool.put((n, 1, 0), n, text(n, 100))


def test_nothing_is_found_afterwards_and_all_can_be_put_anew(pool):
    fill(pool)
    view = pool.view_object((3, 0, 0)).__enter__()
    pool.clear()
    for n in range(50):
        assert pool.get_object((n, 0, 0)) is None and not pool.has((n, 0, 0))
        assert pool.get((n, 1, 0), n, free=False) is None and pool.get_range((n, 1, 0), n, 1) is None
        assert not pool.flush_object((n, 0, 0)) and not pool.touch((n, 0, 0), 5)
        assert not pool.flush_page((n, 1, 0), n)
    assert bytes(view) == text(3, 300)
    fill(pool)
    assert pool.get_object((7, 0, 0)) == text(7, 300)
    view.release()


def test_what_was_cleared_is_taken_apart_by_who_tends(pool):
    fill(pool)
    pool.clear()
    before = pool.obj_count
    assert before != 0          # they are counted until they are taken out
    done = pool.engine.tend()
    assert done.buried == before and pool.obj_count == 0
    stats = pool.engine.stats()["pools"]["p"]
    assert stats["pages"] == stats["bytes_used"] == 0 and stats["expired"] == 0
    assert pool.engine.tend().buried == 0


def test_only_its_owner_clears_a_pool(make_arena):
    eng = make_arena(capacity="1MiB", page_size=512)
    shared = eng.new_pool("s", shared=True)
    other = engine.attach(eng.name, client=7)
    try:
        with pytest.raises(engine.AccessDenied, match="clear"):
            other.pool("s").clear()
        assert shared.put((1, 1, 1), 0, b"stays") and other.pool("s").get((1, 1, 1), 0) == b"stays"
    finally:
        other.close()
    shared.destroy()
    with pytest.raises(engine.PoolDestroyed):
        shared.clear()


def test_an_epoch_that_comes_again_revives_nothing(make_arena):
    eng = make_arena(capacity="1MiB", page_size=512, buckets=4)
    pool = eng.new_pool("p")
    assert pool.put_object((1, 2, 3), b"long dead")
    for _ in range(65534):
        pool.clear()
    assert pool.obj_count == 1              # nobody has come by
    for _ in range(4):
        pool.clear()
        assert pool.get_object((1, 2, 3)) is None
    assert pool.obj_count == 0
    assert pool.put_object((1, 2, 3), b"new") and pool.get_object((1, 2, 3)) == b"new"
    assert eng.check().ok


def _putter(name, number, ends):
    with engine.attach(name) as eng:
        pool = eng.pool("p")
        n = 0
        while not ends.is_set():
            n += 1
            pool.put_object((n % 64, 0, 0), b"%d" % n)
            pool.put((n % 64, 1, 0), n % 200, b"%d" % n)


def test_clear_against_puts_of_others(make_arena):
    eng = make_arena(capacity="4MiB", page_size=512, buckets=16)
    pool = eng.new_pool("p", shared=True)
    mp = multiprocessing.get_context("spawn")
    ends = mp.Event()
    others = [mp.Process(target=_putter, args=(eng.name, n, ends)) for n in range(2)]
    for other in others:
        other.start()
    try:
        for n in range(2000):
            # Of this process's own, under oids that nobody else has: put before, so gone after.
            oids = [(n, 7, k) for k in range(4)]
            for oid in oids:
                assert pool.put_object(oid, b"mine")
            pool.clear()
            assert not any(pool.has(oid) for oid in oids)
    finally:
        ends.set()
        for other in others:
            other.join()
    assert [other.exitcode for other in others] == [0, 0]
    pool.clear()
    eng.tend()
    assert pool.obj_count == 0
    report = eng.check(frozen=True)
    assert report.ok, [str(problem) for problem in report.problems[:3]]


def test_threads_that_clear_and_put(make_arena):
    eng = make_arena(capacity="1MiB", page_size=512, buckets=4)
    pool = eng.new_pool("p")
    ends = threading.Event()

    def put():
        n = 0
        while not ends.is_set():
            n += 1
            pool.put_object((n % 40, 0, 0), text(n, 300))

    thread = threading.Thread(target=put)
    thread.start()
    for _ in range(300):
        pool.clear()
        eng.tend()
    ends.set()
    thread.join()
    pool.clear()
    eng.tend()
    assert pool.obj_count == 0 and eng.check().ok

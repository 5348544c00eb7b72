"""Owns the contract of caps: a pool, or a client's pools together, have that many pages when all
calls have returned: never more, and no fewer as long as so many were put and none was flushed."""
import multiprocessing
import os
import random
import signal

import pytest

import engine
from engine.eviction.policies import POLICIES

CAPS = (1, 2, 10, 63, 64, 65, 100, 127, 500)
FORK = multiprocessing.get_context("fork")


def data(n):
    return b"%d," % n * 20


def pages(eng, *names):
    stats = eng.stats()["pools"]
    return sum(stats[name]["pages"] for name in names)


def sound(eng):
    report = eng.check()
    assert report.ok, [str(problem) for problem in report.problems[:3]]


@pytest.mark.parametrize("policy", list(POLICIES))
@pytest.mark.parametrize("cap", CAPS)
def test_a_pool_has_as_many_pages_as_its_cap_says(make_arena, cap, policy):
    eng = make_arena(capacity="16MiB", page_size=4096)
    pool = eng.new_pool("p", cap=cap, policy=policy)
    for n in range(cap):
        assert pool.put((n % 7, 0, 0), n, data(n))
    assert pages(eng, "p") == cap and all(pool.get((n % 7, 0, 0), n) == data(n) for n in range(cap))
    for n in range(cap, cap + 700):
        assert pool.put((n % 7, 0, 0), n, data(n))
        assert pages(eng, "p") == cap, n
    assert sum(pool.get((n % 7, 0, 0), n, free=False) is not None for n in range(cap + 700)) == cap
    for n in range(cap + 700):
        assert pool.put((n % 7, 0, 0), n, data(n + 1))       # over those that are there, and anew
    assert pages(eng, "p") == cap
    sound(eng)


@pytest.mark.parametrize("shards", [1, 2, 64])
def test_ranges_and_batches_keep_to_it(make_arena, shards):
    eng = make_arena(capacity="16MiB", page_size=512, shards=shards)
    pool = eng.new_pool("p", cap=30, whole=False)
    assert pool.put_range((1, 0, 0), 0, b"".join(data(n)[:8] * 64 for n in range(100, 120))) and pages(eng, "p") == 20
    assert pool.put_range((1, 0, 0), 10, b"".join(data(n)[:8] * 64 for n in range(100, 130))) and pages(eng, "p") == 30
    assert pool.put_range((2, 0, 0), 0, b"".join(data(n)[:8] * 64 for n in range(100, 200))) and pages(eng, "p") == 30
    assert all(pool.put_many([((3, n, 0), 0) for n in range(90)], [data(n) for n in range(90)]))
    assert pages(eng, "p") == 30
    sound(eng)


def test_pages_that_were_flushed_leave_room(make_arena):
    eng = make_arena(capacity="16MiB", page_size=4096)
    pool = eng.new_pool("p", cap=50)
    for n in range(50):
        assert pool.put((n, 0, 0), 0, data(n))
    for n in range(0, 50, 2):
        assert pool.flush_page((n, 0, 0), 0)
    for n in range(50, 75):
        assert pool.put((n, 0, 0), 0, data(n))
    assert pages(eng, "p") == 50 and all(pool.get((n, 0, 0), 0) == data(n) for n in range(1, 50, 2))
    assert all(pool.get((n, 0, 0), 0) == data(n) for n in range(50, 75))


@pytest.mark.parametrize("cap", [1, 10, 64, 127])
def test_a_clients_pools_together(make_arena, cap):
    eng = make_arena(capacity="16MiB", page_size=4096)
    eng.client(5, cap=cap)
    kept = eng.new_pool("kept", client=5, persistent=True)
    pools = [eng.new_pool(f"p{i}", client=5) for i in range(3)]
    small, other = eng.new_pool("small", client=5, cap=2), eng.new_pool("other")
    names = [*(pool.name for pool in pools), "small"]
    for n in range(600):
        assert kept.put((n, 0, 0), 0, data(n)) and other.put((n, 0, 0), 0, data(n))
        assert pools[n % 3].put((n, 0, 0), 0, data(n))
        if n % 5 == 0:
            assert small.put((n, 0, 0), 0, data(n)) and pages(eng, "small") <= 2
        assert pages(eng, *names) == cap if n >= cap else n < pages(eng, *names) <= cap, n
    assert pages(eng, "kept") == pages(eng, "other") == 600
    eng.client(5, cap=3)
    assert pools[0].put((1000, 0, 0), 0, data(1)) and pages(eng, *names) == min(cap + 1, 3)
    sound(eng)


def _put_own(name, me, count, start):
    with engine.attach(name) as eng:
        pool = eng.pool("p")
        start.wait()
        for n in range(count):
            assert pool.put((me, n, 0), 0, data(n))


@pytest.mark.parametrize("cap,count", [(400, 100), (1, 1500), (10, 1500), (100, 1500)])
@pytest.mark.parametrize("whose", ["pool", "client"])
def test_many_who_put_at_once(make_arena, cap, count, whose):
    """Four workers put pages of their own: as many as the cap says are there in the end, and no
    page went if they are no more."""
    eng = make_arena(capacity="16MiB", page_size=4096, buckets=4)
    if whose == "client":
        eng.client(5, cap=cap)
    pool = eng.new_pool("p", cap=cap if whose == "pool" else 0, client=5)
    start = FORK.Barrier(4)
    crew = [FORK.Process(target=_put_own, args=(eng.name, me, count, start)) for me in range(4)]
    for process in crew:
        process.start()
    for process in crew:
        process.join()
    assert [process.exitcode for process in crew] == [0] * 4
    stats = eng.stats()["pools"]["p"]
    assert stats["pages"] == cap and stats["evicted"] == 4 * count - cap
    assert sum(pool.get((me, n, 0), 0) is not None for me in range(4) for n in range(count)) == cap
    sound(eng)


def test_whoever_dies_while_it_lets_pages_go(make_arena):
    """The cap was made smaller, and the next put lets many go; its worker is killed on the way,
    with the cap's lock or another."""
    eng = make_arena(capacity="16MiB", page_size=4096, buckets=2)
    pool = eng.new_pool("p", client=5)
    for point in range(1, 10**6, 23):
        eng.client(5, cap=30)
        for n in range(40):
            assert pool.put((n, point, 0), 0, data(n))
        assert pages(eng, "p") == 30
        eng.client(5, cap=4)
        pid = os.fork()
        if pid == 0:
            try:
                opened = engine.attach(eng.name).pool("p")
                opened.engine.set_kill_point(point)
                opened.put((0, point, 1), 0, data(1))
            finally:
                os._exit(0)
        _, status = os.waitpid(pid, 0)
        assert pool.put((0, point, 2), 0, data(2))      # the lock of a dead worker holds up nobody
        eng.recover()
        assert pool.put((0, point, 3), 0, data(3)) and pages(eng, "p") == 4, point
        if not os.WIFSIGNALED(status):
            break
        assert os.WTERMSIG(status) == signal.SIGKILL
    assert point > 1000
    sound(eng)


def used(eng, name="p"):
    return eng.stats()["pools"][name]["bytes_used"]


def test_a_cap_in_bytes_holds_so_many_bytes(make_arena):
    """Of pages of all lengths as many stay as their chunks have room for, and no more go than
    must."""
    eng = make_arena(capacity="16MiB", page_size=4096)
    pool = eng.new_pool("p", cap="256KiB")
    assert pool.cap == 0 and pool.cap_bytes == 256 << 10
    rnd, most = random.Random(2), 0
    for n in range(1500):
        assert pool.put((n, 0, 0), 0, rnd.randbytes(rnd.choice((100, 700, 4096))))
        assert used(eng) <= 256 << 10
        most = max(most, used(eng))
        assert n < 200 or used(eng) > (256 << 10) - 2 * 4096
    assert eng.check().ok


@pytest.mark.parametrize("cap", [1, 4, 16, 64])
def test_a_page_that_comes_does_not_go_for_a_cap_in_bytes_at_once(make_arena, cap):
    """Where there are fewer pages than shards, each shard that has one is as full as its own."""
    eng = make_arena(capacity="16MiB", page_size=4096)
    pool = eng.new_pool("p", cap=f"{4 * cap}KiB")
    for n in range(300):
        page = random.Random(n).randbytes(4096)
        assert pool.put((n, 0, 0), 0, page) and pool.get((n, 0, 0), 0) == page
    assert pages(eng, "p") == cap
    sound(eng)


def test_pages_that_grow_keep_a_cap_in_bytes(make_arena):
    eng = make_arena(capacity="16MiB", page_size=4096)
    pool = eng.new_pool("p", cap="64KiB", policy="fifo")
    for n in range(400):
        pool.put((n, 0, 0), 0, random.Random(n).randbytes(128))
    assert eng.stats()["pools"]["p"]["pages"] == 400
    for n in range(399, 350, -1):
        assert pool.put((n, 0, 0), 0, random.Random(n).randbytes(4096))
        assert used(eng) <= 64 << 10
    assert eng.check().ok


def test_a_client_has_a_cap_in_bytes(make_arena):
    eng = make_arena(capacity="16MiB", page_size=4096)
    client = eng.client(3, cap="128KiB")
    assert (client.cap, client.cap_bytes) == (0, 128 << 10)
    pools = [eng.new_pool(name, client=3) for name in "pq"]
    for n in range(100):
        for pool in pools:
            assert pool.put((n, 0, 0), 0, random.Random(n).randbytes(4096))
    assert 120 << 10 <= used(eng) + used(eng, "q") <= 128 << 10
    assert eng.client(3, cap=7).cap == 7 and eng.client(3).cap_bytes == 0
    assert pools[0].put((0, 1, 0), 0, b"page") and sum(eng.stats()["pools"][name]["pages"] for name in "pq") == 7


@pytest.mark.parametrize("cap, message", [(-1, "cap: from 0"), ("much", "cap: bytes"), (2.5, "cap: pages"),
                                          (True, "cap: pages"), ("9EiB", "cap: bytes")])
def test_a_cap_that_is_none(make_arena, cap, message):
    eng = make_arena()
    with pytest.raises((TypeError, ValueError), match=message):
        eng.new_pool("p", cap=cap)
    with pytest.raises((TypeError, ValueError), match=message):
        eng.client(1, cap=cap)

"""Owns the promise that a page whose place in its queue is changing is never taken for one that has
left it.

An evictor that passes over a page makes it the newest of its queue, in one transaction. In the
middle of it the page's word says that it is in no queue; whoever gives the page back at that moment
must wait for the end, and not leave its queue a link to free memory.
"""
import os
import time

import pytest

import engine
from tests.stopped import Stopped

EVERY = bool(os.environ.get("EVERY_POINT"))
PAGES = 6


def page(n):
    return bytes([n + 1]) * 1000


def fill(pool):
    for n in range(PAGES):
        pool.put((n, 0, 0), 0, page(n))
        for _ in range(3):
            pool.get((n, 0, 0), 0)      # so that it is passed over, and not evicted


def one_more(mine):
    mine.pool("hot").put((PAGES, 0, 0), 0, page(PAGES))


def flush_all(eng):
    """In a child, until it has ended or waits: its pid."""
    pid = os.fork()
    if pid == 0:
        try:
            pool = eng.pool("hot")
            for n in range(PAGES):
                pool.flush_page((n, 0, 0), 0)
        finally:
            os._exit(0)
    end = time.monotonic() + 5
    while time.monotonic() < end:
        with open(f"/proc/{pid}/stat") as file:
            if file.read().rpartition(")")[2].split()[0] in "SZ":
                break
    return pid


@pytest.mark.parametrize("dies", [False, True], ids=["goes on", "dies"])
@pytest.mark.parametrize("policy", ["clock", "s3fifo"])
def test_a_page_that_moves_in_its_queue_has_not_left_it(make_arena, policy, dies):
    eng = make_arena(capacity="2MiB", page_size=4096, buckets=4, max_pools=4, max_workers=8)
    pool = eng.new_pool("hot", policy=policy, cap=PAGES)
    point, stopped = 3 * dies, True     # those that die and those that go on stop at points between each other's
    while stopped:
        fill(pool)
        point += 6 if EVERY else 12
        with Stopped(eng.name, one_more, point) as evictor:
            stopped = evictor.stopped
            if stopped:
                flusher = flush_all(eng)
                assert (evictor.kill() if dies else evictor.go_on()) == (-9 if dies else 0)
                assert os.waitpid(flusher, 0)[1] == 0
        eng.recover()
        report = eng.check()
        assert report.ok, (point, report.problems)
        pool.flush_object((PAGES, 0, 0))
    assert point > 50
    with engine.attach(eng.name) as other:
        fill(other.pool("hot"))
        assert [other.pool("hot").get((n, 0, 0), 0) for n in range(PAGES)] == [page(n) for n in range(PAGES)]

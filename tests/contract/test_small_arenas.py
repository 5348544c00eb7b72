"""Owns what the smallest arenas promise: no put of an ephemeral page is refused, by one worker or
by four at once, and what is smaller is not made."""
import os
import random

import pytest

import engine
from shm.arena import CAPACITY_MIN

TURNS = 900
KINDS = ("an object each", "objects of many", "objects of few, far apart", "all lengths", "ranges", "equal pages")


def put_many(eng, kind, worker, turns):
    """How many puts were refused."""
    rnd = random.Random(worker)
    pool = eng.pool("equal" if kind == "equal pages" else "p")
    refused = 0
    for n in range(turns):
        oid, index = (n, worker, 0), 0
        length = eng.page_size
        if kind == "objects of many":
            oid, index = (n // 64, worker, 0), n % 64
        elif kind == "objects of few, far apart":
            oid, index = (n // 8, worker, 0), rnd.getrandbits(40)
        elif kind == "all lengths":
            length = rnd.randrange(1, eng.page_size + 1)
        if kind == "ranges":
            refused += not pool.put_range(oid, 0, rnd.randbytes(7 * length // 2))
        else:
            data = rnd.randbytes(8) * (length // 8 + 1) if kind == "equal pages" else rnd.randbytes(length)
            refused += not pool.put(oid, index, data[:length - 1] + b"\xff")
    return refused


@pytest.mark.parametrize("workers", [1, 2, 3, 4])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("capacity", ["1MiB", "2MiB"])
def test_no_ephemeral_put_is_refused(make_arena, capacity, kind, workers):
    eng = make_arena(capacity=capacity, page_size=4096, buckets=16)
    eng.new_pool("p")
    eng.new_pool("equal", dedup=True)
    others = []
    for worker in range(1, workers):
        child = os.fork()
        if child == 0:
            refused = 1
            try:
                with engine.attach(eng.name) as mine:
                    refused = put_many(mine, kind, worker, TURNS)
            finally:
                os._exit(refused != 0)
        others.append(child)
    assert put_many(eng, kind, 0, TURNS) == 0
    assert [os.waitpid(child, 0)[1] for child in others] == [0] * len(others)
    assert eng.stats()["total"]["puts_refused"] == 0
    assert eng.stats()["total"]["evicted"] > 0 and eng.check().ok


@pytest.mark.parametrize("page_size", [512, 4096, 65536])
def test_the_smallest_arena_takes_pages_of_any_size(make_arena, page_size):
    eng = make_arena(capacity=CAPACITY_MIN, page_size=page_size, buckets=16)
    eng.new_pool("p")
    assert [put_many(eng, kind, 0, 100) for kind in KINDS[:4]] == [0] * 4


def test_what_is_smaller_is_refused_and_the_error_says_what_is_taken(arena_name):
    for small in (CAPACITY_MIN - 1, 0, "1023KiB"):
        with pytest.raises(ValueError, match="1048576 .1 MiB. to 4398046511104 .4 TiB. bytes"):
            engine.create(arena_name, small)
    assert not os.path.exists(f"/dev/shm/{arena_name}")
    engine.create(arena_name, CAPACITY_MIN).close()
    engine.unlink(arena_name)

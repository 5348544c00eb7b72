"""Owns the contract of ranges: all pages or none, put and got as one; lengths, edges, refusals."""
import random

import pytest

from tests.support import KINDS, U64_MAX, page, tree_shape

OID = (4, 5, 6)
PAGE = 512


@pytest.fixture(params=KINDS)
def pool(request, eng):
    return eng.new_pool("p", **KINDS[request.param])


@pytest.mark.parametrize("length", [1, PAGE - 1, PAGE, PAGE + 1, 3 * PAGE, 100 * PAGE, 100 * PAGE + 7])
@pytest.mark.parametrize("start", [0, 60, 2**40 - 3])
def test_a_range_comes_back(pool, start, length):
    count = -(-length // PAGE)
    data = page(length, length)
    assert pool.put_range(OID, start, data) is True
    assert pool.object_info(OID) == (count, *tree_shape({start + n for n in range(count)}))
    found = pool.get_range(OID, start, count, free=False)
    assert found == data and type(found) is bytes
    for n in (0, count // 2, count - 1):
        assert pool.get(OID, start + n, free=False) == data[n * PAGE:(n + 1) * PAGE]
    assert pool.get_range(OID, start, count) == data
    assert pool.get_range(OID, start, count) == (data if pool.persistent or pool.shared else None)


def test_a_range_with_a_hole_is_none_and_loses_nothing(pool):
    for n in (0, 1, 3):
        assert pool.put(OID, n, page(n, 10 + n))
    assert pool.get_range(OID, 0, 4) is None and pool.get_range(OID, 0, 4, free=True) is None
    assert pool.get_range(OID, 3, 2, free=True) is None and pool.get_range((9, 9, 9), 0, 1) is None
    assert pool.object_info(OID)[0] == 3
    assert pool.get_range(OID, 0, 2, free=True) == page(0, 10) + page(1, 11)
    assert pool.object_info(OID)[0] == 1


def test_free_overrides_the_default(pool):
    data = page(1, 3 * PAGE)
    assert pool.put_range(OID, 0, data)
    assert pool.get_range(OID, 0, 3, free=False) == data and pool.object_info(OID)[0] == 3
    assert pool.get_range(OID, 1, 2, free=True) == data[PAGE:] and pool.object_info(OID)[0] == 1
    assert pool.get_range(OID, 0, 1, True) == data[:PAGE] and pool.obj_count == 0


def test_a_range_over_pages_replaces_them(pool):
    for n in range(10):
        assert pool.put(OID, n, page(n, 5))
    data = page(99, 4 * PAGE + 1)
    assert pool.put_range(OID, 3, data)
    assert pool.get_range(OID, 3, 5, free=False) == data
    assert pool.get(OID, 2, free=False) == page(2, 5) and pool.get(OID, 8, free=False) == page(8, 5)
    assert pool.object_info(OID)[0] == 10


def test_a_range_at_the_end_of_the_indexes(pool):
    assert pool.put_range(OID, U64_MAX - 1, bytes(2 * PAGE))
    assert pool.get_range(OID, U64_MAX - 1, 2) == bytes(2 * PAGE)
    with pytest.raises(ValueError, match="index"):
        pool.put_range(OID, U64_MAX, bytes(2 * PAGE))
    with pytest.raises(ValueError, match="index"):
        pool.get_range(OID, U64_MAX, 2)


def test_the_longest_range(make_arena):
    eng = make_arena(capacity="64MiB")
    pool = eng.new_pool("p", persistent=True)
    data = b"".join(page(n, PAGE) for n in range(16384))
    assert pool.put_range(OID, 5, data) and pool.get_range(OID, 5, 16384) == data
    assert pool.put_range(OID, 6, data) and pool.get_range(OID, 6, 16384) == data
    assert pool.object_info(OID)[0] == 16385
    with pytest.raises(ValueError, match="buffer"):
        pool.put_range(OID, 0, data + b"x")
    with pytest.raises(ValueError, match="count"):
        pool.get_range(OID, 0, 16385)
    assert eng.check().ok
    assert pool.get_range(OID, 6, 16384, free=True) == data and pool.object_info(OID)[0] == 1
    assert eng.check().ok


def test_a_refused_range_leaves_the_range_empty_and_the_rest_alone(make_arena):
    eng = make_arena(capacity="1MiB", max_workers=2)
    pool = eng.new_pool("p", persistent=True)
    assert pool.put(OID, 100, b"inside") and pool.put(OID, 99, b"before") and pool.put(OID, 100 + 4000, b"behind")
    assert pool.put_range(OID, 100, bytes(4000 * PAGE)) is False
    assert pool.get(OID, 100) is None and pool.get(OID, 99) == b"before" and pool.get(OID, 4100) == b"behind"
    assert pool.object_info(OID)[0] == 2
    assert pool.put_range((7, 7, 7), 0, bytes(4000 * PAGE)) is False and pool.object_info((7, 7, 7)) is None
    assert pool.put_range(OID, 100, bytes(100 * PAGE)) is True
    assert eng.check().ok


def test_a_range_counts_as_one_call(eng):
    pool = eng.new_pool("p", persistent=True)
    pool.put_range(OID, 0, bytes(10 * PAGE))
    pool.get_range(OID, 0, 10)
    pool.get_range(OID, 0, 11)
    counters = eng.stats()["pools"]["p"]
    assert counters["pages"] == 10 and counters["bytes_asked"] == 10 * PAGE
    assert (counters["puts_ok"], counters["gets_hit"], counters["gets_miss"]) == (1, 1, 1)


@pytest.mark.parametrize("persistent", [0, 300])
def test_a_range_that_can_never_fit_throws_nothing_out(make_arena, persistent):
    eng = make_arena(capacity="4MiB", page_size=4096)
    kept = eng.new_pool("kept", persistent=True)
    pool = eng.new_pool("p")
    data = random.Random(1).randbytes(5 << 20)
    for n in range(persistent):
        assert kept.put((n, 0, 0), 0, data[n:n + 4096])
    for n in range(1200):
        assert pool.put((n, 0, 0), 0, data[n:n + 4096])
    assert pool.put((1 << 50, 0, 0), 0, b"old")         # the first of its size takes a segment of others
    there = eng.stats()["pools"]["p"]["pages"]
    # More than the arena; and more than persistent pages leave of it.
    for length in (5 << 20, (4 << 20) - persistent * 4096):
        assert not pool.put_range((1 << 50, 0, 0), 0, data[:length])
        assert pool.get((1 << 50, 0, 0), 0) is None         # a refused put empties its handles
    assert eng.stats()["pools"]["p"]["pages"] >= there - 8
    assert pool.put_range((1 << 50, 0, 0), 0, data[:1 << 20])
    assert pool.get_range((1 << 50, 0, 0), 0, 256) == data[:1 << 20]
    assert eng.check().ok

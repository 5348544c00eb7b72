"""Owns the contract of batches and of ranges into a buffer: the same as the single calls, page by page, and nothing done when an argument is bad."""
import array
import ctypes
import mmap
import random

import pytest

import engine
from tests.support import KINDS, SHM, DictPam, ModelPool, mixed, page

PAGE = 512
FIRST, SECOND = ((1, 2, 3), 0), ((1, 2, 3), 1)
POOLS = [(kind, pam) for kind in KINDS for pam in ("raw", "lz4", "zstd")]


@pytest.fixture(params=[*POOLS, ("ephemeral-shared", "twins"), ("ephemeral-private", "twins"), ("persistent-shared", "python")], ids="-".join)
def both(request, make_arena):
    """A pool and its model."""
    kind, pam = request.param
    arguments = dict(KINDS[kind])
    if pam == "python":
        engine.register_pam("python", DictPam)
    arguments.update(dedup=True) if pam == "twins" else arguments.update(pam=pam)
    eng = make_arena(capacity="32MiB", page_size=PAGE, buckets=4)
    return eng.new_pool("p", **arguments), ModelPool(arguments["persistent"], arguments["shared"], PAGE)


@pytest.mark.parametrize("via", ["pool", "object"])
def test_as_the_single_calls(both, via):
    pool, model = both
    rnd = random.Random(5)
    for _turn in range(12):
        n = rnd.choice((0, 1, 7, 255, 256, 257, 700))
        oid = (rnd.randrange(3), 0, 0)
        handles = [(oid if via == "object" else (rnd.randrange(9), 0, 0), rnd.randrange(400)) for _ in range(n)]
        pages = [rnd.choice((bytes, bytearray, memoryview))(mixed(rnd.randrange(40), rnd.randrange(1, PAGE + 1))) for _ in range(n)]
        if via == "pool":
            assert pool.put_many(handles, pages) == [model.put(*handle, data) for handle, data in zip(handles, pages, strict=True)]
        else:
            told = pool.object(oid).put_many([index for _, index in handles], pages)
            assert told == [model.put(*handle, data) for handle, data in zip(handles, pages, strict=True)]
        for free in (False, None, True):
            asked = rnd.sample(handles, n // 3) + [(oid, 401)]
            wanted = [model.get(*handle, free) for handle in asked]
            if via == "pool":
                assert pool.get_many(asked, free=free) == wanted
            else:
                assert pool.object(oid).get_many(tuple(index for _, index in asked), free) == wanted
    assert pool.obj_count == model.obj_count
    assert pool.engine.check().ok


def test_what_is_given_can_be_anything_like_bytes(eng):
    pool = eng.new_pool("p")
    numpy = pytest.importorskip("numpy")
    mapped = mmap.mmap(-1, PAGE)
    mapped[:3] = b"map"
    given = [b"a", bytearray(b"b"), memoryview(b"c"), array.array("H", [1, 2]), (ctypes.c_char * 3)(*b"xyz"), mapped,
             numpy.arange(16, dtype="u4"), numpy.ones((4, 8), dtype="u1"), numpy.array(7, dtype="u8")]
    assert pool.put_many([((1, 0, 0), n) for n in range(len(given))], given) == [True] * len(given)
    assert pool.get_many([((1, 0, 0), n) for n in range(len(given))]) == [bytes(memoryview(one)) for one in given]
    into = numpy.zeros(4, dtype="u4")
    assert pool.put_range((2, 0, 0), 0, numpy.arange(4, dtype="u4")) and pool.get_range_into((2, 0, 0), 0, 1, into) == 16
    assert into.tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize(("handles", "pages", "error", "says"), [
    (5, [], TypeError, "handles"), ("ab", [], TypeError, "handles"), ({1}, [], TypeError, "handles"),
    ([FIRST, 7], [b"x", b"x"], TypeError, r"handles\[1\]"), ([FIRST, ((1, 2), 0)], [b"x", b"x"], (TypeError, ValueError), r"handles\[1\].*oid"),
    ([FIRST, ((1, 2, 3), -1)], [b"x", b"x"], ValueError, r"handles\[1\].*index"), ([((1, 2, 3), "0")], [b"x"], TypeError, r"handles\[0\].*index"),
    ([((1, 2, 3),)], [b"x"], ValueError, r"handles\[0\]"), ([FIRST], [b"x", b"y"], ValueError, "pages: as many as"),
    ([FIRST, SECOND], [b"x", b""], ValueError, r"pages\[1\]"), ([FIRST, SECOND], [b"x", bytes(PAGE + 1)], ValueError, r"pages\[1\]"),
    ([FIRST, SECOND], [b"x", 5], TypeError, r"pages\[1\]"),
    ([FIRST], [memoryview(b"abcd")[::2]], (TypeError, ValueError, BufferError), r"pages\[0\]"),
    ([FIRST], b"x", TypeError, r"pages\[0\]"),
])
def test_a_bad_argument_changes_nothing(eng, handles, pages, error, says):
    pool = eng.new_pool("p", persistent=True)
    with pytest.raises(error, match=says):
        pool.put_many(handles, pages)
    assert eng.stats()["total"]["pages"] == 0 and eng.stats()["total"]["puts_ok"] == 0
    if "handles" in says:
        with pytest.raises(error, match=says):
            pool.get_many(handles)


def test_indexes_of_an_object(eng):
    one = eng.new_pool("p").object((1, 2, 3))
    with pytest.raises(ValueError, match=r"indexes\[2\]"):
        one.put_many([0, 1, -1], [b"x"] * 3)
    with pytest.raises(TypeError, match="indexes"):
        one.get_many(5)
    with pytest.raises(ValueError, match="pages: as many as indexes"):
        one.put_many([0], [])
    assert one.object_info() is None


def test_what_does_not_fit_is_refused_page_by_page(make_arena):
    eng = make_arena(capacity="1MiB", page_size=4096)
    pool = eng.new_pool("p", persistent=True)
    answers = pool.put_many([((n, 0, 0), 0) for n in range(600)], [page(n, 4096) for n in range(600)])
    held = sum(answers)
    assert 100 < held < 256
    assert [one is not None for one in pool.get_many([((n, 0, 0), 0) for n in range(600)])] == answers
    # What is there can be put over, also now.
    there = [n for n in range(600) if answers[n]]
    assert all(pool.put_many([((n, 0, 0), 0) for n in there], [page(n + 1, 4096) for n in there]))
    assert pool.get_many([((n, 0, 0), 0) for n in there]) == [page(n + 1, 4096) for n in there]
    assert eng.check().ok


def test_a_frozen_client_puts_only_over(eng):
    pool = eng.new_pool("p", client=5)
    assert pool.put((1, 0, 0), 1, b"old")
    eng.client(5).freeze()
    assert pool.put_many([((1, 0, 0), n) for n in range(3)], [b"new"] * 3) == [False, True, False]
    assert pool.get_many([((1, 0, 0), n) for n in range(3)]) == [None, b"new", None]


def test_a_pool_that_is_gone(eng):
    pool = eng.new_pool("p")
    eng.pool("p").destroy()
    for call in (lambda: pool.put_many([((1, 0, 0), 0)], [b"x"]), lambda: pool.get_many([((1, 0, 0), 0)]),
                 lambda: pool.get_range_into((1, 0, 0), 0, 1, bytearray(9))):
        with pytest.raises(engine.PoolDestroyed):
            call()


@pytest.mark.parametrize(("kind", "pam"), POOLS)
def test_a_range_into_a_buffer(make_arena, kind, pam):
    pool = make_arena(capacity="32MiB", page_size=PAGE).new_pool("p", pam=pam, **KINDS[kind])
    for count in (1, 2, 30, 1000):
        data = b"".join(mixed(n, PAGE) for n in range(count - 1)) + mixed(9, 100)
        assert pool.put_range((count, 0, 0), 5, data)
        for short in (0, 1, len(data) - 1):
            with pytest.raises(ValueError, match="buffer"):
                pool.get_range_into((count, 0, 0), 5, count, bytearray(short))
        buffer = bytearray(len(data) + 9)
        assert pool.get_range_into((count, 0, 0), 5, count + 1, buffer) == -1
        assert pool.object((count, 0, 0)).get_range_into(5, count, buffer, free=False) == len(data) and buffer == data + bytes(9)
        assert pool.get_range_into((count, 0, 0), 5, count, memoryview(buffer)[3:], free=True) == len(data) and buffer[3:-6] == data
        assert pool.get_range_into((count, 0, 0), 5, count, buffer) == -1
    assert pool.engine.check().ok


@pytest.mark.parametrize("buffer", [b"read only", 5, None, memoryview(bytearray(4096))[::2]])
def test_a_buffer_that_is_none(eng, buffer):
    pool = eng.new_pool("p")
    pool.put((1, 0, 0), 0, b"x")
    with pytest.raises((TypeError, ValueError, BufferError), match="buffer"):
        pool.get_range_into((1, 0, 0), 0, 1, buffer)
    assert pool.get((1, 0, 0), 0) == b"x"


def test_nothing_is_left_of_the_buffers(eng):
    """Buffers are let go of, whatever happened."""
    pool, data = eng.new_pool("p"), bytearray(b"abc")
    with pytest.raises(ValueError, match=r"pages\[1\]"):
        pool.put_many([((1, 0, 0), 0), ((1, 0, 0), 1)], [data, b""])
    data.append(1)                      # BufferError if somebody had it still
    assert pool.put_many([((1, 0, 0), 0)], [data]) == [True]
    data.append(2)
    assert (SHM / eng.name).exists()

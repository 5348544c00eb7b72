"""Owns the contract of engine.oid: keys to object ids."""
import array

import numpy
import pytest
import xxhash

import engine
from tests.support import U64_MAX


@pytest.mark.parametrize("key", ["", "a", "ü", "x" * 10_000, b"", b"a", b"\0" * 99, bytearray(b"a"), memoryview(b"ab")])
def test_text_and_bytes_are_hashed(key):
    oid = engine.oid(key)
    value = xxhash.xxh3_128_intdigest(key.encode() if isinstance(key, str) else bytes(key))
    assert oid[:2] == (value & U64_MAX, value >> 64)
    assert type(oid) is tuple and [type(word) for word in oid] == [int] * 3
    assert all(0 <= word <= U64_MAX for word in oid) and engine.oid(key) == oid


@pytest.mark.parametrize("key", [0, 1, 2**63, U64_MAX])
def test_an_int_is_itself(key):
    assert engine.oid(key) == (key, 0, 0)


@pytest.mark.parametrize("key", [(1, 2, 3), [1, 2, 3], (0, 0, 0), (U64_MAX,) * 3])
def test_a_triple_is_itself(key):
    assert engine.oid(key) == tuple(key) and type(engine.oid(key)) is tuple


def test_different_keys_give_different_oids():
    keys = [str(n) for n in range(5000)] + [str(n).encode() + b"!" for n in range(5000)] + list(range(5000))
    assert len({engine.oid(key) for key in keys}) == len(keys)


@pytest.mark.parametrize("key", [None, 1.5, {1, 2, 3}, object(), (1, 2, "3"), (1, 2, None), (1.0, 2, 3)])
def test_other_types_are_refused(key):
    with pytest.raises(TypeError):
        engine.oid(key)


@pytest.mark.parametrize(
    "key", [-1, U64_MAX + 1, (1, 2), (1, 2, 3, 4), (), (1, 2, -1), (U64_MAX + 1, 0, 0), (0, 2**200, 0)]
)
def test_other_values_are_refused(key):
    with pytest.raises(ValueError):
        engine.oid(key)


def test_what_it_gives_is_an_oid_for_every_call(eng):
    pool = eng.new_pool("p", persistent=True)
    for key in ("text", b"bytes", 5, (1, 2, 3)):
        assert pool.put(engine.oid(key), 0, b"page") and pool.get(engine.oid(key), 0) == b"page"
    assert pool.obj_count == 4


class Odd:
    """An int by its own word."""

    def __init__(self, value):
        self.value = value

    def __index__(self):
        return self.value


INTEGERS = [numpy.int8, numpy.uint8, numpy.int32, numpy.int64, numpy.uint64, Odd]


@pytest.mark.parametrize("kind", INTEGERS)
def test_what_says_which_int_it_is_is_that_int(eng, kind):
    assert engine.oid(kind(5)) == (5, 0, 0) and engine.oid((kind(1), 2, kind(3))) == (1, 2, 3)
    pool = eng.new_pool("p", persistent=True)
    oid = (kind(1), kind(2), kind(3))
    assert pool.put(oid, kind(4), b"page") and pool.get((1, 2, 3), 4) == b"page" == pool.get(list(oid), kind(4))
    assert pool.object(oid).get_many([kind(4)]) == [b"page"] == pool.get_many([(oid, kind(4))])
    assert pool.get_range((1, 2, 3), 4, kind(1)) == b"page" and pool.flush_page(oid, kind(4))
    assert eng.pool(kind(pool.id)).name == "p" and eng.client(kind(7), weight=kind(2)).weight == 2


@pytest.mark.parametrize("kind", [numpy.int64, Odd])
def test_one_that_is_out_of_range_is_refused(eng, kind):
    pool = eng.new_pool("p")
    for call in (
        lambda: engine.oid(kind(-1)),
        lambda: engine.oid((1, 2, kind(-1))),
        lambda: pool.get((1, 2, kind(-3)), 0),
        lambda: pool.get((1, 2, 3), kind(-1)),
    ):
        with pytest.raises(ValueError):
            call()


@pytest.mark.parametrize("key", [
    numpy.float64(1), numpy.float32(5), numpy.bool_(True), numpy.array([1, 2, 3]), numpy.array([1.5]),
    array.array("i", [1, 2]), memoryview(array.array("d", [1])), (numpy.float64(1), 2, 3), numpy.array(1.0),
], ids=lambda key: type(key).__name__)
def test_a_buffer_of_something_else_than_bytes_is_no_key(key):
    with pytest.raises(TypeError):
        engine.oid(key)


@pytest.mark.parametrize(
    "key",
    [
        numpy.frombuffer(b"ab", "u1"),
        numpy.frombuffer(b"ab", "i1"),
        array.array("B", b"ab"),
        memoryview(b"ab").cast("c"),
    ],
)
def test_a_buffer_of_bytes_is_a_key(key):
    assert engine.oid(key) == engine.oid(b"ab")


def test_arguments_of_create_may_be_of_numpy(arena_name):
    with engine.create(
        arena_name, numpy.int64(4 << 20), page_size=numpy.int64(512), max_workers=numpy.uint8(4), client=numpy.int32(3)
    ) as eng:
        assert (eng.capacity, eng.page_size, eng.client_id) == (4 << 20, 512, 3) and type(eng.client_id) is int
        assert eng.new_pool("p", allow=[numpy.int64(9)]).allow == (9,)

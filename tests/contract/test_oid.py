"""Owns the contract of engine.oid: keys to object ids."""
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


@pytest.mark.parametrize("key", [-1, U64_MAX + 1, (1, 2), (1, 2, 3, 4), (), (1, 2, -1), (U64_MAX + 1, 0, 0), (0, 2**200, 0)])
def test_other_values_are_refused(key):
    with pytest.raises(ValueError):
        engine.oid(key)


def test_what_it_gives_is_an_oid_for_every_call(eng):
    pool = eng.new_pool("p", persistent=True)
    for key in ("text", b"bytes", 5, (1, 2, 3)):
        assert pool.put(engine.oid(key), 0, b"page") and pool.get(engine.oid(key), 0) == b"page"
    assert pool.obj_count == 4

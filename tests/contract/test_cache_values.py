"""Owns the values of a cache: what comes back is what was kept, bytes and arrays without a copy
more than needed, and what cannot be pickled leaves nothing behind."""

import array
import collections
import gc
import json
import pickle
import sys
import types

import pytest

import engine

VALUES = [
    b"",
    b"a",
    b"12345678",
    b"\0" * 8,
    b"x" * 100_000,
    0,
    1,
    -1,
    2**63 - 1,
    -(2**63),
    2**63,
    10**100,
    True,
    None,
    "",
    "ab",
    "text",
    "\ud800",
    1.5,
    (),
    (1, "a"),
    [1, [2]],
    {"a": 1},
    {1, 2},
    bytearray(b"ab"),
    bytearray(8),
    collections.OrderedDict(a=1),
    array.array("d", [1.0]),
]


@pytest.fixture
def cache(eng):
    return eng.cache("values")


def pinned_bytes(cache):
    with engine.attach(cache.arena) as eng:
        return eng.stats()["arena"]["pinned_bytes"]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: repr(value)[:30])
def test_a_value_comes_back(cache, value):
    assert cache.set("k", value)
    for copy in (True, False):
        found = cache.get("k", copy=copy)
        assert found == value
        assert type(found) is type(value) or (type(value) is bytes and type(found) is memoryview and found.readonly)


def test_values_of_all_lengths(cache):
    for length in [*range(0, 70), 511, 512, 513, 4095, 4096, 4097, 70_000, 1_000_000]:
        data = bytes(n % 251 for n in range(length))
        assert cache.set(length, data)
        assert cache.get(length) == data
        assert cache.set(length, [data])
        assert cache.get(length) == [data]


def test_what_is_no_counter_is_never_taken_for_one(cache):
    """A counter is a value of eight bytes: no other value has as many."""
    for value in (b"12345678", "ab", bytearray(b""), 1.5, b"", {}):
        cache.set("k", value)
        with pytest.raises(TypeError):
            cache.incr("k")
        assert cache.get("k") == value


def test_an_int_is_a_counter(cache):
    cache.set("k", 41)
    assert cache.incr("k") == 42
    assert cache.get("k") == 42


# --- arrays ---------------------------------------------------------------------------------------


def test_an_array_is_the_callers_own(cache):
    numpy = pytest.importorskip("numpy")
    value = {"a": numpy.arange(1000.0), "b": numpy.ones((3, 4), "f4"), "c": numpy.empty(0), "d": "text"}
    cache.set("k", value)
    found = cache.get("k")
    for name in "abc":
        assert (found[name] == value[name]).all() and found[name].dtype == value[name].dtype
        assert found[name].flags.writeable
    found["a"][0] = 7
    assert cache.get("k")["a"][0] == 0


def test_an_array_can_be_used_where_it_lies(cache):
    numpy = pytest.importorskip("numpy")
    value = [numpy.arange(n, dtype="i8") for n in (1, 5, 1000, 77)]
    cache.set("k", value)
    found = cache.get("k", copy=False)
    assert pinned_bytes(cache) > 0
    for one, other in zip(found, value, strict=True):
        assert (one == other).all() and not one.flags.writeable and not one.flags.owndata
        assert one.ctypes.data % 64 == 0
    last = found[2]
    del found, one
    cache.set("k", b"another")
    cache.clear()
    assert (last == value[2]).all() and pinned_bytes(cache) > 0
    del last
    gc.collect()
    assert pinned_bytes(cache) == 0


def test_bytes_can_be_read_where_they_lie(cache):
    cache.set("k", b"abc" * 1000)
    found = cache.get("k", copy=False)
    part = found[3:6]
    del found
    cache.delete("k")
    assert bytes(part) == b"abc" and part.readonly
    del part
    gc.collect()
    assert pinned_bytes(cache) == 0
    assert cache.get("gone", 5, copy=False) == 5


def test_more_than_may_be_pinned_comes_as_a_copy(make_arena):
    cache = make_arena(max_pinned=0).cache("values")
    cache.set("k", b"abc" * 1000)
    assert bytes(cache.get("k", copy=False)) == b"abc" * 1000


# --- what pickle says -----------------------------------------------------------------------------


class Broken:
    def __reduce__(self):
        raise RuntimeError("not today")


class Asks:
    """Asks the cache in the middle of being pickled."""

    cache = None

    def __reduce__(self):
        Asks.cache.set("inner", 1)
        return (Asks, ())


@pytest.mark.parametrize(
    "value", [Broken(), lambda: 1, open, (x for x in ())], ids=["reduce", "lambda", "file", "generator"]
)
def test_what_cannot_be_pickled_changes_nothing(cache, value):
    if value is open:
        value = sys.stdout
    cache.set("k", "before")
    for verb in (cache.set, cache.replace, cache.__setitem__):
        with pytest.raises((RuntimeError, AttributeError, TypeError, pickle.PicklingError)):
            verb("k", value)
    with pytest.raises((RuntimeError, AttributeError, TypeError, pickle.PicklingError)):
        cache.add("new", value)
    assert cache.get("k") == "before" and not cache.has("new")


def test_a_value_whose_class_is_gone_can_be_dropped(cache):
    module = types.ModuleType("tmem_gone")
    exec("class Gone: pass", module.__dict__)
    sys.modules["tmem_gone"] = module
    try:
        cache.set("k", module.Gone())
        cache.set("l", module.Gone())
    finally:
        del sys.modules["tmem_gone"]
    with pytest.raises(ModuleNotFoundError):
        cache.get("k")
    with pytest.raises(ModuleNotFoundError):
        cache["k"]
    assert cache.has("k") and cache.delete("k") and not cache.has("k")
    assert cache.set("l", 1) and cache.get("l") == 1


class _Unreadable:
    def __reduce__(self):
        return (_cannot, ())


def _cannot():
    raise LookupError("it cannot be read")


def test_a_value_that_cannot_be_read_is_not_taken_out(cache):
    assert cache.set("k", [b"x" * 5000, _Unreadable()])
    for take in (lambda: cache.pop("k"), cache.popitem, lambda: cache.get("k", copy=False), lambda: cache.get("k")):
        with pytest.raises(LookupError, match="cannot be read"):
            take()
        assert cache.has("k")
    assert cache.delete("k") and not cache.has("k")


def test_pickling_may_use_the_cache(cache):
    Asks.cache = cache
    cache.set("k", Asks())
    assert cache.get("inner") == 1 and isinstance(cache.get("k"), Asks)


# --- a serializer of the caller's -----------------------------------------------------------------


def test_a_serializer(eng):
    cache = eng.cache("json", serializer=json)
    for value in ({"a": [1, None]}, "text", 1.5, True, 5, b"bytes"):
        assert cache.set("k", value)
        assert cache.get("k") == value
    with pytest.raises(TypeError):
        cache.set("k", {1, 2})
    cache.set("k", [1, 2])
    with pytest.raises(TypeError, match="with a serializer"):
        eng.cache("json").get("k")
    eng.cache("json").set("k", [1])
    with pytest.raises(TypeError, match="was pickled"):
        cache.get("k")


def test_a_serializer_that_gives_eight_bytes(eng):
    class Eight:
        @staticmethod
        def dumps(value):
            return bytearray(b"8" * value[0])

        @staticmethod
        def loads(data):
            return [len(data)]

    cache = eng.cache("eight", serializer=Eight)
    for length in (0, 7, 8, 9):
        cache.set("k", [length])
        assert cache.get("k") == [length]


def test_what_is_no_serializer(eng):
    with pytest.raises(TypeError, match="^serializer: "):
        eng.cache("x", serializer=5)


@pytest.mark.parametrize("how", [{}, {"key": b"k"}, {"word": 7}, {"key": b"another", "word": 0}], ids=str)
def test_an_object_that_no_cache_has_put_is_a_miss(eng, how):
    """Its key is missing, or another's, or it has no word: no cache has put that."""
    cache = eng.cache("values")
    cache["k"] = 1
    info = next(iter(eng.pool("values").objects()))
    assert eng.pool("values").put_object(info.oid, b"anything", **how)
    eng.pool("values").put((1, 2, 3), 7, b"a page")
    if how.get("key") != b"k":
        assert cache.get("k") is None and not cache.has("k") and "k" not in list(cache)
    assert len(cache) == len(list(cache)) == ("word" in how and "key" in how)
    cache["k"] = 2
    assert cache["k"] == 2 and list(cache) == ["k"] and len(cache) == 1

"""Owns the verbs of a cache, one caller at a time: conditions, times to live, many at once, the
mapping, namespaces, and keys whose hashes are the same."""

import datetime
import json
import math
import pickle
import time
from collections.abc import MutableMapping

import pytest

import engine
from engine.cache import keys


@pytest.fixture
def cache(eng):
    return eng.cache("verbs")


@pytest.fixture
def colliding(cache):
    """A cache of which nearly all keys of one kind have the same hash."""
    keys.weaken(1)
    yield cache
    keys.weaken(64)


def test_set_and_get(cache):
    assert cache.get("k") is None and cache.get("k", 5) == 5
    assert cache.set("k", 1) is True and cache.get("k") == 1
    assert cache.set("k", 2) is True and cache.get("k", 5) == 2


def test_add_and_replace(cache):
    assert cache.replace("k", 0) is False and not cache.has("k")
    assert cache.add("k", 1) is True and cache.add("k", 2) is False and cache.get("k") == 1
    assert cache.replace("k", 3) is True and cache.get("k") == 3


def test_delete_and_pop(cache):
    cache.set("k", 1)
    assert cache.delete("k") is True and cache.delete("k") is False
    cache.set("k", 1)
    assert cache.pop("k") == 1 and cache.pop("k", 5) == 5 and not cache.has("k")
    with pytest.raises(KeyError, match="'k'"):
        cache.pop("k")


def test_cas(cache):
    assert cache.get("k", 5, with_version=True) == (5, None)
    assert cache.cas("k", 1, None) is True and cache.cas("k", 2, None) is False
    value, version = cache.get("k", with_version=True)
    assert value == 1 and isinstance(version, int)
    assert cache.cas("k", 2, version) is True and cache.cas("k", 3, version) is False and cache.get("k") == 2
    assert cache.cas("gone", 1, version) is False and not cache.has("gone")
    version = cache.get("k", with_version=True)[1]
    cache.delete("k")
    cache.set("k", 2)
    assert cache.cas("k", 4, version) is False
    version = cache.get("k", with_version=True)[1]
    assert cache.cas("k", 5, version, ttl=0) is True and not cache.has("k")
    assert cache.cas("k", 5, version, ttl=0) is False, "another had it, and took it away"
    with pytest.raises(TypeError, match="^version: "):
        cache.cas("k", 1, "1")


def test_incr_and_decr(cache):
    assert cache.incr("k") == 1 and cache.incr("k", 5) == 6 and cache.decr("k", 2) == 4 and cache.get("k") == 4
    assert cache.incr("l", 1, 10) == 11 and cache.decr("m") == -1
    with pytest.raises(KeyError, match="'n'"):
        cache.incr("n", initial=None)
    assert not cache.has("n")
    cache.set("k", 2**63 - 1)
    with pytest.raises(OverflowError):
        cache.incr("k")
    assert cache.get("k") == 2**63 - 1
    cache.set("k", "text")
    with pytest.raises(TypeError):
        cache.incr("k")
    with pytest.raises(TypeError, match="^delta: "):
        cache.incr("k", "1")


def test_many(cache):
    assert cache.set_many({n: n * n for n in range(5)}) == []
    assert cache.set_many([("a", 1), ("b", 2)], ttl=100) == []
    assert cache.get_many([1, 2, "a", "none"]) == {1: 1, 2: 4, "a": 1}
    assert cache.expires("a") is not None and cache.expires(1) is None
    assert cache.delete_many([1, 2, 3, "none"]) == 3
    assert sorted(map(str, cache)) == ["0", "4", "a", "b"]


def test_a_refused_value_is_gone(eng):
    cache = eng.cache("full", persistent=True)
    cache.set("k", b"x")
    n = 0
    while cache.set(n, b"y" * 100_000):
        n += 1
    assert n > 50 and cache.get(0) == b"y" * 100_000
    assert cache.set("k", b"z" * 10_000_000) is False and cache.get("k") is None
    assert cache.set_many({"k": b"z" * 10_000_000}) == ["k"]
    assert cache.cas("k", b"z" * 10_000_000, None) is None
    value, version = cache.get(0, with_version=True)
    assert cache.cas(0, b"z" * 10_000_000, version) is None and 0 not in cache


# --- locks ----------------------------------------------------------------------------------------


def test_a_lease_is_of_a_key_and_of_a_cache(eng, cache):
    cache.set("k", 1)
    with cache.lease("k", timeout=0) as held:
        assert cache.lease("k").locked() and cache.lease("k").mine() and held.timeout == 0
        assert not cache.lease("l").locked() and not cache.lease(b"k").locked()
        assert not eng.cache("other").lease("k").locked() and not cache.namespace("in").lease("k").locked()
        assert cache.get_or_compute("k2", lambda: cache.lease("k2").locked()) is False
        assert cache.get("k") == 1 and cache.delete("k")
    assert not cache.lease("k").locked()
    assert cache.lease((1, "a"), any_thread=True).any_thread and cache.lease(1).oid == cache.lease(1.0).oid
    with pytest.raises(TypeError):
        cache.lease([])
    with pytest.raises(ValueError, match="^timeout: "):
        cache.lease("k", timeout=-1)


# --- times to live --------------------------------------------------------------------------------


def now(zone=None):
    return datetime.datetime.now(zone)


@pytest.mark.parametrize(
    "ttl",
    [
        lambda: 100,
        lambda: 100.0,
        lambda: datetime.timedelta(seconds=100),
        lambda: now() + datetime.timedelta(seconds=100),
        lambda: now(datetime.UTC) + datetime.timedelta(seconds=100),
        lambda: now(datetime.timezone(datetime.timedelta(hours=5))) + datetime.timedelta(seconds=100),
    ],
)
def test_the_forms_of_a_ttl(cache, ttl):
    for verb in (cache.set, cache.add, cache.replace):
        if verb == cache.add:
            cache.delete("k")
        assert verb("k", 1, ttl())
        assert 95 < cache.expires("k") <= 100
    cache.set("k", 1)
    assert cache.expires("k") is None
    assert cache.touch("k", ttl()) and 95 < cache.expires("k") <= 100
    assert cache.incr("n", ttl=ttl()) == 1 and 95 < cache.expires("n") <= 100
    assert cache.touch("k", math.inf) and cache.expires("k") is None
    version = cache.get("k", with_version=True)[1]
    assert cache.cas("k", 1, version, ttl()) and 95 < cache.expires("k") <= 100


@pytest.mark.parametrize("ttl", [0, -1, -0.5, datetime.timedelta(0), datetime.datetime(2001, 1, 1), -math.inf])
def test_what_has_no_time_is_gone_at_once(cache, ttl):
    cache.set("k", 1)
    assert cache.set("k", 2, ttl) is True and cache.get("k") is None
    assert cache.add("k", 2, ttl) is True and cache.get("k") is None
    cache.set("k", 1)
    assert cache.touch("k", ttl) is True and not cache.has("k") and cache.touch("k", ttl) is False
    assert cache.incr("k", ttl=ttl) == 1 and not cache.has("k")


@pytest.mark.parametrize(
    ("ttl", "error"),
    [
        ("5", TypeError),
        (b"5", TypeError),
        (True, TypeError),
        (float("nan"), ValueError),
        ([], TypeError),
        (1j, TypeError),
    ],
)
def test_what_is_no_ttl(eng, cache, ttl, error):
    cache.set("k", 1)
    for call in (
        lambda: cache.set("k", 2, ttl),
        lambda: cache.touch("k", ttl),
        lambda: cache.incr("n", ttl=ttl),
        lambda: eng.cache("x", ttl=ttl),
        lambda: cache.get_or_compute("c", int, ttl),
    ):
        with pytest.raises(error, match="^ttl: "):
            call()
    assert cache.get("k") == 1


def test_what_expires_is_gone(cache):
    for key in "abc":
        cache.set(key, 1, ttl=0.05)
    cache.set("stays", 1)
    time.sleep(0.06)
    assert cache.get("a") is None and not cache.has("a") and list(cache) == ["stays"]
    assert cache.add("a", 2) and not cache.replace("b", 2) and not cache.touch("b", 5) and not cache.delete("b")
    assert cache.incr("c") == 1 and cache.expires("c") is None
    with pytest.raises(KeyError):
        cache.expires("b")
    cache.expire()


def test_the_ttl_of_a_cache(eng):
    cache = eng.cache("timed", ttl=datetime.timedelta(seconds=50))
    cache.set("k", 1)
    assert 45 < cache.expires("k") <= 50
    cache["k"] = 2
    assert 45 < cache.expires("k") <= 50
    cache.set("k", 1, ttl=math.inf)
    assert cache.expires("k") is None
    cache.set("k", 1, ttl=500)
    assert cache.expires("k") > 400
    cache = eng.cache("timed", ttl=now() + datetime.timedelta(seconds=20))
    cache.set("k", 1)
    assert 15 < cache.expires("k") <= 20


# --- the mapping ----------------------------------------------------------------------------------


def test_a_cache_is_a_mapping(cache):
    assert isinstance(cache, MutableMapping)
    cache["a"] = 1
    cache.update({"b": 2}, c=3)
    assert cache["a"] == 1 and "a" in cache and "z" not in cache and len(cache) == 3 and bool(cache)
    assert dict(cache) == dict(cache.items()) == {"a": 1, "b": 2, "c": 3}
    assert sorted(cache.keys()) == ["a", "b", "c"] and sorted(cache.values()) == [1, 2, 3]
    assert "a" in cache.keys() and ("a", 1) in cache.items()
    assert cache.setdefault("a", 5) == 1 and cache.setdefault("d", 4) == 4 and cache["d"] == 4
    del cache["a"]
    for call in (lambda: cache["a"], lambda: cache.__delitem__("a")):
        with pytest.raises(KeyError, match="'a'"):
            call()
    left = {"b": 2, "c": 3, "d": 4}
    while left:
        key, value = cache.popitem()
        assert left.pop(key) == value
    with pytest.raises(KeyError):
        cache.popitem()


def test_keys_of_all_kinds_are_listed(cache):
    made = ["a", b"a", 1, 2**100, (1, ("b", None)), 1.5, frozenset({1}), None, "", b"", ()]
    for key in made:
        cache[key] = repr(key)
    assert len(list(cache)) == len(made) == len(cache)
    assert dict(cache) == {key: repr(key) for key in made}


def test_with_cachetools(cache):
    cachetools = pytest.importorskip("cachetools", reason="cachetools is not installed")
    calls = []

    @cachetools.cached(cache=cache)
    def square(n, power=2):
        calls.append(n)
        return n**power

    assert [square(n) for n in (2, 3, 2, 2.0, True)] == [4, 9, 4, 4, 1]
    assert square(2, power=3) == 8 and calls == [2, 3, True, 2]

    @cachetools.cached(cache=cache.namespace("typed"), key=cachetools.keys.typedkey)
    def kind(n):
        return type(n).__name__

    assert (kind(1), kind(1.0), kind(True), kind(1)) == ("int", "float", "bool", "int")


# --- the whole cache ------------------------------------------------------------------------------


def test_namespaces(cache):
    one, other = cache.namespace("one"), cache.namespace("other")
    cache["k"], one["k"], other["k"] = 0, 1, 2
    assert (cache["k"], one["k"], other["k"]) == (0, 1, 2)
    assert cache.namespace("one")["k"] == 1
    one.clear()
    assert not one.has("k") and other["k"] == 2 and cache["k"] == 0
    cache.clear()
    assert other["k"] == 2 and not cache.has("k")
    with pytest.raises(TypeError, match="^name: "):
        cache.namespace("")


def test_clear(cache):
    for n in range(100):
        cache[n] = n
    assert len(cache) == 100
    cache.clear()
    assert len(cache) == 0 and list(cache) == [] and cache.get(5) is None and cache.add(5, 1) and list(cache) == [5]


def test_stats(cache):
    cache.set("a", 1)
    cache.get("a")
    cache.get("b")
    cache.get_or_compute("c", lambda: 5)
    found = cache.stats()
    assert set(found) == {"hits", "misses", "expired", "sets", "evicted", "computed", "waited"}
    assert (found["hits"], found["misses"], found["sets"]) == (1, 2, 2)
    assert found["computed"] == 1 and found["waited"] == 0 and found["evicted"] == 0
    assert cache.stats() == found, "looking at them counts as nothing"


def test_a_pickled_cache_is_the_same(cache):
    cache["k"] = 1
    other = pickle.loads(pickle.dumps(cache))
    assert other["k"] == 1 and other.name == cache.name and repr(other) == repr(cache)
    other.close()
    other["l"] = 2
    assert cache["l"] == 2


def test_a_cache_with_a_serializer_pickles(eng):
    """A module does not, and goes by its name."""
    cache = pickle.loads(pickle.dumps(eng.cache("json", serializer=json, ttl=50)))
    cache["k"] = {"a": 1}
    assert cache.serializer is json and cache.ttl == 50 and eng.cache("json", serializer=json)["k"] == {"a": 1}


def test_a_pool_that_was_destroyed_is_made_again(eng, cache):
    cache["k"] = 1
    eng.pool("verbs").destroy()
    assert cache.get("k") is None
    cache["k"] = 2
    assert cache["k"] == 2


def test_a_closed_engine_says_so(arena_name):
    with engine.create(arena_name, capacity="4MiB") as eng:
        cache = eng.cache("x")
        cache["k"] = 1
    with pytest.raises(engine.TmemError, match="closed"):
        cache.get("k")


def test_a_blank_cache_crashes_nobody():
    blank = engine.Cache.__new__(engine.Cache)
    for call in (lambda: blank.get("k"), lambda: blank.set("k", 1), lambda: list(blank), blank.clear):
        with pytest.raises((TypeError, AttributeError, ValueError, engine.TmemError)):
            call()


# --- keys whose hashes are the same ---------------------------------------------------------------


def test_a_collision_is_a_miss(colliding):
    names = [f"key {n}" for n in range(8)]
    for name in names:
        colliding.set(name, name)
        for other in names:
            assert colliding.get(other) in (None, other)
            assert colliding.get(other, copy=False) in (None, other)
    assert 1 <= sum(colliding.has(name) for name in names) <= 4


def test_the_verbs_of_a_key_that_collides(colliding):
    keys.weaken(0)
    colliding.set("a", 1)
    assert not colliding.has("b") and not colliding.delete("b") and not colliding.touch("b", 5)
    assert not colliding.replace("b", 2) and colliding.pop("b", None) is None
    with pytest.raises(KeyError):
        colliding.expires("b")
    with pytest.raises(KeyError):
        colliding.incr("b", initial=None)
    assert colliding.get("a") == 1 and colliding.expires("a") is None
    assert colliding.add("b", 2) and colliding.get("b") == 2 and colliding.get("a") is None
    assert colliding.incr("a") == 1 and colliding.get("b") is None and list(colliding) == ["a"]
    assert colliding.get_or_compute("b", lambda: 7) == 7 and colliding.get("a") is None

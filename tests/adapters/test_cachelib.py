"""Owns tmem.cachelib beyond what cachelib's own suite asks: settings, counting by many, timeouts,
serializers, Flask-Caching's and Flask-Session's way to it."""
import contextlib
import pickle
from datetime import timedelta

import pytest

pytest.importorskip("cachelib")

from cachelib.serializers import JSONSerializer  # noqa: E402

from engine import Cache  # noqa: E402
from tests.adapters.standing import PROCESSES, Kind, run_together, standing_of  # noqa: E402
from tmem.cachelib import TmemCache  # noqa: E402


def make(arena):
    return TmemCache(arena=arena)


KIND = Kind(make, TmemCache.set, TmemCache.get)


@pytest.mark.parametrize("check", standing_of(KIND), ids=lambda check: check.__name__)
def test_it_stands(check, arena_name, monkeypatch):
    check(KIND, arena_name, monkeypatch)


# --- settings -------------------------------------------------------------------------------------


@pytest.mark.parametrize("wrong, said", [
    (dict(arena=""), "^arena: the name of an arena"),
    (dict(arena=None), "^arena: the name of an arena"),
    (dict(arena="x", threshold=500), "^options: capacity, .*'threshold'"),
    (dict(arena="x", default_timeout="300"), "timeout must be an int"),
    (dict(arena="x", name=5), "^name: a str"),
    (dict(arena="x", ttl=5), "^ttl: .*default_timeout"),
])
def test_a_bad_argument_is_named(wrong, said):
    with pytest.raises(TypeError, match=said):
        TmemCache(**wrong)


def test_a_bad_capacity_is_named(monkeypatch):
    with pytest.raises(ValueError, match="^capacity: "):
        TmemCache("x", capacity="much")
    monkeypatch.setenv("TMEM_CAPACITY", "much")
    with pytest.raises(ValueError, match="^TMEM_CAPACITY: "):
        TmemCache("x")


def test_names_are_caches_of_their_own(arena_name):
    one, other = TmemCache(arena_name), TmemCache(arena_name, name="other")
    one.set("k", 1)
    other.set("k", 2)
    assert other.clear() and other.get("k") is None and one.get("k") == 1


# --- times ----------------------------------------------------------------------------------------


def test_timeouts(arena_name):
    cache, kept = TmemCache(arena_name, default_timeout=60), Cache(arena_name, "cachelib")
    for key, timeout in (("default", None), ("never", 0), ("short", timedelta(seconds=5)), ("past", -1)):
        assert cache.set(key, key, timeout)
    assert 50 < kept.expires("default") <= 60 and kept.expires("never") is None and 0 < kept.expires("short") <= 5
    assert not cache.has("past")
    assert cache.add("past", 1, timeout=0) and kept.expires("past") is None
    assert cache.inc("count") == 1 and 50 < kept.expires("count") <= 60


def test_a_default_of_0_is_for_ever(arena_name):
    TmemCache(arena_name, default_timeout=0).set("k", 1)
    assert Cache(arena_name, "cachelib").expires("k") is None


# --- verbs ----------------------------------------------------------------------------------------


def count(n, cache):
    for _ in range(500):
        cache.inc("up")
        cache.dec("down", 2)
    cache.add("winner", n)


@pytest.mark.parametrize("serializer", [None, JSONSerializer()])
def test_counting_is_exact(arena_name, serializer):
    cache = TmemCache(arena_name, serializer=serializer)
    assert run_together(PROCESSES, count, cache) == [0] * PROCESSES
    assert cache.get_many("up", "down") == [500 * PROCESSES, -1000 * PROCESSES] and cache.get("winner") in range(8)


def test_what_is_no_number_is_not_counted(arena_name):
    cache = TmemCache(arena_name)
    cache.set("k", "word")
    with pytest.raises(TypeError):
        cache.inc("k")
    assert cache.get("k") == "word"


def test_none_is_a_value_that_is_there(arena_name):
    cache = TmemCache(arena_name)
    cache.set("k", None)
    assert cache.has("k") and cache.get("k") is None and not cache.add("k", 1) and cache.delete("k")
    assert not cache.delete("k")


def test_what_cannot_be_pickled_changes_nothing(arena_name):
    cache = TmemCache(arena_name)
    cache.set("k", 1)
    with pytest.raises((pickle.PicklingError, AttributeError)):
        cache.set("k", lambda: 1)
    assert cache.get("k") == 1


def test_a_value_for_which_there_is_no_memory(arena_name):
    cache = TmemCache(arena_name, capacity="2MiB", persistent=True)
    assert not cache.set("large", b"x" * (4 << 20))
    assert cache.set_many({"small": 1, "large": b"x" * (4 << 20)}) == ["small"]
    n = 0
    while cache.set(f"filler {n}", bytes([n % 256]) * 30_000):
        n += 1
    while cache.set(f"small {n}", b"x" * 10):
        n += 1
    assert cache.inc("count") is None


def test_a_serializer(arena_name):
    cache = TmemCache(arena_name)
    cache.serializer = JSONSerializer()
    assert cache.set("k", {"a": [1, None]}) and cache.get("k") == {"a": [1, None]}
    assert Cache(arena_name, "cachelib").get("k") == b'{"a": [1, null]}'
    assert pickle.loads(pickle.dumps(cache)).get("k") == {"a": [1, None]}


# --- those who use cachelib -----------------------------------------------------------------------


def test_flask_caching(arena_name):
    flask, caching = pytest.importorskip("flask"), pytest.importorskip("flask_caching")
    apps = []
    for _ in range(2):
        app = flask.Flask("shop")
        app.config.from_mapping(
            CACHE_TYPE="tmem.cachelib.TmemCache", CACHE_DEFAULT_TIMEOUT=0,
            CACHE_OPTIONS={"arena": arena_name, "capacity": "4MiB"},
        )
        calls = []

        @app.route("/")
        @caching.Cache(app).cached()
        def page(calls=calls):
            calls.append(1)
            return "page"

        apps.append((app, calls))
    (one, first), (other, second) = apps
    assert one.test_client().get("/").data == other.test_client().get("/").data == b"page"
    assert (first, second) == ([1], [])
    kept = Cache(arena_name, "cachelib")
    assert [kept.expires(key) for key in kept] == [None]


def test_flask_session(arena_name):
    flask, session = pytest.importorskip("flask"), pytest.importorskip("flask_session")
    app = flask.Flask("shop")
    app.config.from_mapping(SESSION_TYPE="cachelib", SESSION_CACHELIB=TmemCache(arena=arena_name, name="sessions"))
    session.Session(app)

    @app.route("/")
    def visits():
        flask.session["visits"] = flask.session.get("visits", 0) + 1
        return str(flask.session["visits"])

    with contextlib.closing(Cache(arena_name, "sessions")) as kept:
        client = app.test_client()
        assert [client.get("/").text for _ in range(3)] == ["1", "2", "3"] and app.test_client().get("/").text == "1"
        assert len(kept) == 2 and all(kept.expires(key) > 3600 for key in kept)

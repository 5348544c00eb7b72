"""Owns tmem.django beyond what Django's own suite asks: settings, counting by many, one who
computes, threads, sessions."""
import asyncio
import json
import os
import threading

import pytest

pytest.importorskip("django")

from django.conf import settings  # noqa: E402
from django.core.cache import CacheHandler, caches  # noqa: E402
from django.core.cache.backends.base import InvalidCacheBackendError  # noqa: E402
from django.core.signals import request_finished  # noqa: E402
from django.test import override_settings  # noqa: E402

import engine  # noqa: E402
from engine import Cache  # noqa: E402
from tests.adapters.standing import PROCESSES, Kind, run_together, standing_of  # noqa: E402
from tmem.django import TmemCache  # noqa: E402

if not settings.configured:
    settings.configure()


def make(arena, alias="default", **said):
    return CacheHandler({alias: {"BACKEND": "tmem.django.TmemCache", "LOCATION": arena, **said}})[alias]


KIND = Kind(make, TmemCache.set, TmemCache.get)


@pytest.mark.parametrize("check", standing_of(KIND), ids=lambda check: check.__name__)
def test_it_stands(check, arena_name, monkeypatch):
    check(KIND, arena_name, monkeypatch)


# --- settings -------------------------------------------------------------------------------------


@pytest.mark.parametrize("said, wrong", [
    (dict(LOCATION=""), "^LOCATION: the name of an arena"),
    (dict(LOCATION=["one", "other"]), "^LOCATION: the name of an arena"),
    (dict(LOCATION="/var/tmp/cache"), "^LOCATION: 1 to 200 letters"),
    (dict(OPTIONS={"MAX_ENTRIES": 30, "CULL_FREQUENCY": 2}), "^OPTIONS: CULL_FREQUENCY and MAX_ENTRIES: .*'capacity'"),
    (dict(OPTIONS={"db": 5}), "^OPTIONS: options: capacity, .*'db'"),
    (dict(OPTIONS={"capacity": "much"}), "^OPTIONS: capacity: "),
    (dict(OPTIONS={"name": 5}), "^OPTIONS: name: "),
    (dict(OPTIONS={"ttl": 5}), "^OPTIONS: .*'ttl'"),
    (dict(OPTIONS={"serializer": 5}), "^OPTIONS: serializer: "),
])
def test_a_bad_setting_is_named(said, wrong):
    with pytest.raises(InvalidCacheBackendError, match=wrong):
        make("not-there", **said)


def test_options_reach_the_arena(arena_name):
    cache = make(arena_name, OPTIONS={"capacity": "4MiB", "name": "pages"})
    cache.set("k", "v")
    assert Cache(arena_name, "pages").get(":1:k") == "v"
    with engine.attach(arena_name) as eng:
        assert eng.capacity == 4 << 20


@pytest.mark.parametrize("serializer", [
    "django.core.signing.JSONSerializer", "tests.adapters.test_django.serializer", json,
])
def test_a_serializer(arena_name, serializer):
    cache = make(arena_name, OPTIONS={"serializer": serializer})
    cache.set("k", {"a": [1, 2]})
    assert cache.get("k") == {"a": [1, 2]}


class Backwards:
    def dumps(self, value):
        return repr(value)[::-1].encode()

    def loads(self, data):
        return eval(data.decode()[::-1])


serializer = Backwards()


def test_clear_drops_one_name_of_a_location(arena_name):
    one, prefixed = make(arena_name), make(arena_name, KEY_PREFIX="p")
    other = make(arena_name, OPTIONS={"name": "other"})
    for cache in (one, other, prefixed):
        cache.set("k", "v")
    one.clear()
    assert one.get("k") is None and prefixed.get("k") is None and other.get("k") == "v"


@pytest.mark.parametrize("said, least, most", [
    ({}, 290, 300), ({"TIMEOUT": 60}, 50, 60), ({"TIMEOUT": None}, None, None),
])
def test_the_default_timeout(arena_name, said, least, most):
    cache = make(arena_name, **said)
    cache.set("k", "v")
    left = Cache(arena_name, "django").expires(":1:k")
    assert left is None if most is None else least < left <= most


# --- verbs ----------------------------------------------------------------------------------------


def test_a_timeout_of_0_is_over_at_once(arena_name):
    cache = make(arena_name)
    assert cache.add("k", 1, 0) is True and not cache.has_key("k")
    cache.set("k", 1)
    assert cache.add("k", 2, 0) is False and cache.get("k") == 1
    assert cache.get_or_set("l", lambda: 2, 0) == 2 and not cache.has_key("l")
    cache.set("k", 1, -5)
    assert not cache.has_key("k")


def test_counting_keeps_the_time_to_live(arena_name):
    cache, kept = make(arena_name), Cache(arena_name, "django")
    cache.set("k", 1, 1000)
    assert cache.incr("k", 5) == 6 and asyncio.run(cache.adecr("k")) == 5 and kept.expires(":1:k") > 900
    for missing in (cache.incr, cache.decr, lambda key: asyncio.run(cache.aincr(key))):
        with pytest.raises(ValueError, match="'gone' not found"):
            missing("gone")
    cache.set("none", None)
    with pytest.raises(TypeError):
        cache.incr("none")


def count(n, cache):
    async def several():
        await asyncio.gather(*(cache.aincr("async") for _ in range(20)))

    for _ in range(300):
        cache.incr("up")
        cache.decr("down")
    asyncio.run(several())
    if cache.add("winner", n):
        cache.incr("winners")


def test_counting_is_exact(arena_name):
    cache = make(arena_name)
    cache.set_many(dict.fromkeys(("up", "down", "async", "winners"), 0))
    assert run_together(PROCESSES, count, cache) == [0] * PROCESSES
    assert cache.get_many(["up", "down", "async", "winners"]) == {
        "up": 300 * PROCESSES, "down": -300 * PROCESSES, "async": 20 * PROCESSES, "winners": 1,
    }


def compute(n, cache):
    def make():
        cache.incr("computed")
        return "page"

    assert cache.get_or_set("page", make) == "page" and asyncio.run(cache.aget_or_set("other", make)) == "page"


def test_one_process_computes_a_default(arena_name):
    cache = make(arena_name)
    cache.set("computed", 0)
    assert run_together(PROCESSES, compute, cache) == [0] * PROCESSES
    assert cache.get("computed") == 2


def test_a_default_may_be_a_coroutine_function(arena_name):
    async def load():
        return 5

    cache = make(arena_name)
    assert asyncio.run(cache.aget_or_set("k", load)) == 5 and cache.get("k") == 5
    assert cache.get_or_set("none", None) is None and cache.has_key("none")


def test_many_at_once(arena_name):
    cache = make(arena_name, OPTIONS={"capacity": "2MiB"})
    large = b"x" * (4 << 20)
    assert cache.set_many({"a": 1, "large": large, "b": 2}) == ["large"]
    assert asyncio.run(cache.aset_many({"c": 3, "large": large}, version=2)) == ["large"]
    assert cache.get_many(["a", "b", "c", "large"]) == {"a": 1, "b": 2}
    assert asyncio.run(cache.aget_many(["a", "c"], version=2)) == {"c": 3}
    asyncio.run(cache.adelete_many(["a", "gone"]))
    assert cache.get_many(["a", "b"]) == {"b": 2}


class Curious:
    """Uses a cache while it is pickled."""

    def __init__(self, cache):
        self.cache = cache

    def __reduce__(self):
        self.cache.set("k", "meanwhile")
        self.cache.get_or_set("seen", 0)
        self.cache.incr("seen")
        return str, ("pickled",)


def test_nothing_is_held_while_a_value_is_pickled(arena_name):
    cache = make(arena_name)
    cache.set("k", Curious(cache))
    assert cache.get("k") == "pickled" and cache.add("other", Curious(cache)) and cache.get("seen") == 2


# --- threads and requests -------------------------------------------------------------------------


def test_the_threads_of_a_process_share_an_attachment(arena_name):
    handler = CacheHandler({"default": {"BACKEND": "tmem.django.TmemCache", "LOCATION": arena_name}})
    objects = []

    def use():
        objects.append(handler["default"])
        objects[-1].set("k", "v")

    use()
    for _ in range(3):
        thread = threading.Thread(target=use)
        thread.start()
        thread.join()
    with engine.attach(arena_name) as eng:
        assert len({id(one) for one in objects}) == 4 and eng.stats()["arena"]["workers"] == 2


def test_the_end_of_a_request_lets_go_of_nothing(arena_name):
    said = {"default": {"BACKEND": "tmem.django.TmemCache", "LOCATION": arena_name}}
    with override_settings(CACHES=said), engine.create(arena_name, capacity="2MiB") as eng:
        caches["default"].set("k", "v")
        attached = eng.stats()["arena"]["workers"], os.listdir("/proc/self/fd")
        request_finished.send(None)
        assert (eng.stats()["arena"]["workers"], os.listdir("/proc/self/fd")) == attached
        assert caches["default"].get("k") == "v"


# --- sessions -------------------------------------------------------------------------------------


def test_sessions(arena_name):
    from django.contrib.sessions.backends.cache import SessionStore

    said = {"default": {"BACKEND": "tmem.django.TmemCache", "LOCATION": arena_name}}
    with override_settings(CACHES=said):
        one = SessionStore()
        one["user"] = 17
        one.save()
        assert SessionStore(one.session_key)["user"] == 17
        two_weeks = 14 * 24 * 3600
        assert two_weeks - 60 < Cache(arena_name, "django").expires(f":1:{one.cache_key}") <= two_weeks
        SessionStore(one.session_key).flush()
        assert not one.exists(one.session_key)

"""Owns tmem.aiocache beyond what aiocache's own suite asks: settings, counting by many, locks of
many processes."""
import asyncio

import pytest

pytest.importorskip("aiocache")

from aiocache import cached, caches  # noqa: E402
from aiocache.lock import OptimisticLock, OptimisticLockError  # noqa: E402

from engine import Cache  # noqa: E402
from tests.adapters.standing import PROCESSES, Kind, run_together, standing_of  # noqa: E402
from tmem.aiocache import TmemCache  # noqa: E402


def make(arena):
    return TmemCache(arena=arena)


def put(cache, key, value):
    asyncio.run(cache.set(key, value))


def got(cache, key):
    return asyncio.run(cache.get(key))


KIND = Kind(make, put, got)


@pytest.mark.parametrize("check", standing_of(KIND), ids=lambda check: check.__name__)
def test_it_stands(check, arena_name, monkeypatch):
    check(KIND, arena_name, monkeypatch)


@pytest.mark.parametrize("wrong, said", [
    (dict(arena=""), "^arena: the name of an arena"), (dict(arena="x", endpoint="localhost"), "^options: .*'endpoint'"),
])
def test_a_bad_argument_is_named(wrong, said):
    with pytest.raises(TypeError, match=said):
        TmemCache(**wrong)


def test_it_is_chosen_by_a_setting(arena_name):
    caches.set_config({"default": {"cache": "tmem.aiocache.TmemCache", "arena": arena_name, "capacity": "4MiB"}})
    put(caches.get("default"), "k", {"a": 1})
    assert Cache(arena_name, "aiocache").get("k") == {"a": 1}


def test_the_decorator_makes_one(arena_name):
    calls = []

    @cached(ttl=60, cache=TmemCache, arena=arena_name)
    async def area(code):
        calls.append(code)
        return {"code": code}

    async def work():
        return await area(49), await area(49)

    assert asyncio.run(work()) == ({"code": 49}, {"code": 49}) and calls == [49]


def test_times(arena_name):
    cache, kept = TmemCache(arena_name, ttl=60), Cache(arena_name, "aiocache")

    async def work():
        await cache.set("default", 1)
        await cache.set("short", 1, ttl=5)
        await cache.set("ever", 1, ttl=None)
        await cache.set("kept", 1)
        await cache.expire("kept", 0)

    asyncio.run(work())
    assert 50 < kept.expires("default") <= 60 and kept.expires("short") <= 5
    assert kept.expires("ever") is None and kept.expires("kept") is None


def test_clear_of_a_namespace(arena_name):
    cache = TmemCache(arena_name, namespace="a:")

    async def work():
        await cache.multi_set([("k", 1), ("l", 2)])
        await cache.set("k", 3, namespace="b:")
        await cache.clear(namespace="a:")
        return await cache.multi_get(["k", "l"]), await cache.get("k", namespace="b:")

    assert asyncio.run(work()) == ([None, None], 3)


def count(n, cache):
    async def work():
        for _ in range(200):
            await cache.increment("count")
        try:
            await cache.add("winner", n)
            await cache.increment("winners")
        except ValueError:
            pass
        for _ in range(20):
            while True:
                try:
                    async with OptimisticLock(cache, "list") as lock:
                        await lock.cas([*await cache.get("list"), n])
                    break
                except OptimisticLockError:
                    pass

    asyncio.run(work())


def test_counting_and_optimistic_locks_are_exact(arena_name):
    cache = make(arena_name)
    put(cache, "list", [])
    assert run_together(PROCESSES, count, cache) == [0] * PROCESSES
    assert got(cache, "count") == 200 * PROCESSES and got(cache, "winners") == 1
    assert sorted(got(cache, "list")) == sorted([*range(PROCESSES)] * 20)


def test_a_lock_is_released_by_its_holder_alone(arena_name):
    cache = make(arena_name)

    async def work():
        await cache._add("lock", "mine", ttl=60)
        return (
            await cache._redlock_release("lock", "another's"), await cache.exists("lock"),
            await cache._redlock_release("lock", "mine"), await cache.exists("lock"),
            await cache._redlock_release("lock", None),
        )

    assert asyncio.run(work()) == (0, True, 1, False, 0)


def test_a_value_for_which_there_is_no_memory(arena_name):
    cache = TmemCache(arena_name, capacity="2MiB")
    large = b"x" * (4 << 20)

    async def work():
        # What `add` answers the base says: True but for a key that is there.
        return await cache.set("k", large), await cache.add("k", large), await cache.exists("k")

    assert asyncio.run(work()) == (False, True, False)

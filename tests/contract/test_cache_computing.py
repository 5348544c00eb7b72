"""Owns computing what is missing: one who does it, what the others get, exceptions, recursion, time
beyond a value's own, early refreshing; for threads, and for coroutines."""

import asyncio
import functools
import gc
import inspect
import threading
import time

import pytest

import engine
from engine.cache import computing


@pytest.fixture
def cache(eng):
    return eng.cache("computing")


class Counted:
    """A function that counts its calls."""

    def __init__(self, seconds=0.0, answers=None):
        self.calls = 0
        self.seconds = seconds
        self.answers = answers

    def __call__(self):
        self.calls += 1
        time.sleep(self.seconds)
        answer = self.calls if self.answers is None else self.answers[self.calls - 1]
        if isinstance(answer, Exception):
            raise answer
        return answer


def together(*functions):
    """The answers of functions that run in threads, at once."""
    answers = [None] * len(functions)

    def run(n):
        try:
            answers[n] = functions[n]()
        except Exception as error:
            answers[n] = error

    threads = [threading.Thread(target=run, args=(n,)) for n in range(len(functions))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers


def test_what_is_missing_is_computed_once(cache):
    fn = Counted()
    assert [cache.get_or_compute("k", fn) for _ in range(3)] == [1, 1, 1] and fn.calls == 1
    assert cache.get("k") == 1 and cache.expires("k") is None


def test_none_is_a_value(cache):
    fn = Counted(answers=[None])
    assert cache.get_or_compute("k", fn) is None and cache.get_or_compute("k", fn) is None and fn.calls == 1


def test_what_is_computed_lives_as_long_as_is_said(cache):
    cache.get_or_compute("k", Counted(), ttl=100)
    assert 95 < cache.expires("k") <= 100
    fn = Counted()
    assert cache.get_or_compute("short", fn, 0.03) == 1 and cache.get_or_compute("short", fn, 0.03) == 1
    time.sleep(0.04)
    assert cache.get_or_compute("short", fn, 0.03) == 2
    assert cache.get_or_compute("none", fn, ttl=0) == 3 and cache.get_or_compute("none", fn, ttl=0) == 4


def test_threads_wait_for_one(cache):
    fn = Counted(seconds=0.2)
    assert together(*[functools.partial(cache.get_or_compute, "k", fn)] * 8) == [1] * 8
    assert fn.calls == 1
    assert cache.stats()["computed"] == 1 and cache.stats()["waited"] == 7


def test_an_exception_goes_to_its_caller_and_the_next_one_tries(cache):
    fn = Counted(seconds=0.1, answers=[ValueError("no"), 5])
    answers = together(*[functools.partial(cache.get_or_compute, "k", fn)] * 4)
    assert [type(answer) for answer in answers].count(ValueError) == 1 and answers.count(5) == 3 and fn.calls == 2
    with pytest.raises(ZeroDivisionError):
        cache.get_or_compute("z", lambda: 1 / 0)
    assert not cache.has("z") and cache.get_or_compute("z", Counted()) == 1


def test_a_function_that_asks_for_its_own_key(cache):
    with pytest.raises(RuntimeError, match="asks for it"):
        cache.get_or_compute("k", lambda: cache.get_or_compute("k", int))
    assert cache.get_or_compute("k", lambda: cache.get_or_compute("other", lambda: 5) + 1) == 6
    assert cache.get_or_compute("l", lambda: cache.get_or_compute("m", lambda: cache.set("l", 3) + 1)) == 2


@pytest.mark.parametrize(
    "how",
    [
        dict(stale=-1),
        dict(stale=float("inf")),
        dict(stale="5"),
        dict(beta=-1),
        dict(beta="1"),
        dict(beta=float("nan")),
        dict(beta=True),
    ],
)
def test_bad_arguments(cache, how):
    fn = Counted()
    with pytest.raises((TypeError, ValueError), match=f"^{next(iter(how))}: "):
        cache.get_or_compute("k", fn, **how)
    assert fn.calls == 0


def test_a_value_that_cannot_be_kept(cache):
    with pytest.raises((AttributeError, TypeError)):
        cache.get_or_compute("k", lambda: threading.Lock())
    assert cache.get_or_compute("k", Counted()) == 1


# --- the time beyond ------------------------------------------------------------------------------


def test_a_stale_value_is_for_those_who_compute(cache):
    cache.get_or_compute("k", lambda: "old", ttl=0.05, stale=60)
    assert cache.get("k") == "old" and cache.expires("k") <= 0.05
    time.sleep(0.06)
    assert cache.get("k") is None and not cache.has("k") and list(cache) == []
    assert not cache.touch("k", 5) and not cache.replace("k", 1) and cache.pop("k", None) is None
    assert cache.get_many(["k"]) == {}
    assert cache.get_or_compute("k", lambda: "new", ttl=60, stale=60) == "new"
    assert cache.touch("k", 100) and 95 < cache.expires("k") <= 100


def test_add_takes_the_place_of_a_stale_value(cache):
    cache.get_or_compute("k", lambda: "old", ttl=0.03, stale=60)
    assert not cache.add("k", 1)
    time.sleep(0.04)
    assert cache.add("k", 1) and cache.get("k") == 1


def test_nobody_waits_who_has_a_stale_value(cache):
    cache.get_or_compute("k", lambda: "old", ttl=0.03, stale=60)
    time.sleep(0.04)
    begun, go_on = threading.Event(), threading.Event()

    def compute():
        begun.set()
        go_on.wait(10)
        return "new"

    thread = threading.Thread(target=cache.get_or_compute, args=("k", compute, 60, 60))
    thread.start()
    assert begun.wait(10)
    assert [cache.get_or_compute("k", compute, 60, 60) for _ in range(3)] == ["old"] * 3
    go_on.set()
    thread.join()
    assert cache.get_or_compute("k", compute, 60, 60) == "new"


def test_a_stale_value_outlives_a_failure(cache):
    cache.get_or_compute("k", lambda: "old", ttl=0.03, stale=60)
    time.sleep(0.04)
    with pytest.raises(ValueError):
        cache.get_or_compute("k", Counted(answers=[ValueError()]), 60, 60)
    assert cache.get_or_compute("k", lambda: cache.get_or_compute("k", int), 60, 60) == "old", (
        "inside it is no recursion"
    )


def test_early_refreshing(cache, monkeypatch):
    drawn = 0.5
    monkeypatch.setattr(computing.random, "random", lambda: 1 - drawn)
    fn = Counted(seconds=0.05)
    assert cache.get_or_compute("k", fn, ttl=100, beta=1) == 1
    assert cache.get_or_compute("k", fn, ttl=100, beta=1) == 1, "0.035 s are less than 100"
    drawn = 2**-52
    assert cache.get_or_compute("k", fn, ttl=100, beta=1) == 1, "1.8 s are less"
    assert cache.get_or_compute("k", fn, ttl=100, beta=100) == 2, "180 s are more"
    assert cache.get_or_compute("k", fn, ttl=100) == 2
    assert cache.get_or_compute("ever", fn, beta=1000) == 3 and cache.get_or_compute("ever", fn, beta=1000) == 3


# --- coroutines -----------------------------------------------------------------------------------


def test_coroutines_wait_for_one(cache):
    calls = 0

    async def fn():
        nonlocal calls
        calls += 1
        await asyncio.sleep(0.1)
        return calls

    async def main():
        ticks = 0

        async def tick():
            nonlocal ticks
            while True:
                ticks += 1
                await asyncio.sleep(0.005)

        ticking = asyncio.create_task(tick())
        answers = await asyncio.gather(*(cache.aget_or_compute("k", fn) for _ in range(10)))
        ticking.cancel()
        return answers, ticks

    answers, ticks = asyncio.run(main())
    assert answers == [1] * 10 and calls == 1 and ticks > 5, "the loop goes on"
    assert asyncio.run(cache.aget_or_compute("plain", Counted())) == 1


def test_a_cancelled_coroutine_leaves_nothing(cache):
    async def slow():
        await asyncio.sleep(60)

    async def main():
        first = asyncio.create_task(cache.aget_or_compute("k", slow))
        await asyncio.sleep(0.05)
        second = asyncio.create_task(cache.aget_or_compute("k", slow))
        await asyncio.sleep(0.05)
        second.cancel()
        await asyncio.sleep(0.01)
        assert second.cancelled() and not first.done()
        third = asyncio.create_task(cache.aget_or_compute("k", Counted()))
        await asyncio.sleep(0.02)
        first.cancel()
        assert await asyncio.wait_for(third, 5) == 1
        assert first.cancelled()

    asyncio.run(main())
    gc.collect()


def test_coroutines_and_exceptions(cache):
    async def main():
        async def fail():
            await asyncio.sleep(0.02)
            raise ValueError("no")

        answers = await asyncio.gather(*(cache.aget_or_compute("k", fail) for _ in range(3)), return_exceptions=True)
        assert [type(answer) for answer in answers] == [ValueError] * 3

        async def recur():
            return await cache.aget_or_compute("r", recur)

        with pytest.raises(RuntimeError, match="asks for it"):
            await cache.aget_or_compute("r", recur)

        async def deep():
            return await asyncio.create_task(cache.aget_or_compute("t", deep))

        with pytest.raises(RuntimeError, match="asks for it"):
            await cache.aget_or_compute("t", deep)

        async def slow():
            await asyncio.sleep(0.1)

        task = asyncio.create_task(cache.aget_or_compute("s", slow))
        await asyncio.sleep(0.02)
        with pytest.raises(RuntimeError, match="another task of this thread"):
            cache.get_or_compute("s", int)
        await task

    asyncio.run(main())


def test_loops_of_several_threads(cache):
    calls = []

    async def fn():
        calls.append(1)
        await asyncio.sleep(0.1)
        return 5

    assert together(*[lambda: asyncio.run(cache.aget_or_compute("k", fn))] * 4) == [5] * 4 and len(calls) == 1


# --- memoizing ------------------------------------------------------------------------------------


def test_memoize(cache):
    calls = []

    @cache.memoize(ttl=100)
    def add(a, b=1, *, c=0):
        """Adds."""
        calls.append((a, b, c))
        return a + b + c

    assert [add(1), add(1), add(1, 2), add(1, b=2), add(1, c=5), add(1, c=5)] == [2, 2, 3, 3, 7, 7] and len(calls) == 4
    assert add.cache_info() == (2, 4, None, 4) and add.cache_info().hits == 2
    assert add.__wrapped__(5, 5) == 10 and add.__doc__ == "Adds." and add.__name__ == "add"
    assert 95 < cache.expires(add.cache_key(1)) <= 100
    cache.delete(add.cache_key(1))
    assert add(1) == 2 and len(calls) == 6
    cache["other"] = 1
    add.cache_clear()
    assert add.cache_info() == (0, 0, None, 0) and cache["other"] == 1 and add(1) == 2
    with pytest.raises(TypeError):
        add([])


def test_memoize_without_arguments_and_typed(cache):
    @cache.memoize
    def kind(n):
        return type(n).__name__

    @cache.memoize(typed=True)
    def exact(n):
        return type(n).__name__

    assert [kind(1), kind(1.0), kind(True)] == ["int"] * 3
    assert [exact(1), exact(1.0), exact(True), exact(n=1)] == ["int", "float", "bool", "int"]


class Thing:
    def __init__(self, number):
        self.number = number

    def __eq__(self, other):
        return self.number == other.number

    def __hash__(self):
        return hash(self.number)


def test_memoize_methods(cache):
    class Plain:
        calls = 0

        @cache.memoize(key=lambda self, n: n)
        def double(self, n):
            Plain.calls += 1
            return 2 * n

        @cache.memoize
        def never(self):
            return 1

        @classmethod
        @cache.memoize(key=lambda cls, n: n)
        def make(cls, n):
            return n

    assert Plain().double(2) == Plain().double(2) == 4 and Plain.calls == 1 and Plain.make(3) == 3
    with pytest.raises(TypeError, match="equal to nothing but itself"):
        Plain().never()
    calls = []

    def triple(self):
        calls.append(1)
        return 3 * self.number

    Thing.triple = cache.memoize(triple)
    assert [Thing(n).triple() for n in (1, 1, 2)] == [3, 3, 6] and len(calls) == 2


def test_memoize_coroutines(cache):
    calls = []

    @cache.memoize(ttl=100)
    async def slow(n):
        calls.append(n)
        await asyncio.sleep(0.05)
        return n * n

    async def main():
        return await asyncio.gather(slow(2), slow(2), slow(3))

    assert inspect.iscoroutinefunction(slow)
    assert asyncio.run(main()) == [4, 4, 9] and sorted(calls) == [2, 3]
    assert slow.cache_info() == (1, 2, None, 2)


def test_too_many_leases_are_no_reason_to_fail(eng, cache):
    leases = [eng.lease(n) for n in range(5000)]
    held = []
    try:
        for lease in leases:
            held += [lease] if lease.try_acquire() else []
    except engine.ArenaBusy:
        pass
    assert [cache.get_or_compute(n, lambda: 5) for n in range(50)] == [5] * 50
    for lease in held:
        lease.release()

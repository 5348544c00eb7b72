"""Owns what tmem.limits promises beyond limits' own tests: one limit for all processes, exactly;
its settings; and windows that survive forks, pickles, kills and a full arena."""
import asyncio
import pickle
import time

import pytest

pytest.importorskip("limits")

from limits import RateLimitItemPerHour, RateLimitItemPerSecond  # noqa: E402
from limits.aio.strategies import MovingWindowRateLimiter as AioMovingWindow  # noqa: E402
from limits.errors import ConfigurationError, StorageError  # noqa: E402
from limits.storage import storage_from_string  # noqa: E402
from limits.strategies import (  # noqa: E402
    FixedWindowRateLimiter,
    MovingWindowRateLimiter,
    SlidingWindowCounterRateLimiter,
)

import engine  # noqa: E402
import tmem.limits  # noqa: E402
from tests.adapters.together import in_new_process, killed_after, together  # noqa: E402
from tests.support import SHM, leftovers  # noqa: E402

STRATEGIES = [FixedWindowRateLimiter, MovingWindowRateLimiter, SlidingWindowCounterRateLimiter]
PROCESSES = 8


@pytest.fixture
def uri(arena_name):
    return f"tmem://{arena_name}"


@pytest.fixture
def clock(monkeypatch):
    """A clock of the windows, in microseconds, that stands until it is moved."""
    moments = [10**12]
    monkeypatch.setattr(tmem.limits, "clock_us", lambda: moments[0])
    return moments


def hits(limiter, item, until):
    """How many of so many hits are let through."""
    return sum(limiter.hit(item, "one") for _ in range(until))


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_processes_share_a_limit_exactly(uri, strategy):
    limiter = strategy(storage_from_string(uri))
    item = RateLimitItemPerHour(500)
    counts = together(PROCESSES, lambda n: hits(limiter, item, 100))
    assert sum(counts) == 500 and not limiter.test(item, "one")


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_costs_of_processes_add_up(uri, strategy):
    limiter = strategy(storage_from_string(uri))
    item = RateLimitItemPerHour(10**6)
    costs = together(PROCESSES, lambda n: sum(limiter.hit(item, "one", cost=7_000 + n) and 7_000 + n for _ in range(9)))
    assert sum(costs) == sum(9 * (7_000 + n) for n in range(PROCESSES))
    assert limiter.get_window_stats(item, "one").remaining == 10**6 - sum(costs)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_killed_process_leaves_its_hits_and_holds_up_nobody(uri, strategy):
    limiter = strategy(storage_from_string(uri))
    item = RateLimitItemPerHour(5)
    killed_after(lambda: hits(limiter, item, 3))
    assert hits(limiter, item, 10) == 2


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_another_process_and_a_pickle_have_the_same_limit(uri, strategy):
    storage = storage_from_string(uri)
    item = RateLimitItemPerHour(5)
    assert hits(strategy(storage), item, 2) == 2
    assert hits(strategy(pickle.loads(pickle.dumps(storage))), item, 1) == 1
    assert in_new_process(
        "import tmem.limits; from limits import *; from limits.storage import storage_from_string as storage\n"
        f"limiter = strategies.{strategy.__name__}(storage({uri!r}))\n"
        "print(sum(limiter.hit(RateLimitItemPerHour(5), 'one') for _ in range(9)))"
    ) == "2"


def test_the_arena_is_opened_at_the_first_hit_with_the_capacity_of_the_environment(uri, arena_name, monkeypatch):
    monkeypatch.setenv("TMEM_CAPACITY", "8MiB")
    storage = storage_from_string(uri)
    assert not leftovers(arena_name)
    storage.incr("k", 10)
    with engine.attach(arena_name) as eng:
        assert eng.capacity == 8 << 20 and eng.pool("limits").persistent


def test_options_stand_in_the_uri_or_beside_it(arena_name):
    storage = storage_from_string(f"tmem://{arena_name}?capacity=8MiB&name=api", persistent="False")
    storage.incr("k", 10)
    with engine.attach(arena_name) as eng:
        assert eng.capacity == 8 << 20 and not eng.pool("api").persistent


def test_an_arena_that_was_removed_is_made_again(uri, arena_name):
    storage = storage_from_string(uri)
    item = RateLimitItemPerHour(2)
    assert hits(MovingWindowRateLimiter(storage), item, 3) == 2
    engine.unlink(arena_name)
    storage.cache.close()               # rather than wait until it looks again
    assert hits(MovingWindowRateLimiter(storage), item, 3) == 2


@pytest.mark.parametrize("wrong", ["tmem://", "tmem:///shop", "tmem://shop/path", "tmem://shop#part", None])
def test_a_uri_without_an_arena_is_refused(wrong):
    with pytest.raises(ConfigurationError, match="storage_uri: tmem://<arena>"):
        tmem.limits.TmemStorage(wrong)


def test_wrong_options_are_named(uri):
    with pytest.raises(ConfigurationError, match="persistent: true or false, not 'maybe'"):
        storage_from_string(f"{uri}?persistent=maybe")
    with pytest.raises(TypeError, match="options: .*no_such"):
        storage_from_string(uri, no_such=1)
    with pytest.raises(ValueError, match="capacity"):
        storage_from_string(uri, capacity="much")
    with pytest.raises(ValueError, match="^arena: 1 to 200 letters.*shop:6379"):
        storage_from_string("tmem://shop:6379")


def test_check_says_whether_the_arena_can_be_used(uri, arena_name):
    storage = storage_from_string(uri)
    assert storage.check()
    storage.cache.close()
    engine.unlink(arena_name)
    (SHM / arena_name).write_bytes(bytes(8192))
    assert not storage.check()


def test_strategies_do_not_see_each_other(uri):
    storage = storage_from_string(uri)
    item = RateLimitItemPerHour(3)
    assert [hits(strategy(storage), item, 5) for strategy in STRATEGIES] == [3, 3, 3]
    assert storage.reset() == 3


def test_a_moving_window_moves(uri, clock):
    limiter = MovingWindowRateLimiter(storage_from_string(uri))
    item = RateLimitItemPerSecond(5, 10)
    assert limiter.hit(item, cost=2)
    clock[0] += 6_000_000
    assert limiter.hit(item, cost=3) and not limiter.hit(item)
    clock[0] += 4_000_000               # the first hit is as old as the window: it counts
    assert not limiter.hit(item)
    clock[0] += 1
    assert limiter.hit(item, cost=2) and not limiter.hit(item)
    assert limiter.get_window_stats(item).reset_time == pytest.approx(time.time() + 6, abs=0.5)


def test_an_entry_of_a_moving_window_takes_eight_bytes(uri, clock):
    storage = storage_from_string(uri)
    for _ in range(100):
        clock[0] += 1
        assert storage.acquire_entry("k", 10_000, 60)
        assert storage.acquire_entry("wide", 10**6, 60, amount=4096)
    assert len(storage.cache.get(("moving", "k"))) == len(storage.cache.get(("moving", "wide"))) == 8 * 101
    assert storage.get_moving_window("wide", 10**6, 60)[1] == 409_600
    clock[0] += 59_999_951             # the first fifty are older than the window
    assert storage.get_moving_window("wide", 10**6, 60)[1] == 4096 * 50
    assert storage.acquire_entry("wide", 10**6, 60, amount=5000)        # 4096 and the rest
    assert len(storage.cache.get(("moving", "wide"))) == 8 * (1 + 50 + 2)
    assert storage.get_moving_window("wide", 10**6, 60)[1] == 4096 * 50 + 5000


def test_a_sliding_window_weighs_the_one_before(uri, clock):
    limiter = SlidingWindowCounterRateLimiter(storage_from_string(uri))
    item = RateLimitItemPerSecond(10, 10)
    assert limiter.hit(item, cost=10) and not limiter.hit(item)
    clock[0] += 10_000_000              # the next one begins: those of before count in full
    assert not limiter.hit(item)
    clock[0] += 5_000_000               # and here by half
    assert limiter.hit(item, cost=5) and not limiter.hit(item)
    assert limiter.storage.get_sliding_window(item.key_for(), 10) == (10, 5.0, 5, 15.0)
    clock[0] += 15_000_000              # two windows on
    assert limiter.get_window_stats(item).remaining == 10
    assert limiter.hit(item, cost=10)


def test_hits_end_with_their_window(uri):
    storage = storage_from_string(uri)
    storage.incr("fixed", 60)
    storage.incr("fixed", 600)
    storage.acquire_entry("k", 5, 60)
    storage.acquire_sliding_window_entry("k", 5, 60)
    assert 59 < storage.cache.expires("fixed") <= 60 and 59 < storage.cache.expires(("moving", "k")) <= 60
    assert 119 < storage.cache.expires(("sliding", "k")) <= 120
    assert storage.get_expiry("fixed") == pytest.approx(time.time() + 60, abs=0.5)


def test_a_full_arena_says_so_and_forgets_nothing(uri):
    storage = storage_from_string(uri, capacity="4MiB", wrap_exceptions=True)
    for key in ("fixed", "other"):
        storage.incr(key, 60, amount=7)
    size = 1 << 20
    while size > 8:
        size = size if storage.cache.set(("filler", size, storage.cache.incr("n")), bytes(size)) else size // 2
    with pytest.raises(StorageError, match="no room"):
        for n in range(10_000):
            storage.acquire_entry(f"new {n}", 10**6, 60, amount=4096 * 20)
    assert storage.incr("fixed", 60) == 8 and storage.get("other") == 7


def test_a_window_for_whose_next_hit_there_is_no_room_keeps_its_hits(uri):
    storage = storage_from_string(uri, capacity="2MiB")
    assert storage.acquire_entry("k", 10**9, 60) and storage.acquire_sliding_window_entry("k", 10**9, 60)
    size = 1 << 20
    while size > 8:
        size = size if storage.cache.set(("filler", size, storage.cache.incr("n")), bytes(size)) else size // 2
    hits = 1
    with pytest.raises(engine.ArenaFull, match="no room"):
        while True:
            storage.acquire_entry("k", 10**9, 60, amount=4096)
            hits += 4096
    assert storage.get_moving_window("k", 10**9, 60)[1] == hits and not storage.acquire_entry("k", hits, 60)
    assert storage.get_sliding_window("k", 60)[2] == 1


def test_the_asynchronous_storage_has_the_same_windows(uri):
    item = RateLimitItemPerHour(5)
    storage = storage_from_string(f"async+{uri}")
    assert isinstance(storage, tmem.limits.AsyncTmemStorage)

    async def run():
        limiter = AioMovingWindow(storage)
        return sum(await asyncio.gather(*(limiter.hit(item, "one") for _ in range(4))))

    assert asyncio.run(run()) == 4
    assert hits(MovingWindowRateLimiter(storage_from_string(uri)), item, 4) == 1

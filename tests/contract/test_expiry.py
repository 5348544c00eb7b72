"""Owns the contract of what has expired: it goes before anything that lives, wherever room is
needed, and whoever tends sweeps it."""
import os

import pytest

import engine
from tests.stopped import Stopped, fork
from tests.support import mixed, text

KINDS = {"raw": {}, "whole": {"whole": True}, "dedup": {"dedup": True}, "lz4": {"pam": "lz4"}}


def fill(pool, count, size=3000, ttl=None):
    """So many values, every other one with an expiry: the oids of those that live."""
    lasting = []
    for n in range(count):
        assert pool.put_object((n, 0, 0), mixed(n, size), ttl=ttl if n % 2 else None)
        if n % 2 == 0:
            lasting.append((n, 0, 0))
    return lasting


def counted(eng, pool="p"):
    return eng.stats()["pools"][pool]


def full_of(eng, pool, size=3000):
    """Put values until the first one is evicted: how many there are."""
    n = 0
    while counted(eng)["evicted"] == 0:
        pool.put_object((n, 0, 1), mixed(n, size))
        n += 1
    return n


@pytest.mark.parametrize("kind", KINDS)
def test_what_has_expired_goes_before_anything_that_lives(make_arena, kind):
    if kind == "lz4":
        pytest.importorskip("lz4.block")
    eng = make_arena(capacity="8MiB", buckets=64)
    pool = eng.new_pool("p", **KINDS[kind])
    room = full_of(eng, pool) * 9 // 10
    pool.clear()
    eng.tend()
    before = counted(eng)["evicted"]
    lasting = fill(pool, room, ttl=100)
    assert counted(eng)["evicted"] == before
    eng.set_clock_ahead(200)
    for n in range(room * 4 // 10):
        assert pool.put_object((n, 0, 2), mixed(n + 10**6, 3000))
    assert counted(eng)["evicted"] == before
    assert all(pool.has(oid) for oid in lasting) and all(pool.has((n, 0, 2)) for n in range(room * 4 // 10))
    assert room // 8 < counted(eng)["expired"] <= room // 2
    report = eng.check()
    assert report.ok, [str(problem) for problem in report.problems[:3]]


def test_pages_of_another_size_take_the_place_of_what_has_expired(make_arena):
    eng = make_arena(capacity="8MiB", buckets=64)
    pool = eng.new_pool("p")
    room = full_of(eng, pool) * 9 // 10
    pool.clear()
    eng.tend()
    before = counted(eng)["evicted"]
    lasting = fill(pool, room, ttl=100)
    eng.set_clock_ahead(200)
    for n in range(room * 2):
        assert pool.put_object((n, 0, 2), mixed(n, 400))
    assert counted(eng)["evicted"] == before and all(pool.has(oid) for oid in lasting)
    assert eng.check().ok


def test_a_long_value_takes_the_place_of_what_has_expired(make_arena):
    eng = make_arena(capacity="16MiB", buckets=64)
    pool = eng.new_pool("p")
    room = full_of(eng, pool) * 8 // 10
    pool.clear()
    eng.tend()
    before = counted(eng)["evicted"]
    lasting = fill(pool, room, ttl=100)
    eng.set_clock_ahead(200)
    for n in range(5):
        assert pool.put_object((n, 0, 2), mixed(n, 500_000))
    assert counted(eng)["evicted"] == before and all(pool.has(oid) for oid in lasting)
    assert eng.check().ok


def test_a_persistent_put_that_would_be_refused_sweeps_first(make_arena):
    eng = make_arena(capacity="2MiB", buckets=64)
    pool = eng.new_pool("p", persistent=True)
    n = 0
    while pool.put_object((n, 0, 0), mixed(n, 3000), ttl=100 if n % 2 else None):
        n += 1
    room = n
    eng.set_clock_ahead(200)
    for n in range(room * 4 // 10):
        assert pool.put_object((n, 0, 2), mixed(n, 3000)), f"refused after {n} of {room}"
    assert counted(eng)["puts_refused"] == 1
    pool.clear()
    assert pool.put_range((1, 1, 1), 0, mixed(1, 1 << 20))
    assert eng.check().ok


def test_a_cap_is_kept_by_what_has_expired(make_arena):
    eng = make_arena(capacity="8MiB", buckets=64)
    for name, options in (("pages", {"cap": 100}), ("bytes", {"cap": "500KB"})):
        pool = eng.new_pool(name, **options)
        lasting = fill(pool, 100, ttl=100)
        assert counted(eng, name)["evicted"] == 0
        eng.set_clock_ahead(200)
        for n in range(45):
            assert pool.put_object((n, 0, 2), mixed(n, 3000))
        assert counted(eng, name)["evicted"] == 0 and all(pool.has(oid) for oid in lasting)
        eng.set_clock_ahead(0)
    assert eng.check().ok


def test_a_smaller_arena_lets_them_go_first(make_arena):
    eng = make_arena(capacity="16MiB", buckets=64)
    pool = eng.new_pool("p")
    lasting = fill(pool, 3600, ttl=100)
    assert counted(eng)["evicted"] == 0
    eng.set_clock_ahead(200)
    eng.resize("6MiB")
    assert counted(eng)["evicted"] == 0 and all(pool.has(oid) for oid in lasting)
    assert counted(eng)["expired"] == 1800
    assert eng.check().ok


def test_tending_takes_out_what_has_expired(make_arena):
    eng = make_arena(capacity="8MiB", buckets=4)
    pool, other = eng.new_pool("p"), eng.new_pool("other", persistent=True)
    for n in range(400):
        assert pool.put_object((n, 0, 0), text(n, 100), ttl=100 if n % 4 else 1000)
        assert other.put_object((n, 0, 0), text(n, 100), ttl=100)
    assert eng.tend().buried == 0
    eng.set_clock_ahead(200)
    assert eng.tend().buried == 700 and eng.tend().buried == 0
    assert pool.obj_count == 100 and other.obj_count == 0
    assert counted(eng)["expired"] == 300 and counted(eng, "other")["expired"] == 400
    pool.touch((0, 0, 0), None)
    eng.set_clock_ahead(2000)
    assert eng.tend().buried == 99 and pool.has((0, 0, 0))
    assert eng.check().ok


def test_a_put_over_what_has_expired_counts_it(make_arena):
    eng = make_arena(capacity="1MiB")
    pool = eng.new_pool("p")
    assert pool.put_object((1, 0, 0), b"x", ttl=5)
    eng.set_clock_ahead(10)
    assert pool.put_object((1, 0, 0), b"y") and counted(eng)["expired"] == 1 and pool.obj_count == 1


def test_an_object_of_many_pages_is_buried_at_once_and_given_back_by_and_by(make_arena):
    eng = make_arena(capacity="64MiB", page_size=512)
    pool = eng.new_pool("p", persistent=True)
    for first in range(0, 60_000, 10_000):
        assert pool.put_range((1, 1, 1), first, mixed(first, 512 * 10_000))
    assert pool.touch((1, 1, 1), 100)
    eng.set_clock_ahead(200)
    assert pool.get((1, 1, 1), 5) is None
    assert eng.tend().buried == 1 and counted(eng)["pages"] == 0
    assert eng.check().ok


def test_sweeps_of_workers_that_are_killed_lose_nothing(make_arena):
    eng = make_arena(capacity="4MiB", buckets=4)
    pool = eng.new_pool("p")
    point = 1
    while True:
        for n in range(40):
            assert pool.put_object((n, 0, 0), text(n, 100), ttl=1000 if n % 3 else 100)
        pid = fork(_die_in, eng, point)
        _, status = os.waitpid(pid, 0)
        eng.recover()
        assert eng.check(frozen=True).ok
        eng.set_clock_ahead(200)
        eng.tend()
        assert pool.obj_count == 26
        assert not any(pool.has((n, 0, 0)) for n in range(0, 40, 3))
        eng.set_clock_ahead(2000)
        eng.tend()
        assert pool.obj_count == 0
        eng.set_clock_ahead(0)
        if not os.WIFSIGNALED(status):
            break
        point = point * 5 // 4 + 1


def _die_in(eng, point):
    eng.set_clock_ahead(200)
    eng.set_kill_point(point)
    eng.tend()


def cas(cache):
    version = cache.get("k", with_version=True)[1]
    return cache.cas("k", 2, version if version is not None else 1)


LATE_IN_A_CACHE = {
    "touch": lambda cache: cache.touch("k", 1000),
    "replace": lambda cache: cache.replace("k", 2),
    "cas": cas,
}


@pytest.mark.parametrize("stale", [0, 1000])
@pytest.mark.parametrize("what", LATE_IN_A_CACHE)
def test_what_others_have_missed_in_a_cache_does_not_come_back(make_arena, what, stale):
    """Nor does what has time beyond its own (`stale`)."""
    eng = make_arena(capacity="1MiB")
    cache = eng.cache("c", persistent=True)
    for point in range(1, 5):
        assert cache.get_or_compute("k", lambda: 1, 0.05, stale=stale) == 1
        with Stopped(eng.name, lambda mine: LATE_IN_A_CACHE[what](mine.cache("c")), point) as other:
            if not other.stopped:
                break
            while cache.has("k"):
                pass
            assert other.go_on() == 0
            assert not cache.has("k"), point
        cache.delete("k")
    assert eng.check().ok


LATE = {
    "touch": lambda pool, version: pool.touch(OID, 1000),
    "put": lambda pool, version: pool.put_object(OID, b"another1", if_version=version),
    "put-dated": lambda pool, version: pool.put_object(OID, b"another1", if_version=version, ttl=1000),
    "put-long": lambda pool, version: pool.put_object(OID, b"another" * 9999, if_version=version, ttl=1000),
}
OID = (1, 2, 3)


@pytest.mark.parametrize("what", LATE)
def test_what_others_have_seen_gone_does_not_come_back(make_arena, what):
    """Somebody begins while a value lives, and stands still until its time is over."""
    eng = make_arena(capacity="1MiB")
    pool = eng.new_pool("p", persistent=True)
    for point in range(1, 5):       # nobody holds the lock of the bucket yet
        assert pool.put_object(OID, b"12345678", ttl=0.05)
        version = pool.get_object(OID, info=True)[1].version
        with Stopped(eng.name, lambda mine, version=version: LATE[what](mine.pool("p"), version), point) as other:
            if not other.stopped:
                break
            while pool.has(OID):
                pass
            assert other.go_on() == 0
            assert not pool.has(OID), point
    assert eng.check().ok


def test_the_clock_is_one_for_all_processes(make_arena):
    eng = make_arena(capacity="1MiB")
    pool = eng.new_pool("p")
    assert pool.put_object((1, 0, 0), b"x", ttl=1000)
    other = engine.attach(eng.name)
    assert 990 < other.pool("p").expires((1, 0, 0)) <= 1000
    other.close()

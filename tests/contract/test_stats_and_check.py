"""Owns the contract of stats() and check(): keys, what is counted when, gauges, counts of what was
seen."""
import os
import signal

import pytest

import engine
from tests.contract.test_checks_that_give_way import ended, until
from tests.stopped import Stopped, fork
from tests.support import KINDS, DictPam, page

OID = (1, 2, 3)
COUNTERS = (
    "puts_ok",
    "puts_refused",
    "puts_duplicate",
    "gets_hit",
    "gets_miss",
    "flushes",
    "objects",
    "objnodes",
    "pages",
    "bytes_asked",
    "bytes_used",
    "bytes_stored",
)
TOTAL = (*COUNTERS, "lock_waits", "recoveries")
ARENA = ("name", "capacity", "page_size", "buckets", "workers", "segments_used", "segments_total", "bytes_backed")


def counted(eng, **expected):
    """The counters of pool "p" that are not zero are exactly these."""
    counters = eng.stats()["pools"]["p"]
    assert {key: value for key, value in counters.items() if value and not key.startswith("bytes")} == expected


def test_keys_and_types(eng):
    eng.new_pool("p")
    eng.new_pool("q")
    stats = eng.stats()
    assert set(stats) == {"total", "pools", "arena", "workers"} and set(stats["pools"]) == {"p", "q"}
    assert (
        set(COUNTERS) <= set(stats["pools"]["p"])
        and set(TOTAL) <= set(stats["total"])
        and set(ARENA) <= set(stats["arena"])
    )
    assert all(
        type(value) is int for counters in (*stats["pools"].values(), stats["total"]) for value in counters.values()
    )
    assert all(type(stats["arena"][key]) is int for key in ARENA if key != "name")
    assert not any(stats["total"].values()) and not any(stats["pools"]["p"].values())


def test_the_arena(eng):
    arena = eng.stats()["arena"]
    assert (arena["name"], arena["capacity"], arena["page_size"], arena["buckets"]) == (
        eng.name, eng.capacity, eng.page_size, eng.buckets)
    assert arena["workers"] == 1 and 0 <= arena["segments_used"] <= arena["segments_total"]
    with engine.attach(eng.name):
        assert eng.stats()["arena"]["workers"] == 2


def test_the_workers(eng):
    mine, = eng.stats()["workers"]
    assert (mine["worker"], mine["pid"], mine["holds"], mine["in_call"]) == (eng.worker_id, os.getpid(), [], False)
    assert mine["lock_waits"] == mine["recoveries"] == mine["pinned_bytes"] == 0


def test_a_worker_that_is_stopped_tells_what_it_holds(eng):
    eng.new_pool("p")
    told, point = set(), 0
    while (True, "bucket") not in told:
        point += 1
        with Stopped(eng.name, lambda other: other.pool("p").put(OID, 0, page(1)), point) as stopped:
            assert stopped.stopped
            theirs = {one["pid"]: one for one in eng.stats()["workers"]}[stopped.pid]
            told.add((theirs["in_call"], *theirs["holds"]))
        eng.recover()


def test_a_worker_says_which_lock_it_sleeps_for(eng):
    """Beside one that is stopped with it. Where that one has only said that it is about to take a
    lock, the other puts."""
    pool, point, sleeps = eng.new_pool("p"), 0, False

    def put(other):
        assert other.pool("p").put(OID, 0, page(1))

    def sleeps_or_has_put():
        nonlocal sleeps, waiter
        told = {one["pid"]: one for one in eng.stats()["workers"]}
        sleeps = waiter in told and told[waiter]["waits_for"] in told[stopped.pid]["holds"]
        if not sleeps and os.waitpid(waiter, os.WNOHANG) != (0, 0):
            waiter = 0
        return sleeps or waiter == 0

    while not sleeps:
        point += 1
        with Stopped(eng.name, put, point) as stopped:
            assert stopped.stopped
            waiter = fork(lambda: put(engine.attach(eng.name)))
            until(sleeps_or_has_put)
        eng.recover()
    assert ended(waiter) == 0
    assert all(one["waits_for"] is None for one in eng.stats()["workers"]) and pool.get(OID, 0) == page(1)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_counted_when(eng, kind):
    pool = eng.new_pool("p", **KINDS[kind])
    counted(eng)
    pool.put(OID, 0, b"x")
    counted(eng, puts_ok=1, objects=1, pages=1)
    pool.put(OID, 0, b"y")
    counted(eng, puts_ok=2, puts_duplicate=1, objects=1, pages=1)
    pool.put(OID, 64, b"z")
    counted(eng, puts_ok=3, puts_duplicate=1, objects=1, pages=2, objnodes=3)
    pool.get(OID, 0, free=False)
    pool.get_into(OID, 0, bytearray(512), free=False)
    counted(eng, puts_ok=3, puts_duplicate=1, gets_hit=2, objects=1, pages=2, objnodes=3)
    pool.get(OID, 1)
    pool.get_into((9, 9, 9), 1, bytearray(512))
    counted(eng, puts_ok=3, puts_duplicate=1, gets_hit=2, gets_miss=2, objects=1, pages=2, objnodes=3)
    pool.get(OID, 64, free=True)
    counted(eng, puts_ok=3, puts_duplicate=1, gets_hit=3, gets_miss=2, objects=1, pages=1)
    pool.flush_page(OID, 1)
    pool.flush_object((9, 9, 9))
    counted(eng, puts_ok=3, puts_duplicate=1, gets_hit=3, gets_miss=2, objects=1, pages=1)
    pool.flush_page(OID, 0)
    counted(eng, puts_ok=3, puts_duplicate=1, gets_hit=3, gets_miss=2, flushes=1)
    pool.put(OID, 7, b"x")
    pool.flush_object(OID)
    counted(eng, puts_ok=4, puts_duplicate=1, gets_hit=3, gets_miss=2, flushes=2)


def test_bytes(eng):
    pool = eng.new_pool("p", persistent=True)
    lengths = [1, 64, 65, 500, 512]
    for n, length in enumerate(lengths):
        pool.put(OID, n, page(n, length))
    counters = eng.stats()["pools"]["p"]
    assert counters["bytes_asked"] == sum(lengths)
    assert sum(lengths) <= counters["bytes_used"] <= sum(lengths) + 128 * len(lengths)
    pool.put(OID, 3, b"short")
    assert eng.stats()["pools"]["p"]["bytes_asked"] == sum(lengths) - 500 + 5
    pool.flush_object(OID)
    counters = eng.stats()["pools"]["p"]
    assert (counters["bytes_asked"], counters["bytes_used"], counters["bytes_stored"]) == (0, 0, 0)


def test_bytes_stored(eng):
    """As they lie in the arena: pages as they are by their length, same-filled ones by their word,
    foreign ones not at all."""
    engine.register_pam("dict", DictPam)
    for name, kwargs, stored in (
        ("kept", dict(persistent=True), 512 + 100 + 8), ("eph", {}, 512 + 8 + 8), ("dict", dict(pam="dict"), 0),
    ):
        pool = eng.new_pool(name, **kwargs)
        for n, data in enumerate((bytes(range(256)) * 2, b"ab" * 50, b"abcdefgh")):
            assert pool.put(OID, n, data)
        counters = eng.stats()["pools"][name]
        assert (counters["bytes_stored"], counters["bytes_asked"]) == (stored, 512 + 100 + 8)
        assert pool.put(OID, 0, b"short") and pool.flush_page(OID, 1)
        assert eng.stats()["pools"][name]["bytes_stored"] == (5 + 8 if name != "dict" else 0) and eng.check().ok
        assert pool.flush_object(OID) and eng.stats()["pools"][name]["bytes_stored"] == 0


def test_a_total_is_the_sum_over_pools_and_workers(eng):
    with engine.attach(eng.name) as other:
        for n, kind in enumerate(KINDS):
            pool = eng.new_pool(kind, **KINDS[kind])
            for index in range(n + 1):
                pool.put(OID, index, page(index))
                other.pool(kind).put((4, 4, 4), index, page(index))
                other.pool(kind).get(OID, index, free=False)
        stats = eng.stats()
        assert stats["pools"] == other.stats()["pools"]
        for key in COUNTERS:
            assert stats["total"][key] == sum(counters[key] for counters in stats["pools"].values())
        assert stats["total"]["puts_ok"] == 20 and stats["total"]["gets_hit"] == 10
    assert eng.stats()["total"]["puts_ok"] == 20, "what a worker counted outlives it"


def test_other_workers_take_pages_that_one_put(eng):
    """Gauges are differences of what several workers counted."""
    pool = eng.new_pool("p", persistent=True)
    with engine.attach(eng.name) as other:
        for n in range(100):
            pool.put((n, 0, 0), n, page(n))
        for n in range(100):
            other.pool("p").get((n, 0, 0), n, free=True)
        counted(eng, puts_ok=100, gets_hit=100)
        assert other.stats()["pools"] == eng.stats()["pools"]


def test_a_sound_arena(eng):
    report = eng.check()
    assert report.ok is True and report.problems == [] and report.counts["pools"] == 0
    for kind in KINDS:
        pool = eng.new_pool(kind, **KINDS[kind])
        for n in range(100):
            pool.put((n % 5, 0, 0), n * 50, page(n))
    report = eng.check()
    total = eng.stats()["total"]
    assert report.ok
    assert {key: report.counts[key] for key in ("pools", "objects", "objnodes", "pages", "workers")} == dict(
        pools=4, objects=20, objnodes=total["objnodes"], pages=400, workers=1)
    with engine.attach(eng.name) as other:
        assert other.check().counts["workers"] == 2
    pool.destroy()
    report = eng.check()
    assert report.ok and (report.counts["pools"], report.counts["pages"]) == (3, 300)


def test_a_check_changes_nothing(eng):
    pool = eng.new_pool("p")
    for n in range(50):
        pool.put(OID, n, page(n))
    before = eng.stats()
    for _ in range(3):
        assert eng.check().ok
    assert eng.stats() == before and [pool.get(OID, n) for n in range(50)] == [page(n) for n in range(50)]


def test_recover_of_nobody(eng):
    assert eng.recover() == 0
    with engine.attach(eng.name):
        assert eng.recover() == 0
    assert eng.stats()["total"]["recoveries"] == 0


def test_workers_are_those_that_live(eng):
    """Nobody has to recover the dead for them not to be counted."""
    there, here = os.pipe()
    children = []
    for _ in range(3):
        children.append(os.fork())
        if children[-1] == 0:
            try:
                eng.stats()
                os.write(here, b"x")
                signal.pause()
            finally:
                os._exit(1)
    for _ in children:
        os.read(there, 1)
    assert eng.stats()["arena"]["workers"] == 4
    for child in children:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    assert eng.stats()["arena"]["workers"] == 1
    os.close(there), os.close(here)

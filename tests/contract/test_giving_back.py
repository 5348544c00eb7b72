"""Owns memory that lies free and goes back to the system without a resize: when, how much, and that
nobody notices but by the memory; and the rounds of Engine.tend."""
import contextlib
import math
import random
import threading
import time

import pytest

import engine
from engine.capacity import giving
from engine.capacity.tide import BEGIN_MIN, RESERVE_MIN, WINDOW_NS, Tide
from tests.stopped import Stopped
from tests.support import SHM

S = 1_000_000_000
FULL = 64                   # segments of an arena of 4 MiB


def backed(eng):
    return eng.stats()["arena"]["bytes_backed"]


def page(n):
    return random.Random(n).randbytes(4000)


def filled(eng, pages=900):
    pool = eng.new_pool(f"p{len(eng.pools())}", persistent=True)
    for n in range(pages):
        assert pool.put((n >> 5, 0, 0), n & 31, page(n))
    return pool


def flush(pool, objects):
    for n in objects:
        pool.flush_object((n, 0, 0))


# --- when -----------------------------------------------------------------------------------------


def test_what_is_beyond_the_reserve_goes_when_nothing_else_was_seen():
    assert Tide().look(0, 0, FULL, FULL, 100 * S) == FULL - RESERVE_MIN
    assert Tide().look(0, 0, RESERVE_MIN + BEGIN_MIN - 1, FULL, 100 * S) == 0
    assert Tide().look(0, 0, 6000, 8192, 100 * S) == 6000 - 1024
    assert Tide().look(0, 0, 1024 + 511, 8192, 100 * S) == 0


def test_what_was_in_use_lately_stays():
    tide = Tide()
    assert tide.look(50, 60, FULL, FULL, 100 * S) == 0
    assert tide.look(0, 10, FULL, FULL, 101 * S) == 0
    assert tide.look(0, 0, FULL, FULL, 100 * S + WINDOW_NS) == 0
    assert tide.look(0, 0, FULL, FULL, 100 * S + 2 * WINDOW_NS) == FULL - RESERVE_MIN


def test_a_pool_that_was_destroyed_is_not_waited_for():
    tide = Tide()
    assert tide.look(50, 60, FULL, FULL, 100 * S) == 0
    assert tide.look(10, 60, FULL, FULL, 101 * S, True) == FULL - 10 - RESERVE_MIN


def test_who_was_wrong_waits_for_longer_and_forgets_it_in_the_end():
    tide = Tide()
    count = tide.look(0, 60, FULL, FULL, 100 * S, True)
    tide.gave(count, FULL - count, 100 * S)
    assert tide.look(0, 60, FULL, FULL, 101 * S, True) == 0         # all of it has come back
    assert tide.look(0, 0, FULL, FULL, 101 * S + 2 * WINDOW_NS, False) == 0
    assert tide.look(0, 0, FULL, FULL, 101 * S + 6 * WINDOW_NS, False) == count
    assert tide.look(0, 60, FULL, FULL, 101 * S + 17 * WINDOW_NS, True) == count


def test_a_try_in_vain_is_not_made_again_at_once():
    tide = Tide()
    tide.gave(0, FULL, 100 * S)
    assert tide.look(0, 0, FULL, FULL, 100 * S + S // 2) == 0 < tide.look(0, 0, FULL, FULL, 102 * S)
    tide.gave(0, FULL, 102 * S)
    assert tide.look(0, 0, FULL, FULL, 103 * S) == 0 < tide.look(0, 0, FULL, FULL, 105 * S)


# --- what happens ---------------------------------------------------------------------------------


@pytest.mark.parametrize("capacity", ["4MiB", "64MiB"])
def test_an_arena_of_which_every_pool_is_destroyed_gives_its_memory_back(make_arena, capacity):
    eng = make_arena(capacity=capacity, page_size=4096)
    empty = backed(eng)
    size = eng.capacity
    for again in range(2):
        pool = filled(eng, size // 4800)
        full = backed(eng)
        assert full - empty > .8 * size
        pool.destroy()
        if again == 0:
            assert backed(eng) - empty < size // 4
            with engine.attach(eng.name) as other:
                assert other.check().ok
    assert backed(eng) == pytest.approx(full, rel=.1)      # it came back soon: that is waited for


def test_pages_come_and_go_and_memory_stays_as_long_as_it_is_wanted(make_arena):
    eng = make_arena(capacity="4MiB", page_size=4096)
    pool = filled(eng)
    full = backed(eng)
    flush(pool, range(29))
    assert backed(eng) == full and pool.obj_count == 0
    assert eng.tend().given == 0        # this worker knows what was in use
    with engine.attach(eng.name) as other:
        assert 40 < other.tend().given < FULL - RESERVE_MIN
        assert other.tend().given == 0
    assert backed(eng) < full // 2
    for n in range(900):
        assert pool.put((n >> 5, 0, 0), n & 31, page(n))
    assert all(pool.get((n >> 5, 0, 0), n & 31) == page(n) for n in range(900)) and eng.check().ok


@pytest.mark.parametrize("how", ["get", "batch", "range", "page", "object"])
def test_whoever_frees_gives_back(make_arena, monkeypatch, how):
    class Eager(Tide):
        def look(self, used, most, backed, limit, now, gone):
            return max(0, backed - used - 8)

    monkeypatch.setattr(giving, "Tide", Eager)
    eng = make_arena(capacity="4MiB", page_size=4096)
    pool = eng.new_pool("p", shared=False)
    for n in range(800):
        assert pool.put((n >> 5, 0, 0), n & 31, page(n))
    full = backed(eng)
    for n in range(0, 800, 32):
        places = [((n >> 5, 0, 0), i) for i in range(32)]
        if how == "get":
            assert [pool.get(*place) for place in places] == [page(n + i) for i in range(32)]
        elif how == "batch":
            assert pool.get_many(places) == [page(n + i) for i in range(32)]
        elif how == "range":
            assert pool.get_range((n >> 5, 0, 0), 0, 32) == b"".join(page(n + i) for i in range(32))
        elif how == "page":
            assert all(pool.flush_page(*place) for place in places)
        else:
            assert pool.flush_object((n >> 5, 0, 0))
    assert backed(eng) < full // 2 and eng.check().ok


def test_who_is_in_a_call_for_long_may_be_reading_and_nothing_goes(make_arena):
    eng = make_arena(capacity="4MiB", page_size=4096)
    pool = filled(eng)
    with Stopped(eng.name, lambda mine: mine.pool("p0").put((1000, 0, 0), 0, b"x"), 3) as reader:
        assert reader.stopped
        full = backed(eng)
        began = time.monotonic()
        pool.destroy()
        assert time.monotonic() - began < 5 and backed(eng) == full
        pool = filled(eng)                                  # and it is there for whoever puts
        pool.destroy()
        assert reader.go_on() in (0, 1)
    with engine.attach(eng.name) as other:
        assert other.tend().given > 0 and other.check().ok


def test_one_call_gives_a_step_and_a_destroy_all_of_it(make_arena, monkeypatch):
    monkeypatch.setattr(giving, "STEP", 5)
    eng = make_arena(capacity="4MiB", page_size=4096)
    pool = filled(eng)
    flush(pool, range(29))
    with engine.attach(eng.name) as other:
        assert other.tend().given == 5
    pool.destroy()
    assert eng.stats()["arena"]["bytes_backed"] < 2 << 20 and eng.check().ok


def test_an_engine_may_be_closed_while_another_of_its_threads_gives_back(make_arena):
    eng = make_arena(capacity="4MiB", page_size=4096)
    for _ in range(5):
        mine = engine.attach(eng.name)
        pool = mine.new_pool("mine", persistent=True)
        for n in range(900):
            assert pool.put((n, 0, 0), 0, page(n))
        ready = threading.Event()

        def destroy(pool=pool, ready=ready):
            ready.set()
            with contextlib.suppress(engine.TmemError):
                pool.destroy()
        thread = threading.Thread(target=destroy)
        thread.start()
        ready.wait()
        time.sleep(.004)
        mine.close()
        thread.join()
    assert eng.check().ok


# --- tending --------------------------------------------------------------------------------------


def test_a_round_with_nothing_to_do_is_idle(make_arena):
    eng = make_arena(capacity="2MiB", page_size=4096)
    assert eng.tend() == engine.Tended(rounds=1) and eng.tend().idle
    assert eng.tend(0) == engine.Tended(rounds=1)
    assert eng.tend(.25).rounds in (2, 3)


@pytest.mark.parametrize(
    ("wrong", "error"), [("1", TypeError), (True, TypeError), (-1, ValueError), (math.nan, ValueError)]
)
def test_what_seconds_may_be(make_arena, wrong, error):
    with pytest.raises(error, match="seconds"):
        make_arena(capacity="2MiB", page_size=4096).tend(wrong)


def test_the_dead_are_settled(make_arena):
    eng = make_arena(capacity="2MiB", page_size=4096)
    filled(eng, 20)
    with Stopped(eng.name, lambda mine: mine.pool("p0").put((1000, 0, 0), 0, b"x"), 3) as victim:
        assert victim.kill() == -9
    assert eng.tend() == engine.Tended(rounds=1, dead=1)


def test_a_segment_is_kept_free_by_moving(make_arena):
    eng = make_arena(capacity="2MiB", page_size=4096)
    pool = eng.new_pool("p", persistent=True)
    n = 0
    while pool.put((n >> 5, 0, 0), n & 31, page(n)):
        n += 1
    gone = [i for i in range(n) if i % 3]
    for i in gone:
        pool.flush_page((i >> 5, 0, 0), i & 31)
    arena = eng.stats()["arena"]
    assert arena["segments_used"] == arena["segments_total"]
    assert eng.tend().merged == 1 and eng.tend().merged == 0
    assert eng.stats()["arena"]["segments_used"] == arena["segments_total"] - 1
    assert all(pool.get((i >> 5, 0, 0), i & 31) == page(i) for i in range(0, n, 3)) and eng.check().ok


def test_holes_that_a_killed_worker_has_left_are_given_back(make_arena):
    eng = make_arena(capacity="4MiB", page_size=4096)
    pool = filled(eng)
    flush(pool, range(29))
    full = (SHM / eng.name).stat().st_blocks
    with Stopped(eng.name, lambda mine: mine.tend(), 200) as victim:
        assert victim.stopped and victim.kill() == -9
    assert (SHM / eng.name).stat().st_blocks >= full
    done = eng.tend()
    assert done.dead == 1 and 5 < done.given < 40 and (SHM / eng.name).stat().st_blocks < full
    assert eng.check().ok

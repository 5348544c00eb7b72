"""Owns what holds of the chunks of short pages, which may be neighbours in one cache line: they are
told apart, viewed, moved, repaired and counted as any other, and cost what they are to.
"""
import random

import pytest

import engine

MANY = 40_000          # of one length, in an arena of 64 MiB: more than four segments of the coarser class


def fill(pool, lengths, count=MANY, first=0):
    rnd = random.Random(len(lengths))
    kept = {}
    for n in range(first, first + count):
        kept[n] = rnd.randbytes(lengths[n % len(lengths)])
        assert pool.put_object((n, 0, 0), kept[n])
    return kept


def same(pool, kept):
    return all(pool.get_object((n, 0, 0)) == data for n, data in kept.items())


@pytest.mark.parametrize("length", [1, 16, 40, 100, 200])
def test_a_short_value_costs_its_bytes_and_150_at_most(make_arena, length):
    eng = make_arena(capacity="128MiB")
    pool = eng.new_pool("p")
    fill(pool, [length], 100_000)
    before = eng.stats()["arena"]["bytes_in_segments"]
    fill(pool, [length], 100_000, 100_000)
    cost = (eng.stats()["arena"]["bytes_in_segments"] - before) / 100_000
    # The tables of an arena take 1/256 of its segments beside.
    assert cost * (1 + 1 / 256) <= length + 150, cost
    assert eng.stats()["total"]["evicted"] == 0


def test_few_short_pages_take_few_segments(make_arena):
    eng = make_arena(capacity="64MiB")
    fill(eng.new_pool("p"), range(1, 257), 2000)
    # One for each of four classes, one for what describes them, and one for what is at hand.
    assert eng.stats()["arena"]["segments_used"] <= 6


@pytest.mark.parametrize("persistent", [False, True])
def test_they_are_moved_and_repaired(make_arena, persistent):
    eng = make_arena(capacity="64MiB", huge_pages=False)
    pool = eng.new_pool("p", persistent=persistent)
    kept = fill(pool, [8, 16, 17, 30, 33, 48, 60])
    rnd = random.Random(3)
    for n in rnd.sample(list(kept), MANY * 3 // 4):
        assert pool.flush_object((n, 0, 0))
        del kept[n]
    assert eng.resize("8MiB") and eng.check().ok and same(pool, kept)
    assert eng.check(repair=True).ok and eng.check().ok and same(pool, kept)


def test_a_view_keeps_its_own_chunk_and_not_its_neighbours(make_arena):
    eng = make_arena(capacity="64MiB")
    pool = eng.new_pool("p")
    kept = fill(pool, [16], MANY)
    chosen = range(MANY - 400, MANY)
    views = {n: pool.view((n, 0, 0), 0) for n in chosen if n % 4 == 0}
    seen = {n: view.__enter__() for n, view in views.items()}
    for n in chosen:
        assert pool.put_object((n, 0, 0), b"other %10d" % n) and pool.flush_object((n, 0, 0))
    fill(pool, [16], 2000, MANY)                      # takes the chunks that are free again
    report = eng.check()
    assert report.ok and report.counts["pins"] == report.counts["limbo"] == len(views)
    assert all(seen[n] == kept[n] for n in views)
    assert eng.check(repair=True).ok and all(seen[n] == kept[n] for n in views)
    seen.clear()
    for view in views.values():
        view.__exit__(None, None, None)
    eng.tend()
    assert eng.check().ok


def test_counts_that_share_a_line_are_counted_each(arena_name):
    with engine.create(arena_name, "64MiB") as eng:
        pool = eng.new_pool("p")
        for n in range(MANY):
            assert pool.incr((n, 0, 0), n) == n
        for n in range(0, MANY, 3):
            assert pool.incr((n, 0, 0), -1) == n - 1
        assert all(pool.incr((n, 0, 0), 0) == n - (n % 3 == 0) for n in range(MANY))
        assert eng.check().ok
    engine.unlink(arena_name)

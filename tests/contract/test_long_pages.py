"""Owns the contract of pages longer than 64 KiB: every verb at the borders of chunks, granules and
segments, what they take, and what becomes of them when memory is short."""
import os
import pickle
import random

import pytest

import engine
from engine.eviction.policies import POLICIES
from tests.stopped import fork
from tests.support import mixed

KIB, MIB = 1 << 10, 1 << 20
OID = (1, 2, 3)
# (capacity, bytes of a segment): a granule is a 64th of it.
SIZES = {"small": (16 * MIB, 64 * KIB), "large": (64 * MIB, 256 * KIB)}
NOISE = random.Random(1).randbytes(8 * MIB)


def page(n, length):
    """A page that names n, and is not one word over and over."""
    return (b"%d/" % n + NOISE[n * 64:n * 64 + length])[:length]


def borders(segment):
    granule = segment // 64
    about = {granule, 64 * KIB, 64 * KIB + granule, segment, 2 * segment, 5 * segment}
    return sorted({1} | {length + more for length in about for more in (-1, 0, 1)})


def sound(eng, **counts):
    report = eng.check()
    assert report.ok, [str(problem) for problem in report.problems[:5]]
    assert {name: report.counts[name] for name in counts} == counts


def put_all(pool, lengths, seed=0):
    """Put pages of these lengths, each under its number: what is under each handle."""
    pages = [page(seed + n, length) for n, length in enumerate(lengths)]
    for n, data in enumerate(pages):
        assert pool.put(OID, n, data), (n, len(data))
    return pages


@pytest.fixture(params=sorted(SIZES))
def sized(request, make_arena):
    """(engine, bytes of a segment) of an arena with short or long segments."""
    capacity, segment = SIZES[request.param]
    eng = make_arena(capacity=capacity, page_size=4 * KIB, max_pinned="12MiB")
    assert capacity // eng.stats()["arena"]["segments_total"] == segment
    return eng, segment


@pytest.mark.parametrize("persistent", [False, True])
def test_every_verb_at_every_border(sized, persistent):
    eng, segment = sized
    pool = eng.new_pool("p", persistent=persistent, page_size="4MiB")
    assert pool.page_size == eng.pool("p").page_size == 4 * MIB and eng.page_size == 4 * KIB
    lengths = borders(segment)
    pages = put_all(pool, lengths)
    with engine.attach(eng.name) as other:
        theirs = other.pool("p")
        for n, data in enumerate(pages):
            buffer = bytearray(len(data) + 1)
            assert pool.get(OID, n) == theirs.get(OID, n) == data
            assert theirs.get_into(OID, n, buffer) == len(data) and buffer == data + b"\0"
            if len(data) > 1:
                with pytest.raises(ValueError, match="buffer"):
                    pool.get_into(OID, n, bytearray(len(data) - 1))
            with theirs.view(OID, n) as seen:
                assert seen == data and seen.contiguous and seen.readonly and len(seen) == len(data)
        # Over it, by the other: as long, longer, shorter.
        for n, more in enumerate(random.Random(2).choices([-1, 0, 1, segment, -segment], k=len(pages))):
            pages[n] = page(100 + n, max(1, min(len(pages[n]) + more, 4 * MIB)))
            assert theirs.put(OID, n, memoryview(pages[n])) and pool.get(OID, n) == pages[n]
        sound(eng, pages=len(pages), pins=0, limbo=0)
    several = random.Random(3).sample(range(len(pages)), 7)
    assert pool.get_many([(OID, n) for n in several]) == [pages[n] for n in several]
    assert pool.put_many([(OID, n) for n in several], [pages[n][::-1] for n in several]) == [True] * 7
    for n in several:
        pages[n] = pages[n][::-1]
    taken, *rest = several
    assert pool.get(OID, taken, free=True) == pages[taken] and pool.get(OID, taken) is None
    for n in rest:
        assert pool.flush_page(OID, n) and not pool.flush_page(OID, n)
    assert all(pool.get(OID, n) == data for n, data in enumerate(pages) if n not in several)
    sound(eng, pages=len(pages) - 7)
    stats = eng.stats()["pools"]["p"]
    assert stats["bytes_asked"] == sum(len(data) for n, data in enumerate(pages) if n not in several)
    assert pool.flush_object(OID)
    sound(eng, pages=0)
    assert eng.stats()["total"]["bytes_used"] == 0


def test_a_length_out_of_bounds_is_named(make_arena):
    eng = make_arena(page_size=4 * KIB)
    pool = eng.new_pool("p", page_size="100KiB")
    with pytest.raises(ValueError, match="data: 0 to 102400 bytes"):
        pool.put(OID, 0, bytes(100 * KIB + 1))
    with pytest.raises(ValueError, match=r"pages\[1\]: 0 to 102400"):
        pool.put_many([(OID, 0), (OID, 1)], [b"x", bytes(100 * KIB + 1)])
    for length in (0, 100 * KIB + 1):
        with pytest.raises(ValueError, match="length: 1 to 102400"):
            pool.writing(OID, 0, length)
    for wrong in (511, "256", (1 << 30) + 1, "2GiB", 0, -1):
        with pytest.raises(ValueError, match="page_size"):
            eng.new_pool("q", page_size=wrong)
    for wrong in (1.5, b"1MiB", [1]):
        with pytest.raises(TypeError, match="page_size"):
            eng.new_pool("q", page_size=wrong)
    assert eng.new_pool("q", page_size="1GiB").page_size == 1 << 30 and eng.new_pool("r").page_size == 4 * KIB


def test_ranges_of_long_pages(sized):
    eng, segment = sized
    for n, size in enumerate((64 * KIB + 1, segment, 3 * segment + 1)):
        pool = eng.new_pool(f"p{n}", page_size=size)
        for length in (1, size - 1, size, size + 1, 3 * size, 4 * size - 1):
            data = page(n, length)
            count = -(-length // size)
            assert pool.put_range(OID, 10, data) and pool.get_range(OID, 10, count) == data
            buffer = bytearray(length)
            assert pool.get_range_into(OID, 10, count, buffer) == length and buffer == data
            with pool.view(OID, 10, count) as pages:
                assert b"".join(pages) == data and [len(one) for one in pages[:-1]] == [size] * (count - 1)
            assert pool.get_range(OID, 10, count, free=True) == data and pool.get_range(OID, 10, count) is None
    sound(eng, pages=0)


def test_a_view_is_one_piece_that_arrays_can_be_made_of(sized):
    np = pytest.importorskip("numpy")
    eng, segment = sized
    pool = eng.new_pool("p", page_size="4MiB")
    numbers = np.arange(5 * segment // 8 + 1)
    assert pool.put(OID, 0, numbers)
    with pool.view(OID, 0) as seen:
        found = np.frombuffer(seen, numbers.dtype)
        assert found.ctypes.data % 64 == 0 and (found == numbers).all() and not found.flags.writeable
        assert eng.stats()["arena"]["pinned_bytes"] >= numbers.nbytes
        assert pool.put(OID, 0, b"another") and pool.flush_page(OID, 0) and pool.put(OID, 0, page(1, 3 * MIB))
        assert (found == numbers).all()
        sound(eng, pins=1, limbo=1)
        del found
    sound(eng, pins=0, limbo=0)


def test_too_much_pinned(make_arena):
    eng = make_arena(capacity="16MiB", page_size=4 * KIB, max_pinned="1MiB")
    pool = eng.new_pool("p", persistent=True, page_size="2MiB")
    pages = put_all(pool, [700 * KIB, 700 * KIB, 1100 * KIB])
    with pool.view(OID, 0) as seen:
        for n in (1, 2):
            with pytest.raises(engine.TooMuchPinned):
                pool.view(OID, n)
        assert seen == pages[0]
    with pool.view(OID, 1) as seen:
        assert seen == pages[1]
    assert eng.stats()["arena"]["pinned_bytes"] == 0


@pytest.mark.parametrize("pam", ["lz4", "zstd"])
def test_compressed(sized, pam):
    eng, segment = sized
    pool = eng.new_pool("p", pam=pam, page_size="4MiB")
    pages = []
    for n, length in enumerate(borders(segment)):
        kinds = page(n, length), (b"all the same " * length)[:length], mixed(4 * n + 3, length)
        pages.append(kinds[n % 3])
        assert pool.put(OID, n, pages[-1])
    for n, data in enumerate(pages):
        assert pool.get(OID, n) == data
        with pool.view(OID, n) as seen:
            assert seen == data
    stats = eng.stats()["pools"]["p"]
    assert stats["bytes_stored"] < stats["bytes_asked"] * 0.9
    for n, data in enumerate(pages):
        with pool.writing(OID, n, len(data)) as buffer:
            buffer[:] = data[::-1]
        assert pool.get(OID, n) == data[::-1]
    sound(eng, pages=len(pages), pins=0, limbo=0)


def test_pages_of_equal_content_are_kept_once(sized):
    eng, segment = sized
    pool = eng.new_pool("p", dedup=True, page_size="4MiB")
    lengths = borders(segment)
    data = [page(n, length) for n, length in enumerate(lengths)]
    for n in range(3 * len(data)):
        assert pool.put(OID, n, data[n % len(data)])
    stats = eng.stats()["total"]
    assert stats["bytes_used"] < sum(lengths) * 1.2
    with pool.view(OID, len(data) - 1) as seen:
        for n in range(0, 3 * len(data), 2):
            assert pool.flush_page(OID, n)
        assert all(pool.get(OID, n) == data[n % len(data)] for n in range(1, 3 * len(data), 2))
        pool.flush_object(OID)
        assert seen == data[-1]
        sound(eng, pages=0, pins=1)
    sound(eng, pages=0, pins=0, limbo=0)
    assert eng.stats()["total"]["bytes_used"] == 0


def test_a_cap_in_bytes(make_arena):
    eng = make_arena(capacity="16MiB", page_size=4 * KIB)
    pool = eng.new_pool("p", cap="2MiB", page_size="4MiB")
    for n in range(40):
        assert pool.put(OID, n, page(n, 300_000))
        assert eng.stats()["pools"]["p"]["bytes_used"] <= 2 * MIB
    there = [n for n in range(40) if pool.get(OID, n) is not None]
    assert len(there) == 6 and all(pool.get(OID, n) == page(n, 300_000) for n in there)
    assert not pool.put(OID, 99, page(1, 3 * MIB))
    sound(eng)
    assert [n for n in range(40) if pool.get(OID, n) is not None] == there      # nothing went for what cannot fit


def test_what_pages_take(sized):
    """An eighth more than their bytes at most, and a fiftieth from 4 MiB on."""
    eng, segment = sized
    pool = eng.new_pool("p", persistent=True, page_size="8MiB")
    rnd = random.Random(4)
    lengths = [n for n in borders(segment) if n >= 64 * KIB]
    for length in [*lengths, *(int(64 * KIB * 1.3 ** rnd.uniform(0, 17)) for _ in range(20)), 4 * MIB, 4 * MIB + 1]:
        assert pool.put(OID, 0, page(0, length))
        used = eng.stats()["pools"]["p"]["bytes_used"]
        assert length <= used <= length * (1.02 if length >= 4 * MIB else 1.125), (length, used)
        assert pool.flush_page(OID, 0)


def test_values_lie_close_together(make_arena):
    """200 of 3,000,000 bytes, here a tenth of it: 1.03 of their bytes, with all that describes
    them."""
    eng = make_arena(capacity="64MiB", page_size=4 * KIB, buckets=64)
    pool = eng.new_pool("p", persistent=True, page_size="4MiB")
    n = 0
    while pool.put(OID, n, page(n, 3_000_000)):
        n += 1
    assert n * 3_000_000 * 1.03 > 64 * MIB - 3_000_000 * 1.03
    assert eng.stats()["arena"]["segments_used"] * 256 * KIB <= n * 3_000_000 * 1.03 + MIB
    assert all(pool.get(OID, i) == page(i, 3_000_000) for i in range(n))
    sound(eng, pages=n)


def test_an_object_a_pickle_another_process_and_a_fork(make_arena):
    eng = make_arena(capacity="16MiB", page_size=4 * KIB)
    pool = eng.new_pool("p", page_size="1MiB", client=3)
    data = page(5, 777_777)
    handle = pool.object(OID)
    assert handle.put(4, data) and handle.get(4) == pool.get(OID, 4) == data
    with handle.writing(5, len(data)) as buffer:
        buffer[:] = data
    with handle.view(4, 2) as both:
        assert [bytes(one) for one in both] == [data, data]
    again = pickle.loads(pickle.dumps(pool))
    assert again.page_size == MIB and again.get(OID, 5) == data

    def child():
        assert pool.get(OID, 4) == data and pool.put(OID, 6, data[::-1])
        with pool.writing(OID, 7, len(data)) as mine:
            mine[:] = data[::-1]
        eng.close()
        os._exit(0)

    assert os.waitpid(fork(child), 0)[1] == 0
    assert pool.get_many([(OID, 6), (OID, 7)]) == [data[::-1]] * 2
    sound(eng, pages=4)


def test_a_frozen_client_puts_no_long_page(make_arena):
    eng = make_arena(page_size=4 * KIB)
    pool = eng.new_pool("p", page_size="1MiB", client=3)
    data = page(1, 300_000)
    assert pool.put(OID, 0, data)
    eng.client(3).freeze()
    assert not pool.put(OID, 1, data) and pool.get(OID, 0) == data
    with pytest.raises(engine.ArenaFull), pool.writing(OID, 2, len(data)) as buffer:
        buffer[:] = data
    assert pool.get(OID, 2) is None
    eng.client(3).thaw()
    assert pool.put(OID, 1, data)
    sound(eng, pages=2, pins=0)


# --- memory is short ------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", list(POLICIES))
def test_an_arena_full_of_short_pages_takes_a_long_one(make_arena, policy):
    eng = make_arena(capacity="16MiB", page_size=4 * KIB)
    small = eng.new_pool("s", policy=policy)
    n = 0
    while eng.stats()["total"]["evicted"] == 0:
        assert small.put((n // 64, 9, 9), n % 64, page(n, 4096))
        n += 1
    large = eng.new_pool("l", page_size="16MiB")
    for i in range(6):
        before = eng.stats()["total"]["evicted"]
        assert large.put(OID, i, page(i, MIB))
        assert (eng.stats()["total"]["evicted"] - before) * 4096 <= 2 * MIB
    assert sum(large.get(OID, i) is not None for i in range(6)) >= 1
    for i in range(n):
        assert small.get((i // 64, 9, 9), i % 64) in (None, page(i, 4096))
    sound(eng)


def test_a_window_of_mixed_pages_costs_no_others(make_arena):
    """Where short pages have no place to be moved to, it is they that go."""
    eng = make_arena(capacity="4MiB", page_size=4 * KIB)
    kept, pool = eng.new_pool("k", persistent=True, page_size="4MiB"), eng.new_pool("p")
    for n, length in enumerate((70_000, 3000, 200_000, 64 * KIB + 1, 130_000)):
        assert kept.put(OID, n, page(n, length))
    n = 0
    while eng.stats()["total"]["evicted"] == 0:
        assert pool.put((n // 64, 9, 9), n % 64, page(n % 1000, (4000, 700)[n % 16 == 0]))
        n += 1
    for index in range(10, 20):
        before = eng.stats()["pools"]["p"]["bytes_used"]
        assert kept.put(OID, index, page(index, 150_000))
        assert before - eng.stats()["pools"]["p"]["bytes_used"] <= 6 * 150_000
    sound(eng)


def test_short_pages_find_room_among_long_ones(make_arena):
    eng = make_arena(capacity="16MiB", page_size=4 * KIB)
    large, small = eng.new_pool("l", page_size="1MiB"), eng.new_pool("s")
    n = 0
    while eng.stats()["total"]["evicted"] == 0:
        assert large.put(OID, n, page(n, 700_000))
        n += 1
    for i in range(100):
        assert small.put((i // 64, 9, 9), i % 64, page(i, 4000))
    found = [small.get((i // 64, 9, 9), i % 64) for i in range(100)]
    assert all(data in (None, page(i, 4000)) for i, data in enumerate(found)) and found.count(None) < 10
    assert sum(large.get(OID, i) is not None for i in range(n)) >= n - 4
    sound(eng)


def test_a_put_that_cannot_fit_lets_nothing_go(make_arena):
    eng = make_arena(capacity="16MiB", page_size=4 * KIB)
    kept = eng.new_pool("k", persistent=True, page_size="16MiB")
    pool = eng.new_pool("p", page_size="32MiB")
    assert kept.put(OID, 0, page(0, 7 * MIB))
    n = 0
    while eng.stats()["total"]["evicted"] == 0:
        assert pool.put(OID, n, page(n, 400_000))
        n += 1
    evicted = eng.stats()["total"]["evicted"]
    for length in (17 * MIB, 10 * MIB):
        data = bytes(8) + page(9, 7 * MIB) * 2 + page(9, 3 * MIB)
        assert not pool.put((9, 9, 9), 0, data[:length])
        with pytest.raises(engine.ArenaFull), pool.writing(OID, n - 1, length):
            raise AssertionError("there is no room")
        assert pool.get(OID, n - 1) == page(n - 1, 400_000)
    assert eng.stats()["total"]["evicted"] == evicted and kept.get(OID, 0) == page(0, 7 * MIB)
    assert pool.put((9, 9, 9), 0, page(8, 7 * MIB)) and pool.get((9, 9, 9), 0) == page(8, 7 * MIB)
    sound(eng, pins=0)


def test_a_drifting_mix_refuses_nothing_and_keeps_the_arena_full(make_arena):
    """Pages of 4 KiB, 64 KiB and 1 MiB, now more of these, now of those."""
    eng = make_arena(capacity="32MiB", page_size=4 * KIB, buckets=64)
    kept = eng.new_pool("k", persistent=True, page_size="1MiB")
    pool = eng.new_pool("p", page_size="16MiB")
    for n in range(8):
        assert kept.put(OID, n, page(n, (4 * KIB, 100_000, 300_000)[n % 3]))
    rnd = random.Random(6)
    full = []
    step = 0
    for turn in range(9):
        weights = [(20, 1, 1), (1, 1, 1), (0, 1, 8)][turn % 3]
        moved = 0
        while moved < 24 * MIB:
            length = rnd.choices([4 * KIB, 64 * KIB, MIB], weights)[0]
            length -= rnd.choice([0, 0, 100])
            step += 1
            assert pool.put((step // 64, 1, 1), step % 64, page(step % 100, length)), (turn, step, length)
            moved += length
        full.append(eng.stats()["total"]["bytes_asked"] / (32 * MIB))
    assert min(full[1:]) > 0.85, full
    assert all(kept.get(OID, n) == page(n, (4 * KIB, 100_000, 300_000)[n % 3]) for n in range(8))
    sound(eng)


@pytest.mark.parametrize("persistent", [False, True])
def test_the_arena_gets_smaller_and_larger_around_long_pages(make_arena, persistent):
    eng = make_arena(capacity="32MiB", page_size=4 * KIB)
    pool = eng.new_pool("p", persistent=persistent, page_size="4MiB")
    rnd = random.Random(7)
    pages = {n: page(n, rnd.choice([3000, 70_000, 500_000, 2 * MIB])) for n in range(60)}
    for n, data in pages.items():
        pool.put(OID, n, data)
    for n in range(0, 60, 2):
        pool.flush_page(OID, n)
    there = {n for n in pages if pool.get(OID, n) is not None}
    held = rnd.sample(sorted(there), 3)
    views = [pool.view(OID, n) for n in held]
    seen = [view.__enter__() for view in views]
    used = sum(len(pages[n]) for n in there)
    target = -(-int(used * 1.3) // MIB) * MIB if persistent else 4 * MIB
    eng.resize(target)
    assert eng.stats()["arena"]["capacity"] <= 32 * MIB
    assert [bytes(one) for one in seen] == [pages[n] for n in held]
    for n in there:
        assert pool.get(OID, n) in ((pages[n],) if persistent else (pages[n], None))
    sound(eng, pins=3)
    del seen
    for view in views:
        view.__exit__(None, None, None)
    assert eng.resize(target) == target
    for n in there:
        assert pool.get(OID, n) in ((pages[n],) if persistent else (pages[n], None))
    assert eng.resize("32MiB") == 32 * MIB
    eng.tend()
    for n in there:
        assert pool.get(OID, n) in ((pages[n],) if persistent else (pages[n], None))
    pool.destroy()
    again = eng.new_pool("q", persistent=True, page_size="32MiB")
    assert again.put(OID, 0, NOISE * 3 + NOISE[:6 * MIB])
    sound(eng, pages=1, pins=0, limbo=0)


def test_a_long_page_that_leaves_gets_a_place_among_short_ones(make_arena):
    """What is free when an arena gets smaller lies anywhere; a persistent page of several segments
    needs it in one piece."""
    eng = make_arena(capacity="4MiB", page_size=4 * KIB)
    kept, pool = eng.new_pool("k", persistent=True, page_size="4MiB"), eng.new_pool("p")
    lengths = (70_000, 3000, 200_000, 64 * KIB + 1, 130_000)
    for n, length in enumerate(lengths):
        assert kept.put(OID, n, page(n, length))
    for n in range(1100):
        assert pool.put((n // 64, 9, 9), n % 64, page(n % 1000, (4000, 700)[n % 16 == 0]))
        pool.get((n // 128, 9, 9), n % 32)
    assert eng.resize("2MiB") == 2 * MIB
    assert eng.stats()["pools"]["p"]["bytes_used"] > 300_000
    assert all(kept.get(OID, n) == page(n, length) for n, length in enumerate(lengths))
    sound(eng, pins=0)


def test_an_arena_that_was_made_smaller_has_room_for_long_pages(make_arena):
    """The segments with least in them lie anywhere. When it was they that left, holes lay between
    what stayed, and no page found a place between two of them."""
    eng = make_arena(capacity="32MiB", page_size=4 * KIB)
    pool, long = eng.new_pool("p"), eng.new_pool("l", page_size="8MiB")
    n = 0
    while eng.stats()["total"]["evicted"] == 0:
        assert pool.put((n // 64, 9, 9), n % 64, page(n % 1000, (4000, 3000)[n % 4 == 0]))
        n += 1
    for i in random.Random(1).sample(range(n), 2 * n // 5):
        pool.flush_page((i // 64, 9, 9), i % 64)
    assert eng.resize("24MiB") == 24 * MIB
    for i in range(6):
        assert long.put(OID, i, NOISE[:6 * MIB]) and long.get(OID, i) == NOISE[:6 * MIB]
    sound(eng, pins=0)

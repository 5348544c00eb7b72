"""Owns the contract of pools that keep equal pages once: every page is as if it had a chunk of its
own, and memory is used once."""
import contextlib
import itertools
import multiprocessing
import os
import random
import signal

import pytest
from xxhash import xxh3_128_intdigest

import engine
from tests.hostile.structs import Map
from tests.stopped import Stopped
from tests.support import SHM, text

PAGE = 4096
KINDS = ("raw", "lz4", "zstd")
SENTINEL = (0x7477696E).to_bytes(8, "little")
LINK, DIGEST, REFS, POOL = 8, 16, 48, 56        # offsets in a twin


def page(n, length=PAGE):
    """A page that names n, and is not one word over and over: such take no chunk anyway."""
    return (b"%d/" % n + bytes([n & 255]) * PAGE)[:length]


def sound(eng):
    report = eng.check()
    assert report.ok, [str(problem) for problem in report.problems[:5]]


def twins(eng):
    arena = eng.stats()["arena"]
    return arena["twins"], arena["twin_bytes"]


@pytest.mark.parametrize("pam", KINDS)
@pytest.mark.parametrize("shared", [True, False])
def test_equal_pages_take_one_chunk_and_come_back_each(make_arena, pam, shared):
    eng = make_arena(capacity="2MiB", page_size=PAGE)
    pool = eng.new_pool("p", shared=shared, pam=pam, dedup=True)
    assert pool.dedup and not eng.new_pool("q").dedup
    data = [text(n, PAGE) for n in range(3)]
    assert all(len(one) == PAGE for one in data)
    for n in range(3000):
        assert pool.put((n // 64, 0, 0), n % 64, data[n % 3])
    stats = eng.stats()["pools"]["p"]
    assert (
        stats["pages"] == 3000
        and stats["bytes_asked"] == 3000 * PAGE
        and stats["bytes_used"] == 0
        and stats["bytes_stored"] == 3000 * 8
    )
    assert twins(eng)[0] == 3 and twins(eng)[1] <= 3 * PAGE
    sound(eng)
    for n in range(3000):
        assert pool.get((n // 64, 0, 0), n % 64) == data[n % 3]
    if shared:
        assert pool.get_range((1, 0, 0), 0, 64) == b"".join(data[n % 3] for n in range(64, 128))
        buffer = bytearray(PAGE)
        assert pool.get_into((1, 0, 0), 5, buffer) == PAGE and buffer == data[69 % 3]
        for n in range(3000):
            assert pool.flush_page((n // 64, 0, 0), n % 64)
    assert eng.stats()["pools"]["p"]["pages"] == 0 and twins(eng) == (0, 0)
    sound(eng)


def test_a_put_over_leaves_the_others_as_they_are(make_arena):
    eng = make_arena(capacity="2MiB", page_size=PAGE)
    pool = eng.new_pool("p", dedup=True)
    for n in range(10):
        assert pool.put((n, 0, 0), 0, page(1))
    assert pool.put((3, 0, 0), 0, page(2)) and pool.put((4, 0, 0), 0, b"short") and pool.put((5, 0, 0), 0, bytes(PAGE))
    assert pool.put((6, 0, 0), 0, page(1))
    want = {3: page(2), 4: b"short", 5: bytes(PAGE)}
    assert all(pool.get((n, 0, 0), 0) == want.get(n, page(1)) for n in range(10))
    assert twins(eng)[0] == 2
    assert pool.flush_object((3, 0, 0)) and twins(eng)[0] == 1
    assert pool.put_range((20, 0, 0), 0, page(1) * 3 + page(2) * 2 + page(9, 300))
    assert twins(eng)[0] == 3
    assert pool.get_range((20, 0, 0), 0, 6) == page(1) * 3 + page(2) * 2 + page(9, 300)
    pool.destroy()
    assert twins(eng) == (0, 0)
    sound(eng)


@pytest.mark.parametrize("pam", KINDS)
def test_a_long_range_has_twins_too(make_arena, pam):
    """Ranges from 128 KiB on are copied with the GIL released."""
    eng = make_arena(capacity="4MiB", page_size=PAGE)
    pool = eng.new_pool("p", pam=pam, dedup=True)
    data = b"".join(text(n % 5, PAGE) for n in range(100))
    for n in range(20):
        assert pool.put_range((n, 0, 0), 7, data) and pool.get_range((n, 0, 0), 7, 100) == data
    assert twins(eng)[0] == 5 and eng.stats()["total"]["pages"] == 2000
    sound(eng)


def test_pools_do_not_share_with_each_other(make_arena):
    eng = make_arena(capacity="2MiB", page_size=PAGE)
    pools = [eng.new_pool(name, dedup=True) for name in "abc"]
    for pool in pools:
        assert pool.put((1, 0, 0), 0, page(1))
    assert twins(eng)[0] == 3
    pools[0].destroy()
    again = eng.new_pool("a", dedup=True)
    assert again.put((1, 0, 0), 0, page(1)) and twins(eng)[0] == 3
    sound(eng)


def test_short_pages_have_chunks_of_their_own(make_arena):
    eng = make_arena(capacity="2MiB", page_size=PAGE)
    pool = eng.new_pool("p", dedup=True)
    for length in (1, 100, 255, 256, 300):
        for n in range(2):
            assert pool.put((length, n, 0), 0, page(length, length))
    assert twins(eng)[0] == 2
    assert all(
        pool.get((length, n, 0), 0) == page(length, length) for length in (1, 100, 255, 256, 300) for n in range(2)
    )


@pytest.mark.parametrize("pam", ["raw", "lz4"])
def test_many_more_pages_than_memory(make_arena, pam):
    """Eviction lets pages go until a chunk is free, also when most share theirs."""
    eng = make_arena(capacity="1MiB", page_size=PAGE)
    pool = eng.new_pool("p", pam=pam, dedup=True)
    other = eng.new_pool("other")
    make = page if pam == "raw" else text
    rnd = random.Random(4)
    last = {}
    for n in range(8000):
        handle, content = ((rnd.randrange(60), 0, 0), rnd.randrange(80)), min(int(rnd.paretovariate(0.6)), 4000)
        got = pool.get(*handle)
        assert got is None or got == make(last[handle], PAGE)
        assert pool.put(*handle, make(content, PAGE))
        last[handle] = content
        if n % 7 == 0:
            assert other.put((n % 50, 0, 0), 0, page(n))
        if n % 900 == 0:
            sound(eng)
    held = [handle for handle in last if pool.get(*handle) is not None]
    assert len(held) > twins(eng)[0] > 0
    sound(eng)


def test_other_arguments(eng):
    with pytest.raises(ValueError, match="dedup"):
        eng.new_pool("p", persistent=True, dedup=True)
    with pytest.raises(TypeError, match="dedup"):
        eng.new_pool("p", dedup=1)


def test_an_arena_that_gets_smaller(make_arena):
    eng = make_arena(capacity="8MiB", page_size=PAGE)
    pool = eng.new_pool("p", dedup=True)
    for n in range(4000):
        assert pool.put((n // 50, 0, 0), n % 50, page(n // 3))
    for capacity in ("6MiB", "3MiB", "1MiB"):
        eng.resize(capacity)
        sound(eng)
        assert all(pool.get((n // 50, 0, 0), n % 50) in (None, page(n // 3)) for n in range(4000))
    assert eng.stats()["pools"]["p"]["pages"] > 0


def work(name, seed):
    rnd = random.Random(seed)
    with engine.attach(name) as eng:
        pool = eng.pool("p")
        for _ in range(6000):
            oid, index = (rnd.randrange(40), 0, 0), rnd.randrange(40)
            got = pool.get(oid, index)
            assert got is None or got in CONTENTS
            if rnd.random() < 0.8:
                assert pool.put(oid, index, rnd.choice(PAGES))
            else:
                pool.flush_page(oid, index)


PAGES = [page(n) for n in range(30)]
CONTENTS = set(PAGES)


def test_workers_share_twins(make_arena):
    eng = make_arena(capacity="1MiB", page_size=PAGE, max_workers=8)
    pool = eng.new_pool("p", dedup=True)
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=work, args=(eng.name, seed)) for seed in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0] * 4
    sound(eng)
    assert twins(eng)[0] <= 30
    pool.destroy()
    assert twins(eng) == (0, 0)
    sound(eng)


def twin_offsets(eng):
    raw = (SHM / eng.name).read_bytes()
    return [at for at in range(0, len(raw), 64) if raw[at:at + 8] == SENTINEL]


def write_words(eng, words):
    """Change words of the arena's file, by offset."""
    with open(SHM / eng.name, "r+b") as file:
        for at, value in words.items():
            os.pwrite(file.fileno(), value.to_bytes(8, "little"), at)


def test_a_repair_counts_the_references_anew(make_arena):
    """Whatever the words of a twin and of its bucket say: pages that are there stay, and their
    twins are right again."""
    eng = make_arena(capacity="2MiB", page_size=PAGE)
    pool = eng.new_pool("p", dedup=True)
    for n in range(200):
        assert pool.put((n // 20, 0, 0), n % 20, page(n % 9))
    a, b, c, d, e, f, *rest = twin_offsets(eng)
    assert len(rest) == 3
    write_words(eng, {a + REFS: 1, b + LINK: f, c + DIGEST: 77, d + POOL: 0, e + REFS: 2**63})
    assert not eng.check().ok
    report = eng.check(repair=True)
    assert report.ok and not report.lost, [str(problem) for problem in report.problems[:5]]
    assert all(pool.get((n // 20, 0, 0), n % 20) == page(n % 9) for n in range(200))
    assert twins(eng)[0] == 9
    for n in range(200):
        assert pool.flush_page((n // 20, 0, 0), n % 20)
    assert twins(eng) == (0, 0)
    sound(eng)


def test_a_twin_that_is_none_takes_its_pages_along(make_arena):
    eng = make_arena(capacity="2MiB", page_size=PAGE)
    pool = eng.new_pool("p", dedup=True)
    for n in range(20):
        assert pool.put((n, 0, 0), 0, page(n % 2))
    write_words(eng, {twin_offsets(eng)[0]: 0})
    for n in range(20):
        try:
            assert pool.get((n, 0, 0), 0) in (page(0), page(1))
        except engine.ArenaCorrupted:
            pass
    report = eng.check(repair=True)
    assert report.ok and len(report.lost) == 10
    assert sum(pool.get((n, 0, 0), 0) is not None for n in range(20)) == 10
    sound(eng)


def contents_of_one_bucket(eng, count):
    """Contents whose twins all belong into the first bucket of this arena: whoever has it open can
    find some, by trying."""
    with open(SHM / eng.name, "rb") as file:
        geometry = Map(file.read(4096)).geometry
    found, mask = [], geometry["client"][5] - 1
    for n in itertools.count():
        data = b"%d." % n + bytes([1]) * 256
        if xxh3_128_intdigest(data, geometry["secret"]) & mask == 0:
            found.append(data)
            if len(found) == count:
                return found


def test_a_bucket_takes_so_many_twins_and_its_other_pages_have_chunks_of_their_own(make_arena):
    eng = make_arena(capacity="1MiB", page_size=PAGE)
    pool = eng.new_pool("p", dedup=True)
    data = contents_of_one_bucket(eng, 300)
    for n, one in enumerate(data):
        assert pool.put((1, 0, 0), n, one)
    assert twins(eng)[0] == 64
    used = eng.stats()["pools"]["p"]["bytes_used"]
    for n, one in enumerate(data):
        assert pool.get((1, 0, 0), n) == one and pool.put((2, 0, 0), n, one)
    assert twins(eng)[0] == 64 and eng.stats()["pools"]["p"]["bytes_used"] == 2 * used
    sound(eng)
    # As twins go, others may come; over a page, too.
    for n in range(30):
        assert pool.flush_page((1, 0, 0), n) and pool.flush_page((2, 0, 0), n)
    assert twins(eng)[0] == 34
    assert pool.put((1, 0, 0), 299, data[299]) and pool.put((2, 0, 0), 299, data[299])
    assert twins(eng)[0] == 35
    sound(eng)
    assert eng.check(repair=True).ok and twins(eng)[0] == 35
    pool.destroy()
    assert twins(eng) == (0, 0)
    sound(eng)


def test_what_falls_into_one_bucket_of_one_arena_does_not_in_another(make_arena):
    """Digests are seeded with a number that no two arenas have in common, so that nobody can
    prepare such contents."""
    data = contents_of_one_bucket(make_arena(capacity="1MiB", page_size=PAGE), 200)
    eng = make_arena(capacity="1MiB", page_size=PAGE)
    pool = eng.new_pool("p", dedup=True)
    for n, one in enumerate(data):
        assert pool.put((1, 0, 0), n, one)
    assert twins(eng)[0] == 200


@pytest.mark.parametrize("page_size", [512, 4096, 65536])
def test_there_are_as_many_buckets_as_the_capacity_is_good_for(make_arena, page_size):
    eng = make_arena(capacity="8MiB", page_size=page_size)
    with open(SHM / eng.name, "rb") as file:
        assert Map(file.read(4096)).twin_buckets == 1024


class Waits(Exception):
    """A call waits for what a stopped worker holds."""


def test_a_twin_whose_segment_is_to_be_emptied_gets_no_more_pages(make_arena):
    # Else a resize would never be over where pages with the same content come as fast as it lets
    # them go.
    def give_up(*_):
        raise Waits

    eng = make_arena(capacity="8MiB", page_size=PAGE, max_workers=4)
    pool = eng.new_pool("p", dedup=True)
    count, stopped, point, replaced = 1000, True, 0, 0
    signal.signal(signal.SIGALRM, give_up)
    while stopped:
        eng.resize("8MiB")
        pool.flush_object((2, 0, 0))
        for n in range(count):
            assert pool.put((1, 0, 0), n, page(n))
        assert twins(eng)[0] == count
        point += 900 if os.environ.get("EVERY_POINT") else 2700
        with Stopped(eng.name, lambda mine: mine.resize("3MiB"), point) as resizer:
            stopped = resizer.stopped
            if stopped:
                signal.setitimer(signal.ITIMER_REAL, 0.2)
                with contextlib.suppress(Waits):
                    for n in range(0, count, 97):
                        there = pool.get((1, 0, 0), n) is not None
                        before = twins(eng)[0]
                        assert pool.put((2, 0, 0), n, page(n)) and pool.get((2, 0, 0), n) == page(n)
                        replaced += there and twins(eng)[0] > before
                    signal.setitimer(signal.ITIMER_REAL, 0)
                signal.setitimer(signal.ITIMER_REAL, 0)
                assert resizer.go_on() == 0
        for n in range(0, count, 97):
            assert pool.get((2, 0, 0), n) in (None, page(n))
        sound(eng)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    assert replaced > 0

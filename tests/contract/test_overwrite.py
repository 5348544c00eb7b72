"""Owns the contract of puts over pages that are there: what a reader, the counters and check() see
is what a put anywhere leaves."""
import os
import random

import pytest

import engine
from tests.crash.killing import fork
from tests.support import KINDS

OID = (1, 2, 3)
PAGE = 512


@pytest.fixture(params=KINDS)
def pool(request, eng):
    return eng.new_pool("p", **KINDS[request.param])


def noise(tag, length=PAGE):
    """A page that is not one word over and over."""
    return random.Random(tag).randbytes(length)


def sums(pool, model):
    """The counters of a pool are those of its pages."""
    found = pool.engine.stats()["pools"]["p"]
    assert found["pages"] == len(model) and found["bytes_asked"] == sum(map(len, model.values()))
    assert pool.engine.check().ok


def look(pool, model):
    for index, data in model.items():
        assert pool.get(OID, index, free=False) == data


def test_any_length_over_any_length(pool):
    """Lengths of one size class and of others, of one word over and over, and back."""
    rnd = random.Random(3)
    lengths = (1, 64, 65, 128, 129, 400, 511, 512)
    model = {}
    for _ in range(400):
        index, length = rnd.choice((0, 1, 63, 64, 4096)), rnd.choice(lengths)
        data = b"\7" * length if rnd.random() < 0.2 else rnd.randbytes(length)
        assert pool.put(OID, index, data)
        model[index] = data
    look(pool, model)
    sums(pool, model)


@pytest.mark.parametrize("count", [1, 2, 15, 16, 17])
@pytest.mark.parametrize("first", [0, 1, 55, 63, 64])
@pytest.mark.parametrize("short", [0, 1, 300])
def test_ranges_over_ranges(pool, first, count, short):
    """Across the borders of objnodes, with a short last page of this size class or another."""
    model = {}
    for turn in range(3):
        data = random.Random(turn).randbytes(PAGE * count - short)
        assert pool.put_range(OID, first, data)
        for i in range(count):
            model[first + i] = data[i * PAGE:(i + 1) * PAGE]
        look(pool, model)
    sums(pool, model)


def test_a_range_over_part_of_what_is_there(pool):
    model = {}
    for first, count in ((0, 4), (2, 4), (0, 8), (7, 1), (6, 4)):
        data = random.Random(first).randbytes(PAGE * count)
        assert pool.put_range(OID, first, data)
        model |= {first + i: data[i * PAGE:(i + 1) * PAGE] for i in range(count)}
    look(pool, model)
    sums(pool, model)


def test_an_object_of_one_page_has_no_second(pool):
    """The page of index 0 alone hangs on the object itself."""
    assert pool.put(OID, 0, noise(1))
    assert pool.put_range(OID, 0, noise(2) + noise(3))
    look(pool, {0: noise(2), 1: noise(3)})
    sums(pool, {0: noise(2), 1: noise(3)})


def test_it_counts_as_a_put_over(pool):
    before = pool.engine.stats()["pools"]["p"]
    for n in range(5):
        assert pool.put(OID, 7, noise(n))
    after = pool.engine.stats()["pools"]["p"]
    assert after["puts_ok"] - before["puts_ok"] == 5 and after["puts_duplicate"] - before["puts_duplicate"] == 4


def test_the_generation_is_new_each_time(pool):
    seen = set()
    for n in range(5):
        assert pool.put(OID, 7, noise(n))
        seen.add(pool.descriptor(OID, 7)[1])
    assert len(seen) == 5


def test_over_a_page_that_is_viewed(pool):
    assert pool.put(OID, 7, noise(1))
    with pool.view(OID, 7) as seen:
        for n in range(2, 5):
            assert pool.put(OID, 7, noise(n))
            assert bytes(seen) == noise(1)
    sums(pool, {7: noise(4)})


def test_in_an_arena_that_is_full(make_arena):
    """Pages are replaced where no other fits; nobody loses one for it."""
    eng = make_arena(capacity="1MiB", page_size=4096)
    pool = eng.new_pool("p", persistent=True)
    model = {}
    while pool.put(OID, len(model), noise(len(model), 4096)):
        model[len(model)] = noise(len(model), 4096)
    for turn in range(3):
        for index in model:
            model[index] = noise(index + 1000 * turn + 1, 4096)
            assert pool.put(OID, index, model[index])
    look(pool, model)
    sums(pool, model)


def test_over_the_same_pages_from_everywhere(eng):
    """Three processes write single pages and ranges over one object, and each read is of one write
    as a whole."""
    pool = eng.new_pool("p", persistent=True)

    def text(who, turn, i):
        return (b"%d/%d/%d " % (who, turn, i) * PAGE)[:PAGE]

    def write(who):
        mine = engine.attach(eng.name).pool("p")
        for turn in range(1500):
            mine.put_range(OID, 60, b"".join(text(who, turn, i) for i in range(8)))
            mine.put(OID, 0, text(who, turn, 0))
            mine.flush_page(OID, 62) if turn % 97 == who else None

    pool.put_range(OID, 60, bytes(PAGE * 8))
    writers = [fork(lambda who=who: write(who)) for who in range(3)]
    left = set(writers)
    while left:
        got = pool.get_range(OID, 60, 8)
        if got is not None and any(got):
            who, turn, _ = got[:PAGE].split(b" ")[0].split(b"/")
            assert got == b"".join(text(int(who), int(turn), i) for i in range(8))
        left = {pid for pid in left if os.waitpid(pid, os.WNOHANG) == (0, 0)}
    assert pool.put(OID, 62, noise(0))
    found = eng.stats()["pools"]["p"]
    assert found["pages"] == 9 and found["bytes_asked"] == 9 * PAGE
    assert eng.check().ok

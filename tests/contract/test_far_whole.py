"""Owns that a value of several pages leaves for a far tier as one, and comes home as one."""
import random

import pytest

from tests.contract.fars import PAGE, assert_sound, fresh_dict_tier, stats

VALUES = 160


@pytest.fixture
def kind(monkeypatch):
    return fresh_dict_tier(monkeypatch)


def value(n, pages=None):
    """A value of 1 to 12 pages, of which the last is short, for every second one very short."""
    rnd = random.Random(n)
    size = (pages or rnd.randrange(1, 13)) * PAGE - (PAGE - 100 if n % 2 else rnd.randrange(1000))
    return rnd.randbytes(size)


def pages_of(data, size=PAGE):
    return -(-len(data) // size)


def filled(make_arena, values=VALUES, shards=2, **how):
    eng = make_arena(page_size=PAGE, capacity="3MiB", max_capacity="8MiB", huge_pages=False, shards=shards)
    pool = eng.new_pool("p", far="dict:", **how)
    for n in range(values):
        assert pool.put_range((n, 0, 0), 0, value(n))
        pool.engine.spill()
    return pool


def far_share(pool, n, pages):
    """How many pages of a value are far, and how many are there."""
    found = [pool.descriptor((n, 0, 0), i) for i in range(pages)]
    return sum(1 for one in found if one is not None and one[0] == 1), sum(1 for one in found if one is not None)


def far_values(pool, values=VALUES):
    """Values of several pages that are far."""
    return [n for n in range(values) if pages_of(value(n)) > 1 and far_share(pool, n, 1)[0]]


def asked_for(kind):
    return [len(names) for verb, names in kind.asked if verb == "get"]


def test_a_value_leaves_as_one(make_arena, kind):
    pool = filled(make_arena)
    shares = [(far_share(pool, n, pages_of(value(n))), pages_of(value(n))) for n in range(VALUES)]
    assert all(far in (0, there) and there in (0, pages) for (far, there), pages in shares)
    assert len(far_values(pool)) > 20
    batches = [len(names) for verb, names in kind.asked if verb == "put"]
    assert max(batches) <= 255
    assert_sound(pool.engine)


@pytest.mark.parametrize("verb", ["get_range", "get_object", "get_object_into"])
def test_a_get_of_it_is_one_call(make_arena, kind, verb):
    pool = filled(make_arena)
    for n in far_values(pool)[:10]:
        kind.asked.clear()
        data = value(n)
        room = bytearray(len(data))
        if verb == "get_range":
            assert pool.get_range((n, 0, 0), 0, pages_of(data)) == data
        elif verb == "get_object":
            assert pool.get_object((n, 0, 0)) == data
        else:
            assert pool.get_object_into((n, 0, 0), room) == len(data) and room == data
        assert asked_for(kind) == [pages_of(data)]


def test_it_comes_home_as_one(make_arena, kind):
    pool = filled(make_arena)
    pool.engine.resize("6MiB")
    far = far_values(pool)
    assert len(far) > 20
    for n in far:
        data = value(n)
        pages = pages_of(data)
        before = stats(pool)
        assert pool.get_range((n, 0, 0), 0, pages) == data
        assert far_share(pool, n, pages) == (pages, pages)
        assert pool.get_object((n, 0, 0)) == data
        assert far_share(pool, n, pages) == (0, pages)
        after = stats(pool)
        assert [after[name] - before[name] for name in ("localified", "far_pages", "pages")] == [pages, -pages, 0]
        kind.asked.clear()
        assert pool.get_range((n, 0, 0), 0, pages) == data and not kind.asked
    assert_sound(pool.engine)


def test_none_of_it_comes_home_where_one_page_is_another(make_arena, kind):
    pool = filled(make_arena)
    pool.engine.resize("6MiB")
    n = next(n for n in far_values(pool) if pages_of(value(n)) > 3)
    pages = pages_of(value(n))
    assert pool.get_range((n, 0, 0), 0, pages) == value(n)

    def meddle(verb, names):
        kind.before = None
        assert pool.put((n, 0, 0), 1, b"other" * 200)
    kind.before = meddle
    found = pool.get_range((n, 0, 0), 0, pages)
    assert found == value(n)[:PAGE] + b"other" * 200 + value(n)[2 * PAGE :]
    assert far_share(pool, n, pages) in ((pages - 1, pages), (0, pages))
    assert_sound(pool.engine)


def test_a_hit_of_one_page_keeps_all(make_arena, kind):
    """And once they have had their chance together, they leave together."""
    eng = make_arena(page_size=PAGE, capacity="3MiB", huge_pages=False, shards=1)
    pool = eng.new_pool("p", far="dict:", policy="clock")
    data = value(1, 8)
    assert pool.put_range((1, 0, 0), 0, data)
    for n in range(100, 200):
        assert pool.get((1, 0, 0), 6) is not None
        assert pool.put_range((n, 0, 0), 0, value(n, 8))
        eng.spill()
    assert far_share(pool, 1, 8) == (0, 8) and stats(pool)["far_pages"] > 50
    for n in range(200, 400):
        assert pool.put_range((n, 0, 0), 0, value(n, 8))
        eng.spill()
    assert far_share(pool, 1, 8) == (8, 8)
    assert pool.get_range((1, 0, 0), 0, 8) == data


def test_a_value_that_is_longer_than_a_batch(make_arena, kind):
    """It leaves in several, and is right all the time."""
    eng = make_arena(page_size=PAGE, capacity="3MiB", huge_pages=False, shards=1)
    pool = eng.new_pool("p", far="dict:", page_size=1024)
    values = {n: random.Random(n).randbytes(1024 * 600 + 100) for n in range(4)}
    for n, data in values.items():
        assert pool.put_range((n, 0, 0), 0, data)
    half = whole = 0
    for n in range(3000):
        assert pool.put((100 + n, 0, 0), 0, random.Random(n).randbytes(1000))
        if n % 64 == 63:
            eng.spill()
            for m, data in values.items():
                far, there = far_share(pool, m, 601)
                whole += far == 601
                if 0 < far < there and m % 2:
                    half += 1
                    assert pool.get_range((m, 0, 0), 0, 601) == data
    assert half > 0 and whole > 0
    found = [pool.get_range((m, 0, 0), 0, 601) for m in values]
    assert all(page in (None, values[m]) for m, page in enumerate(found)) and found.count(None) < 3
    assert stats(pool)["far_misses_gone"] == 0
    assert_sound(eng)


def test_pages_by_themselves_leave_by_themselves(make_arena, kind):
    pool = filled(make_arena, whole=False)
    for n in range(VALUES):
        found = pool.get_range((n, 0, 0), 0, pages_of(value(n)))
        assert found in (None, value(n))
    assert stats(pool)["far_pages"] > 50
    assert_sound(pool.engine)


def test_values_against_a_dict(make_arena, kind):
    """Whole values, parts of them put over, flushes, gets by page and by range."""
    pool = filled(make_arena)
    pool.engine.resize("4MiB")
    rnd = random.Random(11)
    there = {n: bytearray(value(n)) for n in range(VALUES)}
    for _ in range(3000):
        n = rnd.randrange(VALUES) if rnd.random() < 0.4 else rnd.randrange(30)
        act = rnd.random()
        pages = pages_of(there[n]) if n in there else 0
        if act < 0.15:
            there[n] = bytearray(rnd.randbytes(rnd.randrange(1, 12 * PAGE)))
            pool.flush_object((n, 0, 0))
            if not pool.put_range((n, 0, 0), 0, there[n]):
                there.pop(n)
        elif act < 0.2 and pages > 1:
            new = rnd.randbytes(PAGE)
            i = rnd.randrange(pages - 1)
            there[n][i * PAGE : (i + 1) * PAGE] = new
            assert pool.put((n, 0, 0), i, new)
        elif act < 0.23:
            pool.flush_object((n, 0, 0))
            there.pop(n, None)
        elif act < 0.4 and pages:
            i = rnd.randrange(pages)
            assert pool.get((n, 0, 0), i) in (None, there[n][i * PAGE : (i + 1) * PAGE])
        elif pages:
            first = rnd.randrange(pages)
            count = rnd.randrange(1, pages - first + 1)
            found = pool.get_range((n, 0, 0), first, count)
            assert found in (None, there[n][first * PAGE : (first + count) * PAGE])
        if rnd.random() < 0.2:
            pool.engine.spill()
    assert stats(pool)["localified"] > 50 and stats(pool)["spilled"] > 500
    assert_sound(pool.engine)

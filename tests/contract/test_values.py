"""Owns values of several pages: what was put as one range is hit, ages and goes as one."""
import random
import time

import pytest

from tests.property.policies import MODELS

PAGE = 512                      # of the arenas that tests make
PAGES = 16                      # of a value


def value(seed, pages=PAGES):
    return random.Random(seed).randbytes(pages * PAGE)


def pages_of(pool, n):
    return (pool.object_info((n, 0, 0)) or (0,))[0]


def read(pool, n, index=0, count=PAGES):
    return pool.get_range((n, 0, 0), index, count)


@pytest.mark.parametrize("policy", list(MODELS))
def test_values_go_as_the_policy_would_have_items_go(make_arena, policy):
    """The model has a frame for each value. S3-FIFO's small queue is a tenth of the pages, which is
    not always a number of values: it may differ by a few."""
    frames = 40
    eng = make_arena(capacity="16MiB", shards=1)
    pool = eng.new_pool("p", policy=policy, cap=frames * PAGES)
    model = MODELS[policy](frames)
    rnd, missed, expected = random.Random(3), 0, 0
    for number in range(1200):
        n = int(90 * rnd.random() ** 2)
        hit, known = read(pool, n) is not None, model.request(n)
        assert hit == known or policy == "s3fifo", f"request {number}, value {n}"
        missed, expected = missed + (not hit), expected + (not known)
        if not hit:
            assert pool.put_range((n, 0, 0), 0, value(n))
        assert pages_of(pool, n) == PAGES
    assert abs(missed - expected) <= expected * 0.03
    assert {pages_of(pool, n) for n in range(90)} <= {0, PAGES}
    assert eng.stats()["pools"]["p"]["pages"] == frames * PAGES and eng.check().ok


def test_a_full_arena_holds_no_half_value(make_arena):
    eng = make_arena(capacity="2MiB")
    pool = eng.new_pool("p")
    rnd = random.Random(1)
    lengths = {n: rnd.randrange(2, 40) for n in range(400)}
    for n in lengths:
        assert pool.put_range((n, 0, 0), 7, value(n, lengths[n]))
    held = {n: pages_of(pool, n) for n in lengths}
    assert all(held[n] in (0, lengths[n]) for n in lengths), {n: (held[n], lengths[n]) for n in lengths if held[n]}
    assert sum(held.values()) > 2 * 1792 * 0.8
    assert all(read(pool, n, 7, lengths[n]) == value(n, lengths[n]) for n in lengths if held[n])
    assert eng.check().ok


def test_a_get_of_one_page_keeps_the_whole_value(make_arena):
    eng = make_arena(capacity="16MiB", shards=1)
    pool = eng.new_pool("p", policy="clock", cap=4 * PAGES)
    for n in range(4):
        pool.put_range((n, 0, 0), 0, value(n))
    assert pool.get((0, 0, 0), 9) == value(0)[9 * PAGE : 10 * PAGE]
    pool.put_range((4, 0, 0), 0, value(4))
    assert [pages_of(pool, n) for n in range(5)] == [PAGES, 0, PAGES, PAGES, PAGES]
    for n in range(5, 7):       # its one hit has bought it one round
        pool.put_range((n, 0, 0), 0, value(n))
    assert pages_of(pool, 0) == PAGES
    pool.put_range((7, 0, 0), 0, value(7))
    assert pages_of(pool, 0) == 0 and eng.check().ok


def test_a_page_that_is_put_over_one_of_a_value_takes_its_part(make_arena):
    eng = make_arena(capacity="16MiB", shards=1)
    pool = eng.new_pool("p", policy="fifo", cap=2 * PAGES)
    pool.put_range((0, 0, 0), 0, value(0))
    assert pool.put((0, 0, 0), 3, b"short") and pool.put((0, 0, 0), 4, value(7, 1))
    pool.put_range((1, 0, 0), 0, value(1))
    pool.put_range((2, 0, 0), 0, value(2))
    assert [pages_of(pool, n) for n in range(3)] == [0, PAGES, PAGES] and eng.check().ok


def test_a_value_that_grows_stays_one(make_arena):
    eng = make_arena(capacity="16MiB", shards=4)
    pool = eng.new_pool("p", policy="fifo", cap=3 * PAGES)
    pool.put_range((0, 0, 0), 0, value(0))
    pool.put_range((0, 0, 0), 0, value(0, 2 * PAGES))
    pool.put_range((1, 0, 0), 0, value(1))
    assert pages_of(pool, 0) == 2 * PAGES
    pool.put_range((2, 0, 0), 0, value(2))
    assert [pages_of(pool, n) for n in range(3)] == [0, PAGES, PAGES] and eng.check().ok


def test_values_side_by_side_in_an_object_go_one_by_one(make_arena):
    eng = make_arena(capacity="16MiB", shards=1)
    pool = eng.new_pool("p", policy="fifo", cap=4 * PAGES)
    for n in range(5):
        pool.put_range((0, 0, 0), n * PAGES, value(n))
    assert pages_of(pool, 0) == 4 * PAGES and read(pool, 0) is None
    assert all(read(pool, 0, n * PAGES) == value(n) for n in range(1, 5)) and eng.check().ok


def test_what_is_left_of_a_flushed_value_goes_and_leaves_nothing(make_arena):
    eng = make_arena(capacity="16MiB", shards=1)
    pool = eng.new_pool("p", policy="clock", cap=2 * PAGES)
    pool.put_range((0, 0, 0), 0, value(0))
    for index in (0, 5, PAGES - 1):
        assert pool.flush_page((0, 0, 0), index)
    for n in range(1, 4):
        pool.put_range((n, 0, 0), 0, value(n))
    assert pages_of(pool, 0) == 0 and pages_of(pool, 3) == PAGES and eng.check().ok


def test_a_view_on_one_page_keeps_the_whole_value(make_arena):
    eng = make_arena(capacity="16MiB", shards=1)
    pool = eng.new_pool("p", policy="fifo", cap=2 * PAGES)
    pool.put_range((0, 0, 0), 0, value(0))
    with pool.view((0, 0, 0), 6) as seen:
        for n in range(1, 4):
            pool.put_range((n, 0, 0), 0, value(n))
        assert pages_of(pool, 0) == PAGES and bytes(seen) == value(0)[6 * PAGE : 7 * PAGE]
    for n in range(4, 7):
        pool.put_range((n, 0, 0), 0, value(n))
    assert pages_of(pool, 0) == 0 and eng.check().ok


def test_pages_go_one_by_one_where_that_is_asked_for(make_arena):
    eng = make_arena(capacity="16MiB", shards=1)
    pool = eng.new_pool("p", policy="fifo", cap=PAGES, whole=False)
    assert not pool.whole and eng.new_pool("q").whole and not eng.new_pool("r", persistent=True).whole
    pool.put_range((0, 0, 0), 0, value(0))
    pool.put((1, 0, 0), 0, value(1, 1))
    assert pages_of(pool, 0) == PAGES - 1 and eng.check().ok
    with pytest.raises(TypeError, match="whole: True or False"):
        eng.new_pool("s", whole=1)


def test_a_repair_keeps_values_together(make_arena):
    eng = make_arena(capacity="16MiB", shards=4)
    pool = eng.new_pool("p", policy="fifo", cap=4 * PAGES)
    for n in range(4):
        pool.put_range((n, 0, 0), 0, value(n))
    assert eng.check(repair=True).ok
    pool.put_range((4, 0, 0), 0, value(4))
    assert sorted(pages_of(pool, n) for n in range(5)) == [0, PAGES, PAGES, PAGES, PAGES] and eng.check().ok


@pytest.mark.parametrize("cap", [10, "5KiB"])
def test_a_value_larger_than_a_cap_is_refused_and_nothing_goes(make_arena, cap):
    eng = make_arena(capacity="16MiB")
    client = eng.client(1)
    for n, pool in enumerate((eng.new_pool("p", cap=cap), eng.new_pool("q", client=1))):
        assert pool.put_range((0, 0, 0), 0, value(0, 8))
        if n:
            eng.client(1, cap=cap)
        assert not pool.put_range((1, 0, 0), 0, value(1, 11)) and pages_of(pool, 1) == 0
        assert read(pool, 0, 0, 8) == value(0, 8)
        assert pool.put_range((1, 0, 0), 0, value(1, 10)) and [pages_of(pool, n) for n in range(2)] == [0, 10]
    assert client.frozen is False and eng.check().ok


@pytest.mark.parametrize("policy", list(MODELS))
def test_a_value_that_ends_at_the_last_index_can_go(make_arena, policy):
    eng = make_arena(capacity="16MiB", shards=1)
    pool = eng.new_pool("p", policy=policy, cap=2 * PAGES)
    pool.put_range((0, 0, 0), 2**64 - PAGES, value(0))
    pool.put((4, 0, 0), 2**64 - 1, value(4, 1))
    for n in range(1, 4):
        pool.put_range((n, 0, 0), 0, value(n))
    assert [pages_of(pool, n) for n in range(5)] == [0, 0, PAGES, PAGES, 0] and eng.check().ok


@pytest.mark.parametrize("policy", list(MODELS))
def test_a_value_does_not_push_itself_out_by_halves(make_arena, policy):
    """While a cap has pages go, some of the value that comes are in their queue and some are
    not."""
    eng = make_arena(capacity="16MiB", shards=1)
    pool = eng.new_pool("p", policy=policy, cap=2 * PAGES)
    for n in range(2):
        pool.put_range((n, 0, 0), 0, value(n))
    pool.put_range((0, 0, 0), 0, value(0, 2 * PAGES))       # the oldest grows: another has to go
    assert [pages_of(pool, n) for n in range(2)] == [2 * PAGES, 0]
    pool.put((1, 0, 0), 0, value(1, 1))
    assert [pages_of(pool, n) for n in range(2)] == [0, 1] and eng.check().ok


def test_the_time_to_pass_over_a_long_value_grows_as_its_length(make_arena):
    eng = make_arena(capacity="16MiB", shards=1)
    took = {}
    for pages in (125, 1000):
        pool = eng.new_pool(str(pages), policy="fifo", cap=3 * pages)
        best = []
        for _ in range(5):
            pool.put_range((0, 0, 0), 0, value(0, pages))
            with pool.view((0, 0, 0), pages // 2):
                for n in (1, 2):
                    pool.put_range((n, 0, 0), 0, value(n, pages))
                began = time.thread_time()
                pool.put((3, 0, 0), 0, b"one more")
                best.append(time.thread_time() - began)
                assert [pages_of(pool, n) for n in range(4)] == [pages, 0, pages, 1]
            for n in range(4):
                pool.flush_object((n, 0, 0))
        took[pages] = min(best)
    assert took[1000] < 30 * took[125], took        # by a walk over all for each page it is 64 times as much


@pytest.mark.parametrize("pam", ["raw", "lz4", "zstd"])
def test_values_longer_than_go_at_once_leave_no_page_behind(make_arena, pam):
    eng = make_arena(capacity="16MiB", shards=4)
    pool = eng.new_pool("p", pam=pam, dedup=True, cap=3000)
    for n in range(6):
        pages = 2500 if n % 2 else 1000
        assert pool.put_range((n, 0, 0), 3, bytes(PAGE) * 10 + value(n % 4, pages - 20) + b"ab" * (PAGE // 2) * 10)
        assert eng.stats()["pools"]["p"]["pages"] == sum(pages_of(pool, n) for n in range(6)) <= 3000
    for n in range(3000):
        pool.put((9, n, 0), 0, value(n, 1))
    assert [pages_of(pool, n) for n in range(6)] == [0] * 6 and eng.check().ok


@pytest.mark.parametrize("policy", list(MODELS))
@pytest.mark.parametrize("shared", [True, False])
def test_a_value_whose_pages_lie_in_several_queues_can_go(make_arena, shared, policy):
    """Single pages lie by their own index; what fills a gap between them comes with the one before.
    Hits in one queue do not come again and again from another."""
    eng = make_arena(capacity="2MiB", shards=8)
    pool = eng.new_pool("p", shared=shared, policy=policy)
    rnd = random.Random(4)
    for n in range(60):
        for index in rnd.sample(range(40), 12):
            pool.put((n, 0, 0), index, value(n, 1))
        for index in rnd.sample(range(40), 3):
            pool.get((n, 0, 0), index, free=False)
        pool.put_range((n, 0, 0), 2, value(n, 30))
        pool.flush_page((n, 0, 0), 20)
        pool.put_range((n, 0, 0), 10, value(n, 30))
        if n % 20 == 0:
            assert eng.check(repair=True).ok
    for _ in range(3):
        for n in range(60):
            pool.get_range((n, 0, 0), 2, 38, free=False)
    kept, n = eng.new_pool("kept", persistent=True), 0
    while kept.put((n // 64, 1, 0), n % 64, value(n, 1)):
        n += 1
    assert [pages_of(pool, n) for n in range(60)] == [0] * 60 and eng.check().ok


def test_hits_of_a_value_in_two_queues_end(make_arena):
    """It has grown: most of it lies in the main queue, the rest in the small one."""
    eng = make_arena(capacity="2MiB", shards=1)
    pool, kept = eng.new_pool("p"), eng.new_pool("kept", persistent=True)
    pool.put_range((0, 0, 0), 0, value(0, 30))
    for n in range(30):
        pool.put((1, n, 0), 0, value(n, 1))
    for _ in range(3):
        read(pool, 0, 0, 30)
    n = 0
    while any(pool.object_info((1, at, 0)) for at in range(30)):
        assert kept.put((n // 64, 1, 0), n % 64, value(n, 1))
        n += 1
    for at in range(n - 40, n):
        kept.flush_page((at // 64, 1, 0), at % 64)
    pool.put_range((0, 0, 0), 0, value(0, 34))
    for _ in range(3):
        assert read(pool, 0, 0, 34) == value(0, 34)
    while kept.put((n // 64, 1, 0), n % 64, value(n, 1)):
        n += 1
    assert pages_of(pool, 0) == 0 and eng.check().ok


def test_what_is_viewed_of_the_queue_whose_turn_it_is_hinders_no_other(make_arena):
    """A tenth of all pages and more in the small queue, and all of one value with a view."""
    eng = make_arena(capacity="2MiB", shards=1)
    pool, kept = eng.new_pool("p"), eng.new_pool("kept", persistent=True)
    pool.put_range((0, 0, 0), 0, value(0, 900))
    for n in range(1, 100):
        pool.put_range((n, 0, 0), 0, value(n))
        read(pool, n)
    with pool.view((0, 0, 0), 500) as seen:
        n = 0
        while kept.put((n // 64, 1, 0), n % 64, value(n, 1)):
            n += 1
        assert bytes(seen) == value(0, 900)[500 * PAGE : 501 * PAGE]
        assert [pages_of(pool, n) for n in range(100)] == [900] + [0] * 99
    assert kept.put((n // 64, 1, 0), n % 64, value(n, 1)) and pages_of(pool, 0) == 0 and eng.check().ok


def test_a_pool_is_destroyed_while_its_values_go(make_arena):
    eng = make_arena(capacity="2MiB")
    for turn in range(20):
        pool, other = eng.new_pool(f"p{turn}"), eng.new_pool(f"q{turn}")
        for n in range(20):
            pool.put_range((n, 0, 0), 0, value(n, 100))
            other.put_range((n, 0, 0), 0, value(n, 100))
        pool.destroy()
        for n in range(40):
            other.put_range((n, 0, 0), 5, value(n, 100))
        other.destroy()
    assert eng.check().ok and eng.stats()["total"]["pages"] == 0

"""Owns what clients have of each other when memory is short: weights, caps, and freezing."""
import pytest

import engine

PAGE = 4096


def page(n):
    return (b"%d/" % n + bytes([n & 255]) * PAGE)[:PAGE]


def full(make_arena, **more):
    return make_arena(**{"capacity": "4MiB", "page_size": PAGE, **more})


def fill(pool, first, count):
    for n in range(first, first + count):
        assert pool.put((n // 64, 0, 0), n % 64, page(n))


def test_a_greedy_client_does_not_push_a_light_one_under_its_share(make_arena):
    eng = full(make_arena, shards=4)
    light, greedy = eng.new_pool("light", client=1), eng.new_pool("greedy", client=2)
    eng.client(1), eng.client(2)
    fill(light, 0, 200)                         # less than half of what fits
    fill(greedy, 0, 5000)
    assert eng.stats()["pools"]["light"]["pages"] == 200 and eng.stats()["pools"]["light"]["evicted"] == 0
    assert eng.stats()["pools"]["greedy"]["evicted"] > 4000
    assert all(light.get((n // 64, 0, 0), n % 64) == page(n) for n in range(200))
    assert eng.check().ok


@pytest.mark.parametrize("weights", [(1, 1), (1, 3), (4, 1)])
def test_memory_is_shared_by_weight(make_arena, weights):
    eng = full(make_arena, shards=4)
    pools = [eng.new_pool(f"p{n}", client=n) for n in (1, 2)]
    for client, weight in zip((1, 2), weights, strict=True):
        assert eng.client(client, weight=weight).weight == weight
    for turn in range(60):                      # both want more than there is
        for pool in pools:
            fill(pool, turn * 64, 64)
    pages = [eng.stats()["pools"][pool.name]["pages"] for pool in pools]
    assert 0.85 < (pages[0] / pages[1]) / (weights[0] / weights[1]) < 1.15, pages
    assert eng.check().ok


def test_pools_of_one_client_count_together(make_arena):
    eng = full(make_arena)
    many, one = [eng.new_pool(f"many{n}", client=1) for n in range(4)], eng.new_pool("one", client=2)
    for turn in range(30):
        for pool in many:
            fill(pool, turn * 64, 64)
        fill(one, turn * 64, 64)
    stats = eng.stats()["pools"]
    assert 0.8 < sum(stats[pool.name]["pages"] for pool in many) / stats["one"]["pages"] < 1.25


def test_a_cap_holds_over_all_pools_of_a_client(make_arena):
    eng = full(make_arena, shards=1)
    a, b, other = eng.new_pool("a", client=7), eng.new_pool("b", client=7), eng.new_pool("other", client=8)
    assert eng.client(7, cap=50).cap == 50
    fill(other, 0, 100)
    fill(a, 0, 100)
    fill(b, 0, 100)
    stats = eng.stats()["pools"]
    assert stats["a"]["pages"] + stats["b"]["pages"] == 50 and stats["other"]["pages"] == 100
    assert eng.check().ok


@pytest.mark.parametrize("persistent", [True, False])
def test_a_frozen_client_takes_no_new_pages(make_arena, persistent):
    eng = full(make_arena)
    pool = eng.new_pool("p", persistent=persistent, client=3)
    fill(pool, 0, 10)
    client = eng.client(3)
    client.freeze()
    with engine.attach(eng.name) as other:
        theirs = other.pool("p")
        assert other.client(3).frozen
        assert not theirs.put((0, 0, 0), 50, page(1)) and theirs.get((0, 0, 0), 50) is None
        assert not theirs.put((9, 9, 9), 0, page(1)) and theirs.object_info((9, 9, 9)) is None
        assert theirs.put((0, 0, 0), 3, page(99)) and theirs.get((0, 0, 0), 3) == page(99)
        assert theirs.put_range((0, 0, 0), 4, page(5) + page(6)) and theirs.flush_page((0, 0, 0), 4)
        assert not theirs.put_range((0, 0, 0), 4, page(5) + page(6)) and theirs.get((0, 0, 0), 5) is None
    client.thaw()
    assert not client.frozen and pool.put((0, 0, 0), 50, page(1))
    assert eng.new_pool("q", client=4).put((0, 0, 0), 0, page(1))
    assert eng.check().ok


def test_what_was_said_of_a_client_holds_for_pools_made_later(make_arena):
    eng = full(make_arena)
    eng.client(5, weight=9).freeze()
    assert not eng.new_pool("p", client=5).put((0, 0, 0), 0, b"x")
    assert repr(eng.client(5)) == "<tmem client 5 (weight 9, cap 0, frozen)>"


def test_more_clients_than_the_table_has_places(make_arena):
    eng = make_arena(max_pools=8)
    for client in range(120):
        eng.client(client)
    with pytest.raises(engine.TmemError, match="120 places"):
        eng.client(1000)
    pool = eng.new_pool("p", client=1000)       # counts with all others that have none
    assert pool.put((0, 0, 0), 0, b"x") and pool.get((0, 0, 0), 0) == b"x"


@pytest.mark.parametrize(
    "arguments,error",
    [
        ((-1,), "id: from 0"),
        (("a",), "id: an int"),
        ((1, 0), "weight: from 1"),
        ((1, 2**30), "weight: from 1"),
        ((1, 1.5), "weight: an int"),
        ((1, 1, -1), "cap: from 0"),
    ],
)
def test_bad_arguments(eng, arguments, error):
    with pytest.raises((TypeError, ValueError), match=error):
        eng.client(*arguments)

"""Owns the contract of pools: making, finding, listing, destroying, ids and names, thousands of
them."""
import os

import pytest

import engine
from tests.support import KINDS, SMALL, page, semaphores_of

OID = (1, 2, 3)


def test_a_pool_tells_what_it_is(eng):
    pool = eng.new_pool("thumbs", persistent=True, shared=False, client=7, pam="raw")
    told = (pool.name, pool.persistent, pool.shared, pool.client, pool.pam, pool.page_size, pool.obj_count)
    assert told == ("thumbs", True, False, 7, "raw", eng.page_size, 0)
    assert isinstance(pool.id, int) and isinstance(pool.name, str)
    assert pool.persistent is True and pool.shared is False


def test_a_pool_has_defaults(eng):
    pool = eng.new_pool("p")
    assert (pool.persistent, pool.shared, pool.client, pool.pam) == (False, True, 0, "raw")


def test_pools_are_found_by_name_and_id(eng):
    made = [eng.new_pool(name) for name in ("a", "b", "Pool 3", "ü" * 31, "x" * 63)]
    for pool in made:
        assert eng.pool(pool.name).id == pool.id and eng.pool(pool.id).name == pool.name
    assert [pool.name for pool in eng.pools()] == [pool.name for pool in made]
    assert len({pool.id for pool in made}) == len(made)
    found = eng.pool("b")
    assert made[1].put(OID, 0, b"page") and found.get(OID, 0) == b"page"


@pytest.mark.parametrize("key", ["nobody", "", 5, 63, 64, 10**9, -1, 2**70])
def test_a_pool_that_is_not_there(eng, key):
    eng.new_pool("a")
    with pytest.raises(engine.PoolNotFound):
        eng.pool(key)


def test_a_name_is_taken_once(eng):
    eng.new_pool("a", persistent=True)
    with pytest.raises(engine.PoolExists, match="a"):
        eng.new_pool("a", persistent=False)
    assert [pool.persistent for pool in eng.pools()] == [True]


def test_pools_beyond_the_table_are_refused(make_arena):
    eng = make_arena(max_pools=3)
    pools = [eng.new_pool(str(n)) for n in range(3)]
    with pytest.raises(engine.TmemError, match="3 pools"):
        eng.new_pool("more")
    pools[1].destroy()
    assert eng.new_pool("more").id == pools[1].id
    assert sorted(pool.name for pool in eng.pools()) == ["0", "2", "more"]


def destroyed_calls(pool):
    handle = pool.object(OID)
    return [
        lambda: pool.put(OID, 0, b"x"),
        lambda: pool.get(OID, 0),
        lambda: pool.get(OID, 0, free=True),
        lambda: pool.get(OID, 0, free=False),
        lambda: pool.get_into(OID, 0, bytearray(512)),
        lambda: pool.flush_page(OID, 0),
        lambda: pool.flush_object(OID),
        lambda: pool.put_range(OID, 0, b"x"),
        lambda: pool.get_range(OID, 0, 2),
        lambda: pool.object_info(OID),
        lambda: pool.descriptor(OID, 0),
        lambda: pool.obj_count,
        lambda: pool.destroy(),
        lambda: handle.get(0),
        lambda: handle.put(0, b"x"),
        lambda: handle.flush_page(0),
        lambda: handle.flush_object(),
        lambda: handle.get_range(0, 1),
        lambda: handle.put_range(0, b"x"),
        lambda: handle.get_into(0, bytearray(512)),
    ]


@pytest.mark.parametrize("again", [False, True], ids=["gone", "its slot taken again"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_call_on_a_destroyed_pool(eng, kind, again):
    pool = eng.new_pool("p", **KINDS[kind])
    assert pool.put(OID, 0, b"page")
    with engine.attach(eng.name) as other:
        elsewhere = other.pool("p")
        pool.destroy()
        if again:
            fresh = eng.new_pool("p", **KINDS[kind])
            assert fresh.id == pool.id and fresh.put(OID, 0, b"other")
        for stale in (pool, elsewhere):
            for number, call in enumerate(destroyed_calls(stale)):
                with pytest.raises(engine.PoolDestroyed, match="p"):
                    call()
                    pytest.fail(f"call {number} did not raise")
        if again:
            assert fresh.get(OID, 0, free=False) == b"other" and fresh.obj_count == 1
        else:
            assert eng.pools() == other.pools() == []
            with pytest.raises(engine.PoolNotFound):
                other.pool("p")
    assert eng.check().ok


@pytest.mark.parametrize("kind", KINDS)
def test_destroy_gives_everything_back(eng, kind):
    empty = eng.stats()["arena"]["segments_used"]
    for _ in range(5):
        pool = eng.new_pool("p", **KINDS[kind])
        for n in range(2000):
            assert pool.put((n % 20, 0, n % 7), n * 61, page(n, 500))
        pool.destroy()
        total = eng.stats()["total"]
        assert (total["objects"], total["objnodes"], total["pages"], total["bytes_asked"], total["bytes_used"],
                total["bytes_stored"]) == (0,) * 6
    # What a worker keeps in hand for its next puts is bounded.
    assert eng.stats()["arena"]["segments_used"] - empty < 40
    report = eng.check()
    assert report.ok and report.counts["objects"] == 0


def test_a_name_comes_back_as_an_empty_pool(eng):
    for n in range(100):
        pool = eng.new_pool("p", persistent=True)
        assert pool.obj_count == 0 and pool.get(OID, 0) is None
        assert eng.stats()["pools"]["p"]["puts_ok"] == 0
        assert pool.put(OID, 0, page(n))
        pool.destroy()


def test_pools_keep_apart(eng):
    pools = [eng.new_pool(kind, **arguments) for kind, arguments in KINDS.items()]
    for n, pool in enumerate(pools):
        assert pool.put(OID, 0, page(n))
    pools[0].flush_object(OID)
    pools[1].destroy()
    assert [pool.get(OID, 0) for pool in pools[2:]] == [page(2), page(3)]


def test_thousands_of_pools(make_arena):
    count = 3000
    eng = make_arena(max_pools=count, buckets=16, capacity="64MiB", max_workers=2)
    for n in range(count):
        pool = eng.new_pool(f"pool {n}", persistent=bool(n & 1))
        assert pool.put((n, 0, 0), n, page(n))
    assert not semaphores_of(eng.name)                    # nobody waited for anybody
    assert len(eng.pools()) == count
    # Opening one by name looks at every pool, so only some are.
    for n in range(0, count, 101):
        assert eng.pool(f"pool {n}").get((n, 0, 0), n) == page(n)
    report = eng.check()
    assert report.ok and report.counts["pools"] == report.counts["pages"] == count
    for n, pool in enumerate(eng.pools()):
        if n % 3:
            pool.destroy()
    assert len(eng.pools()) == count // 3
    report = eng.check()
    assert report.ok and report.counts["pages"] == count // 3


def test_equal_names_in_two_arenas(eng, make_arena):
    other = make_arena(**SMALL)
    here, there = eng.new_pool("p"), other.new_pool("p")
    assert here.put(OID, 0, b"here") and there.put(OID, 0, b"there")
    assert (here.get(OID, 0), there.get(OID, 0)) == (b"here", b"there")


def test_a_pool_made_anew_meanwhile_is_not_taken_for_the_one_before(eng):
    """While pools of one slot come and go, whoever lists them sees each under its own name, or not
    at all."""
    child = os.fork()
    if child == 0:
        try:
            with engine.attach(eng.name) as other:
                for _ in range(400):
                    other.new_pool("lasting", persistent=True, client=1).destroy()
                    other.new_pool("passing", persistent=False, client=2, policy="fifo").destroy()
        finally:
            os._exit(0)
    seen = set()
    while os.waitpid(child, os.WNOHANG)[0] == 0:
        found = eng.pools()
        for name in ("lasting", "passing"):
            try:
                found.append(eng.pool(name))
                assert found[-1].name == name
            except (engine.PoolNotFound, engine.PoolDestroyed):
                pass
        seen |= {(pool.name, pool.persistent, pool.client, pool.policy) for pool in found}
        assert set(eng.stats()["pools"]) <= {"lasting", "passing"}
    assert seen <= {("lasting", True, 1, "s3fifo"), ("passing", False, 2, "fifo")}


@pytest.mark.parametrize("name", ["\udcff", "name\udc80tail", "\ud800"])
def test_a_name_that_utf8_cannot_write(eng, name):
    with pytest.raises(ValueError, match="^name: text that utf-8 can write"):
        eng.new_pool(name)
    with pytest.raises(engine.PoolNotFound):
        eng.pool(name)
    assert eng.pools() == []

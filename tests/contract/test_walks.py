"""Owns the contract of walks: every object that lives all the time comes once, whatever others do
meanwhile; and the indexes of an object's pages, in their order."""
import multiprocessing
import random
import threading

import pytest

import engine
from tests.support import mixed, text

KINDS = {"raw": {}, "persistent": {"persistent": True}, "dedup": {"dedup": True}, "lz4": {"pam": "lz4"},
         "zstd": {"pam": "zstd", "persistent": True}}
MODULES = {"lz4": "lz4.block", "zstd": "zstandard"}


@pytest.fixture(params=KINDS)
def pool(request, make_arena):
    if request.param in MODULES:
        pytest.importorskip(MODULES[request.param])
    eng = make_arena(capacity="16MiB", page_size=512, buckets=16)
    yield eng.new_pool("p", **KINDS[request.param])
    report = eng.check()
    assert report.ok, [str(problem) for problem in report.problems[:3]]


def test_objects_say_what_get_object_says(pool):
    assert list(pool.objects()) == []
    oids = [(n, n * n, 2**64 - 1 - n) for n in range(600)]
    for n, oid in enumerate(oids):
        key = None if n % 5 == 0 else text(n, n % 50)
        assert pool.put_object(oid, text(n, 400), key=key, word=n if n % 3 else None, ttl=1000 if n % 2 else None)
    before = pool.engine.stats()["pools"]["p"]
    found = {info.oid: info for info in pool.objects()}
    after = pool.engine.stats()["pools"]["p"]
    assert (before["gets_hit"], before["gets_miss"]) == (after["gets_hit"], after["gets_miss"])
    assert found.keys() == set(oids)
    for oid in oids:
        info = pool.get_object(oid, info=True)[1]
        assert type(info) is type(found[oid]) is engine.ObjectInfo
        assert found[oid][:5] == info[:5] and found[oid].hits == 0
        assert (found[oid].expires is None) == (info.expires is None)
        assert info.expires is None or 0 <= found[oid].expires - info.expires < 60


def test_what_is_no_value_comes_with_what_it_has(pool):
    assert pool.put((1, 0, 0), 0, b"page 0") and pool.put((1, 0, 0), 5, b"page 5")
    assert pool.put((2, 0, 0), 7, b"page 7")
    assert pool.put((3, 0, 0), 0, b"only page 0")
    found = {info.oid: info for info in pool.objects()}
    assert found[1, 0, 0].length == 12 and found[1, 0, 0].key is None
    assert found[1, 0, 0].version == pool.descriptor((1, 0, 0), 0)[1]
    assert found[2, 0, 0] == ((2, 0, 0), None, 6, None, 0, None, 0)
    assert found[3, 0, 0].length == 11 and found[3, 0, 0].version != 0


def test_a_walk_goes_on_behind_any_oid(pool):
    for n in range(700):
        assert pool.put_object((n % 7, n, 0), b"x", key=b"%d" % n)
    order = [info.oid for info in pool.objects()]
    assert len(set(order)) == len(order) == 700
    for at in (0, 1, 63, 64, 255, 256, 698, 699):
        assert [info.oid for info in pool.objects(after=order[at])] == order[at + 1 :]
        assert [info.oid for info in pool.objects(limit=at)] == order[:at]
        assert [info.oid for info in pool.objects(order[at], 5)] == order[at + 1 : at + 6]
    pool.flush_object(order[300])       # need not be there
    assert [info.oid for info in pool.objects(after=order[300])] == order[301:]
    got = []
    while page := [info.oid for info in pool.objects(got[-1] if got else None, 100)]:
        got += page
    assert got == order[:300] + order[301:]


def test_the_dead_do_not_come(pool):
    for n in range(100):
        assert pool.put_object((n, 0, 0), b"x", ttl=100 if n % 2 else None)
    assert pool.put((1000, 0, 0), 5, b"x") and pool.touch((1000, 0, 0), 100)
    pool.engine.set_clock_ahead(200)
    assert {info.oid[0] for info in pool.objects()} == set(range(0, 100, 2))
    assert list(pool.object((1000, 0, 0)).indexes()) == []
    pool.clear()
    assert list(pool.objects()) == []


def test_keys_of_any_length(pool):
    keys = [mixed(n, length) for n, length in enumerate((0, 1, 30_000, 40_000, 100_000, 1 << 20, 7))]
    for n, key in enumerate(keys):
        assert pool.put_object((n, 0, 0), b"value", key=key)
    found = {info.oid[0]: info for info in pool.objects()}
    assert [found[n].key for n in range(len(keys))] == keys and {info.length for info in found.values()} == {5}


def test_indexes_come_in_their_order(pool):
    rnd = random.Random(5)
    for spread in (0, 6, 12, 40, 63, 64):
        obj = pool.object((spread, 1, 2))
        assert list(obj.indexes()) == []
        indexes = {rnd.getrandbits(spread) if spread else 0 for _ in range(400)}
        if spread == 64:
            indexes |= {0, 2**64 - 1, 2**60 - 1, 2**60, 2**63}
        for index in indexes:
            assert obj.put(index, b"x")
        order = sorted(indexes)
        assert list(obj.indexes()) == order
        for after in [*rnd.sample(order, min(10, len(order))), 0, 2**64 - 1, 63, 64, 2**36 - 1]:
            assert list(obj.indexes(after)) == [index for index in order if index > after]
        for limit in (0, 1, 255, 256, 257, 1000):
            assert list(obj.indexes(limit=limit)) == order[:limit]
        pool.flush_object((spread, 1, 2))
    assert pool.put_range((9, 9, 9), 1000, text(1, 512 * 1000))
    assert list(pool.object((9, 9, 9)).indexes()) == list(range(1000, 2000))


def test_arguments_and_walks_from_python(pool):
    for wrong in (-1, 2**64):
        with pytest.raises(ValueError, match="limit"):
            pool.objects(limit=wrong)
    with pytest.raises(TypeError, match="limit"):
        pool.objects(limit="5")
    with pytest.raises(TypeError):
        pool.objects(after=5)
    with pytest.raises(TypeError, match="after"):
        pool.object((1, 1, 1)).indexes(after="x")
    for walk in (pool.objects(), pool.object((1, 1, 1)).indexes()):
        assert iter(walk) is walk
        with pytest.raises(TypeError):
            type(walk)()
        with pytest.raises(StopIteration):
            next(walk)
        with pytest.raises(StopIteration):
            next(walk)


def test_a_walk_of_a_pool_that_is_destroyed_says_so(make_arena):
    pool = make_arena(capacity="4MiB").new_pool("p")
    for n in range(1000):
        pool.put_object((n, 0, 0), b"x")
    walk = pool.objects()
    next(walk)
    pool.destroy()
    with pytest.raises(engine.PoolDestroyed):
        list(walk)
    with pytest.raises(engine.PoolDestroyed):
        list(pool.object((1, 1, 1)).indexes())


def _restless(name, number, ends):
    rnd = random.Random(number)
    with engine.attach(name) as eng:
        pool = eng.pool("p")
        while not ends.is_set():
            oid = (rnd.randrange(2000), 1, 0)
            if rnd.random() < 0.5:
                pool.put_object(oid, mixed(oid[0], rnd.randrange(700)), key=b"%d" % oid[0])
            else:
                pool.flush_object(oid)
            lasting = rnd.randrange(3000)
            pool.put_object((lasting, 0, 0), mixed(lasting, rnd.randrange(300)), key=b"%d" % lasting)


def test_what_lives_all_the_time_comes_once_while_others_work(make_arena):
    eng = make_arena(capacity="16MiB", max_capacity="32MiB", page_size=512, buckets=8)
    pool = eng.new_pool("p", persistent=True, shared=True)
    for n in range(3000):
        assert pool.put_object((n, 0, 0), b"first", key=b"%d" % n)
    mp = multiprocessing.get_context("spawn")
    ends = mp.Event()
    others = [mp.Process(target=_restless, args=(eng.name, n, ends)) for n in range(2)]
    for other in others:
        other.start()
    try:
        for turn in range(12):
            seen = {}
            for info in pool.objects():
                assert info.oid not in seen and info.key == b"%d" % info.oid[0]
                seen[info.oid] = info
                if len(seen) == 1500 and turn % 4 == 3:
                    eng.resize("32MiB" if turn % 8 == 3 else "16MiB")
                    eng.tend()
            assert {(n, 0, 0) for n in range(3000)} <= seen.keys()
    finally:
        ends.set()
        for other in others:
            other.join()
    assert [other.exitcode for other in others] == [0, 0]
    report = eng.check(frozen=True)
    assert report.ok, [str(problem) for problem in report.problems[:3]]


def test_threads_share_a_walk(make_arena):
    pool = make_arena(capacity="8MiB").new_pool("p")
    for n in range(5000):
        assert pool.put_object((n, 0, 0), b"x")
    walk, got = pool.objects(), [[], [], []]
    threads = [threading.Thread(target=mine.extend, args=(walk,)) for mine in got]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(info.oid[0] for mine in got for info in mine) == list(range(5000))

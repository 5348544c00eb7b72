"""Owns what holds of objects whose only page is page 0, which have no stem: they are as any other
to whoever calls, take half as much, and get a stem with the first page beside that.
"""
import random
import time

import pytest

import engine
from tests.support import text

OID = (1, 2, 3)
LEAN, WITH_STEM = 64, 128


@pytest.fixture
def eng(make_arena):
    return make_arena(capacity="64MiB", page_size=4096)


def overhead(eng):
    return eng.stats()["arena"]["bytes_overhead"]


def obj_bytes(eng, act):
    """What the structs of an arena take more after an act, whose pages' descriptors are 64 bytes
    each."""
    before, pages = overhead(eng), eng.stats()["total"]["pages"]
    segments = eng.stats()["arena"]["segments_used"]
    act()
    assert eng.stats()["arena"]["segments_used"] == segments, "no loss at the end of another segment"
    return overhead(eng) - before - 64 * (eng.stats()["total"]["pages"] - pages)


def test_an_object_of_page_0_alone_takes_half(eng):
    pool = eng.new_pool("p")
    pool.put((9, 9, 9), 0, text(1, 4096))
    pool.put((9, 9, 9), 1, text(1, 4096))
    pool.put((8, 9, 9), 0, text(1, 4096))
    data = text(2, 4096)
    assert obj_bytes(eng, lambda: pool.put(OID, 0, data)) == LEAN
    assert obj_bytes(eng, lambda: pool.put(OID, 0, data[:4000])) == 0
    assert obj_bytes(eng, lambda: pool.put((2, 0, 0), 0, data)) == LEAN
    assert obj_bytes(eng, lambda: pool.flush_object((2, 0, 0))) == -LEAN
    assert obj_bytes(eng, lambda: pool.put((3, 0, 0), 5, data)) == WITH_STEM + 576
    assert obj_bytes(eng, lambda: pool.put(OID, 1, data)) == WITH_STEM - LEAN + 576
    assert pool.object_info(OID) == (2, 1, 1) and pool.object_info((3, 0, 0)) == (1, 1, 1)
    assert eng.check().ok
    pool.destroy()
    assert eng.check().ok and overhead(eng) == eng.stats()["arena"]["bytes_overhead"]


@pytest.mark.parametrize("settings", [{}, {"persistent": True}, {"pam": "lz4"}, {"dedup": True}, {"whole": True}])
def test_what_a_value_was_it_is_with_a_page_beside_it(eng, settings):
    pool = eng.new_pool("p", **settings)
    assert pool.put_object(OID, b"value" * 30, ttl=1000, word=7, key=b"key")
    info = pool.get_object(OID, info=True)[1]
    assert pool.object_info(OID) == (1, 0, 0)
    assert pool.put(OID, 70, b"beside" * 100)
    assert pool.object_info(OID) == (2, 3, 2)
    assert 999 < pool.expires(OID) <= 1000 and pool.get(OID, 70, free=False) == b"beside" * 100
    assert pool.get(OID, 0, free=False) == b"value" * 30 and eng.check().ok
    assert pool.flush_page(OID, 70)
    data, after = pool.get_object(OID, info=True)
    assert data == b"value" * 30 and (after.word, after.version) == (7, info.version)
    assert after.expires == pytest.approx(info.expires, abs=1)
    [seen] = pool.objects()
    assert (seen.key, seen.length, seen.version) == (b"key", 150, info.version)
    assert pool.flush_page(OID, 0) and pool.object_info(OID) is None and eng.check().ok


def test_a_page_put_over_a_value_leaves_its_expiry(eng):
    pool = eng.new_pool("p")
    for length in (100, 100, 3000, 0):          # chunk for chunk, of another class, and with none
        pool.put_object(OID, b"x" * 100, ttl=50)
        assert pool.put(OID, 0, text(3, length)) and 49 < pool.expires(OID) <= 50, length
    assert pool.touch(OID, None) and pool.expires(OID) is None
    assert pool.touch(OID, 20) and 19 < pool.expires(OID) <= 20
    assert pool.put_object(OID, b"y") and pool.expires(OID) is None


def test_one_that_has_expired_is_swept_in_either_form(make_arena):
    eng = make_arena(capacity="16MiB", page_size=4096)
    pool = eng.new_pool("p")
    for n in range(200):
        pool.put_object((n, 0, 0), b"x" * 40, ttl=0.05 if n % 3 else 1000)
        if n % 2:
            pool.put((n, 0, 0), 3, b"beside")
    until = time.monotonic() + 30
    while eng.stats()["total"]["objects"] != 67 and time.monotonic() < until:
        eng.tend()
    assert eng.stats()["total"]["objects"] == 67 and eng.stats()["total"]["expired"] == 133
    assert {found.oid[0] for found in pool.objects()} == set(range(0, 200, 3)) and eng.check().ok


@pytest.mark.parametrize("seed", range(4))
def test_both_forms_are_moved_and_repaired(make_arena, seed):
    rnd = random.Random(seed)
    eng = make_arena(capacity="16MiB", page_size=4096)
    pool = eng.new_pool("p", persistent=True)
    there = {}
    for n in range(3000):
        for index in {0, *rnd.sample(range(100), n % 7 % 3)}:
            there[n, index] = rnd.randbytes(rnd.choice((10, 90, 700)))
            assert pool.put((n, 0, 0), index, there[n, index])
    for n in rnd.sample(range(3000), 2200):
        pool.flush_object((n, 0, 0))
        there = {key: data for key, data in there.items() if key[0] != n}
    eng.resize("4MiB")
    assert eng.check().ok
    assert all(pool.get((n, 0, 0), index) == data for (n, index), data in there.items())
    assert eng.check(repair=True).ok
    assert eng.stats()["total"]["pages"] == len(there)
    assert all(pool.get((n, 0, 0), index) == data for (n, index), data in there.items())


def test_a_host_in_python_is_asked_and_told_of_every_object(make_arena):
    class Host:
        def __init__(self):
            self.objects = 0

        def obj_alloc(self, pool):
            self.objects += 1
            return True

        def obj_free(self, pool):
            self.objects -= 1

        def objnode_alloc(self, pool):
            return True

        def objnode_free(self, pool):
            pass

    plain = make_arena(capacity="8MiB", page_size=4096)
    pool = plain.new_pool("p", shared=True)
    pool.put(OID, 0, b"lean")
    host = Host()
    engine.register_hostops(host)
    try:
        with engine.attach(plain.name) as eng:
            mine = eng.pool("p")
            assert mine.put((2, 0, 0), 0, b"x") and host.objects == 1
            assert mine.put(OID, 1, b"beside") and mine.get(OID, 0, free=False) == b"lean" and host.objects == 1
            mine.flush_object((2, 0, 0))
            assert eng.check().ok and host.objects == 0
    finally:
        engine.register_hostops(None)

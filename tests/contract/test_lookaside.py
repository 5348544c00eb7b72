"""Owns the promise that a worker's memory of where objects are never shows: others link and unlink
them all the time.

Two engines attached in one process are two workers, each with a lookaside table of its own.
"""
import random

import engine


def test_an_object_that_another_worker_took_away_is_gone(make_arena):
    eng = make_arena(buckets=1)
    with engine.attach(eng.name) as other:
        mine, theirs = eng.new_pool("p", persistent=True), other.pool("p")
        for turn in range(50):
            oid = (turn % 3, 0, 0)
            assert mine.put(oid, 0, b"old %d" % turn) and mine.get(oid, 0) == b"old %d" % turn
            assert theirs.get(oid, 0) == b"old %d" % turn
            assert theirs.flush_object(oid)
            # The chunk of the obj is very likely another object's now.
            assert theirs.put((100 + turn, 0, 0), 0, b"new")
            assert mine.get(oid, 0) is None and not mine.flush_page(oid, 0) and mine.object_info(oid) is None
            assert theirs.put(oid, 70, b"again") and mine.get(oid, 70) == b"again" and mine.get(oid, 0) is None
            assert mine.flush_object(oid)
        assert eng.check().ok


def test_a_refused_put_of_a_new_object_is_not_remembered(make_arena):
    class Host:
        allow = True

        def obj_alloc(self, pool):
            return True

        def obj_free(self, pool):
            pass

        def objnode_alloc(self, pool):
            return self.allow

        def objnode_free(self, pool):
            pass

    host = Host()
    eng = make_arena(buckets=1)
    pool = eng.new_pool("p", persistent=True)
    engine.register_hostops(host)
    try:
        for turn in range(20):
            host.allow = False
            assert not pool.put((1, 1, 1), 5, b"x")         # the obj was linked, and rolled back
            assert pool.get((1, 1, 1), 5) is None
            host.allow = True
            assert pool.put((2, 2, turn), 5, b"y") and pool.put((1, 1, 1), 5, b"z")
            assert pool.get((1, 1, 1), 5) == b"z" and pool.flush_object((1, 1, 1))
    finally:
        engine.register_hostops(None)
    assert eng.check().ok


def test_more_objects_than_the_table_has_entries(make_arena):
    eng = make_arena(capacity="16MiB", buckets=2)
    pool = eng.new_pool("p", persistent=True)
    count = 3000
    for n in range(count):
        assert pool.put((n, n, n), 0, b"%d" % n)
    for _ in range(3):
        for n in random.Random(4).sample(range(count), count):
            assert pool.get((n, n, n), 0) == b"%d" % n
    assert pool.get((count, count, count), 0) is None


def test_two_workers_agree_with_a_dictionary(make_arena):
    eng = make_arena(buckets=2)
    rnd = random.Random(11)
    model = {}
    with engine.attach(eng.name) as other:
        pools = [eng.new_pool("p", persistent=True), other.pool("p")]
        for _ in range(6000):
            pool, oid, index = rnd.choice(pools), (rnd.randrange(24), 0, 0), rnd.choice((0, 1, 65))
            verb = rnd.randrange(5)
            if verb <= 1:
                data = rnd.randbytes(rnd.choice((10, 100, 300)))
                assert pool.put(oid, index, data)
                model[oid, index] = data
            elif verb == 2:
                assert pool.flush_object(oid) == any(key[0] == oid for key in model)
                model = {key: data for key, data in model.items() if key[0] != oid}
            elif verb == 3:
                assert pool.flush_page(oid, index) == (model.pop((oid, index), None) is not None)
            assert pool.get(oid, index) == model.get((oid, index))
        assert eng.check().ok


def test_a_slot_whose_pool_is_another_now(make_arena):
    eng = make_arena(buckets=1)
    for turn in range(20):
        pool = eng.new_pool("p", persistent=True)
        assert pool.get((1, 0, 0), 0) is None
        assert pool.put((1, 0, 0), 0, b"%d" % turn) and pool.get((1, 0, 0), 0) == b"%d" % turn
        pool.destroy()

"""Owns the promise that workers which die while several of them evict leave a sound arena: queues,
lists and chunks."""
import os
import random

import pytest

import engine
from tests.crash.killing import let_die

DEATHS = 150


def page(n, length):
    return (b"%d/" % n + bytes([n & 255]) * 4096)[:length]


def attached(eng):
    """An engine of this process's own, and its pools."""
    mine = engine.attach(eng.name)
    return mine, mine.pool("cache"), mine.pool("private")


def hammer(mine, cache, private, seed):
    """Fetch and put, flush and make pools, in an arena that is full, until a kill point ends it."""
    rnd = random.Random(seed)
    mine.recover()          # whoever was forked with these becomes a worker of its own
    mine.set_kill_point(rnd.choice((rnd.randrange(1, 400), rnd.randrange(1, 20000))))
    while True:
        n = rnd.randrange(1500)
        pool, oid, index = rnd.choice((cache, cache, private)), (n // 50, 0, 0), n % 50
        got = pool.get(oid, index)
        if got is not None and got != page(n, len(got)):
            os._exit(7)
        verb = rnd.randrange(40)
        if verb == 0:
            pool.flush_object(oid)
        elif verb <= 2:
            pool.flush_page(oid, index)
        elif verb == 3:
            pool.put_range(oid, index, page(n, 4096) + page(n + 1, 4096))
        else:
            pool.put(oid, index, page(n, rnd.choice((4096, 4096, 4096, 700, 2000))))


@pytest.mark.small
@pytest.mark.parametrize(("policy", "inherited"), [("s3fifo", False), ("sieve", False), ("s3fifo", True)],
                         ids=["s3fifo", "sieve", "with an inherited engine"])
def test_deaths_among_evictors(arena_name, policy, inherited):
    with engine.create(arena_name, "2MiB", max_workers=12, max_pools=4, buckets=4) as eng:
        cache = eng.new_pool("cache", policy=policy)
        private = eng.new_pool("private", shared=False, policy=policy)
        kept = eng.new_pool("kept", persistent=True)
        for n in range(40):
            assert kept.put((n % 3, 0, 0), n, page(n, 4096))
        def victim(number):
            hammer(*((eng, cache, private) if inherited else attached(eng)), number)

        let_die(eng, victim, DEATHS)
        assert all(kept.get((n % 3, 0, 0), n) == page(n, 4096) for n in range(40))
        assert eng.stats()["total"]["evicted"] > 1000
        for n in range(1500):                       # and it goes on as if nothing had been
            assert cache.put((n, 1, 1), 0, page(n, 4096))
        assert eng.check().ok
    engine.unlink(arena_name)

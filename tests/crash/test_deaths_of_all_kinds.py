"""Owns the promise that workers may die while pools of every kind are in use and the capacity
moves: whoever puts, takes, evicts, keeps equal pages once, compresses, or resizes."""
import os
import random

import pytest

import engine
from tests.crash.killing import let_die
from tests.support import mixed

DEATHS = 160
KEPT = 30
KINDS = {
    "raw": {},
    "lz4": {"pam": "lz4"},
    "twins": {"dedup": True},
    "packed-twins": {"dedup": True, "pam": "zstd", "shared": False},
    "client": {"client": 3, "policy": "sieve", "cap": 300},
}


def page(n):
    return mixed(n % 40, 300 + n % 7 * 600)


def hammer(name, seed):
    """Everything there is, until a kill point ends it; every page that comes back is one of those
    that are put under its handle."""
    rnd = random.Random(seed)
    mine = engine.attach(name)
    pools = [mine.pool(kind) for kind in KINDS]
    mine.set_kill_point(rnd.choice((rnd.randrange(1, 600), rnd.randrange(1, 30000))))
    while True:
        n = rnd.randrange(1200)
        pool, oid, index = rnd.choice(pools), (n // 40, 0, 0), n % 40
        got = pool.get(oid, index)
        if got is not None and got not in (page(n), page(n + 1)):
            os._exit(7)
        verb = rnd.randrange(60)
        if verb == 0:
            pool.flush_object(oid)
        elif verb <= 3:
            pool.flush_page(oid, index)
        elif verb == 4 and seed % 3 == 0:
            mine.resize(rnd.randrange(1, 5) << 20)
        else:
            pool.put(oid, index, page(n + rnd.randrange(2)))


@pytest.mark.small
def test_deaths_of_all_kinds(arena_name):
    with engine.create(arena_name, "4MiB", max_workers=12, max_pools=8, buckets=4, huge_pages=False) as eng:
        for kind, arguments in KINDS.items():
            eng.new_pool(kind, **arguments)
        kept = eng.new_pool("kept", persistent=True, pam="lz4")
        for n in range(KEPT):
            assert kept.put((n % 3, 0, 0), n, page(n))
        let_die(eng, lambda number: hammer(eng.name, number), DEATHS)
        assert eng.resize("1MiB") == 1 << 20 and eng.resize("4MiB") == 4 << 20
        report = eng.check(frozen=True)
        assert report.ok, [str(problem) for problem in report.problems[:4]]
        assert all(kept.get((n % 3, 0, 0), n) == page(n) for n in range(KEPT))
        for kind in KINDS:
            pool = eng.pool(kind)
            for n in range(1200):                       # and it goes on as if nothing had been
                assert pool.put((n // 40, 1, 1), n % 40, page(n))
        assert eng.check().ok and eng.stats()["total"]["evicted"] > 1000
    engine.unlink(arena_name)

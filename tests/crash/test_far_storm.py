"""Owns the storm over far pages: workers that put, flush and get, and a spiller, all killed again
and again somewhere in what they do; what is got is never older than what was done last.

`make test` has a few kills of it; with EVERY_POINT there are 10,000.
"""
import mmap
import os
import random
import signal
import struct

import pytest

import engine
from tests.contract.fars import PAGE, content, stats
from tests.stopped import fork

EVERY = bool(os.environ.get("EVERY_POINT"))
KILLS = 10_000 if EVERY else 36
WORKERS = 2
HANDLES = 700           # of each worker, who alone changes what is under them
pytestmark = pytest.mark.timeout(7200 if EVERY else 120)


class Versions:
    """What was last begun and last done under each handle, in memory that all processes share."""

    def __init__(self):
        self.words = mmap.mmap(-1, WORKERS * HANDLES * 16)

    def of(self, n):
        """(done, begun)."""
        return struct.unpack_from("<QQ", self.words, n * 16)

    def change(self, n, act):
        """The next version of n: act(version)."""
        _, begun = self.of(n)
        struct.pack_into("<Q", self.words, n * 16 + 8, begun + 1)
        act(begun + 1)
        struct.pack_into("<Q", self.words, n * 16, begun + 1)


def work(name, versions, which, seed):
    """Until the kill point."""
    rnd = random.Random(seed)
    mine = engine.attach(name)
    pool = mine.pool("p")
    mine.set_kill_point(rnd.randrange(1, 20_000))
    while True:
        n = which * HANDLES + rnd.randrange(HANDLES)
        if rnd.random() < 0.1:
            versions.change(n, lambda _, n=n: pool.flush_page((n // 16, 0, 0), n % 16))
        elif rnd.random() < 0.6:
            versions.change(n, lambda version, n=n: pool.put((n // 16, 0, 0), n % 16, content(n, version)))
        look(pool, versions, rnd.randrange(WORKERS * HANDLES), free=rnd.random() < 0.05)


def look(pool, versions, n, free=False):
    """What is got was there at some moment of the get."""
    done, _ = versions.of(n)
    found = pool.get((n // 16, 0, 0), n % 16, free=free)
    _, begun = versions.of(n)
    if found is not None:
        version = int(found.split(b",")[0].split()[-1])
        assert done <= version <= begun and found == content(n, version), (n, version, done, begun)


def spill(name, seed):
    mine = engine.attach(name)
    mine.set_kill_point(random.Random(seed).randrange(1, 6000))
    while True:
        mine.spill()


def test_kills_of_workers_and_spillers(arena_name, tmp_path):
    versions = Versions()
    eng = engine.create(arena_name, "3MiB", page_size=PAGE, max_workers=8, max_pools=4, buckets=4, shards=2,
                        huge_pages=False, exist_ok=False)
    try:
        pool = eng.new_pool("p", far=f"file://{tmp_path}/far?size=8MiB")
        for n in range(WORKERS * HANDLES):
            versions.change(n, lambda version, n=n: pool.put((n // 16, 0, 0), n % 16, content(n, version)))
        kills = 0
        while kills < KILLS:
            spiller = fork(spill, arena_name, kills)
            workers = [fork(work, arena_name, versions, which, kills + which) for which in range(WORKERS)]
            for pid in workers:
                assert os.waitpid(pid, 0)[1] == signal.SIGKILL
            os.kill(spiller, signal.SIGKILL)        # if it did not come to its point, anywhere
            assert os.waitpid(spiller, 0)[1] == signal.SIGKILL
            kills += 1 + WORKERS
            eng.recover()
            if kills % 30 < 1 + WORKERS:
                report = eng.check(frozen=True)
                assert report.ok, [str(problem) for problem in report.problems[:4]]
                for n in range(0, WORKERS * HANDLES, 7):
                    look(pool, versions, n)
        found = stats(pool)
        assert found["spilled"] > 50 and found["far_hits"] > 5
        # Who reads while his page is written over gets a mixture.
        assert found["checksum_bad"] <= found["far_hits"] // 100
    finally:
        eng.close()
        engine.unlink(arena_name)

"""Owns that a kill anywhere leaves a page in the arena or in its far tier: the spiller at each of
his kill points, who gets far pages away at each of theirs, and a storm of versions with both.

`make test` visits some points, chosen by seed; with EVERY_POINT all.
"""
import os
import random
import signal

import pytest

import engine
from tests.contract.fars import PAGE, content, stats
from tests.crash.test_kill_points import visited
from tests.stopped import fork

PAGES = 800
EVERY = bool(os.environ.get("EVERY_POINT"))
pytestmark = pytest.mark.timeout(3600 if EVERY else 120)


class FarScene:
    """An arena that is full of pages, of which some are far, in a file."""

    def __init__(self, name, folder):
        self.engine = engine.create(name, "3MiB", page_size=PAGE, max_workers=8, max_pools=4, buckets=4,
                                    shards=2, huge_pages=False, exist_ok=False)
        self.pool = self.engine.new_pool("p", far=f"file://{folder}/{name}?size=8MiB")
        for n in range(PAGES):
            assert self.pool.put((n // 16, 0, 0), n % 16, content(n))
            if n % 32 == 31 and n < PAGES - 64:
                self.engine.spill()
        self.there = [n for n in range(PAGES) if self.pool.get((n // 16, 0, 0), n % 16) == content(n)]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.engine.close()
        engine.unlink(self.engine.name)

    def die_in(self, act, point):
        """How many kill points `act` has; None: it died at this one."""
        read, write = os.pipe()

        def victim():
            mine = engine.attach(self.engine.name)
            pool = mine.pool("p")
            mine.set_kill_point(point)
            act(mine, pool)
            os.write(write, str(mine.kill_points()).encode())
        pid = fork(victim)
        os.close(write)
        with os.fdopen(read, "rb") as answer:
            said = answer.read()
        _, status = os.waitpid(pid, 0)
        assert said or os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
        self.engine.recover()
        return int(said) if said else None

    def assert_sound(self, lost=0):
        report = self.engine.check(frozen=True)
        assert report.ok, [str(problem) for problem in report.problems[:4]]
        missing = 0
        for n in self.there:
            found = self.pool.get((n // 16, 0, 0), n % 16)
            assert found in (None, content(n))
            missing += found is None
        assert missing <= lost


def spill(eng, pool):
    eng.spill()


def take(eng, pool):
    """An exclusive get, a flush and a put over, of a far page each."""
    for n, verb in ((0, "get"), (1, "flush"), (2, "put")):
        if verb == "get":
            pool.get((n // 16, 0, 0), n % 16, free=True)
        elif verb == "flush":
            pool.flush_page((n // 16, 0, 0), n % 16)
        else:
            pool.put((n // 16, 0, 0), n % 16, content(n))


@pytest.mark.parametrize("act, lost", [(spill, 0), (take, 64)], ids=["spill", "take"])
def test_8_a_kill_anywhere_leaves_a_page_local_or_far(arena_name, tmp_path, act, lost):
    # A put into a full arena lets others go.
    with FarScene(arena_name, tmp_path) as scene:
        assert stats(scene.pool)["far_pages"] > 50
        points = scene.die_in(act, 1 << 60)
        scene.assert_sound(lost)
    for i, point in enumerate(visited(points, 24, act.__name__)):
        with FarScene(f"{arena_name}{i}", tmp_path) as scene:
            scene.die_in(act, point)
            scene.assert_sound(lost)
            assert scene.die_in(act, 1 << 60) is not None       # who comes next goes on
            scene.assert_sound(lost)


def test_versions_while_spillers_are_killed(arena_name, tmp_path):
    """Puts with versions, flushes and gets, while one spiller after the other is killed somewhere:
    what is got is what was put last, or nothing."""
    rnd = random.Random(18)
    with FarScene(arena_name, tmp_path) as scene:
        versions = {n: (0 if n in set(scene.there) else None) for n in range(PAGES)}
        for turn in range(400 if EVERY else 12):
            pid = fork(spiller, scene.engine.name, rnd.randrange(1, 3000))
            for _ in range(300):
                n = rnd.randrange(PAGES)
                handle = (n // 16, 0, 0), n % 16
                act = rnd.random()
                if act < 0.3:
                    assert scene.pool.put(*handle, content(n, turn + 1))
                    versions[n] = turn + 1
                elif act < 0.35:
                    scene.pool.flush_page(*handle)
                    versions[n] = None
                else:
                    found = scene.pool.get(*handle)
                    assert found is None or versions[n] is not None and found == content(n, versions[n])
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            scene.engine.recover()
        report = scene.engine.check(frozen=True)
        assert report.ok, [str(problem) for problem in report.problems[:4]]


def spiller(name, point):
    mine = engine.attach(name)
    mine.set_kill_point(point)
    while True:
        mine.spill()

"""Owns that no kill loses a page of a persistent pool whose pages leave for a far tier: the spiller
at each of his kill points, workers at each of theirs, and a storm of versions with both.

`make test` visits some points, chosen by seed; with EVERY_POINT all.
"""
import os
import random
import signal

import pytest

import engine
from engine.far import tiers
from tests.contract.fars import PAGE, FolderTier, content, stats
from tests.crash.test_far_deaths import FarScene, spill, spiller
from tests.crash.test_kill_points import visited
from tests.stopped import fork

PAGES = 800
EVERY = bool(os.environ.get("EVERY_POINT"))
pytestmark = pytest.mark.timeout(3600 if EVERY else 120)


@pytest.fixture(autouse=True)
def _folders(monkeypatch):
    monkeypatch.setitem(tiers.SCHEMES, "folder", FolderTier)


def handle(n):
    return (n // 16, 0, 0), n % 16


class KeptScene(FarScene):
    """An arena that is full of persistent pages, of which some are far, in a folder."""

    def __init__(self, name, folder):
        self.engine = engine.create(name, "3MiB", page_size=PAGE, max_workers=8, max_pools=4, buckets=4,
                                    shards=2, huge_pages=False, exist_ok=False)
        self.kept = folder / name
        self.pool = self.engine.new_pool("p", far=f"folder://{self.kept}", persistent=True, far_persistent=True)
        for n in range(PAGES):
            assert self.pool.put(*handle(n), content(n))
            if n % 32 == 31:
                self.engine.spill()
        for n in range(PAGES, PAGES + 30):      # as much as the spiller keeps free: he has work
            assert self.pool.put(*handle(n), content(n))

    def assert_all_there(self, but=()):
        report = self.engine.check(frozen=True)
        assert report.ok and report.counts["far_lost"] == 0, [str(problem) for problem in report.problems[:4]]
        for n in range(PAGES + 30):
            if n not in but:
                assert self.pool.get(*handle(n)) == content(n)
        for n, allowed in dict(but).items():
            assert self.pool.get(*handle(n)) in allowed


def get_all(eng, pool):
    for n in range(0, PAGES, 5):
        assert pool.get(*handle(n)) == content(n)
    assert pool.get_range((3, 0, 0), 0, 16) is not None


# What a worker does to far pages, and what may be under the handles afterwards.
TAKEN = {0: (content(0), None), 1: (content(1), None), 2: (content(2), content(2, 1), None),
         **{n: (content(n), None) for n in range(16, 32)}}


def take(eng, pool):
    """An exclusive get, a flush, a put over and a flush of an object, of far pages each."""
    assert pool.get(*handle(0), free=True) == content(0)
    pool.flush_page(*handle(1))
    pool.put(*handle(2), content(2, 1))
    pool.flush_object((1, 0, 0))


@pytest.mark.parametrize("act, changed", [(spill, {}), (get_all, {}), (take, TAKEN)], ids=["spill", "get", "take"])
def test_a_kill_anywhere_loses_no_page(arena_name, tmp_path, act, changed):
    with KeptScene(arena_name, tmp_path) as scene:
        assert stats(scene.pool)["far_pages"] > 100
        points = scene.die_in(act, 1 << 60)
        scene.assert_all_there(changed)
    for i, point in enumerate(visited(points, 6, act.__name__)):
        with KeptScene(f"{arena_name}{i}", tmp_path) as scene:
            scene.die_in(act, point)
            scene.assert_all_there(changed)
            scene.engine.spill()
            assert scene.die_in(spill, 1 << 60) is not None         # who comes next goes on
            scene.assert_all_there(changed)


def mark(eng, pool):
    """A get of each page of an object, whose names the tier does not have."""
    for n in range(16):
        try:
            pool.get(*handle(n))
        except engine.FarLost:
            continue


def test_a_kill_while_a_loss_is_noted(arena_name, tmp_path):
    with KeptScene(arena_name, tmp_path) as scene:
        place = scene.pool.far.removeprefix("folder://")
        os.rename(place, place + ".away")
        os.mkdir(place)
        points = scene.die_in(mark, 1 << 60)
        for point in visited(points, 6, "mark"):
            scene.die_in(mark, point)
            report = scene.engine.check(frozen=True)
            assert report.ok, [str(problem) for problem in report.problems[:4]]
        os.rmdir(place)
        os.rename(place + ".away", place)
        for n in range(PAGES + 30):
            assert scene.pool.get(*handle(n)) == content(n)
        scene.assert_all_there()


def test_versions_while_spillers_are_killed(arena_name, tmp_path):
    """Puts with versions, flushes and gets, while one spiller after the other is killed somewhere:
    what is got is what was put last."""
    rnd = random.Random(24)
    with KeptScene(arena_name, tmp_path) as scene:
        versions = dict.fromkeys(range(PAGES + 30), 0)
        for turn in range(400 if EVERY else 4):
            pid = fork(spiller, scene.engine.name, rnd.randrange(1, 3000))
            for _ in range(300):
                n = rnd.randrange(PAGES)
                act = rnd.random()
                if act < 0.2:
                    versions[n] = turn + 1 if scene.pool.put(*handle(n), content(n, turn + 1)) else None
                elif act < 0.3:
                    scene.pool.flush_page(*handle(n))
                    versions[n] = None
                else:
                    found = scene.pool.get(*handle(n))
                    assert found == (None if versions[n] is None else content(n, versions[n]))
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            scene.engine.recover()
        report = scene.engine.check(frozen=True)
        assert report.ok, [str(problem) for problem in report.problems[:4]]
        for n, version in versions.items():
            assert scene.pool.get(*handle(n)) == (None if version is None else content(n, version))

"""Owns that a kill anywhere leaves a page in the arena or in its far tier: the spiller at each of
his kill points, who gets far pages away or brings them home at each of theirs, and a storm of
versions with all of them.

`make test` visits some points, chosen by seed; with EVERY_POINT all.
"""
import os
import random
import shutil
import signal
import time

import pytest

import engine
from tests.contract.fars import PAGE, content, fresh_dict_tier, stats
from tests.crash.test_kill_points import HUGE, visited
from tests.stopped import Stopped, fork

PAGES = 800
EVERY = bool(os.environ.get("EVERY_POINT"))
pytestmark = pytest.mark.timeout(3600 if EVERY else 120)


class FarScene:
    """An arena that is full of pages, of which some are far: in a file, or without a folder in a
    DictTier, of which a forked child has a copy."""

    def __init__(self, name, folder=None, shards=2):
        self.engine = engine.create(name, "3MiB", page_size=PAGE, max_workers=8, max_pools=4, buckets=4,
                                    shards=shards, huge_pages=False, exist_ok=False, max_capacity="4MiB")
        self.kept = None if folder is None else folder / name
        far = "dict:" if folder is None else f"file://{self.kept}?size=8MiB"
        self.pool = self.engine.new_pool("p", far=far)
        self.fill()

    def fill(self):
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
        if self.kept is not None:       # there are thousands of them
            shutil.rmtree(self.kept) if self.kept.is_dir() else self.kept.unlink()

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


class ValueScene(FarScene):
    """The same of values of eight pages, which go as one."""

    def fill(self):
        self.values = [random.Random(n).randbytes(8 * PAGE) for n in range(100)]
        for n, value in enumerate(self.values):
            assert self.pool.put_range((n, 0, 0), 0, value)
            if n % 4 == 3 and n < 92:
                self.engine.spill()
        self.there = [n for n, value in enumerate(self.values) if self.get(n) == value]

    def squeeze(self, capacity):
        """Resize: what goes by that is not there."""
        self.engine.resize(capacity)
        self.there = [n for n in self.there if self.pool.descriptor((n, 0, 0), 0) is not None]

    def get(self, n):
        return self.pool.get_range((n, 0, 0), 0, 8)

    def assert_sound(self, lost=0):
        report = self.engine.check(frozen=True)
        assert report.ok, [str(problem) for problem in report.problems[:4]]
        found = [self.get(n) for n in self.there]
        assert all(page in (None, self.values[n]) for n, page in zip(self.there, found, strict=True))
        assert found.count(None) <= lost


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


def work_beside(name):
    """What another does while the spiller stands still: it gets right pages, and its puts are
    taken."""
    with engine.attach(name) as mine:
        pool = mine.pool("p")
        for n in range(PAGES, PAGES + 40):
            assert pool.put((n // 16, 0, 0), n % 16, content(n)) and pool.get((n // 16, 0, 0), n % 16) == content(n)
        for n in range(0, PAGES, 11):
            assert pool.get((n // 16, 0, 0), n % 16) in (None, content(n))
        assert mine.spill() >= 0


@pytest.mark.parametrize("dies", [False, True], ids=["goes on", "dies"])
def test_a_spiller_that_is_stopped_while_another_works(arena_name, tmp_path, dies):
    """Who needs a lock of his waits; then he goes on, or is killed after all, and all is right."""
    with FarScene(arena_name, tmp_path) as scene:
        points = scene.die_in(spill, HUGE)
    for i, point in enumerate(visited(points, 6, f"stopped {dies}")):
        with FarScene(f"{arena_name}{i}", tmp_path) as scene:
            with Stopped(scene.engine.name, lambda mine: spill(mine, mine.pool("p")), point) as spiller:
                assert spiller.stopped
                other = fork(work_beside, scene.engine.name)
                time.sleep(0.05)        # for the other to come to a lock, if it needs one
                assert (spiller.kill() if dies else spiller.go_on()) == (-signal.SIGKILL if dies else 0)
                assert os.waitpid(other, 0)[1] == 0
            scene.engine.recover()
            scene.assert_sound(lost=100)


@pytest.mark.parametrize("act, lost", [(spill, 0), (take, 64)], ids=["spill", "take"])
def test_8_a_kill_anywhere_leaves_a_page_local_or_far(arena_name, tmp_path, act, lost):
    # A put into a full arena lets others go.
    with FarScene(arena_name, tmp_path) as scene:
        assert stats(scene.pool)["far_pages"] > 50
        points = scene.die_in(act, 1 << 60)
        scene.assert_sound(lost)
    for i, point in enumerate(visited(points, 6, act.__name__)):
        with FarScene(f"{arena_name}{i}", tmp_path) as scene:
            scene.die_in(act, point)
            scene.assert_sound(lost)
            assert scene.die_in(act, 1 << 60) is not None       # who comes next goes on
            scene.assert_sound(lost)


def bring(eng, pool):
    """Far pages come home: by single gets, in a batch, and by a range."""
    for _ in range(2):
        for n in (0, 33):
            pool.get((n // 16, 0, 0), n % 16)
        pool.object((2, 0, 0)).get_many(range(3, 6))
        pool.get_range((1, 0, 0), 0, 4)


@pytest.mark.parametrize("tier", ["file", "dict"])
def test_8_a_kill_of_who_brings_pages_home_leaves_each_local_or_far(arena_name, tmp_path, monkeypatch, tier):
    fresh_dict_tier(monkeypatch)
    folder = tmp_path if tier == "file" else None
    with FarScene(arena_name, folder, shards=1) as scene:
        scene.engine.resize("4MiB")
        far = stats(scene.pool)["far_pages"]
        points = scene.die_in(bring, 1 << 60)
        assert stats(scene.pool)["localified"] == 9 and stats(scene.pool)["far_pages"] == far - 9
        scene.assert_sound()
    for i, point in enumerate(visited(points, 6, f"bring {tier}")):
        with FarScene(f"{arena_name}{i}", folder, shards=1) as scene:
            scene.engine.resize("4MiB")
            scene.die_in(bring, point)
            scene.assert_sound()
            assert scene.die_in(bring, 1 << 60) is not None
            assert stats(scene.pool)["localified"] >= 9
            scene.assert_sound()


def bring_values(eng, pool):
    for _ in range(2):
        for n in range(2):
            pool.get_range((n, 0, 0), 0, 8)


@pytest.mark.parametrize("act", [spill, bring_values])
def test_8_a_kill_leaves_a_value_right_also_where_half_of_it_is_far(arena_name, tmp_path, act):
    with ValueScene(arena_name, tmp_path) as scene:
        scene.squeeze("4MiB" if act is bring_values else "2560KiB")
        points = scene.die_in(act, 1 << 60)
        assert stats(scene.pool)["localified" if act is bring_values else "spilled"] >= 16
        scene.assert_sound()
    for i, point in enumerate(visited(points, 6, f"value {act.__name__}")):
        with ValueScene(f"{arena_name}{i}", tmp_path) as scene:
            scene.squeeze("4MiB" if act is bring_values else "2560KiB")
            scene.die_in(act, point)
            scene.assert_sound()
            assert scene.die_in(act, 1 << 60) is not None
            scene.assert_sound()


def test_versions_while_spillers_are_killed(arena_name, tmp_path):
    """Puts with versions, flushes and gets, while one spiller after the other is killed somewhere,
    and one who brings pages home: what is got is what was put last, or nothing. It goes on until
    some came home."""
    rnd = random.Random(18)
    with FarScene(arena_name, tmp_path) as scene:
        versions = {n: (0 if n in set(scene.there) else None) for n in range(PAGES)}
        for turn in range(400 if EVERY else 60):
            if turn >= 4 and not EVERY and stats(scene.pool)["localified"] > 0:
                break
            pids = [fork(spiller, scene.engine.name, rnd.randrange(1, 3000)),
                    fork(getter, scene.engine.name, rnd.randrange(1, 6000), turn)]
            for _ in range(300):
                n = rnd.randrange(PAGES if rnd.random() < 0.5 else 64)
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
            for pid in pids:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
            scene.engine.recover()
        report = scene.engine.check(frozen=True)
        assert report.ok, [str(problem) for problem in report.problems[:4]]
        assert stats(scene.pool)["localified"] > 0


def getter(name, point, seed):
    mine = engine.attach(name)
    pool = mine.pool("p")
    rnd = random.Random(seed)
    mine.set_kill_point(point)
    while True:
        n = rnd.randrange(100)
        pool.get((n // 16, 0, 0), n % 16)
        pool.get_range((n // 16, 0, 0), 0, 16)


def spiller(name, point):
    mine = engine.attach(name)
    mine.set_kill_point(point)
    while True:
        mine.spill()

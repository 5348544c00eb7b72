"""Owns the promise that a worker which dies in a locked section hangs nobody: the failure uWSGI's
cache is known for."""
import os
import signal

import pytest

import engine
from tests.crash.killing import HUGE, VERBS, Scene, nothing


def over(e):
    e.pool("p").put((0, 0, 0), 0, b"Z" * 4000)


def warm(e):
    """The second leaves a chunk at hand, whoever was buried before: each overwrite after it has as
    many points as the last."""
    over(e)
    over(e)


def points_with_lock(scene):
    """Kill points of an overwrite at which the bucket's lock is held."""
    return scene.die_in(warm, over, HUGE)


def test_uwsgi_cache_failure_does_not_happen_here(arena_name):
    """A worker dies while it holds the lock; every other worker goes on at once, with the old page
    or the new."""
    with Scene(arena_name) as scene:
        points = points_with_lock(scene)
        old = scene.p.get((0, 0, 0), 0)
        deaths = 0
        for point in range(1, points + 1):
            deaths += scene.die_in(warm, over, point) is None
            assert scene.p.get((0, 0, 0), 0) in (old, b"Z" * 4000)
            assert scene.p.put((0, 0, 0), 0, old)
            assert scene.p.flush_page((0, 0, 0), 0)
            assert scene.p.put((0, 0, 0), 0, old)
        assert deaths == points > 15
        scene.engine.recover()
        assert scene.engine.check().ok


def test_more_deaths_than_worker_slots(arena_name):
    with Scene(arena_name) as scene:
        for point in range(5, 5 + 4 * scene.engine.max_workers):
            assert scene.die_in(nothing, VERBS["put-new-page"][1], point) is None
        with engine.attach(scene.name) as late:
            assert late.check().ok
            assert late.stats()["arena"]["workers"] == 2


def test_all_slots_of_the_living_are_refused(arena_name):
    with engine.create(arena_name, "1MiB", max_workers=2) as first, engine.attach(arena_name) as second:
        assert first.worker_id != second.worker_id
        with pytest.raises(engine.ArenaBusy, match="2 worker slots"):
            engine.attach(arena_name)
    engine.unlink(arena_name)


def test_a_child_that_lives_does_not_keep_its_dead_parent_alive(arena_name):
    """A forked child inherits the mapping and the descriptor of its parent, and must not hold the
    parent's liveness."""
    with Scene(arena_name) as scene:
        read, write = os.pipe()
        hold, release = os.pipe()
        parent = os.fork()
        if parent == 0:
            mine = engine.attach(scene.name)
            pool = mine.pool("p")
            if os.fork() == 0:
                os.write(write, b"c")
                os.close(release)
                os.read(hold, 1)            # lives until the test lets go; never uses what it inherited
                os._exit(0)
            mine.set_kill_point(60)
            while True:
                pool.put((0, 0, 0), 0, b"Z" * 4000)
        assert os.read(read, 1) == b"c"
        assert os.waitstatus_to_exitcode(os.waitpid(parent, 0)[1]) == -signal.SIGKILL
        try:
            assert scene.engine.recover() == 1
            assert scene.p.put((0, 0, 0), 0, b"mine") and scene.p.get((0, 0, 0), 0) == b"mine"
            assert scene.engine.check().ok
        finally:
            for end in (read, write, hold, release):
                os.close(end)

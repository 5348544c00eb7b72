"""Owns the promise that a worker which dies in a locked section hangs nobody: the failure uWSGI's cache is known for."""
import os
import signal

import pytest

import engine
from tests.crash.killing import HUGE, VERBS, Scene, nothing


def over(e):
    e.pool("p").put((0, 0, 0), 0, b"Z" * 4000)


def points_with_lock(scene):
    """Kill points of an overwrite at which the bucket's lock is held."""
    return scene.die_in(nothing, over, HUGE)


def test_uwsgi_cache_failure_does_not_happen_here(arena_name):
    """A worker dies while it holds the lock; every other worker goes on at once, with the old page or the new."""
    with Scene(arena_name) as scene:
        points = points_with_lock(scene)
        old = scene.p.get((0, 0, 0), 0)
        for point in range(1, points + 1):
            assert scene.die_in(nothing, over, point) is None
            assert scene.p.get((0, 0, 0), 0) in (old, b"Z" * 4000)
            assert scene.p.put((0, 0, 0), 0, old)
            assert scene.p.flush_page((0, 0, 0), 0)
            assert scene.p.put((0, 0, 0), 0, old)
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


class Alarm(Exception):
    """Raised by a signal handler in the middle of a wait."""


def test_a_stopped_holder_is_waited_for_and_signals_come_through(arena_name):
    """A holder that is stopped, not dead, keeps its lock; a handler that raises ends the wait, and nothing is harmed."""
    with Scene(arena_name) as scene:
        read, write = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                mine = engine.attach(scene.name)
                pool = mine.pool("p")
                os.write(write, b"x")
                while True:
                    pool.put((0, 0, 0), 0, b"s" * 4000)
            finally:
                os._exit(0)
        os.close(write)
        os.read(read, 1)
        os.close(read)

        def ring(*_):
            raise Alarm

        before = signal.signal(signal.SIGALRM, ring)
        waited = False
        try:
            for _ in range(500):
                os.kill(pid, signal.SIGSTOP)
                os.waitpid(pid, os.WUNTRACED)
                signal.setitimer(signal.ITIMER_REAL, 0.1)
                try:
                    assert scene.p.put((0, 0, 0), 0, b"mine")
                    signal.setitimer(signal.ITIMER_REAL, 0)
                    assert scene.p.get((0, 0, 0), 0) == b"mine"
                except Alarm:
                    waited = True
                os.kill(pid, signal.SIGCONT)
                if waited:
                    break
            assert waited, "the holder was never stopped while it held the lock"
            assert scene.p.put((0, 0, 0), 0, b"mine")
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        scene.engine.recover()
        assert scene.engine.check().ok

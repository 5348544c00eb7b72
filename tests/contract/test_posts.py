"""Owns the promise that posts of a lock's semaphore do not pile up, however long workers fight for
the lock."""
import multiprocessing
import os

import posix_ipc

import engine
from shm.kernel.semaphores import Semaphores
from tests.support import SHM, semaphores_of


def _hammer(name, turns):
    with engine.attach(name) as eng:
        pool = eng.pool("p")
        for n in range(turns):
            pool.put_range((1, 0, 0), 0, bytes([n & 255]) * (512 * 16))


def test_posts_nobody_took_are_few(make_arena):
    eng = make_arena(buckets=1, max_workers=8)
    eng.new_pool("p", persistent=True)
    fork = multiprocessing.get_context("fork")
    crew = [fork.Process(target=_hammer, args=(eng.name, 1500)) for _ in range(4)]
    for process in crew:
        process.start()
    for process in crew:
        process.join()
    assert [process.exitcode for process in crew] == [0] * 4
    for name in semaphores_of(eng.name):
        semaphore = posix_ipc.Semaphore("/" + name.removeprefix("sem."))
        try:
            assert semaphore.value < eng.max_workers + len(
                crew
            )  # each may have looked at the value before another's post
        finally:
            semaphore.close()


def test_no_more_posts_than_there_can_be_sleepers(make_arena):
    eng = make_arena()
    nonce = int(next(SHM.glob(f"alive.{eng.name}@*")).name.partition("@")[2], 16)
    semaphores = Semaphores(eng.name, nonce, 0o600, os.getuid(), os.getgid(), 5)
    try:
        for _ in range(100):
            semaphores.post(64, 7)
        mine = posix_ipc.Semaphore(semaphores.name(64, 7))
        assert mine.value == 5
        semaphores.sleep(64, 7, 5.0)                    # does not sleep
        assert mine.value == 4
        mine.close()
    finally:
        semaphores.unlink(64, 7)
        semaphores.close()

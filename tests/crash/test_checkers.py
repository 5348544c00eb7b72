"""Owns the promise that checks of a sound arena agree that it is sound, several at once, while
workers die under them."""
import os
import random
import signal

import pytest

import engine
from tests.crash.killing import Scene
from tests.stopped import fork

CHECKERS = 5
CHECKS = 6000
VICTIMS = 4


def check_often(name, tell):
    """Check the arena again and again; the first thing that is wrong goes down the pipe."""
    mine = engine.attach(name)
    said = b"ok"
    for _ in range(CHECKS):
        try:
            report = mine.check(frozen=True)
        except engine.TmemError as error:
            said = repr(error).encode()
            break
        if not report.ok:
            said = str(report.problems[0]).encode()
            break
    os.write(tell, said)


def put_until_killed(name, seed):
    rnd = random.Random(seed)
    mine = engine.attach(name)
    pool = mine.pool("p")
    mine.set_kill_point(rnd.randrange(1, 1500))
    while True:
        pool.put((rnd.randrange(3), 0, 0), rnd.randrange(20), bytes(rnd.randrange(1, 4000)))


@pytest.mark.small
def test_checkers_and_the_dying(arena_name):
    """Checkers stop the world one after the other; a worker that dies while one of them waits for
    it confuses nobody."""
    with Scene(arena_name, max_workers=24) as scene:
        pipes = [os.pipe() for _ in range(CHECKERS)]
        checkers = [fork(check_often, scene.name, tell) for _, tell in pipes]
        for _, tell in pipes:
            os.close(tell)
        victims, seed, running = [], 0, set(checkers)
        try:
            while running:
                while len(victims) < VICTIMS:
                    victims.append(fork(put_until_killed, scene.name, seed))
                    seed += 1
                os.waitpid(victims.pop(0), 0)
                running -= {pid for pid in running if os.waitpid(pid, os.WNOHANG)[0]}
        finally:
            for pid in [*victims, *running]:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
            answers = []
            for ask, _ in pipes:
                with os.fdopen(ask, "rb") as stream:
                    answers.append(stream.read())
        assert answers == [b"ok"] * CHECKERS
        scene.engine.recover()
        assert scene.engine.check().ok

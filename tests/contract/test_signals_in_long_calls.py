"""Owns that calls over many pages let signals in: a handler that raises ends the call after a
bounded number of pages, the arena is sound, and the next call does the rest.

The signal comes while the worker stands still at a kill point in the middle of the call, so that
nothing depends on how fast anything is."""
import os
import signal

import pytest

from tests.stopped import Stopped

PAGES = 100_000
BEFORE_SIGNALS = 1026 * 64      # pages, nodes and objects that a flush may give back first
EACH = 128 + 64                 # bytes of a page here, with its descriptor
NODES = 1 << 20         # bytes of nodes, and of what is cut off segments, at most


class RungError(Exception):
    pass


def ring(*_):
    raise RungError


def rung(call):
    """True if a handler's exception ended the call."""
    try:
        call()
    except RungError:
        return True
    return False


def fill(pool, count=PAGES, one=True):
    for n in range(0, count, 1000):
        some = range(n, n + 1000)
        pool.put_many([((1, 0, 0), i) if one else ((i, 0, 0), 0) for i in some], [b"%09d" % i * 10 for i in some])


def leaving(eng):
    return eng.stats()["arena"]["bytes_leaving"]


def interrupt(name, act, point):
    """Run `act` in a worker that a signal interrupts at a kill point of it."""
    with Stopped(name, act, point) as worker:
        assert worker.stopped, worker.status
        os.kill(worker.pid, signal.SIGUSR1)
        assert worker.go_on() == 0


@pytest.fixture
def big(make_arena):
    return make_arena(capacity="64MiB", buckets=16)


@pytest.mark.parametrize("point", [30, 300])
@pytest.mark.parametrize("verb", ["flush_object", "destroy"])
def test_a_flush_that_is_interrupted_has_taken_effect_and_the_next_call_does_the_rest(big, verb, point):
    fill(big.new_pool("p", persistent=True))
    before = big.stats()["arena"]["bytes_persistent"] + big.stats()["arena"]["bytes_overhead"]

    def act(eng):
        signal.signal(signal.SIGUSR1, ring)
        pool = eng.pool("p")
        assert rung(lambda: pool.flush_object((1, 0, 0)) if verb == "flush_object" else pool.destroy())
        left = leaving(eng)
        assert before - BEFORE_SIGNALS * EACH - NODES <= left < before
        assert eng.stats()["total"]["pages"] == 0 and eng.check().ok
        eng.recover()
        assert leaving(eng) == 0

    interrupt(big.name, act, point)
    assert leaving(big) == 0 and big.check().ok


@pytest.mark.parametrize("kind", ["evicts", "moves"])
def test_a_resize_that_is_interrupted_leaves_the_capacity_and_the_next_one_does_it(big, kind):
    pool = big.new_pool("p", persistent=kind == "moves")
    fill(pool, one=False)
    if kind == "moves":
        for n in range(PAGES):
            if n % 4:
                pool.flush_page((n, 0, 0), 0)
    pages = big.stats()["total"]["pages"]

    def act(eng):
        signal.signal(signal.SIGUSR1, ring)
        assert rung(lambda: eng.resize("16MiB"))
        assert eng.capacity == 64 << 20 and eng.check().ok
        assert eng.stats()["total"]["pages"] >= pages - 10 * 256
        assert eng.resize("16MiB") == 16 << 20

    interrupt(big.name, act, 12)
    assert big.capacity == 16 << 20 and big.check().ok
    assert kind == "evicts" or big.stats()["total"]["pages"] == pages


@pytest.mark.parametrize("gentle", [False, True])
def test_a_check_that_is_interrupted_can_be_made_again(big, gentle):
    fill(big.new_pool("p"), one=False)

    def act(eng):
        signal.signal(signal.SIGUSR1, ring)
        assert rung(lambda: eng.check(gentle=gentle))
        assert eng.check(gentle=gentle).ok and eng.check(frozen=True).ok

    interrupt(big.name, act, 8)


def test_a_recovery_that_is_interrupted_is_ended_by_the_next(big):
    fill(big.new_pool("p", persistent=True))
    with Stopped(big.name, lambda eng: eng.pool("p").flush_object((1, 0, 0)), 60) as dead:
        assert dead.stopped
        interrupted = {}

        def act(eng):
            signal.signal(signal.SIGUSR1, ring)
            os.kill(dead.pid, signal.SIGKILL)
            while eng.stats()["arena"]["workers"] != 2:
                pass
            interrupted["rung"] = rung(eng.recover)
            assert interrupted["rung"] and leaving(eng) > EACH * PAGES // 2
            eng.recover()
            assert leaving(eng) == 0 and eng.check().ok

        interrupt(big.name, act, 12)
        dead.kill()
    assert big.check().ok

"""Owns that who dies or stops at any kill point of taking a lease or giving it back leaves it to
the next one, whole, and held by one at a time."""
import mmap
import os
import signal
import threading
import time

import pytest

import engine
from tests.crash.killing import HUGE
from tests.stopped import Stopped, fork
from tests.support import SMALL

pytestmark = pytest.mark.timeout(120)
NAME = (7, 7, 7)


def take(e):
    assert e.lease(NAME, timeout=20).acquire()




def give(e):
    take(e)
    e.lease(NAME).release()


def take_from_the_dead(e):
    """Of one who died with it, in a forked child of this one."""
    pid = fork(lambda: (take(e), os.kill(os.getpid(), signal.SIGKILL)))
    os.waitpid(pid, 0)
    take(e)


ACTS = {"take": take, "take-and-give": give, "take-from-the-dead": take_from_the_dead}


def dies(name, act, point):
    """Kill points passed, or None: it died there."""
    told, tell = os.pipe()

    def child():
        mine = engine.attach(name)
        mine.set_kill_point(point)
        act(mine)
        os.write(tell, b"%d" % mine.kill_points())

    pid = fork(child)
    os.close(tell)
    with os.fdopen(told, "rb") as answer:
        text = answer.read()
    status = os.waitpid(pid, 0)[1]
    if text:
        return int(text)
    assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL, status
    return None


@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize("used", [False, True])
def test_killed_at_every_point(make_arena, act, used):
    """`used`: the table has memory already, and somebody else's leases in it."""
    probe = make_arena()
    if used:
        assert all(probe.lease(n).acquire(timeout=0) for n in range(300))
    points = dies(probe.name, ACTS[act], HUGE)
    assert points > 5
    for point in range(1, points + 1):
        eng = make_arena() if not used else probe
        assert dies(eng.name, ACTS[act], point) is None, f"point {point} of {points}"
        assert not eng.lease(NAME).locked(), point
        with eng.lease(NAME, timeout=2) as lease:
            assert lease.mine()
        report = eng.check()
        assert report.ok, [str(problem) for problem in report.problems]
        assert eng.stats()["arena"]["workers"] == 1
        assert report.counts["leases"] == (300 if used else 0)
        if not used:
            eng.close()
            engine.unlink(eng.name)


def test_a_waiter_is_killed_at_every_point(arena_name):
    """Of a few slices. Whoever holds it meanwhile goes on to, and the next one is woken."""
    with engine.create(arena_name, **SMALL) as eng:
        with eng.lease(NAME) as lease:
            for point in range(1, 40):
                assert dies(arena_name, lambda e: e.lease(NAME, timeout=5).acquire(), point) is None
                assert lease.mine() and eng.check().ok
            late = []

            def wait():
                with eng.lease(NAME, timeout=30):
                    late.append(time.monotonic())

            thread = threading.Thread(target=wait)
            thread.start()
            time.sleep(0.05)
            given = time.monotonic()
        thread.join()
        assert late[0] - given < 1 and not lease.locked() and eng.check().ok


@pytest.mark.parametrize("act", ["take", "take-and-give"])
def test_stopped_at_every_point(arena_name, act):
    """Whoever stands still in the middle has it or does not; nobody else has it with him."""
    inside = mmap.mmap(-1, 8)

    def use(e):
        lease = e.lease(NAME, timeout=20)
        with lease:
            inside[0] += 1
            assert inside[0] == 1
            time.sleep(0.001)
            inside[0] -= 1

    def stand(e):
        if act == "take":
            use(e)
        else:
            give(e)
            use(e)

    with engine.create(arena_name, **SMALL) as eng:
        lease = eng.lease(NAME)
        point = 0
        while True:
            point += 1
            with Stopped(arena_name, stand, point) as other:
                if not other.stopped:
                    break
                had = lease.acquire(timeout=0.03)
                if had:
                    inside[0] += 1
                    assert inside[0] == 1
                os.kill(other.pid, signal.SIGCONT)
                time.sleep(0.005)
                if had:
                    inside[0] -= 1
                    lease.release()
                assert other.end() == 0, point
                assert not lease.locked()
        assert point > 10 and eng.check().ok


def test_a_waiter_who_is_killed_takes_no_wake_up_along(arena_name):
    """Of several who sleep, those who are woken die at once: the others have it soon all the
    same."""

    def victim():
        engine.attach(arena_name).lease(NAME).acquire()
        time.sleep(60)

    with engine.create(arena_name, **SMALL) as eng:
        lease = eng.lease(NAME)
        for n in range(6):
            assert lease.acquire(timeout=5)
            victims = [fork(victim) for _ in range(3)]
            had = []

            def wait(had=had):
                with eng.lease(NAME, timeout=30):
                    had.append(time.monotonic())

            thread = threading.Thread(target=wait)
            thread.start()
            time.sleep(0.2)
            given = time.monotonic()
            lease.release()
            time.sleep(0.001 * n)
            for pid in victims:
                os.kill(pid, signal.SIGKILL)
            thread.join()
            for pid in victims:
                os.waitpid(pid, 0)
            assert had[0] - given < 1
        assert eng.check().ok and not lease.locked()


def test_a_storm_of_holders_and_waiters_that_are_killed(arena_name):
    """A count that only holders change, each in two steps, is never torn: of those who were killed
    in the middle the next one knows."""
    shared = mmap.mmap(-1, 24)

    def work():
        mine = engine.attach(arena_name)
        lease = mine.lease(NAME, timeout=30)
        while True:
            with lease:
                me = os.getpid().to_bytes(8, "little")
                shared[16:24] = me
                count = int.from_bytes(shared[0:8], "little")
                shared[8:16] = (count + 1).to_bytes(8, "little")
                shared[0:8] = (count + 1).to_bytes(8, "little")
                assert shared[16:24] == me, "two have it"

    with engine.create(arena_name, **SMALL) as eng:
        crew = [fork(work) for _ in range(5)]
        try:
            for n in range(30):
                time.sleep(0.01)
                victim = crew.pop(n % len(crew))
                os.kill(victim, signal.SIGKILL)
                assert os.waitstatus_to_exitcode(os.waitpid(victim, 0)[1]) == -signal.SIGKILL
                crew.append(fork(work))
                before = shared[0:8]
                with eng.lease(NAME, timeout=10):
                    assert int.from_bytes(shared[8:16], "little") - int.from_bytes(shared[0:8], "little") in (0, 1)
                    before = shared[0:8]
                    time.sleep(0.001)
                    assert shared[0:8] == before
        finally:
            for pid in crew:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
        eng.recover()
        assert not eng.lease(NAME).locked() and eng.check().ok
        assert int.from_bytes(shared[0:8], "little") > 100

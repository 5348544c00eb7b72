"""Owns what a check does to those who work meanwhile: the world stands still only as long as nobody
waits for it, unless that is asked for.

Who waits is seen in the arena itself: the bit of a sleeper in a worker's own lock, a slot that
lives. So nothing depends on how fast anything is."""
import os
import signal
import struct
import sys
import threading
import time

import pytest

import engine
from tests.hostile.structs import CONSTANTS, Map, offset
from tests.stopped import Stopped, fork
from tests.support import SHM

SLEEPS = 1 << 63
MUCH = 100_000              # objects of a page: more chunks than the world is stopped for by the way


def word(name, slot, field):
    """A word of a worker's slot."""
    with (SHM / name).open("rb") as file:
        places = Map(file.read(4096))
        file.seek(places.slot(slot) + offset("Slot", field))
        return struct.unpack("<Q", file.read(8))[0]


def until(condition):
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end
        time.sleep(.001)


def ended(pid):
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@pytest.fixture
def eng(make_arena):
    eng = make_arena(capacity="4MiB")
    assert eng.new_pool("p", persistent=True).put((1, 0, 0), 0, b"page")
    return eng


def checker_that_has_stopped(eng, gentle, **how):
    """A worker that stands still in a check, when it has stopped the world, `eng` with it. In the
    end it says `gentle`, or not."""
    def act(mine):
        report = mine.check(**how)
        assert report.ok and report.gentle is gentle

    for point in range(1, 40):
        worker = Stopped(eng.name, act, point)
        if not worker.stopped:
            break
        if word(eng.name, eng.worker_id, "own"):
            return worker
        worker.kill()
        eng.recover()
    raise AssertionError("it did not stop the world")


def test_nobody_waits_and_everything_is_looked_at(eng):
    with engine.attach(eng.name):
        report = eng.check()
    assert report.ok and not report.gentle and "workers" in report.counts


def test_its_arguments(eng):
    with pytest.raises(TypeError, match="frozen"):
        eng.check(frozen=1)
    with pytest.raises(ValueError, match="gentle"):
        eng.check(frozen=True, gentle=True)


@pytest.mark.parametrize("frozen", [False, True])
def test_a_put_that_waits_for_a_check(eng, frozen):
    """A check goes on beside it; a frozen one does not."""
    with checker_that_has_stopped(eng, not frozen, frozen=frozen) as checker:
        thread = threading.Thread(target=eng.pool("p").put, args=((2, 0, 0), 0, b"another"))
        thread.start()
        until(lambda: word(eng.name, eng.worker_id, "own") & SLEEPS)
        assert checker.go_on() == 0
        thread.join()
    assert eng.pool("p").get((2, 0, 0), 0) == b"another"


@pytest.mark.parametrize("frozen", [False, True])
def test_an_attach_that_waits_for_a_check(eng, frozen):
    with checker_that_has_stopped(eng, not frozen, frozen=frozen) as checker:
        newcomer = fork(lambda: engine.attach(eng.name).pool("p").put((2, 0, 0), 0, b"another"))
        slot = eng.worker_id + 2
        until(lambda: word(eng.name, slot, "state") == CONSTANTS["SLOT_LIVE"])
        assert checker.go_on() == 0
        assert ended(newcomer) == 0
    assert eng.pool("p").get((2, 0, 0), 0) == b"another"


def fill(pool, count=MUCH):
    for n in range(0, count, 1000):
        some = range(n, n + 1000)
        assert all(pool.put_many([((i, 1, 0), 0) for i in some], [b"%09d" % i * 10 for i in some]))


def test_another_thread_that_waits_for_its_turn(make_arena):
    eng = make_arena(capacity="64MiB")
    pool = eng.new_pool("p", persistent=True)
    fill(pool, 60_000)
    stop = False

    def work():
        while not stop:
            pool.get((1, 0, 0), 0)
    thread = threading.Thread(target=work)
    thread.start()
    try:
        until(lambda: eng.check().gentle)
    finally:
        stop = True
        thread.join()
    assert not eng.check().gentle


def miscount(name):
    """Damage that a repair puts right."""
    with (SHM / name).open("r+b") as file:
        at = Map(file.read(4096)).depot + offset("Depot", "seg_used")
        file.seek(at)
        used = struct.unpack("<Q", file.read(8))[0]
        file.seek(at)
        file.write(struct.pack("<Q", used + 1))


@pytest.mark.parametrize("how", ["frozen", "gentle", "repair"])
def test_other_threads_have_the_interpreter_meanwhile(make_arena, how):
    eng = make_arena(capacity="64MiB")
    fill(eng.new_pool("p", persistent=True))
    if how == "repair":
        miscount(eng.name)
    begun = ended = ticks = 0

    def tick():
        nonlocal ticks
        while not ended:
            ticks += begun
            time.sleep(0)       # each tick is the interpreter taken from the other

    def seen_by_a_check():
        nonlocal begun
        begun = 1
        assert eng.check(**{how: True}).ok
        begun, seen = 0, ticks
        return seen
    interval = sys.getswitchinterval()
    sys.setswitchinterval(60)       # nobody is made to give the interpreter up: who ticks was given it
    thread = threading.Thread(target=tick)
    thread.start()
    try:
        until(seen_by_a_check)      # one check may end before a busy machine lets the other thread run
    finally:
        ended = 1
        thread.join()
        sys.setswitchinterval(interval)


@pytest.mark.parametrize("how", ["frozen", "repair"])
def test_a_handler_waits_for_a_stopped_world_to_go_on(make_arena, how):
    """It may wait for others, who wait for the world."""
    eng = make_arena(capacity="64MiB")
    fill(eng.new_pool("p", persistent=True))

    def act(mine):
        rung = []
        signal.signal(signal.SIGUSR1, lambda *_: rung.append(mine.pool("p").put((1, 2, 3), 0, b"put by a handler")))
        report = mine.check(**{how: True})
        assert report.ok and not report.gentle and report.counts["pages"] == MUCH
        assert len(report.repaired) == (how == "repair")
        late = time.monotonic() + 60
        while not rung and time.monotonic() < late:     # the interpreter runs it when it comes to it
            time.sleep(0)
        assert rung == [True]

    if how == "repair":
        miscount(eng.name)
    with Stopped(eng.name, act, 20) as checker:
        assert checker.stopped and word(eng.name, eng.worker_id, "own")
        os.kill(checker.pid, signal.SIGUSR1)
        assert checker.go_on() == 0
    assert eng.check(frozen=True).counts["pages"] == MUCH + 1


def test_where_there_is_much_the_world_is_not_stopped(make_arena):
    eng = make_arena(capacity="64MiB")
    pool = eng.new_pool("p", persistent=True)
    fill(pool)
    assert eng.check().gentle and not eng.check(frozen=True).gentle
    for n in range(0, MUCH, 2):
        pool.flush_page((n, 1, 0), 0)
    assert not eng.check().gentle


@pytest.mark.parametrize("point", [1, 3, 5, 20, 60])
def test_one_that_is_killed_in_a_stopped_world(make_arena, point):
    eng = make_arena(capacity="64MiB")
    pool = eng.new_pool("p", persistent=True)
    fill(pool)
    with Stopped(eng.name, lambda mine: mine.check(frozen=True), point) as checker:
        assert checker.stopped and checker.kill() == -signal.SIGKILL
    assert pool.put((1, 0, 0), 0, b"page") and eng.check(frozen=True).ok

"""Owns what several do about one dead worker at once: rescuers, heirs (newcomers that take its
slot), and one who resizes, each stopped or killed where it hurts. Each case is a trace that
tests/models/recovery.pml finds when the mistake is planted there."""
import contextlib
import os
import signal
import struct
import threading
import time

import pytest

import engine
from tests.crash import stepping
from tests.hostile.structs import CONSTANTS, offset
from tests.stopped import Stopped
from tests.support import SHM, semaphores_of

PAGES = 60
FCNTL, F_OFD_GETLK = 72, 36                 # the call by which the kernel is asked whether somebody lives
SLOTS_OFF = 2 * CONSTANTS["SYS_PAGE"]
NOTED, ADOPTED, RELEASING = 1, 2, 4        # kill points of a rescue
NOTED_AGAIN = 14                            # of that of an idle worker: when it is to be buried
UNLINKING, SETTLING = 12, 160               # of a flush: in its transaction, with the bucket; and without
HAS_BYTE, NAMED, HAS_OWN = 1, 2, 3          # kill points of an heir: it has the byte; its name; the slot's own lock
CHECKING = 2                                # of a check: it has closed the gate and taken the first worker's own lock


class Case(Stopped):
    """A child that stops when it is attached, and then, let go on, at a kill point of `act`."""

    def __init__(self, name, act, point):
        def ready(mine):
            os.kill(os.getpid(), signal.SIGSTOP)
            mine.set_kill_point(point, True)
            act(mine)
        super().__init__(name, ready)

    def until_stopped(self):
        os.kill(self.pid, signal.SIGCONT)
        _, status = os.waitpid(self.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status), "it is never there"


def flush(mine):
    mine.pool("p").flush_object((1, 0, 0))


def rescue(mine):
    mine.recover()


def nothing(_):
    pass


def begin(make_arena, workers):
    """An arena with so many slots, the first of which is this process's, and pages to flush."""
    eng = make_arena(capacity="2MiB", max_capacity="4MiB", page_size=4096, buckets=1, max_pools=4, max_workers=workers)
    pool = eng.new_pool("p", persistent=True)
    for i in range(PAGES):
        assert pool.put((1, 0, 0), i, bytes([i + 1]) * 3000)
    return eng


def look_over(eng):
    """A resize that goes round everybody's lists, and changes nothing else."""
    eng.resize("2MiB")


def word(eng, slot, field):
    with open(f"/dev/shm/{eng.name}", "rb") as file:
        return struct.unpack(
            "<Q", os.pread(file.fileno(), 8, SLOTS_OFF + slot * CONSTANTS["SLOT_BYTES"] + offset("Slot", field))
        )[0]


def judge(eng):
    """All is sound, and the dead worker's flush done or not done."""
    eng.recover()
    report = eng.check()
    assert report.ok, report.problems
    pages = [eng.pool("p").get((1, 0, 0), i) for i in range(PAGES)]
    assert pages in ([None] * PAGES, [bytes([i + 1]) * 3000 for i in range(PAGES)])


def dies(eng, dead, slot):
    """It dies in the middle of a transaction."""
    dead.until_stopped()
    dead.kill()
    assert word(eng, slot, "journal_len") > 0


@contextlib.contextmanager
def unsettled(eng, stop):
    """An heir that is stopped at `stop`, in the slot of a dead worker whose own lock a rescuer has
    adopted and given back: it is free, and a transaction open."""
    with Case(eng.name, flush, SETTLING) as dead, Case(eng.name, rescue, ADOPTED) as rescuer:
        dies(eng, dead, 1)
        rescuer.until_stopped()
        with Stopped(eng.name, nothing, born=stop) as heir:
            assert heir.stopped
            assert rescuer.go_on() == 0
            assert word(eng, 1, "own") == 0 and word(eng, 1, "journal_len") > 0
            yield heir


def waits_for(heir, seconds, call):
    """What a call answers that does not end in so many seconds, but when the heir has gone on."""
    answers = []
    caller = threading.Thread(target=lambda: answers.append(call()))
    caller.start()
    caller.join(seconds)
    early = list(answers)
    assert heir.go_on() == 0
    caller.join()
    assert not early
    return answers[0]


def test_an_heir_is_not_robbed(make_arena):
    """A rescuer has seen that the worker is dead; then an heir takes the slot, and the slot's own
    lock; then the rescuer goes on."""
    eng = begin(make_arena, 3)
    with Case(eng.name, flush, SETTLING) as dead, Case(eng.name, rescue, NOTED) as rescuer:
        dies(eng, dead, 1)
        rescuer.until_stopped()
        with Stopped(eng.name, nothing, born=HAS_OWN) as heir:
            assert heir.stopped
            mine = word(eng, 1, "own")
            assert rescuer.go_on() == 0
            assert mine == word(eng, 1, "own") == word(eng, 1, "gen") << 16 | 2
            look_over(eng)
            assert heir.go_on() == 0
    judge(eng)


@pytest.mark.parametrize("end", [Stopped.go_on, Stopped.kill])
def test_what_a_rescuer_gives_back_unsettled_is_left_alone(make_arena, end):
    """A rescuer has adopted the own lock, meets an heir, and gives it back: free, and a transaction
    open."""
    eng = begin(make_arena, 3)
    with unsettled(eng, NAMED) as heir:
        look_over(eng)
        end(heir)
    judge(eng)


def test_a_check_waits_for_an_heir_with_a_transaction_open(make_arena):
    eng = begin(make_arena, 3)
    with unsettled(eng, NAMED) as heir:
        report = waits_for(heir, 0.1, eng.check)
        assert report.ok, report.problems
    judge(eng)


def test_an_heir_of_a_slot_just_buried_dies(make_arena):
    """It had the byte and its name when a rescuer freed the slot, and adopted the own lock after
    that: the next worker of the slot finds its own lock held, by an earlier worker of its own
    slot."""
    eng = begin(make_arena, 3)
    with Case(eng.name, flush, SETTLING) as dead:
        dies(eng, dead, 1)
    eng.recover()
    assert word(eng, 1, "state") == CONSTANTS["SLOT_FREE"]
    generation = word(eng, 1, "gen") + 1
    with open(f"/dev/shm/{eng.name}", "r+b") as file:
        for field, value in (("gen", generation), ("own", generation << 16 | 2)):
            os.pwrite(
                file.fileno(), struct.pack("<Q", value), SLOTS_OFF + CONSTANTS["SLOT_BYTES"] + offset("Slot", field)
            )
    with engine.attach(eng.name) as other:
        assert other.worker_id == 1 and other.pool("p").put((9, 0, 0), 0, b"x")
    judge(eng)


def test_an_heir_passes_by_a_slot_that_a_stopped_one_recovers(make_arena):
    """The table is full of the living and the dead. Who is stopped while it recovers one of the
    dead keeps nobody from the others."""
    eng = begin(make_arena, 4)
    with (
        Case(eng.name, rescue, ADOPTED) as rescuer,
        Case(eng.name, flush, SETTLING) as first,
        Case(eng.name, flush, SETTLING) as second,
    ):
        os.kill(first.pid, signal.SIGKILL)
        first.end()
        os.kill(second.pid, signal.SIGKILL)
        second.end()
        rescuer.until_stopped()
        assert word(eng, 2, "own") == word(eng, 1, "gen") << 16 | 2, "another ADOPTED"
        began = time.monotonic()
        with engine.attach(eng.name) as heir:
            assert heir.worker_id == 3 and time.monotonic() - began < 1
            with pytest.raises(engine.ArenaBusy, match="recovering"):
                engine.attach(eng.name)
        assert rescuer.go_on() == 0
    judge(eng)


@pytest.mark.parametrize("crowded", [False, True])
def test_one_who_is_stopped_while_it_attaches_holds_nobody_up(make_arena, crowded):
    """At any kill point: others attach, and what a worker has that dies then is recovered."""
    eng = begin(make_arena, 6)
    pool = eng.pool("p")
    for point in range(1, 100, 7 if crowded else 1):
        victims = [Case(eng.name, nothing, 0) for _ in range(4)] if crowded else []
        for victim in victims:
            victim.kill()
        with Stopped(eng.name, nothing, born=point) as newcomer:
            if not newcomer.stopped:
                break
            with Case(eng.name, lambda mine: mine.pool("p").put((2, 0, 0), 0, b"dead"), 8) as dead:
                dead.until_stopped()
                dead.kill()
                began = time.monotonic()
                assert pool.put((2, 0, 0), 0, b"mine") and pool.get((2, 0, 0), 0) == b"mine"
                other = engine.attach(eng.name)
                assert other.pool("p").get((2, 0, 0), 0) == b"mine"
                assert time.monotonic() - began < 1
            assert newcomer.go_on() == 0
            other.close()  # not before: the newcomer may have been stopped with the depot, as it recovered somebody
        eng.recover()
    assert point > 3 and eng.check().ok


def test_an_own_lock_that_another_rescuer_adopts_is_not_given_back(make_arena):
    """A rescuer dies with a dead worker's own lock. One settles the rescuer, and is about to give
    that lock back; another adopts it."""
    eng = begin(make_arena, 5)
    with (
        Case(eng.name, rescue, ADOPTED) as first,
        Case(eng.name, flush, SETTLING) as dead,
        Case(eng.name, rescue, RELEASING) as second,
        Case(eng.name, rescue, ADOPTED + 1) as third,
    ):
        dies(eng, dead, 2)
        first.until_stopped()
        assert word(eng, 2, "own") == word(eng, 1, "gen") << 16 | 2
        first.kill()
        second.until_stopped()
        third.until_stopped()
        has = word(eng, 2, "own")
        assert has == word(eng, 4, "gen") << 16 | 5
        assert second.go_on() == 0
        assert word(eng, 2, "own") == has
        look_over(eng)
        assert third.go_on() == 0
    judge(eng)


@pytest.mark.parametrize("stop", [HAS_BYTE, NAMED])
def test_a_repair_waits_for_an_heir_that_is_stopped(make_arena, stop):
    """However long: a stray word is given up after a while, a transaction that somebody is about is
    not. A repair would drop what it is in the middle of."""
    eng = begin(make_arena, 3)
    with unsettled(eng, stop) as heir:
        report = waits_for(heir, 1, lambda: eng.check(repair=True))
        assert report.ok and not report.repaired and not report.lost
    judge(eng)


@pytest.mark.parametrize("stop", [HAS_BYTE, NAMED])
def test_who_needs_a_lock_of_a_dead_checker_waits_for_its_heir(make_arena, stop):
    """No note of anybody lists the own locks that a checker took, and the heir of his slot is
    alive: the word is no stray write for that."""
    eng = begin(make_arena, 2)
    with Case(eng.name, lambda mine: mine.check(), CHECKING) as dead:
        dead.until_stopped()
        assert word(eng, 0, "own") == word(eng, 1, "gen") << 16 | 2, "another CHECKING"
        dead.kill()
        with Stopped(eng.name, nothing, born=stop) as heir:
            assert heir.stopped
            answers = []

            def put():
                try:
                    answers.append(eng.pool("p").put((2, 0, 0), 0, b"mine"))
                except engine.TmemError as error:
                    answers.append(error)

            putter = threading.Thread(target=put)
            putter.start()
            putter.join(1)
            early = list(answers)
            assert heir.go_on() == 0
            putter.join()
            assert not early
            assert answers == [True]
    judge(eng)


def points_of_close(eng):
    """Kill points of a close of a worker that has nothing to give back: at the last but one it has
    given back its own lock, and its slot is not free yet."""
    with engine.attach(eng.name) as mine:
        mine.set_kill_point(1 << 60)
        mine.close()
        return mine.kill_points()


@pytest.mark.skipif(stepping.why_not() is not None, reason=str(stepping.why_not()))
def test_who_comes_while_another_closes_is_not_buried(make_arena):
    """A rescuer has adopted a slot's own lock and reads that it has a worker, an heir by now. That
    one closes, and the rescuer asks the kernel whether it lives. Then another comes."""
    eng = begin(make_arena, 3)
    last = points_of_close(eng)
    rescuers = []

    def recover():
        rescuers[0].set_kill_point(NOTED_AGAIN, True)
        rescuers[0].recover()

    with (
        Case(eng.name, nothing, 0) as dead,
        stepping.stopped(lambda: rescuers.append(engine.attach(eng.name)), recover) as rescuer,
    ):
        dead.kill()
        stepping.until_signal(rescuer)
        assert word(eng, 1, "own") == 0 and word(eng, 2, "held") != 0, "another NOTED_AGAIN"
        with Stopped(eng.name, lambda mine: mine.close(), last) as heir:
            assert heir.stopped and word(eng, 1, "own") == 0 and word(eng, 1, "state") == CONSTANTS["SLOT_LIVE"]
            stepping.until_call(rescuer, FCNTL, F_OFD_GETLK)
            assert word(eng, 1, "own") == word(eng, 2, "gen") << 16 | 3
            assert heir.go_on() == 0 and word(eng, 1, "state") == CONSTANTS["SLOT_FREE"]
            stepping.after_call(rescuer)
        with engine.attach(eng.name) as newcomer:
            assert newcomer.worker_id == 1
            stepping.until_signal(rescuer)
            assert word(eng, 1, "state") == CONSTANTS["SLOT_LIVE"]
            assert newcomer.pool("p").put((2, 0, 0), 0, b"mine")
    judge(eng)


def test_a_semaphore_that_is_removed_wakes_nobody_and_hangs_nobody(make_arena):
    """Somebody removes it while one sleeps on it, whose lock's holder is stopped."""
    eng = begin(make_arena, 3)
    with Stopped(eng.name, flush, UNLINKING) as holder:
        assert holder.stopped and word(eng, 1, "journal_len") > 0
        answers = []
        waiter = threading.Thread(target=lambda: answers.append(eng.pool("p").put((1, 0, 0), 0, b"mine")))
        waiter.start()
        deadline = time.monotonic() + 5
        while not semaphores_of(eng.name) and time.monotonic() < deadline:
            time.sleep(0.001)
        for file in semaphores_of(eng.name):
            os.unlink(SHM / file)
        waiter.join(0.1)
        assert not answers
        assert holder.go_on() == 0
        waiter.join(1)
        assert answers == [True]
    assert eng.check().ok and eng.pool("p").get((1, 0, 0), 0) == b"mine"

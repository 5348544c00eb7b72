"""Owns what several do about one dead worker at once: rescuers, heirs (newcomers that take its slot), and one who resizes, each
stopped or killed where it hurts. Each case is a trace that tests/models/recovery.pml finds when the mistake is planted there."""
import os
import signal
import struct
import threading
import time

import pytest

import engine
from tests.hostile.structs import CONSTANTS, offset
from tests.stopped import Stopped

PAGES = 60
SLOTS_OFF = 2 * CONSTANTS["SYS_PAGE"]
NOTED, ADOPTED, RELEASING, BURYING = 1, 2, 4, 82    # kill points of a rescue
SETTLING = 160                              # of a flush: in its transaction
NAMED, HAS_OWN = 2, 3                       # kill points of an heir: it has its name; it has the slot's own lock


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
        return struct.unpack("<Q", os.pread(file.fileno(), 8, SLOTS_OFF + slot * CONSTANTS["SLOT_BYTES"] + offset("Slot", field)))[0]


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


def test_an_heir_is_not_robbed(make_arena):
    """A rescuer has seen that the worker is dead; then an heir takes the slot, and the slot's own lock; then the rescuer goes on."""
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
    """A rescuer has adopted the own lock, meets an heir, and gives it back: free, and a transaction open."""
    eng = begin(make_arena, 3)
    with Case(eng.name, flush, SETTLING) as dead, Case(eng.name, rescue, ADOPTED) as rescuer:
        dies(eng, dead, 1)
        rescuer.until_stopped()
        with Stopped(eng.name, nothing, born=NAMED) as heir:
            assert heir.stopped
            assert rescuer.go_on() == 0
            assert word(eng, 1, "own") == 0 and word(eng, 1, "journal_len") > 0
            look_over(eng)
            end(heir)
    judge(eng)


def test_a_check_waits_for_an_heir_with_a_transaction_open(make_arena):
    eng = begin(make_arena, 3)
    with Case(eng.name, flush, SETTLING) as dead, Case(eng.name, rescue, ADOPTED) as rescuer:
        dies(eng, dead, 1)
        rescuer.until_stopped()
        with Stopped(eng.name, nothing, born=NAMED) as heir:
            assert rescuer.go_on() == 0
            reports = []
            checker = threading.Thread(target=lambda: reports.append(eng.check()))
            checker.start()
            checker.join(0.1)
            early = list(reports)
            assert heir.go_on() == 0
            checker.join()
            assert not early
            assert reports[0].ok, reports[0].problems
    judge(eng)


def test_an_heir_of_a_slot_just_buried_dies(make_arena):
    """The next worker of the slot finds its own lock held, by a worker of its own slot."""
    eng = begin(make_arena, 3)
    with Case(eng.name, flush, SETTLING) as dead, Case(eng.name, rescue, BURYING) as rescuer:
        dies(eng, dead, 1)
        rescuer.until_stopped()
        assert word(eng, 1, "state") == CONSTANTS["SLOT_LIVE"] and word(eng, 1, "own") == word(eng, 2, "own") != 0, "another BURYING"
        generation = word(eng, 1, "gen")
        heirs = []
        waiting = threading.Thread(target=lambda: heirs.append(Stopped(eng.name, nothing, born=HAS_OWN)))
        waiting.start()
        while word(eng, 1, "gen") == generation:        # it has the byte, and waits for the rescuer
            time.sleep(0)
        rescuer.go_on()
        waiting.join()
        assert word(eng, 1, "state") == CONSTANTS["SLOT_FREE"] and word(eng, 1, "own") & 0xFFFF == 2
        heirs[0].kill()
    with engine.attach(eng.name) as other:
        assert other.pool("p").put((9, 0, 0), 0, b"x")
    judge(eng)


def test_an_own_lock_that_another_rescuer_adopts_is_not_given_back(make_arena):
    """A rescuer dies with a dead worker's own lock. One settles the rescuer, and is about to give that lock back; another adopts it."""
    eng = begin(make_arena, 5)
    with (Case(eng.name, rescue, ADOPTED) as first, Case(eng.name, flush, SETTLING) as dead, Case(eng.name, rescue, RELEASING) as second,
          Case(eng.name, rescue, ADOPTED + 1) as third):
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

"""Owns giving memory back and tending under kills and stops: whoever does it may be killed or
stopped at any point, and nobody else notices but by the memory."""
import os
import random
import signal
import struct
import time

import pytest

import engine
from tests.crash.test_kill_points import visited
from tests.hostile.structs import CONSTANTS, Map, offset
from tests.stopped import Stopped, fork
from tests.support import SHM

PAGES = 420                 # of 4,000 bytes: nearly all of 2 MiB
KEPT = 24
MOST = 20                   # kill points that are visited, unless all are


def page(n):
    return random.Random(n).randbytes(4000)


def emptied(make_arena):
    """An arena that was full and has little left in it; nothing has gone back yet."""
    eng = make_arena(capacity="2MiB", page_size=4096, buckets=4, max_pools=8, max_workers=8)
    kept = eng.new_pool("kept", persistent=True)
    for n in range(KEPT):
        assert kept.put((n, 0, 0), 0, page(n))
    eng.new_pool("p", persistent=True)
    return eng


def fill(eng):
    pool = eng.pool("p")
    for n in range(PAGES):
        assert pool.put((n >> 5, 0, 0), n & 31, page(n)), n


def empty(eng):
    for n in range(1 + (PAGES >> 5)):
        eng.pool("p").flush_object((n, 0, 0))


def is_sound(eng):
    report = eng.check()
    assert report.ok, [str(problem) for problem in report.problems[:4]]
    assert all(eng.pool("kept").get((n, 0, 0), 0) == page(n) for n in range(KEPT))


def tend(mine):
    mine.tend()


def destroy(mine):
    mine.pool("p").destroy()


def points_of(eng, act):
    """How many kill points there are in an act by a worker of its own."""
    read, write = os.pipe()

    def child():
        mine = engine.attach(eng.name)
        mine.set_kill_point(1 << 60)
        act(mine)
        os.write(write, str(mine.kill_points()).encode())
    assert os.waitpid(fork(child), 0)[1] == 0
    os.close(write)
    with open(read) as file:
        return int(file.read())


@pytest.mark.parametrize("act", [tend, destroy])
def test_whoever_gives_back_may_die_anywhere(make_arena, act):
    eng = emptied(make_arena)
    fill(eng)
    empty(eng)
    full = (SHM / eng.name).stat().st_blocks
    points = points_of(eng, act)
    assert points > 200 and (SHM / eng.name).stat().st_blocks < full - 1500
    for point in visited(points, MOST, f"giving {act.__name__}"):
        if "p" not in [pool.name for pool in eng.pools()]:
            eng.new_pool("p", persistent=True)
        fill(eng)
        empty(eng)
        with Stopped(eng.name, act, point) as victim:
            if victim.stopped:
                assert victim.kill() == -signal.SIGKILL
        eng.recover()
        is_sound(eng)
        with engine.attach(eng.name) as heir:
            heir.tend()
            heir.tend()
        # Less than eight segments beyond the reserve do not go by themselves.
        assert (SHM / eng.name).stat().st_blocks < full - 1500 + 8 * 128, point
        is_sound(eng)


def test_an_arena_that_is_repaired_after_a_death_while_memory_goes_back(make_arena):
    eng = emptied(make_arena)
    fill(eng)
    empty(eng)
    for point in visited(points_of(eng, tend), 8, "repaired"):
        fill(eng)
        empty(eng)
        with Stopped(eng.name, tend, point) as victim:
            assert not victim.stopped or victim.kill() == -signal.SIGKILL
        assert eng.check(repair=True).ok
        is_sound(eng)


@pytest.mark.parametrize("field", ["state", "dug", "next", "cls"])
def test_wrong_words_in_the_segment_table_while_memory_goes_back(make_arena, field):
    """It ends, or says that the arena is damaged; and a repair makes it good."""
    rnd = random.Random(field)
    for turn in range(4):
        eng = emptied(make_arena)
        fill(eng)
        empty(eng)
        with Stopped(eng.name, tend, rnd.randrange(20, 400)) as giver:
            with (SHM / eng.name).open("r+b") as file:
                places = Map(file.read(4096))
                for _ in range(6):
                    file.seek(places.segment(rnd.randrange(places.geometry["seg_total"])) + offset("Segment", field))
                    file.write(struct.pack("<Q", rnd.choice((0, 1, 2, 3, 4, 5, 28, 1 << 40, 2**64 - 1))))
            if giver.stopped:
                assert giver.go_on() in (0, 1), turn
        assert eng.check(repair=True).ok
        assert eng.new_pool("new", persistent=True).put((1, 0, 0), 0, b"page") and eng.check().ok


def waits(file):
    """Whether somebody waits for a lock of an arena, whoever has it."""
    file.seek(0)
    raw = file.read()
    places = Map(raw[:4096])

    def word(at):
        return struct.unpack_from("<Q", raw, at)[0]
    for slot in map(places.slot, range(places.workers)):
        held = [word(slot + offset("Slot", "held", n)) for n in range(CONSTANTS["HELD_MAX"])]
        if any(word(at) >> 63 for at in (slot + offset("Slot", "own"), *filter(None, held))):
            return True
    return False


def waited_for(pid, seconds, unless=lambda: False):
    """The exit code of a child that ends in time; None if it does not, or something is the case
    before."""
    end = time.monotonic() + seconds
    while time.monotonic() < end and not unless():
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(.002)
    return None


@pytest.mark.parametrize("dies", [False, True], ids=["goes on", "dies"])
def test_no_put_beside_one_that_is_stopped_is_refused(make_arena, dies):
    """It may wait: who is stopped may have the depot's lock, as anybody may."""
    eng = emptied(make_arena)
    fill(eng)
    empty(eng)
    at_once = 0
    visits = visited(points_of(eng, tend), MOST * 2 // 3, "stopped")
    for point in visits:
        fill(eng)
        empty(eng)
        with Stopped(eng.name, tend, point) as victim:
            if not victim.stopped:
                continue
            filler = fork(fill, eng)
            with (SHM / eng.name).open("rb") as file:
                code = waited_for(filler, 30, lambda: waits(file))
            at_once += code == 0
            assert (victim.kill() == -signal.SIGKILL) if dies else (victim.go_on() == 0)
            assert (waited_for(filler, 30) if code is None else code) == 0, point
        eng.recover()
        is_sound(eng)
        empty(eng)
    assert at_once >= len(visits) // 4


def test_one_that_sleeps_has_nothing_that_others_need(make_arena):
    eng = emptied(make_arena)
    tender = fork(lambda: engine.attach(eng.name).tend(60))
    try:
        time.sleep(.4)
        os.kill(tender, signal.SIGSTOP)
        fill(eng)
        is_sound(eng)
        empty(eng)
        assert eng.resize("1MiB") == 1 << 20 and eng.resize("2MiB") == 2 << 20
        os.kill(tender, signal.SIGCONT)
        fill(eng)
    finally:
        os.kill(tender, signal.SIGKILL)
        os.waitpid(tender, 0)
    assert eng.tend().dead == 1
    is_sound(eng)


@pytest.mark.timeout(60)
def test_puts_beside_tenders_that_die_are_never_refused(make_arena):
    """Two at a time, one of which dies now and then; the arena is filled and emptied meanwhile, and
    ephemeral pages keep it full."""
    eng = emptied(make_arena)
    hot = eng.new_pool("hot")

    def put(seed):
        mine = engine.attach(eng.name)
        rnd = random.Random(seed)
        for n in range(6000):
            assert mine.pool("hot").put((rnd.randrange(4000), 0, seed), 0, page(1)[:rnd.randrange(200, 4000)]), n
            if n % 500 == 400:
                for i in range(4000):
                    mine.pool("hot").flush_object((i, 0, seed))
    putters = [fork(put, seed) for seed in range(2)]
    tenders, codes, rnd = [], [], random.Random(3)
    try:
        while putters:
            while len(tenders) < 2:
                tenders.append(fork(lambda: [engine.attach(eng.name).tend(.2) for _ in range(50)]))
            time.sleep(rnd.uniform(.01, .1))
            victim = tenders.pop(0)
            os.kill(victim, signal.SIGKILL)
            os.waitpid(victim, 0)
            code = waited_for(putters[0], .001)
            if code is not None:
                codes.append(code)
                putters.pop(0)
    finally:
        for pid in tenders + putters:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
    assert codes == [0, 0]
    eng.recover()
    assert hot.obj_count > 0
    is_sound(eng)

"""Owns giving the memory of free segments back to the system while the capacity stays as it is: how
much at once, in which order, and what becomes of it when others are in the way.

Whoever frees does it (tide.py says when), and nobody who puts. One worker at a time: it holds the
giving byte, which the kernel drops with the process. A segment becomes a hole first, which a put
may take again as ever; then a grace period passes, since somebody may still be reading there; then
the memory of those that are the same holes still is punched out, one after the other.
Locks: none is held between the steps, and no signal handler runs: the verb that called has taken
effect already. Whoever lists again what a dead worker was punching holds both the giving byte and
the resize byte: without either, one who lives may be at it.
Kill at any instruction: holes that still have memory go on having it until they are taken, or until
somebody tends or resizes; at most one segment is in no list, and the next to give, tend or resize
lists it.
"""
import time

import cython
from cython.cimports.engine.layout.structs import GEO_FILLED
from cython.cimports.engine.member.member import Member
from cython.cimports.libc.stdlib import calloc, free
from cython.cimports.shm.atomics import load
from cython.cimports.shm.journal import kill_point
from cython.cimports.shm.kernel.grace import announce, note_phases, still_inside
from cython.cimports.shm.kernel.liveness import GIVING_BYTE, RESIZE_BYTE, byte_release, byte_try
from cython.cimports.shm.kernel.semaphores import sleep_on
from cython.cimports.shm.layout import BUSY, NOMEM, OK, SEG_HOLE, SEG_PUNCHING, SEG_STAYS, Segment, Worker, u64
from cython.cimports.shm.memory import next_data
from cython.cimports.shm.segments import limit_of, segment_of, segment_start
from cython.cimports.shm.shrink import begin_punch, dig_one, end_punch, fill_up
from engine.capacity.tide import Tide

STEP = 256              # segments that a call gives back at most; who destroys a pool takes several steps
NOWHERE = cython.declare(u64, cython.cast(u64, -1))
SCAN_MOST = cython.declare(u64, 65536)  # segments that a step looks at
GRACE_TRIES = 40        # looks whether somebody is still reading, half a millisecond apart
GRACE_REST_NS = cython.declare(u64, 500_000)
QUIET_WAITS = 10        # slices for a lock that somebody has
PUNCH_RUN = 16          # segments after which other threads have their turns


def dug_as(w, number):
    """How often a segment has become a hole."""
    return load(cython.address((w.segtable + number).dug))


def is_hole_with_memory(w, number):
    """True if a segment is a hole, and the system has not got its memory back."""
    start: u64 = segment_start(w, number)
    if load(cython.address((w.segtable + number).state)) != SEG_HOLE:
        return False
    return next_data(w, start) < start + (cython.cast(u64, 1) << w.seg_shift)


def look(engine: Member, destroyed):
    """Give memory back if so much lies free. How many segments went. The caller is inside enter and
    leave, with no lock held."""
    w: cython.pointer(Worker) = cython.address(engine.att.w)
    # A damaged count is no reason to raise here: whoever needs memory next finds it.
    used: u64 = min(load(cython.address(w.depot.seg_used)), w.seg_total)
    most: u64 = min(max(used, w.used_most), w.seg_total)
    w.emptied = 0
    w.used_most = used
    if w.client_geometry[GEO_FILLED]:
        return 0
    if engine.tide is None:
        engine.tide = Tide()
    count = engine.tide.look(used, most, _backed(w), limit_of(w), time.monotonic_ns(), destroyed)
    return _give(engine, count, destroyed) if count else 0


@cython.cfunc
@cython.exceptval(check=False)
def _backed(w: cython.pointer(Worker)) -> u64:
    """Segments that have memory."""
    high: u64 = load(cython.address(w.depot.seg_high))
    holes: u64 = load(cython.address(w.depot.holes))
    if high > w.seg_total:
        high = w.seg_total
    return high - holes if holes < high else 0


@cython.cfunc
def _give(engine: Member, count, on: cython.bint):
    """Give so many segments back, or a step of them if it is not to go on. How many went."""
    w: cython.pointer(Worker) = cython.address(engine.att.w)
    me: u64 = w.id
    epoch: cython.int = engine.att.epoch
    given = 0
    if not _begin(engine):
        return 0
    try:
        for _ in range(1 + (w.seg_total // STEP if on else 0)):
            holes = _dig(engine, min(count - given, STEP))
            if holes and not _grace(engine):
                _fill_up(engine, holes)
                break
            _punch(engine, holes)
            given += len(holes)
            if given >= count or not on:
                break
            engine.att.breathe()
            engine.refuse_fork(epoch)
    finally:
        _end(engine, me)
        if engine.att.is_mine():        # else another thread has closed it meanwhile, and nothing is there to be read
            engine.tide.gave(given, _backed(w), time.monotonic_ns())
    return given


def give_forgotten(engine: Member):
    """Give back the memory of holes that others have left, who were killed. How many."""
    w: cython.pointer(Worker) = cython.address(engine.att.w)
    me: u64 = w.id
    number: u64
    high: u64 = min(load(cython.address(w.depot.seg_high)), w.seg_total)
    holes = _holes_with_memory(w, high)
    stale = [number for number in range(high) if load(cython.address((w.segtable + number).state)) == SEG_PUNCHING]
    if not holes and not stale or not _begin(engine):
        return 0
    try:
        _relist_of_the_dead(w, stale)
        if not _grace(engine):
            return 0
        _punch(engine, holes)
    finally:
        _end(engine, me)
    return len(holes)


@cython.cfunc
def _holes_with_memory(w: cython.pointer(Worker), high: u64) -> list:
    """A step of holes that still have memory, as `_dig` answers them."""
    holes: list = []
    number: u64 = 0
    at: u64
    while number < high and len(holes) < STEP:
        if load(cython.address((w.segtable + number).state)) == SEG_HOLE:
            at = next_data(w, segment_start(w, number))
            if at >= segment_start(w, number + 1):
                number = high if at == NOWHERE else segment_of(w, at)       # one call for a run of holes
                continue
            holes.append((number, dug_as(w, number)))
        number += 1
    return holes


# --- one at a time --------------------------------------------------------------------------------


@cython.cfunc
def _begin(engine: Member) -> cython.bint:
    """Have the giving byte; False if somebody else has it, another thread of this engine, too."""
    w: cython.pointer(Worker) = cython.address(engine.att.w)
    if engine.giving == w.id or byte_try(w, GIVING_BYTE()) != OK:
        return False
    engine.giving = w.id
    return True


@cython.cfunc
def _end(engine: Member, me: u64):
    # A forked child has another id, and not the byte.
    if engine.att.is_mine() and engine.att.w.id == me:
        byte_release(cython.address(engine.att.w), GIVING_BYTE())
        engine.giving = 0


def relist(engine: Member, numbers):
    """List again, as holes, segments that were being punched by who is dead by now. The caller
    holds the resize byte. Whoever lives and is giving back does it himself."""
    w: cython.pointer(Worker) = cython.address(engine.att.w)
    me: u64 = w.id
    if numbers and _begin(engine):
        try:
            _relist(w, numbers)
        finally:
            _end(engine, me)
    return 0


@cython.cfunc
@cython.exceptval(check=False)
def _relist(w: cython.pointer(Worker), numbers: list) -> cython.void:
    number: u64
    for number in numbers:
        if end_punch(w, number + 1) != OK:
            return          # the depot is taken: the next to come by does it


@cython.cfunc
@cython.exceptval(check=False)
def _relist_of_the_dead(w: cython.pointer(Worker), numbers: list) -> cython.void:
    """The same by who holds the giving byte. Not if somebody resizes: then it may be his."""
    if numbers and byte_try(w, RESIZE_BYTE()) == OK:
        _relist(w, numbers)
        byte_release(w, RESIZE_BYTE())


# --- the steps ------------------------------------------------------------------------------------


@cython.cfunc
def _quietly(engine: Member, step) -> cython.int:
    """Run a step again while a lock is in its way, for a while: its status. Raises for CORRUPT."""
    status: cython.int = BUSY
    for _ in range(QUIET_WAITS):
        status = step()
        if status == OK or status == NOMEM:
            return status
        if status != BUSY:
            engine.raise_status(status)
        engine.att.wait_quietly()
    return status


@cython.cfunc
def _dig(engine: Member, count) -> list:
    """Make up to so many free segments holes, from the end of the arena on: pairs of the number and
    how often it has become one."""
    w: cython.pointer(Worker) = cython.address(engine.att.w)
    s: cython.pointer(Segment)
    number: u64
    looked: u64 = 0
    high: u64 = min(load(cython.address(w.depot.seg_high)), w.seg_total)
    holes: list = []
    stale: list = []
    if not 0 < engine.tide.cursor <= high:
        engine.tide.cursor = high
    number = engine.tide.cursor
    while looked < min(SCAN_MOST, high) and len(holes) < count:
        number = number - 1 if number != 0 else high - 1
        looked += 1
        s = w.segtable + number
        if load(cython.address(s.state)) == SEG_PUNCHING:
            stale.append(number)
        if load(cython.address(s.cls)) != 0 or load(cython.address(s.state)) != SEG_STAYS:
            continue
        status = _quietly(engine, lambda number=number + 1: dig_one(w, number))
        if status == BUSY:
            break
        if status == OK:
            holes.append((number, dug_as(w, number)))
    engine.tide.cursor = number
    _relist_of_the_dead(w, stale)
    return holes


@cython.cfunc
def _fill_up(engine: Member, holes: list):
    """Have what was dug in vain free again, as far as nobody has taken it."""
    w: cython.pointer(Worker) = cython.address(engine.att.w)
    for number, dug in holes:
        if _quietly(engine, lambda n=number + 1, dug=dug: fill_up(w, n, dug)) == BUSY:
            return          # it stays a hole, which a put may take, and whose memory a tender gives back


@cython.cfunc
def _grace(engine: Member) -> cython.bint:
    """Wait until nobody can be reading any more what was there before. False: somebody is in one
    call for long, or the system cannot tell."""
    w: cython.pointer(Worker) = cython.address(engine.att.w)
    status: cython.int
    phases: cython.pointer(u64) = cython.cast(cython.pointer(u64), calloc(w.max_workers, 8))
    if phases == cython.NULL:
        return False
    try:
        # Some 15 ms where several processors are at work: nobody waits for this one meanwhile.
        engine.att.give_up_turn()
        with cython.nogil:
            status = announce()
        engine.att.again()
        if status != OK:
            return False
        note_phases(w, phases)
        for _ in range(GRACE_TRIES):
            if still_inside(w, phases) == 0:
                return True
            engine.att.give_up_turn()
            with cython.nogil:
                sleep_on(cython.NULL, GRACE_REST_NS)
            engine.att.again()
        return False
    finally:
        free(phases)


@cython.cfunc
def _punch(engine: Member, holes: list):
    """Punch these holes, as far as they are the same still: nobody has taken them meanwhile."""
    w: cython.pointer(Worker) = cython.address(engine.att.w)
    done = 0
    for number, dug in holes:
        if _quietly(engine, lambda n=number + 1, dug=dug: begin_punch(w, n, dug)) == BUSY:
            return
        kill_point(w)
        if _quietly(engine, lambda n=number + 1: end_punch(w, n)) == BUSY:
            return
        done += 1
        if done % PUNCH_RUN == 0:
            engine.att.step_aside()

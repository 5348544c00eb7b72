"""Owns making a free segment without letting anything go: the segment with least in it is emptied
into the free chunks of its class elsewhere, and can then have another class.

The worker's own lock is held, and no other. Lock order: own, another worker's own,
which is only tried, the depot's; then what a move takes (move.py).
Kill at any instruction: a segment that leaves goes on leaving, and what lies in it is found as
ever. Whoever is short next goes on with it; a resize lets it stay, and so does whoever recovers the
dead. Source: the cleaning of a log-structured store, Rosenblum and Ousterhout, SOSP 1991, with the
least full segment as victim, within one size class.
"""
import cython
from cython.cimports.engine.eviction.merge import FreeChunks
from cython.cimports.engine.eviction.move import Sweep, give_back_leaving, sweep
from cython.cimports.engine.layout.structs import OBJ_CLASS, OBJNODE_CLASS, PAMPD_CLASS
from cython.cimports.engine.tree.hostops import HostOps
from cython.cimports.libc.string import memset
from cython.cimports.shm.atomics import load
from cython.cimports.shm.layout import (
    BUSY,
    CLASS_COUNT,
    CORRUPT,
    NOMEM,
    OK,
    SEG_LEAVING,
    SEG_STAYS,
    STUCK_MAX,
    Segment,
    Slot,
    Worker,
    offset_of,
    slot_at,
    slots_used,
    u64,
)
from cython.cimports.shm.lock import lock_try, unlock
from cython.cimports.shm.memory import widen
from cython.cimports.shm.recovery import is_open
from cython.cimports.shm.shrink import set_leaving_held
from cython.cimports.shm.slab import drain

WAITS_MAX = cython.declare(u64, 20)    # looks in a row that find others at it, before a put is refused
PAUSE_MAX = cython.declare(u64, 64)     # calls without a look, after as many looks in vain


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _is_stuck(w: cython.pointer(Worker), number: u64) -> cython.bint:
    """True if a segment could not be emptied of late: something in it is viewed, a twin, or on a
    worker's list."""
    i: u64
    for i in range(STUCK_MAX):
        if w.stuck[i] == number + 1:
            return True
    return False


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _note_stuck(w: cython.pointer(Worker), number: u64) -> cython.void:
    """Remember a segment for the next looks; 0 lets the oldest be forgotten."""
    w.stuck[w.stuck_next % STUCK_MAX] = number
    w.stuck_next += 1


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _choose(w: cython.pointer(Worker), quarters: u64) -> u64:
    """Number + 1 of the segment with least in it that fits into free chunks of its class elsewhere,
    or of one that leaves already; 0: none. None that is fuller than so many quarters.

    Without the depot's lock, each word read once: a hint. Who moves finds out what is so."""
    free: FreeChunks
    number: u64
    cls: u64
    mine: u64
    used: u64
    best: u64 = 0
    least: u64 = cython.cast(u64, 1) << w.seg_shift
    s: cython.pointer(Segment)
    memset(cython.address(free), 0, cython.sizeof(FreeChunks))
    for number in range(w.seg_span >> w.seg_shift):
        s = w.segtable + number
        cls = load(cython.address(s.cls)) - 1
        if cls < CLASS_COUNT and load(cython.address(s.state)) == SEG_STAYS:
            free.of[cls] += load(cython.address(s.free_count))
    for number in range(w.seg_span >> w.seg_shift):
        s = w.segtable + number
        cls = load(cython.address(s.cls)) - 1
        if cls >= CLASS_COUNT or _is_stuck(w, number):
            continue
        if load(cython.address(s.state)) == SEG_LEAVING:
            if load(cython.address(s.wanted)) != 0:
                continue            # somebody's, when it is empty
            return number + 1
        mine = load(cython.address(s.free_count))
        used = w.class_chunks[cls] - mine
        if mine > w.class_chunks[cls] or used > free.of[cls] - mine:
            continue
        if used * 4 > quarters * w.class_chunks[cls]:
            continue
        if used * w.class_bytes[cls] < least:
            least = used * w.class_bytes[cls]
            best = number + 1
    return best


def call_in(w, i, cls, keep):
    """Have a worker keep no more than so many chunks of a class in its magazine. OK, BUSY (it is in
    a call, or the depot is taken) or CORRUPT. With the own lock alone."""
    slot: cython.pointer(Slot) = slot_at(w, i)
    status: cython.int
    if i == w.slot_idx:
        return drain(w, cython.address(slot.mags[cls]), cls, keep)
    if lock_try(w, cython.address(slot.own)) != OK:
        return BUSY
    # Not if a transaction is open there, of a dead worker that is not settled: as in take_garbage.
    status = BUSY if is_open(w, i) else drain(w, cython.address(slot.mags[cls]), cls, keep)
    unlock(w, cython.address(slot.own))
    return status


def call_all_in(w, cls):
    """Have all magazines of a class given back, but of workers that are in a call: a chunk in a
    magazine keeps its segment. OK, BUSY (this worker's own could not be) or CORRUPT."""
    i: u64
    status: cython.int = call_in(w, w.slot_idx, cls, 0)
    for i in range(slots_used(w)):
        if status == OK and load(cython.address(slot_at(w, i).mags[cls].count)) != 0:
            status = CORRUPT if call_in(w, i, cls, 0) == CORRUPT else OK
    return status


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _empty(w: cython.pointer(Worker), number: u64, cls: cython.int, host: HostOps) -> cython.int:
    """Move all that lies in a segment that leaves, as far as it can be moved now. OK, NOMEM, BUSY
    or CORRUPT."""
    i: u64
    other: u64
    first: u64 = w.merge_from
    found: cython.bint = False
    segments: u64 = w.seg_span >> w.seg_shift
    given: cython.int
    result: Sweep
    status: cython.int = OK
    # A hint, as is what is found: what is not, of a worker's that is in a call, keeps the segment.
    used: u64 = w.class_chunks[cls] - load(cython.address((w.segtable + number).free_count))
    memset(cython.address(result), 0, cython.sizeof(Sweep))
    result.target = number
    if cls == PAMPD_CLASS or cls == OBJ_CLASS or cls == OBJNODE_CLASS:
        status = sweep(w, number, False, cython.address(result), host)
    if cls != PAMPD_CLASS and cls != OBJNODE_CLASS:
        # Where the pages of the others hang is not written in them: descriptors are looked through
        # until all have been found, from where the last ones were on. A page may be as long as an
        # obj.
        for i in range(segments):
            other = (first + i) % segments
            if status != OK or result.left >= used:
                break
            if load(cython.address((w.segtable + other).cls)) == PAMPD_CLASS + 1:
                status = sweep(w, other, False, cython.address(result), host)
                if result.left != 0 and not found:
                    found = True
                    w.merge_from = other
    if status == CORRUPT:
        return CORRUPT
    given = give_back_leaving(w, cls)
    return status if given == OK else given


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _merge_one(w: cython.pointer(Worker), number: u64, host: HostOps) -> cython.int:
    """Empty the segment of a number + 1. OK: it is free, or has another class already. NOMEM: it
    could not be emptied, and stays, unless somebody else is at it. BUSY (the depot) or CORRUPT."""
    s: cython.pointer(Segment) = w.segtable + (number - 1)
    cls: u64 = load(cython.address(s.cls)) - 1
    status: cython.int
    if cls >= CLASS_COUNT:
        return NOMEM
    if load(cython.address(s.state)) == SEG_STAYS:
        w.merging = number
    status = set_leaving_held(w, number, True)
    if status == OK:
        status = call_all_in(w, cls)
    if status == OK and load(cython.address(s.cls)) == cls + 1:
        status = _empty(w, number - 1, cls, host)
    # After BUSY it goes on leaving, and this worker knows at the next try that it is its own.
    if status == CORRUPT or status == BUSY:
        return status
    if load(cython.address(s.cls)) != cls + 1:
        status = OK
    else:
        _note_stuck(w, number)
        status = set_leaving_held(w, number, False) if w.merging == number else OK
        if status != OK:
            return status
        status = NOMEM
    if w.merging == number:
        w.merging = 0
    return status


def others_inside(w):
    """True if somebody else is in a call: `blocked_on` is its own lock then, for who waits."""
    i: u64
    for i in range(slots_used(w)):
        if i != w.slot_idx and load(cython.address(slot_at(w, i).own.owner)) != 0:
            w.blocked_on = offset_of(w, cython.address(slot_at(w, i).own))
            return True
    return False


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _others_are_at_it(w: cython.pointer(Worker)) -> cython.bint:
    """True if a segment leaves, and somebody else is in a call, which may be the one that empties
    it: `blocked_on` is its own lock then, for who waits."""
    number: u64
    for number in range(w.seg_span >> w.seg_shift):
        if load(cython.address((w.segtable + number).state)) == SEG_LEAVING:
            return others_inside(w)
    return False


def merge(w, quarters, host):
    """Empty one segment by moving. OK: it is free, or has another class already. NOMEM: there is
    none that could be emptied. BUSY: the depot is taken, or somebody else is about to have emptied
    one. Or CORRUPT.

    quarters: it is no fuller than so many quarters. With all four nothing else is left to try: then
    several are, and what came of the last looks does not count."""
    full: cython.bint = quarters == 4
    number: u64
    tries: cython.int
    status: cython.int = NOMEM
    if not full and w.merge_pause != 0:
        w.merge_pause -= 1
        return NOMEM
    widen(w, 0)
    if full:
        memset(w.stuck, 0, STUCK_MAX * 8)
    for tries in range(STUCK_MAX if full else 1):
        number = _choose(w, quarters)
        if number == 0:
            break
        status = _merge_one(w, number, host)
        if status != NOMEM:
            break
    if status == OK:
        w.merge_next = 0
        w.merge_waited = 0
    if status == NOMEM and not full and number == 0:
        _note_stuck(w, 0)
        w.merge_next = 2 * w.merge_next + 1 if w.merge_next < PAUSE_MAX else PAUSE_MAX
        w.merge_pause = w.merge_next
    if status == NOMEM and full:
        # A segment that another worker empties is memory soon. For one that was killed at it, that
        # resizes, or stands still, nobody waits for long.
        if w.merge_waited < WAITS_MAX and _others_are_at_it(w):
            w.merge_waited += 1
            return BUSY
        w.merge_waited = 0
    return status

"""Owns how many segments have memory: the limit, segments that are to be emptied, and giving the
memory of holes back to the system.

Emptying the segments that leave is the business of the layer above: only it knows what is in them.
Each step is one transaction under the worker's own lock, which it takes itself (but for
`set_leaving_held`), and the depot's.
Kill at any instruction: a limit that was lowered and not reached yet is a state like any other;
segments that leave go on leaving, and those that are wanted go on being so, until whoever was at
it is recovered, or somebody resizes, or is short of memory; holes that still have memory go on
having it until somebody resizes again.
"""
import cython
from cython.cimports.shm.atomics import load
from cython.cimports.shm.journal import conclude, store
from cython.cimports.shm.layout import (
    BUSY,
    CLASS_COUNT,
    HUGE_BYTES,
    NOMEM,
    NOSPACE,
    OK,
    SEG_HOLE,
    SEG_LEAVING,
    SEG_PUNCHING,
    SEG_STAYS,
    Segment,
    Worker,
    u64,
)
from cython.cimports.shm.lock import lock_both, lock_try, unlock, unlock_both
from cython.cimports.shm.memory import punch
from cython.cimports.shm.segments import (
    free_segment,
    give_memory,
    limit_of,
    list_hole,
    list_push,
    list_remove,
    segment_at,
    segment_of,
    segment_start,
    spare,
)

PIECE = cython.declare(u64, 64)         # segments a transaction


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _end(w: cython.pointer(Worker)) -> cython.int:
    status: cython.int = conclude(w)
    unlock_both(w, cython.address(w.depot.lock))
    return status


def too_many(w):
    """Segments that have memory, or are said to, beyond the limit."""
    backed: u64 = w.depot.seg_high - w.depot.holes
    return backed - limit_of(w) if backed > limit_of(w) else 0


def set_limit(w, segments):
    """Let so many segments have memory. OK, BUSY or CORRUPT."""
    if lock_both(w, cython.address(w.depot.lock)) != OK:
        return BUSY
    store(w, cython.address(w.depot.limit), segments)
    return _end(w)


def is_leaving(w, off):
    """True if a chunk lies in a segment that is to be emptied. Without the depot's lock, under
    which that is decided: a hint. Nothing depends on it but how soon a segment is empty."""
    # It may lie beyond what this process has touched so far, which is seg_span.
    number: u64 = segment_of(w, off)
    return number < w.seg_total and load(cython.address((w.segtable + number).state)) == SEG_LEAVING


def extent_leaves(w, off, length):
    """True if an extent for so many bytes lies in a segment that is to be emptied, or in part. A
    hint, as `is_leaving`."""
    number: u64
    last: u64 = segment_of(w, off + length - 1)
    for number in range(segment_of(w, off), (last if last < w.seg_total else w.seg_total - 1) + 1):
        if load(cython.address((w.segtable + number).state)) == SEG_LEAVING:
            return True
    return False


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _leave(w: cython.pointer(Worker), s: cython.pointer(Segment)) -> cython.void:
    """Let nobody take chunks of a segment any more. Who leaves is in no list: nobody finds what is
    free there."""
    if s.free_count != 0:
        list_remove(w, cython.address(w.depot.class_head[s.cls - 1]), s)
    store(w, cython.address(s.state), SEG_LEAVING)


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _stay(w: cython.pointer(Worker), s: cython.pointer(Segment)) -> cython.void:
    """Take that back, whoever wants the segment; one that is empty already is free."""
    if s.wanted != 0:
        store(w, cython.address(s.wanted), 0)
    if s.cls == 0:
        free_segment(w, s)
        return
    store(w, cython.address(s.state), SEG_STAYS)
    if s.free_count != 0:
        list_push(w, cython.address(w.depot.class_head[s.cls - 1]), s)


def set_leaving_held(w, number, leaves):
    """Let nobody take chunks of a segment any more, with `leaves`; without, take that back. OK
    (also if it has no class, or is so already), BUSY or CORRUPT. Called with the own lock."""
    s: cython.pointer(Segment)
    status: cython.int
    if lock_try(w, cython.address(w.depot.lock)) != OK:
        return BUSY
    s = segment_at(w, number)
    if leaves and 0 < s.cls <= CLASS_COUNT and s.state == SEG_STAYS:
        _leave(w, s)
    elif not leaves and s.cls <= CLASS_COUNT and s.state == SEG_LEAVING:
        _stay(w, s)
    status = conclude(w)
    unlock(w, cython.address(w.depot.lock))
    return status


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _claim(w: cython.pointer(Worker), number: u64) -> cython.void:
    """Let a segment wait for this worker that has no class: a free one; a hole, or the next that
    was never used, if it may have memory."""
    s: cython.pointer(Segment) = w.segtable + number
    if number < w.depot.seg_high and s.state == SEG_STAYS:
        list_remove(w, cython.address(w.depot.free_head), s)
    elif spare(w) == 0 or give_memory(w, number, False) != OK:
        return
    elif number == w.depot.seg_high:
        store(w, cython.address(w.depot.seg_high), number + 1)
    else:
        list_remove(w, cython.address(w.depot.hole_head), s)
        store(w, cython.address(w.depot.holes), w.depot.holes - 1)
    store(w, cython.address(s.state), SEG_LEAVING)
    store(w, cython.address(s.wanted), w.slot_idx + 1)


def want(w, first, count):
    """Let segments leave that follow one another, and be this worker's when they are empty: from
    the place `first` of the table on. What is free of them is so at once; what others empty is left
    alone. OK, BUSY or CORRUPT. Called with the own lock."""
    number: u64
    s: cython.pointer(Segment)
    status: cython.int = OK
    for number in range(first, min(first + count, w.seg_total)):
        if (number - first) % PIECE == 0:
            if lock_try(w, cython.address(w.depot.lock)) != OK:
                return BUSY
        s = w.segtable + number
        if s.cls == 0 and number <= w.depot.seg_high and (s.state == SEG_STAYS or s.state == SEG_HOLE):
            _claim(w, number)
        elif s.state == SEG_STAYS and 0 < s.cls <= CLASS_COUNT:
            _leave(w, s)
            store(w, cython.address(s.wanted), w.slot_idx + 1)
        if (number - first) % PIECE == PIECE - 1 or number + 1 == min(first + count, w.seg_total):
            status = conclude(w)
            unlock(w, cython.address(w.depot.lock))
            if status != OK:
                break
    return status


def unwant(w, first, count):
    """Let those of these segments stay that this worker still wants. OK, BUSY (some may be left) or
    CORRUPT. Called with the own lock."""
    number: u64
    s: cython.pointer(Segment)
    status: cython.int
    for number in range(first, min(first + count, w.seg_total)):
        s = w.segtable + number
        if load(cython.address(s.wanted)) != w.slot_idx + 1:
            continue
        if lock_try(w, cython.address(w.depot.lock)) != OK:
            return BUSY
        if s.wanted == w.slot_idx + 1 and s.state == SEG_LEAVING and s.cls <= CLASS_COUNT:
            _stay(w, s)
        status = conclude(w)
        unlock(w, cython.address(w.depot.lock))
        if status != OK:
            return status
    return OK


def set_leaving(w, number, leaves):
    """As `set_leaving_held`, with no lock held."""
    status: cython.int
    if lock_try(w, cython.address(w.slot.own)) != OK:
        return BUSY
    status = set_leaving_held(w, number, leaves)
    unlock(w, cython.address(w.slot.own))
    return status


def dig_one(w, number):
    """Make this segment a hole, whatever the limit is. OK, NOMEM (it is not free), BUSY or
    CORRUPT."""
    s: cython.pointer(Segment)
    is_free: cython.bint
    status: cython.int
    if lock_both(w, cython.address(w.depot.lock)) != OK:
        return BUSY
    s = segment_at(w, number)
    is_free = s.cls == 0 and s.state == SEG_STAYS and number <= w.depot.seg_high
    if is_free:
        list_remove(w, cython.address(w.depot.free_head), s)
        list_hole(w, s)
    status = _end(w)
    return NOMEM if status == OK and not is_free else status


def fill_up(w, number, dug):
    """Make a hole a free segment again, which was dug as its so-many-th and has its memory still,
    if the limit leaves room for it. OK, NOMEM (it is another by now, or there is no room), BUSY or
    CORRUPT."""
    s: cython.pointer(Segment)
    may: cython.bint
    status: cython.int
    if lock_both(w, cython.address(w.depot.lock)) != OK:
        return BUSY
    s = segment_at(w, number)
    may = s.state == SEG_HOLE and s.cls == 0 and s.dug == dug and spare(w) != 0
    if may:
        list_remove(w, cython.address(w.depot.hole_head), s)
        store(w, cython.address(s.state), SEG_STAYS)
        store(w, cython.address(w.depot.holes), w.depot.holes - 1)
        list_push(w, cython.address(w.depot.free_head), s)
    status = _end(w)
    return NOMEM if status == OK and not may else status


def fill_next(w):
    """Give the next segment that was never used memory, and list it as free. OK, NOMEM (as many
    have memory as may), NOSPACE, BUSY or CORRUPT. Called with no lock held.

    The memory comes before the depot is held, as it takes long; a huge page where one can begin."""
    number: u64 = load(cython.address(w.depot.seg_high))
    if number >= w.seg_total or spare(w) == 0:
        return NOMEM
    if give_memory(w, number, spare(w) >= HUGE_BYTES >> w.seg_shift) != OK:
        return NOSPACE
    if lock_both(w, cython.address(w.depot.lock)) != OK:
        return BUSY
    if w.depot.seg_high == number:
        store(w, cython.address(w.depot.seg_high), number + 1)
        list_push(w, cython.address(w.depot.free_head), segment_at(w, number + 1))
    return _end(w)


def begin_punch(w, number, dug):
    """Take a hole out of the list, if the segment is the one that was dug as its so-many-th, and
    give its memory back: `end_punch` must follow. OK, BUSY or CORRUPT.

    A grace period has passed since it became one. The system takes long for it, so the depot is not
    held meanwhile."""
    s: cython.pointer(Segment)
    hole: cython.bint
    status: cython.int
    if lock_both(w, cython.address(w.depot.lock)) != OK:
        return BUSY
    s = segment_at(w, number)
    hole = s.state == SEG_HOLE and s.cls == 0 and s.dug == dug
    if hole:
        list_remove(w, cython.address(w.depot.hole_head), s)
        store(w, cython.address(s.state), SEG_PUNCHING)
    status = _end(w)
    if hole and status == OK:
        punch(w, segment_start(w, number - 1), cython.cast(u64, 1) << w.seg_shift)
    return status


def end_punch(w, number):
    """List a segment that was being punched as a hole again, also if whoever punched it was killed.
    OK, BUSY or CORRUPT."""
    s: cython.pointer(Segment)
    if lock_both(w, cython.address(w.depot.lock)) != OK:
        return BUSY
    s = segment_at(w, number)
    if s.state == SEG_PUNCHING and s.cls == 0:
        store(w, cython.address(s.state), SEG_HOLE)
        list_push(w, cython.address(w.depot.hole_head), s)
    return _end(w)

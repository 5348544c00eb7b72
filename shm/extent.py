"""Owns extents: memory that is longer than any chunk, in one piece.

A granule is a 64th of a segment: 4 KiB, or 1 KiB in a small arena. A segment of the class of
extents has a map of its granules in its descriptor, and an extent is a row of granules, in one
segment or over several that follow one another. It begins in the first place from where this
worker found the last one. A worker has one at a time in its magazine, where recovery finds it; a
put over a page takes that, and leaves the old page's there.

Locks: the depot's, with nothing else but the worker's own lock. Looking for a place, and giving it
memory, begin before the depot is held, as they may take long.
Kill at any instruction: an extent is taken, and given back, some segments at a time, each time in
one transaction, so that a journal of its standing size holds it; what is had so far is an extent in
the magazine.
Rejected: runs of whole segments (up to a quarter of a MiB is lost with each page); sizes in powers
of two (up to half of a page is lost); a list of free places by size (to be kept in the arena, and
journalled, for a search of microseconds before a copy of a hundred).
"""
import cython
from cython.cimports.shm.atomics import clz, ctz, load
from cython.cimports.shm.extent import granule_bits, granules_of
from cython.cimports.shm.journal import conclude, store
from cython.cimports.shm.layout import (
    BUSY,
    EXTENT_CLASS,
    FAULT_CHUNK,
    GONE,
    GRANULE_SHIFT,
    HUGE_BYTES,
    NOMEM,
    OK,
    SEG_HOLE,
    SEG_LEAVING,
    SEG_STAYS,
    Magazine,
    Segment,
    Worker,
    u64,
)
from cython.cimports.shm.lock import lock_try, unlock
from cython.cimports.shm.segments import (
    has_memory,
    limit_of,
    list_push,
    list_remove,
    open_segment,
    put_back,
    spare,
    warm,
)

NOWHERE = cython.declare(u64, 0xFFFFFFFFFFFFFFFF)
ALL = cython.declare(u64, 0xFFFFFFFFFFFFFFFF)       # granules of a segment, as a map
PIECE = cython.declare(u64, 64)         # segments a transaction
KEEP_SHIFT = cython.declare(u64, 9)     # what stays in a magazine is at most this part of what may have memory


@cython.cfunc
@cython.nogil
@cython.inline
@cython.exceptval(check=False)
def _row(first: u64, count: u64) -> u64:
    """The map of so many granules of a segment from the first on."""
    return (ALL if count >= 64 else (cython.cast(u64, 1) << count) - 1) << first


@cython.cfunc
@cython.nogil
@cython.inline
@cython.exceptval(check=False)
def _free_in(w: cython.pointer(Worker), number: u64) -> u64:
    """The map of what an extent could have of a segment. Each word is read once: without the
    depot's lock it is a hint."""
    s: cython.pointer(Segment) = w.segtable + number
    cls: u64 = load(cython.address(s.cls))
    state: u64 = load(cython.address(s.state))
    if number >= load(cython.address(w.depot.seg_high)):
        return ALL
    if cls == EXTENT_CLASS + 1 and state == SEG_STAYS:
        return ~load(cython.address(s.bitmap))
    if cls == 0 and (state == SEG_STAYS or state == SEG_HOLE
                     or state == SEG_LEAVING and w.window_ready
                     and load(cython.address(s.wanted)) == w.slot_idx + 1):
        return ALL
    return 0


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _inside(free: u64, need: u64) -> u64:
    """Where in a map so many bits that follow one another are set first; 64: nowhere."""
    step: u64
    while need > 1 and free != 0:
        step = need >> 1
        free &= free >> step
        need -= step
    return ctz(free) if free != 0 else 64


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _find_between(w: cython.pointer(Worker), begin: u64, end: u64, need: u64) -> u64:
    """The first granule of a place between two segments, counted over all segments; NOWHERE."""
    left: u64 = spare(w)    # segments that may get memory
    run: u64 = 0
    bare: u64 = 0           # segments of the run that are to get memory
    number: u64
    free: u64
    inside: u64
    for number in range(begin, end):
        free = _free_in(w, number)
        if free == ALL and not has_memory(w, number):
            if left == 0:
                if number >= load(cython.address(w.depot.seg_high)):
                    return NOWHERE          # and so on to the end
                free = 0
            elif bare == left:
                run = bare = 0
            bare += free != 0
        if free == ALL:
            run += 64
            if run >= need:
                return ((number + 1) << GRANULE_SHIFT) - run
            continue
        if run + ctz(~free) >= need:
            return (number << GRANULE_SHIFT) - run
        if need < 64:
            inside = _inside(free, need)
            if inside < 64:
                return (number << GRANULE_SHIFT) + inside
        run = clz(~free)
        bare = 0
    return NOWHERE


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _find(w: cython.pointer(Worker), need: u64) -> u64:
    """A place for so many granules: from where the last one was found, then from the beginning."""
    high: u64 = load(cython.address(w.depot.seg_high))
    start: u64 = w.extent_hint if w.extent_hint < high else high
    place: u64
    end: u64 = start + (need >> GRANULE_SHIFT) + 2
    if start > w.seg_total:
        start = w.seg_total
    place = _find_between(w, start, w.seg_total, need)
    if place == NOWHERE and start != 0:
        place = _find_between(w, 0, end if end < w.seg_total else w.seg_total, need)
    return place


@cython.cfunc
@cython.nogil
@cython.inline
@cython.exceptval(check=False)
def _has_huge(w: cython.pointer(Worker), at: u64, end: u64) -> cython.bint:
    """True if a huge page can begin at a granule of an extent that ends at another."""
    huge: u64 = HUGE_BYTES >> granule_bits(w)
    return at % huge == 0 and end - at >= huge


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _take_part(w: cython.pointer(Worker), at: u64, end: u64) -> u64:
    """Take the granules of one segment, from one on: the next one; the same one if the segment gets
    no memory, or after a fault."""
    number: u64 = at >> GRANULE_SHIFT
    first: u64 = at & 63
    count: u64 = min(64 - first, end - at)
    s: cython.pointer(Segment) = w.segtable + number
    opened: cython.bint = s.cls == 0
    if opened and open_segment(w, number + 1, EXTENT_CLASS, _has_huge(w, at, end)) != OK:
        return at
    if w.fault == 0 and (s.cls != EXTENT_CLASS + 1 or s.bitmap & _row(first, count) != 0 or s.free_count < count):
        w.fault = FAULT_CHUNK
    if w.fault != 0:
        return at
    store(w, cython.address(s.bitmap), s.bitmap | _row(first, count))
    store(w, cython.address(s.free_count), s.free_count - count)
    store(w, cython.address(w.depot.class_free[EXTENT_CLASS]), w.depot.class_free[EXTENT_CLASS] - count)
    if s.free_count == 0 and not opened:
        list_remove(w, cython.address(w.depot.class_head[EXTENT_CLASS]), s)
    elif s.free_count != 0 and opened:
        list_push(w, cython.address(w.depot.class_head[EXTENT_CLASS]), s)
    return at + count


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _take(w: cython.pointer(Worker), mag: cython.pointer(Magazine), place: u64, need: u64) -> cython.int:
    """Have the granules of a place in the magazine. OK, NOMEM (only some are there) or CORRUPT."""
    at: u64 = place
    next: u64
    parts: u64 = 0
    short: cython.bint = False
    status: cython.int = OK
    while at < place + need and status == OK and not short:
        next = _take_part(w, at, place + need)
        short = next == at
        at = next
        parts += 1
        if (parts % PIECE == 0 or at == place + need or short) and at != place and w.fault == 0:
            store(w, cython.address(mag.items[1]), at - place)
            if mag.count == 0:
                store(w, cython.address(mag.items[0]), w.seg_lo + (place << granule_bits(w)))
                store(w, cython.address(mag.count), 1)
            status = conclude(w)
    if w.fault != 0:
        status = conclude(w)
    return NOMEM if status == OK and short else status


def ensure_extent(w, length):
    """Have an extent for just so many bytes in the magazine. OK, BUSY, NOMEM, GONE or CORRUPT."""
    mag: cython.pointer(Magazine) = cython.address(w.slot.mags[EXTENT_CLASS])
    need: u64 = granules_of(w, length)
    place: u64
    status: cython.int
    if mag.count == 1 and mag.items[1] == need:
        return OK
    status = drain_extent(w, mag)
    if status != OK:
        return status
    place = _find(w, need)
    if place == NOWHERE:
        return NOMEM
    warm(w, place >> GRANULE_SHIFT, ((place + need - 1) >> GRANULE_SHIFT) + 1)
    if lock_try(w, cython.address(w.depot.lock)) != OK:
        return BUSY
    w.extent_hint = place >> GRANULE_SHIFT
    place = _find(w, need)
    status = NOMEM if place == NOWHERE else _take(w, mag, place, need)
    unlock(w, cython.address(w.depot.lock))
    if status == OK:
        w.extent_hint = (place + need) >> GRANULE_SHIFT
    elif status == NOMEM:
        status = drain_extent(w, mag)
        if status == OK:
            status = GONE if w.lost else NOMEM
    return status


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _give_part(w: cython.pointer(Worker), first: u64, end: u64) -> u64:
    """Give back the granules of the last segment of an extent: where the rest of it ends."""
    number: u64 = (end - 1) >> GRANULE_SHIFT
    begin: u64 = max(first, number << GRANULE_SHIFT)
    map: u64 = _row(begin & 63, end - begin)
    s: cython.pointer(Segment) = w.segtable + number
    if number >= w.depot.seg_high or s.cls != EXTENT_CLASS + 1 or s.bitmap & map != map:
        w.fault = FAULT_CHUNK
        return begin
    store(w, cython.address(s.bitmap), s.bitmap & ~map)
    store(w, cython.address(w.depot.class_free[EXTENT_CLASS]), w.depot.class_free[EXTENT_CLASS] + (end - begin))
    put_back(w, s, EXTENT_CLASS, end - begin)
    return begin


def drain_extent(w, mag):
    """Give the extent of a magazine back, if there is one: the worker's own, or a dead one's. OK,
    BUSY or CORRUPT."""
    first: u64
    end: u64
    parts: u64
    off: u64
    status: cython.int = OK
    while mag.count != 0 and status == OK:
        if lock_try(w, cython.address(w.depot.lock)) != OK:
            return BUSY
        off = mag.items[0] - w.seg_lo
        first = off >> granule_bits(w)
        end = first + mag.items[1]
        if (
            mag.count != 1
            or off & ((cython.cast(u64, 1) << granule_bits(w)) - 1) != 0
            or end > w.seg_total << GRANULE_SHIFT
            or end <= first
        ):
            w.fault = FAULT_CHUNK
        parts = 0
        while w.fault == 0 and end > first and parts < PIECE:
            end = _give_part(w, first, end)
            parts += 1
        if end == first:
            store(w, cython.address(mag.count), 0)
        else:
            store(w, cython.address(mag.items[1]), end - first)
        status = conclude(w)
        unlock(w, cython.address(w.depot.lock))
        if first >> GRANULE_SHIFT < w.extent_hint:
            w.extent_hint = first >> GRANULE_SHIFT
    return status


def trim_extent(w):
    """Give the extent of this worker's magazine back if it is more than should lie there. OK, BUSY
    or CORRUPT."""
    mag: cython.pointer(Magazine) = cython.address(w.slot.mags[EXTENT_CLASS])
    if mag.count == 0 or mag.items[1] << granule_bits(w) <= (limit_of(w) << w.seg_shift) >> KEEP_SHIFT:
        return OK
    return drain_extent(w, mag)

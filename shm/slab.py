"""Owns chunk memory: segments, size classes, the depot, and moving chunks to and from magazines.

A segment is a run of 1 << seg_shift bytes, given to one size class until it is empty again. The
depot knows which chunks of it are out by a bitmap; out means in a magazine, or linked by the layer
above. No more segments have memory than `Depot.limit` says, but for the time it takes to empty
those that are too many (shrink.py): one that leaves becomes a hole when it is empty.

Locks: the depot lock, with nothing else but the worker's own lock. Each move is one transaction, so
a kill leaves a chunk on exactly one side. Chunks in a magazine are found there by recovery.
Rejected: free lists threaded through the chunks (a list walk touches one cold line a chunk, and a
stray write into a free page breaks the list); one list for all segments (empty ones could not be
told).
"""
import cython
from cython.cimports.libc.string import memset
from cython.cimports.shm.atomics import ctz, load
from cython.cimports.shm.journal import conclude, store
from cython.cimports.shm.layout import (
    BULK_CLASS,
    BUSY,
    CLASS_COUNT,
    CORRUPT,
    FAULT_CHUNK,
    FAULT_OFFSET,
    GONE,
    HUGE_BYTES,
    MAG_BATCH,
    NOMEM,
    OK,
    SEG_HOLE,
    SEG_LEAVING,
    SEG_STAYS,
    Magazine,
    Segment,
    Worker,
    slots_used,
    u64,
)
from cython.cimports.shm.lock import lock_try, unlock
from cython.cimports.shm.memory import back, back_segment
from cython.cimports.shm.slab import (
    NO_CHUNK,
    bitmap_of,
    chunk_index,
    chunk_start,
    mag_cap,
    segment_of,
    segment_start,
)

SHARERS = cython.declare(u64, 8)        # workers whose magazines never get smaller because there are others

# Chunk sizes in bytes, all multiples of a cache line. Fine steps up to a page keep the loss of a
# short (or compressed) page under a quarter. The first class and the bulk class, last, are for
# structs of the layer above alone.
SIZES = cython.declare(cython.int[27])
SIZES[:] = [
    64, 128, 192, 256, 320, 384, 512, 768, 1024, 1280, 1536, 1792, 2048, 2304, 2560, 2816, 3072, 3328,
    3584, 4096, 6144, 8192, 16384, 32768, 65536, 131072, 576,
]


def sizes():
    """Chunk sizes by class, in bytes."""
    return [SIZES[i] for i in range(CLASS_COUNT)]


def set_classes(w):
    """Fill the size tables of a Worker: they follow from the geometry alone."""
    seg_bytes: u64 = cython.cast(u64, 1) << w.seg_shift
    cls: cython.int
    size: u64
    n: u64
    start: u64
    for cls in range(CLASS_COUNT):
        size = SIZES[cls]
        n = seg_bytes // size
        start = 0
        if n > 64:
            start = ((n + 7) // 8 + 63) & ~cython.cast(u64, 63)
            n = (seg_bytes - start) // size
        w.class_bytes[cls] = size
        w.class_chunks[cls] = n
        w.class_start[cls] = start
    w.batch_for = 0
    _set_batches(w, False)


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _set_batches(w: cython.pointer(Worker), tight: cython.bint) -> cython.void:
    """How many chunks of each class this worker moves at once. What lies in magazines is nobody
    else's: a batch is at most 1/512 of what may have memory, and where nearly all of that is taken
    (`tight`) more than eight workers share what eight would have."""
    sharers: u64 = slots_used(w) if tight else 0
    segments: u64 = limit_of(w)
    batch: u64
    cls: cython.int
    if sharers < SHARERS:
        sharers = SHARERS
    if w.batch_for == (segments << 16 | sharers):
        return
    w.batch_for = segments << 16 | sharers
    for cls in range(CLASS_COUNT):
        batch = (segments << w.seg_shift) // (512 // SHARERS * sharers * w.class_bytes[cls])
        w.class_batch[cls] = 1 if batch < 1 else MAG_BATCH if batch > MAG_BATCH else batch


def class_of(length):
    """The smallest class whose chunks hold `length` bytes, the first and the last class aside,
    which are for structs; -1: none."""
    cls: cython.int = 1
    if length > 2048:
        cls = 13
    while cls < BULK_CLASS and cython.cast(u64, SIZES[cls]) < length:
        cls += 1
    return cls if cls < BULK_CLASS else -1


def segment_at(w, number):
    """Descriptor of segment `number` - 1; a number out of range sets the fault and answers segment
    0."""
    if number == 0 or number > w.seg_total:
        if w.fault == 0:
            w.fault = FAULT_OFFSET
        return w.segtable
    return w.segtable + (number - 1)


def limit_of(w):
    """Segments that may have memory today."""
    limit: u64 = load(cython.address(w.depot.limit))
    return limit if 0 < limit < w.seg_total else w.seg_total


def slack(w, cls):
    """Bytes that lie free in segments of other classes than this one. Without the depot's lock: a
    hint."""
    i: cython.int
    bytes: u64 = 0
    for i in range(CLASS_COUNT):
        if i != cls:
            bytes += load(cython.address(w.depot.class_free[i])) * w.class_bytes[i]
    return bytes


def list_push(w, head, s):
    """Make a segment the first of a list, inside the caller's transaction."""
    number: u64 = cython.cast(u64, s - w.segtable) + 1
    if head[0] != 0:
        store(w, cython.address(segment_at(w, head[0]).prev), number)
    store(w, cython.address(s.next), head[0])
    store(w, cython.address(s.prev), 0)
    store(w, head, number)


def list_remove(w, head, s):
    """Take a segment out of the list it is in, inside the caller's transaction."""
    if s.next != 0:
        store(w, cython.address(segment_at(w, s.next).prev), s.prev)
    if s.prev != 0:
        store(w, cython.address(segment_at(w, s.prev).next), s.next)
    else:
        store(w, head, s.next)


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _run_is_free(w: cython.pointer(Worker), s: cython.pointer(Segment)) -> cython.bint:
    """True if a whole huge page may be had from this segment on: nothing but holes, and the limit
    leaves room for all of them."""
    run: u64 = HUGE_BYTES >> w.seg_shift
    i: u64
    if w.depot.seg_high - w.depot.holes + run > limit_of(w) or cython.cast(u64, s - w.segtable) + run > w.seg_total:
        return False
    for i in range(run):
        if cython.cast(u64, s - w.segtable) + i < w.depot.seg_high and (s + i).state != SEG_HOLE:
            return False
    return True


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _take_segment(w: cython.pointer(Worker), cls: cython.int) -> cython.pointer(Segment):
    """Give a free segment to the class and list it; NULL when there is none, or no memory for
    it."""
    number: u64 = w.depot.free_head
    hole: cython.bint = number == 0 and w.depot.hole_head != 0
    s: cython.pointer(Segment)
    # A free segment may always be taken: it has memory already, also while there is too much.
    if number == 0 and w.depot.seg_high - w.depot.holes >= limit_of(w):
        return cython.NULL
    if hole:
        number = w.depot.hole_head
    elif number == 0:
        number = w.depot.seg_high + 1
        if number > w.seg_total:
            return cython.NULL
    s = segment_at(w, number)
    if w.fault != 0 or s.cls != 0 or (s.state == SEG_HOLE) != hole:
        w.fault = FAULT_CHUNK
        return cython.NULL
    if w.depot.free_head != 0:
        list_remove(w, cython.address(w.depot.free_head), s)
    else:
        # Marks first: a segment that has memory can be given to any class.
        if back(w, w.marks_off + ((number - 1) << (w.seg_shift - 8)), cython.cast(u64, 1) << (w.seg_shift - 8)) != OK:
            return cython.NULL
        if back_segment(w, segment_start(w, number - 1), _run_is_free(w, s)) != OK:
            return cython.NULL
        if hole:
            list_remove(w, cython.address(w.depot.hole_head), s)
            store(w, cython.address(s.state), SEG_STAYS)
            store(w, cython.address(w.depot.holes), w.depot.holes - 1)
        else:
            store(w, cython.address(w.depot.seg_high), number)
    # Chunks of the first class are looked through without knowing which are in use: nothing of a
    # former class may be left there.
    if cls == 0:
        memset(w.base + segment_start(w, s - w.segtable), 0, cython.cast(u64, 1) << w.seg_shift)
    # The map lies where a former class had chunks. Nobody reads it before the class is set.
    memset(bitmap_of(w, s, cls), 0, w.class_start[cls] if w.class_start[cls] else 8)
    store(w, cython.address(s.free_count), w.class_chunks[cls])
    store(w, cython.address(s.cls), cls + 1)
    store(w, cython.address(w.depot.seg_used), w.depot.seg_used + 1)
    if w.depot.seg_used > w.used_most:
        w.used_most = w.depot.seg_used
    store(w, cython.address(w.depot.class_segments[cls]), w.depot.class_segments[cls] + 1)
    store(w, cython.address(w.depot.class_free[cls]), w.depot.class_free[cls] + w.class_chunks[cls])
    list_push(w, cython.address(w.depot.class_head[cls]), s)
    return s


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _take_chunks(w: cython.pointer(Worker), s: cython.pointer(Segment), cls: cython.int,
                 mag: cython.pointer(Magazine), have: u64, want: u64) -> u64:
    """Move free chunks of the segment to mag.items[have:], until `want` or it has none; the new
    count."""
    words: cython.pointer(u64) = bitmap_of(w, s, cls)
    chunks: u64 = w.class_chunks[cls]
    first: u64 = chunk_start(w, s - w.segtable, cls, 0)
    before: u64 = have
    i: u64
    used: u64
    free: u64
    bit: u64
    for i in range((chunks + 63) // 64):
        used = words[i]
        free = ~used
        if (i + 1) * 64 > chunks:
            free &= (cython.cast(u64, 1) << (chunks & 63)) - 1
        if free == 0:
            continue
        while free != 0 and have < want:
            bit = ctz(free)
            free &= free - 1
            used |= cython.cast(u64, 1) << bit
            mag.items[have] = first + (i * 64 + bit) * w.class_bytes[cls]
            have += 1
        store(w, cython.address(words[i]), used)
        if have == want:
            break
    if have == before:
        w.fault = FAULT_CHUNK      # listed as having free chunks, and has none
        return have
    if have - before > s.free_count:
        w.fault = FAULT_CHUNK
        return have
    store(w, cython.address(s.free_count), s.free_count - (have - before))
    return have


def refill(w, cls, want):
    """Fill the worker's magazine of `cls` to `want` or a batch more. OK, BUSY, NOMEM, GONE or
    CORRUPT.

    NOMEM still leaves what could be had in the magazine. One transaction, under the depot lock.
    """
    mag: cython.pointer(Magazine) = cython.address(w.slot.mags[cls])
    s: cython.pointer(Segment)
    status: cython.int
    have: u64 = mag.count
    goal: u64
    if have > mag_cap(cls) or want > mag_cap(cls):
        w.fault = FAULT_CHUNK
        return CORRUPT
    if lock_try(w, cython.address(w.depot.lock)) != OK:
        return BUSY
    # Nearly all: where segments change their classes, one is free now and then.
    _set_batches(w, w.depot.seg_used + limit_of(w) // 16 + 2 >= limit_of(w))
    goal = have + w.class_batch[cls]
    if goal < want:
        goal = want
    if goal > mag_cap(cls):
        goal = mag_cap(cls)
    while have < goal and w.fault == 0:
        if w.depot.class_head[cls] != 0:
            s = segment_at(w, w.depot.class_head[cls])
            if s.cls != cython.cast(u64, cls + 1):
                w.fault = FAULT_CHUNK
        else:
            s = _take_segment(w, cls)
            if s == cython.NULL:
                break
        if w.fault != 0:
            break
        have = _take_chunks(w, s, cls, mag, have, goal)
        if w.fault == 0 and s.free_count == 0:
            list_remove(w, cython.address(w.depot.class_head[cls]), s)
    if w.fault == 0:
        store(w, cython.address(w.depot.class_free[cls]), w.depot.class_free[cls] - (have - mag.count))
        store(w, cython.address(mag.count), have)
    status = conclude(w)
    unlock(w, cython.address(w.depot.lock))
    if status == OK and have < want:
        return GONE if w.lost else NOMEM
    return status


def list_hole(w, s):
    """Make a segment without a class that is in no list a hole. Inside the caller's transaction."""
    store(w, cython.address(s.state), SEG_HOLE)
    store(w, cython.address(s.dug), s.dug + 1)
    store(w, cython.address(w.depot.holes), w.depot.holes + 1)
    list_push(w, cython.address(w.depot.hole_head), s)


def free_segment(w, s):
    """List a segment without a class that is in no list: as free, or as a hole if more have memory
    than may. Inside the caller's transaction."""
    if w.depot.seg_high - w.depot.holes > limit_of(w):
        list_hole(w, s)
    else:
        if s.state != SEG_STAYS:
            store(w, cython.address(s.state), SEG_STAYS)
        list_push(w, cython.address(w.depot.free_head), s)


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _give_back(w: cython.pointer(Worker), cls: cython.int, off: u64) -> cython.void:
    """Return one chunk to its segment, and the segment to the free ones when that was its last."""
    number: u64 = segment_of(w, off) + 1
    s: cython.pointer(Segment) = segment_at(w, number)
    index: u64 = chunk_index(w, cls, off)
    word: cython.pointer(u64)
    bit: u64 = cython.cast(u64, 1) << (index & 63)
    if (
        w.fault != 0
        or number > w.depot.seg_high
        or s.cls != cython.cast(u64, cls + 1)
        or index == NO_CHUNK
    ):
        w.fault = FAULT_CHUNK
        return
    word = bitmap_of(w, s, cls) + (index >> 6)
    if word[0] & bit == 0 or s.free_count >= w.class_chunks[cls]:
        w.fault = FAULT_CHUNK
        return
    store(w, word, word[0] & ~bit)
    store(w, cython.address(s.free_count), s.free_count + 1)
    if s.free_count == 1 and s.state != SEG_LEAVING:
        list_push(w, cython.address(w.depot.class_head[cls]), s)
    if s.free_count == w.class_chunks[cls]:
        w.emptied += 1
        store(w, cython.address(s.cls), 0)
        store(w, cython.address(w.depot.seg_used), w.depot.seg_used - 1)
        store(w, cython.address(w.depot.class_segments[cls]), w.depot.class_segments[cls] - 1)
        store(w, cython.address(w.depot.class_free[cls]), w.depot.class_free[cls] - w.class_chunks[cls])
        if s.state == SEG_LEAVING:
            free_segment(w, s)
        else:
            # Also while too many have memory: whoever emptied it may need it for another class. Who
            # resizes digs it up, or empties another.
            list_remove(w, cython.address(w.depot.class_head[cls]), s)
            list_push(w, cython.address(w.depot.free_head), s)


def drain(w, mag, cls, keep):
    """Return chunks of a magazine (the worker's own, or a dead one's) to the depot, down to `keep`.

    OK, BUSY or CORRUPT. Transactions of at most a batch, so that the journal's standing part holds
    them.
    """
    n: u64
    status: cython.int = OK
    while mag.count > keep and status == OK:
        if mag.count > mag_cap(cls):
            w.fault = FAULT_CHUNK
            return CORRUPT
        if lock_try(w, cython.address(w.depot.lock)) != OK:
            return BUSY
        n = mag.count
        while n > keep and mag.count - n < MAG_BATCH and w.fault == 0:
            n -= 1
            _give_back(w, cls, mag.items[n])
        store(w, cython.address(w.depot.class_free[cls]), w.depot.class_free[cls] + (mag.count - n))
        store(w, cython.address(mag.count), n)
        status = conclude(w)
        unlock(w, cython.address(w.depot.lock))
    return status


def drain_all(w, slot):
    """Return every chunk of every magazine of `slot`. OK, BUSY or CORRUPT."""
    cls: cython.int
    status: cython.int
    for cls in range(CLASS_COUNT):
        status = drain(w, cython.address(slot.mags[cls]), cls, 0)
        if status != OK:
            return status
    return OK

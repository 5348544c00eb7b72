"""Owns moving chunks between the depot and magazines.

Locks: the depot lock, with nothing else but the worker's own lock. Each move is one transaction, so
a kill leaves a chunk on exactly one side. Chunks in a magazine are found there by recovery. The
magazine of extents has one of them at most: see extent.py.
"""
import cython
from cython.cimports.shm.atomics import ctz
from cython.cimports.shm.extent import drain_extent
from cython.cimports.shm.journal import conclude, store
from cython.cimports.shm.layout import (
    BUSY,
    CLASS_COUNT,
    CORRUPT,
    EXTENT_CLASS,
    FAULT_CHUNK,
    GONE,
    MAG_BATCH,
    NOMEM,
    OK,
    Magazine,
    Segment,
    Worker,
    u64,
)
from cython.cimports.shm.lock import lock_try, unlock
from cython.cimports.shm.segments import (
    NO_CHUNK,
    bitmap_of,
    chunk_index,
    chunk_start,
    limit_of,
    list_remove,
    put_back,
    segment_at,
    segment_of,
    set_batches,
    take_segment,
)
from cython.cimports.shm.slab import mag_cap


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
    set_batches(w, w.depot.seg_used + limit_of(w) // 16 + 2 >= limit_of(w))
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
            s = take_segment(w, cls)
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
    if word[0] & bit == 0:
        w.fault = FAULT_CHUNK
        return
    store(w, word, word[0] & ~bit)
    put_back(w, s, cls, 1)


def drain(w, mag, cls, keep):
    """Return chunks of a magazine (the worker's own, or a dead one's) to the depot, down to `keep`.

    OK, BUSY or CORRUPT. Transactions of at most a batch, so that the journal's standing part holds
    them.
    """
    n: u64
    status: cython.int = OK
    if cls == EXTENT_CLASS:
        return drain_extent(w, mag) if keep == 0 else OK
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

"""Owns the short way of a put: over pages that are there and are stored the same way, chunk for
chunk.

The bytes are copied into chunks that stay in the worker's magazine; then, under the bucket's lock
and in one transaction, each page and its place in the magazine exchange their chunks. So nothing is
staged, retired or queued, and no descriptor is taken. The pages are found before the copy, without
the lock: if the sequence word says under the lock that nobody has written since, they are still
there. Else they are found again.
Kill at any instruction: the journal undoes the exchange; before it, nothing but free chunks was
written.
"""
import cython
from cython.cimports.engine.layout.call import (
    AGAIN,
    CONFLICT,
    DESTROYED,
    Call,
    PoolRef,
    in_parts,
    put_copy,
    put_length,
    put_shape,
)
from cython.cimports.engine.layout.regions import height_of, index_in, next_gen, obj_at, pages_of, pampd_at, pool_of_obj
from cython.cimports.engine.layout.structs import (
    MAP_SIZE,
    ROOT_PENDING,
    ROOT_RETIRED,
    ROOT_STAGED,
    Bucket,
    Obj,
    Pampd,
)
from cython.cimports.engine.layout.words import (
    TAIL,
    length_of,
    link_to_page,
    same_filled,
    target_of,
    without_flags,
)
from cython.cimports.engine.tree.lookaside import remember
from cython.cimports.engine.tree.objnode import link_word
from cython.cimports.engine.tree.unlink import weigh
from cython.cimports.engine.verbs.overwrite import OVER_MAX
from cython.cimports.engine.verbs.section import REAP_BUDGET, alive, bucket_of, end_section, find_place, finish
from cython.cimports.engine.verbs.value import allowed, date
from cython.cimports.shm.atomics import load, prefetch
from cython.cimports.shm.journal import store
from cython.cimports.shm.layout import BUSY, EXTENT_CLASS, FAULT_SENTINEL, OK, Magazine, Worker, offset_of, u64
from cython.cimports.shm.lock import lock_try, seq_begin, unlock
from cython.cimports.shm.memory import chunk_at
from cython.cimports.shm.segments import class_of
from cython.cimports.shm.slab import ensure, mag_cap


@cython.cfunc
@cython.nogil
@cython.inline
@cython.exceptval(check=False)
def _ask_for_chunk(w: cython.pointer(Worker), cls: cython.int, length: u64) -> cython.void:
    """Let the first lines of the chunk that a page will be copied into set out while the page's
    place is looked for. A hint."""
    mag: cython.pointer(Magazine) = cython.address(w.slot.mags[cls])
    have: u64 = mag.count
    line: u64
    if 0 < have <= mag_cap(cls):
        for line in range(min(length, cython.cast(u64, 6 * 64)) // 64):
            prefetch(w.base + mag.items[have - 1] + line * 64)


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _find(w: cython.pointer(Worker), p: cython.pointer(PoolRef), c: cython.pointer(Call), b: cython.pointer(Bucket),
          places: cython.pointer(cython.pointer(u64))) -> u64:
    """Where the link words lie that lead to the pages of a call; the offset of their obj, or 0: one
    is missing. Under the bucket's lock, or between two looks at its sequence word."""
    obj_off: u64
    o: cython.pointer(Obj)
    at: cython.pointer(u64) = find_place(w, p, c, b, c.ask.index, cython.address(obj_off))
    link: u64
    index: u64
    i: u64
    for i in range(c.ask.count):
        if i != 0:
            # The next slot of the same objnode, or down the tree anew.
            o = obj_at(w, obj_off)
            index = c.ask.index + i
            at = at + 1 if index & (MAP_SIZE - 1) != 0 and height_of(o) != 0 else link_word(w, o, index, 0)
        link = load(at) if at != cython.NULL else 0
        if link == 0 or w.fault != 0:
            return 0
        prefetch(chunk_at(w, target_of(link)))
        places[i] = at
    return obj_off if w.fault == 0 else 0


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _fits(w: cython.pointer(Worker), p: cython.pointer(PoolRef), c: cython.pointer(Call), obj_off: u64,
          places: cython.pointer(cython.pointer(u64)), cls: cython.int) -> cython.bint:
    """True if all pages lie in chunks of the class, each its own, with nothing special about them.
    Faults as in find_page."""
    o: cython.pointer(Obj) = obj_at(w, obj_off)
    d: cython.pointer(Pampd)
    i: u64
    if pool_of_obj(o) != p.idx:
        w.fault = w.fault if w.fault else FAULT_SENTINEL
    for i in range(c.ask.count):
        d = pampd_at(w, target_of(places[i][0]))
        if w.fault == 0 and (
            index_in(o, d) != c.ask.index + i or d.obj != obj_off or length_of(d) > p.page_max
        ):
            w.fault = FAULT_SENTINEL
        # Class, and no flag but that it has a tail: neither same-filled, compressed, a twin nor
        # ever viewed.
        if w.fault != 0 or without_flags(d.shape, TAIL) >> 32 != cython.cast(u64, cls):
            return False
    return True


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _exchange(w: cython.pointer(Worker), p: cython.pointer(PoolRef), c: cython.pointer(Call), obj_off: u64,
              places: cython.pointer(cython.pointer(u64)), cls: cython.int, item: cython.pointer(u64)) -> cython.void:
    """Give each page the chunk with its new bytes, and the magazine the old one; `item`: the
    topmost of the magazine."""
    d: cython.pointer(Pampd)
    old: u64
    more: u64 = 0
    i: u64
    for i in range(c.ask.count):
        d = pampd_at(w, target_of(places[i][0]))
        old = d.data
        chunk_at(w, old)
        if w.fault != 0:
            return
        store(w, places[i], link_to_page(w, offset_of(w, d), item[0], 0))
        store(w, cython.address(d.data), item[0])
        store(w, cython.address(d.gen), next_gen(w))
        if d.shape != put_shape(p, c, i, cls):
            more += put_length(c, i, p.page_size) - length_of(d)
            store(w, cython.address(d.shape), put_shape(p, c, i, cls))
        store(w, item, old)
        item -= 1
    weigh(w, p.idx, obj_off, more, 0, more)


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _copy(w: cython.pointer(Worker), p: cython.pointer(PoolRef), c: cython.pointer(Call), cls: cython.int,
          item: cython.pointer(cython.pointer(u64))) -> cython.int:
    """Copy the pages of a call into the topmost chunks of the magazine, the first page into the
    topmost, `item`. OK, BUSY, or AGAIN: there are not that many, or it is damaged."""
    mag: cython.pointer(Magazine) = cython.address(w.slot.mags[cls])
    status: cython.int
    have: u64
    i: u64
    if mag.count < c.ask.count:
        # No more at once than a batch: in a small arena others would lack them.
        if c.ask.count > w.class_batch[cls]:
            return AGAIN
        status = ensure(w, cls, c.ask.count)
        if status != OK:
            w.fault = 0
            return BUSY if status == BUSY else AGAIN
    have = load(cython.address(mag.count))
    if have > mag_cap(cls) or have < c.ask.count:
        return AGAIN
    item[0] = cython.address(mag.items[have - 1])
    for i in range(c.ask.count):
        put_copy(c, i, p.page_size, cython.cast(cython.p_char, chunk_at(w, mag.items[have - 1 - i])))
    if w.fault != 0:
        w.fault = 0
        return AGAIN
    return OK


def overwrite(w, p, c, host):
    """Put the pages of a call over those that are there. OK, BUSY, CONFLICT, DESTROYED or CORRUPT
    as `put`; AGAIN: nothing was done, go the long way."""
    b: cython.pointer(Bucket) = bucket_of(p, c)
    places: cython.pointer(u64)[16]
    item: cython.pointer(u64) = cython.NULL
    i: u64
    cls: cython.int
    status: cython.int
    obj_off: u64
    seen: u64
    if c.ask.count > OVER_MAX or c.ask.packs != cython.NULL or w.slot.client[ROOT_STAGED] != 0 or c.ask.length == 0:
        return AGAIN
    cls = class_of(w, put_length(c, c.ask.count - 1, p.page_size))
    if cls < 0 or cls == EXTENT_CLASS or (c.ask.count > 1 and cls != class_of(w, p.page_size)):
        return AGAIN
    if p.evictable and not in_parts(c):
        for i in range(c.ask.count):
            if same_filled(c.ask.data + i * p.page_size, put_length(c, i, p.page_size)):
                return AGAIN
    prefetch(b)
    prefetch(p.asides + (c.ask.hash & p.aside_mask))
    _ask_for_chunk(w, cls, c.ask.length)
    seen = seq_begin(cython.address(b.lock))
    obj_off = _find(w, p, c, b, places)
    if obj_off == 0:
        w.fault = 0
        return AGAIN
    if lock_try(w, cython.address(w.slot.own)) != OK:
        return BUSY
    status = _copy(w, p, c, cls, cython.address(item))
    if status == OK and lock_try(w, cython.address(b.lock)) != OK:
        status = BUSY
    if status != OK:
        unlock(w, cython.address(w.slot.own))
        return status
    if not alive(p):
        unlock(w, cython.address(b.lock))
        finish(w, REAP_BUDGET, host)
        return DESTROYED
    # Taking the lock made it odd; anything else that changed it has come between.
    if b.lock.seq != seen + 1:
        obj_off = _find(w, p, c, b, places)
    if obj_off == 0 and w.fault == 0:
        status = AGAIN
    elif w.fault == 0 and not _fits(w, p, c, obj_off, places, cls) and w.fault == 0:
        status = AGAIN
    elif w.fault == 0 and c.ask.value != cython.NULL and not allowed(w, p, c, obj_off):
        status = CONFLICT
    elif w.fault == 0 and c.ask.value != cython.NULL and pages_of(obj_at(w, obj_off)) != 1:
        status = AGAIN
    elif w.fault == 0:
        if c.ask.value != cython.NULL:
            date(w, p, b, obj_off, c.ask.value.expires)
        remember(p, c)
        _exchange(w, p, c, obj_off, places, cls, item)
        c.did.duplicate = True
    status = end_section(w, b, status)
    if w.slot.client[ROOT_PENDING] != 0 or w.slot.client[ROOT_RETIRED] != 0:
        finish(w, REAP_BUDGET, host)
    else:
        unlock(w, cython.address(w.slot.own))
    return status

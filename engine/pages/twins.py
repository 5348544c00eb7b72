"""Owns twins: one chunk for all pages of a pool that have the same content, and how many pages
refer to it.

A twin is found by a digest that the caller has computed (xxHash: XXH3, 128 bits), and then its
bytes are compared: equal digests prove nothing. A bucket takes only so many: whoever chooses
contents whose digests fall into one makes its pages take chunks, and no put walk far. It is never
changed while a page refers to it, so readers need nothing but the reference they came by. The
stores are part of the caller's transaction, which stages a page or gives one back.
Lock order: own, twin bucket; the lock comes back held, so that the caller's part of the transaction
is committed under it.
Within a pool alone: who can see by the time a put takes that another has a page must not be another
tenant.
"""
import cython
from cython.cimports.engine.layout.call import MISS, Call, PoolRef, put_bytes, put_shape
from cython.cimports.engine.layout.regions import has_twins, twin_at, twin_bucket
from cython.cimports.engine.layout.structs import (
    OBJNODE_CLASS,
    PAMPD_CLASS,
    TWIN_BYTES,
    TWIN_SENTINEL,
    TWINS_A_BUCKET,
    TWINS_MADE,
    Twin,
    TwinBucket,
)
from cython.cimports.engine.layout.words import TWIN, class_in, copied_of, pool_mark, size_class, with_flags
from cython.cimports.engine.pages.pins import is_pinned
from cython.cimports.libc.string import memcmp
from cython.cimports.shm.extent import room_of
from cython.cimports.shm.journal import conclude, store
from cython.cimports.shm.layout import BUSY, CORRUPT, FAULT_LOOP, FAULT_SENTINEL, OK, Worker, u64
from cython.cimports.shm.lock import lock_try, unlock
from cython.cimports.shm.memory import chunk_at
from cython.cimports.shm.segments import class_of
from cython.cimports.shm.shrink import is_leaving, leaves
from cython.cimports.shm.slab import available, ensure, ensure_for, has_for, pop, push, push_for

REFS_MAX = cython.declare(u64, 1 << 32)


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _find(
    w: cython.pointer(Worker),
    p: cython.pointer(PoolRef),
    c: cython.pointer(Call),
    i: u64,
    b: cython.pointer(TwinBucket),
    shape: u64,
) -> u64:
    """The twin of page i of a put, or 0. Its bucket is held."""
    stored: u64
    data: cython.p_const_char = put_bytes(c, i, p.page_size, cython.address(stored))
    off: u64 = b.head
    t: cython.pointer(Twin)
    steps: u64 = 0
    while off != 0 and w.fault == 0:
        t = twin_at(w, off)
        steps += 1
        if steps > w.seg_span // 64:
            w.fault = FAULT_LOOP
        if (t.digest[0] == c.ask.packs[i].digest[0] and t.digest[1] == c.ask.packs[i].digest[1] and t.shape == shape
                and t.pool == pool_mark(p.idx, p.gen) and 0 < t.refs < REFS_MAX
                # Twins are not moved: one that is to go gets no more pages, or it would never be
                # without.
                and not is_leaving(w, off) and not leaves(w, size_class(shape), t.data, stored)):
            chunk_at(w, t.data)
            chunk_at(w, t.data + ((stored - 1) & ~cython.cast(u64, 63)))
            if w.fault == 0 and memcmp(w.base + t.data, data, stored) == 0:
                return off
        off = t.link
    return 0


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
@cython.inline
def _count_twin(w: cython.pointer(Worker), twins: u64, size: u64) -> cython.void:
    """Add to what this worker has made: all workers' counts together are what there is, and whoever
    asks need not look at the buckets."""
    store(w, cython.address(w.slot.client[TWINS_MADE]), w.slot.client[TWINS_MADE] + twins)
    store(w, cython.address(w.slot.client[TWIN_BYTES]), w.slot.client[TWIN_BYTES] + size)


def share(w, p, c, i, page, pam, held):
    """Let `page`, an unlinked descriptor, be a reference to the twin of page i of a put, which is
    made if there is none. OK with the twin's bucket held; BUSY, NOMEM, CORRUPT, or MISS (there is
    none, and its bucket takes no more) with nothing held and nothing changed."""
    stored: u64
    data: cython.p_const_char = put_bytes(c, i, p.page_size, cython.address(stored))
    cls: cython.int = class_of(w, stored)
    shape: u64 = put_shape(p, c, i, cls)
    b: cython.pointer(TwinBucket) = twin_bucket(w, c.ask.packs[i].digest[0])
    t: cython.pointer(Twin)
    off: u64
    status: cython.int
    while True:
        if lock_try(w, cython.address(b.lock)) != OK:
            return BUSY
        off = _find(w, p, c, i, b, shape)
        if w.fault == 0 and off == 0 and b.count >= TWINS_A_BUCKET:
            unlock(w, cython.address(b.lock))
            return MISS
        if w.fault != 0 or off != 0 or (available(w, PAMPD_CLASS) >= 2 and has_for(w, cls, stored)):
            break
        # Chunks are only looked for when the page turned out to have no twin, and not with the
        # bucket held.
        unlock(w, cython.address(b.lock))
        status = ensure(w, PAMPD_CLASS, 2)
        if status == OK:
            status = ensure_for(w, cls, stored)
        if status != OK:
            return status
    if w.fault == 0 and off != 0:
        store(w, cython.address(twin_at(w, off).refs), twin_at(w, off).refs + 1)
    elif w.fault == 0:
        status = pam.prepare(w, page, data, stored)
        off = pop(w, PAMPD_CLASS)
        if status == OK and off != 0 and class_in(page) == cls:
            t = cython.cast(cython.pointer(Twin), chunk_at(w, off))
            t.link = b.head
            t.digest[0] = c.ask.packs[i].digest[0]
            t.digest[1] = c.ask.packs[i].digest[1]
            t.data = page.data
            t.shape = shape
            t.refs = 1
            t.pool = pool_mark(p.idx, p.gen)
            t.sentinel = TWIN_SENTINEL
            store(w, cython.address(b.head), off)
            store(w, cython.address(b.count), b.count + 1)
            _count_twin(w, 1, room_of(w, cls, stored))
        elif w.fault == 0:
            w.fault = FAULT_SENTINEL
    if w.fault != 0:
        conclude(w)
        unlock(w, cython.address(b.lock))
        return CORRUPT
    page.data = off
    page.shape = with_flags(shape, TWIN)
    held[0] = b
    return OK


def let_go(w, off, cls, held, viewed):
    """Give a reference to a twin back; the last one takes twin and chunk (of class `cls`) into the
    magazines, which have room; a chunk that somebody has a view on goes to the caller, in `viewed`.
    OK with the twin's bucket held, BUSY or CORRUPT with nothing held."""
    t: cython.pointer(Twin) = twin_at(w, off)
    b: cython.pointer(TwinBucket)
    at: cython.pointer(u64)
    steps: u64 = 0
    if w.fault != 0 or not has_twins(w):
        w.fault = w.fault if w.fault else FAULT_SENTINEL
        return CORRUPT
    b = twin_bucket(w, t.digest[0])
    if lock_try(w, cython.address(b.lock)) != OK:
        return BUSY
    if t.refs > 1:
        store(w, cython.address(t.refs), t.refs - 1)
    else:
        at = cython.address(b.head)
        while at[0] != off and at[0] != 0 and w.fault == 0:
            at = cython.address(twin_at(w, at[0]).link)
            steps += 1
            if steps > w.seg_span // 64:
                w.fault = FAULT_LOOP
        if at[0] != off or cls != size_class(t.shape) or cls >= OBJNODE_CLASS or t.refs == 0:
            w.fault = w.fault if w.fault else FAULT_SENTINEL
        else:
            store(w, at, t.link)
            store(w, cython.address(b.count), b.count - 1)
            _count_twin(w, -1, -room_of(w, cls, copied_of(t.shape)))
            store(w, cython.address(t.sentinel), ~t.sentinel)
            if is_pinned(w, t.data):
                viewed[0] = t.data
            else:
                push_for(w, cls, t.data, copied_of(t.shape))
            push(w, PAMPD_CLASS, off)
    if w.fault != 0:
        conclude(w)
        unlock(w, cython.address(b.lock))
        return CORRUPT
    held[0] = b
    return OK

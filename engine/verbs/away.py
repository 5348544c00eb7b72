"""Owns the verbs of far pages: a page becomes far, a far one goes, and what a range is made of.
What all verbs share is in section.py.

A page is local or far as its descriptor says, and the descriptor alone decides what is under a
handle; docs/architecture.md has the states. Nothing here asks a tier: who gets a far page asks it
with no lock held (engine/member/bound.py), and looks again.
Locks: own, and the bucket; a page becomes far, and is noted as lost, with its shard's held, too,
which comes before the bucket.
Kill at any instruction: each is one transaction. The chunk of a page that becomes far goes back in
the one that makes it far, so there is no moment at which the page is neither.
"""
import cython
import cython.cimports.engine.tree.objnode as objnode
from cython.cimports.engine.layout.call import AWAY, DESTROYED, MISS, REFUSED, Call, PoolRef
from cython.cimports.engine.layout.regions import (
    chunk_bytes,
    expiry_of,
    index_in,
    obj_at,
    page_at,
    pampd_at,
    pool_of_obj,
    queue_at,
    shard_at,
)
from cython.cimports.engine.layout.structs import GEO_SHARDS, Bucket, Obj, Pampd, Shard
from cython.cimports.engine.layout.words import (
    LOST,
    QUEUE_FAR,
    class_in,
    copied_of,
    far_shape,
    flags_of,
    has_chunk,
    in_chunk,
    is_far,
    link_to_page,
    may_go,
    packed_in,
    shard_in,
    size_class,
    state_in,
    stored_bytes,
    target_of,
)
from cython.cimports.engine.pages.pins import is_viewed
from cython.cimports.engine.pages.queues import dequeue, hits_of, push_newest
from cython.cimports.engine.pages.reclaim import has_ledger, room_in
from cython.cimports.engine.tree.lookaside import find_obj
from cython.cimports.engine.tree.unlink import weigh
from cython.cimports.engine.verbs.away import Glimpse
from cython.cimports.engine.verbs.fetch import note_obj, peek
from cython.cimports.engine.verbs.section import (
    REAP_BUDGET,
    alive,
    begin_look,
    bucket_of,
    drop_empty_obj,
    drop_page,
    end_section,
    find_page,
    finish,
    lock_bucket,
)
from cython.cimports.libc.string import memcpy
from cython.cimports.shm.atomics import load
from cython.cimports.shm.journal import store
from cython.cimports.shm.layout import BUSY, FAULT_SENTINEL, OK, Worker, offset_of, u64
from cython.cimports.shm.lock import lock_try, seq_same, unlock
from cython.cimports.shm.slab import push_for

TRIES = cython.declare(cython.int, 8)       # without the lock


def copy_out(w, p, c, expires):
    """Copy the page of generation c.ask.gen, as it is stored, to c.did.out, if it takes c.did.have
    bytes; expires[0]: when it is dead, or 0. No hit is counted. OK, or MISS: it is another by now,
    or somebody writes all the time."""
    tries: cython.int
    for tries in range(TRIES):
        if (
            peek(w, p, c) != OK
            or c.found.gen != c.ask.gen
            or not in_chunk(c.found.shape)
            or copied_of(c.found.shape) != c.did.have
        ):
            break
        memcpy(c.did.out, w.base + c.found.data, c.did.have)
        expires[0] = load(expiry_of(w, obj_at(w, load(cython.address(pampd_at(w, c.found.page).obj)))))
        if w.fault == 0 and seq_same(cython.address(bucket_of(p, c).lock), c.found.seq):
            return OK
    w.fault = 0
    return MISS


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _become(w: cython.pointer(Worker), p: cython.pointer(PoolRef), c: cython.pointer(Call), b: cython.pointer(Bucket)
            ) -> cython.int:
    """The stores of become_far. OK, MISS or REFUSED."""
    obj_off: u64
    d: cython.pointer(Pampd) = find_page(w, p, c, b, c.ask.index, cython.address(obj_off))
    at: cython.pointer(u64)
    off: u64
    data: u64
    shape: u64
    cls: cython.int
    if d == cython.NULL or d.gen != c.ask.gen:
        return MISS
    off = offset_of(w, d)
    shape = d.shape
    cls = class_in(d)
    data = d.data
    if (
        not has_chunk(d)
        or cls != size_class(c.found.shape)
        or not may_go(d.queue)
        or shard_in(d.queue) != c.did.shard
        or hits_of(w, off) != 0
        or is_viewed(w, d)
    ):
        return REFUSED
    at = objnode.link_word(w, obj_at(w, obj_off), c.ask.index, 0)
    if at == cython.NULL or w.fault != 0:
        return REFUSED
    weigh(w, p.idx, obj_off, 0, -chunk_bytes(w, d), -stored_bytes(d))
    dequeue(w, off)
    store(w, cython.address(d.data), c.ask.token)
    store(w, cython.address(d.shape), far_shape(shape))
    store(w, cython.address(d.gen), c.found.gen)
    store(w, at, link_to_page(w, off, c.ask.token, flags_of(d)))
    push_newest(w, queue_at(w, p.idx, c.did.shard), QUEUE_FAR, off)
    push_for(w, cls, data, copied_of(shape))
    return OK


def become_far(w, p, c, pam, host):
    """Let the page of generation c.ask.gen be what the tier has under c.ask.token, if nobody has
    asked for it since it was chosen, from the queues of shard c.did.shard, with the shape
    c.found.shape. It is of generation c.found.gen from then on, which is its name. OK; MISS: it is
    not there any more; REFUSED: it stays; BUSY, DESTROYED or CORRUPT."""
    b: cython.pointer(Bucket) = bucket_of(p, c)
    s: cython.pointer(Shard) = shard_at(w, c.did.shard & (w.client_geometry[GEO_SHARDS] - 1))
    status: cython.int
    if lock_try(w, cython.address(w.slot.own)) != OK:
        return BUSY
    status = room_in(w, size_class(c.found.shape), 1)
    if status == OK and not has_ledger(w, p.idx):
        status = REFUSED
    if status == OK and lock_try(w, cython.address(s.lock)) != OK:
        status = BUSY
    elif status == OK and lock_try(w, cython.address(b.lock)) != OK:
        unlock(w, cython.address(s.lock))
        status = BUSY
    if status != OK:
        unlock(w, cython.address(w.slot.own))
        return status
    status = end_section(w, b, _become(w, p, c, b) if alive(p) else DESTROYED)
    unlock(w, cython.address(s.lock))
    finish(w, REAP_BUDGET, host)
    return status


def drop_away(w, p, c, pam, host):
    """Drop a page if it is far, and of generation c.ask.gen. OK, MISS, BUSY, DESTROYED or
    CORRUPT."""
    b: cython.pointer(Bucket) = bucket_of(p, c)
    obj_off: u64
    d: cython.pointer(Pampd)
    status: cython.int = lock_bucket(w, p, b)
    if status != OK:
        return status
    d = find_page(w, p, c, b, c.ask.index, cython.address(obj_off))
    status = MISS
    if d != cython.NULL and is_far(d.shape) and d.gen == c.ask.gen:
        drop_page(w, p, c, obj_off, c.ask.index, False, pam, host)
        drop_empty_obj(w, p, c, b, obj_off, pam, host)
        status = OK
    status = end_section(w, b, status)
    finish(w, REAP_BUDGET, host)
    return status


def note_lost(w, p, c, pam, host):
    """Note in the descriptor of the far page of generation c.ask.gen that its tier has said that it
    has lost it, or, if c.ask.token is 0, that it has not. OK, MISS (it is another by now, or
    somebody writes all the time), BUSY, DESTROYED or CORRUPT."""
    b: cython.pointer(Bucket) = bucket_of(p, c)
    s: cython.pointer(Shard)
    d: cython.pointer(Pampd)
    obj_off: u64
    shard: u64
    status: cython.int = peek(w, p, c)
    if status != AWAY or c.found.gen != c.ask.gen:
        w.fault = 0
        return MISS
    shard = shard_in(load(cython.address(page_at(w, c.found.page).queue))) & (w.client_geometry[GEO_SHARDS] - 1)
    s = shard_at(w, shard)
    w.fault = 0
    if lock_try(w, cython.address(w.slot.own)) != OK:
        return BUSY
    if lock_try(w, cython.address(s.lock)) != OK:
        status = BUSY
    elif lock_try(w, cython.address(b.lock)) != OK:
        unlock(w, cython.address(s.lock))
        status = BUSY
    if status == BUSY:
        unlock(w, cython.address(w.slot.own))
        return BUSY
    status = MISS if alive(p) else DESTROYED
    d = find_page(w, p, c, b, c.ask.index, cython.address(obj_off)) if status == MISS else cython.NULL
    if (
        d != cython.NULL
        and d.gen == c.ask.gen
        and state_in(d.queue) == QUEUE_FAR
        and shard_in(d.queue) == shard
    ):
        store(w, cython.address(d.queue), d.queue & ~LOST() if c.ask.token == 0 else d.queue | LOST())
        status = OK
    status = end_section(w, b, status)
    unlock(w, cython.address(s.lock))
    finish(w, REAP_BUDGET, host)
    return status


# --- ranges ---------------------------------------------------------------------------------------


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _survey(w: cython.pointer(Worker), p: cython.pointer(PoolRef), c: cython.pointer(Call), b: cython.pointer(Bucket)
            ) -> cython.int:
    """As survey, under the lock or between two looks at the sequence word. OK, MISS, or a fault."""
    seen: cython.pointer(Glimpse) = cython.cast(cython.pointer(Glimpse), c.ask.into)
    obj_off: u64 = find_obj(w, p, c, b)
    o: cython.pointer(Obj)
    d: cython.pointer(Pampd)
    link: u64
    i: u64
    note_obj(w, c, obj_off)
    if obj_off == 0 or w.fault != 0:
        return MISS
    o = obj_at(w, obj_off)
    for i in range(c.ask.count):
        link = objnode.lookup(w, o, c.ask.index + i)
        if link == 0 or w.fault != 0:
            return MISS
        d = pampd_at(w, target_of(link))
        seen[i].shape = load(cython.address(d.shape))
        seen[i].data = load(cython.address(d.data))
        seen[i].gen = load(cython.address(d.gen))
        seen[i].queue = load(cython.address(d.queue))
        if (
            cython.cast(cython.uint, seen[i].shape) > p.page_max
            or packed_in(seen[i].shape) > p.packed_max
            or index_in(o, d) != c.ask.index + i
            or d.obj != obj_off
            or pool_of_obj(o) != p.idx
        ):
            w.fault = w.fault if w.fault else FAULT_SENTINEL
            return MISS
        if i == 0:
            c.found.page = target_of(link)
            c.found.gen = seen[0].gen
    return OK


def survey(w, p, c, pam, host):
    """What the pages of a range are at one moment, into c.ask.into: a Glimpse each. OK, MISS,
    BUSY, DESTROYED or CORRUPT."""
    b: cython.pointer(Bucket) = bucket_of(p, c)
    tries: cython.int
    seq: u64
    status: cython.int
    for tries in range(TRIES):
        status = begin_look(w, p, b, cython.address(seq))
        if status == DESTROYED:
            return DESTROYED
        if status == BUSY:
            continue
        status = _survey(w, p, c, b)
        if w.fault == 0 and seq_same(cython.address(b.lock), seq):
            return status
    w.fault = 0
    status = lock_bucket(w, p, b)
    if status != OK:
        return status
    status = end_section(w, b, _survey(w, p, c, b))
    unlock(w, cython.address(w.slot.own))
    return status


def take_surveyed(w, p, c, pam, host):
    """Drop the pages of a range if they are still of the generations in c.ask.into. OK, MISS
    (nothing has changed), BUSY, DESTROYED or CORRUPT. Who calls has a journal for so many pages."""
    seen: cython.pointer(Glimpse) = cython.cast(cython.pointer(Glimpse), c.ask.into)
    b: cython.pointer(Bucket) = bucket_of(p, c)
    obj_off: u64 = 0
    d: cython.pointer(Pampd)
    i: u64
    status: cython.int = lock_bucket(w, p, b)
    if status != OK:
        return status
    for i in range(c.ask.count):
        d = find_page(w, p, c, b, c.ask.index + i, cython.address(obj_off))
        if d == cython.NULL or d.gen != seen[i].gen:
            status = MISS
            break
    if status == OK and w.fault == 0:
        for i in range(c.ask.count):
            drop_page(w, p, c, obj_off, c.ask.index + i, False, pam, host)
        drop_empty_obj(w, p, c, b, obj_off, pam, host)
    status = end_section(w, b, status)
    finish(w, REAP_BUDGET, host)
    return status

"""Owns what makes an object one value: the condition of a verb, its expiry, that nothing else is in
it; and the verbs that change a value where it lies.

A value is put by `put` and found by `peek` and `fetch`, as any page. What all verbs share is in
section.py.
Kill at any instruction: each is one transaction.
"""
import cython
from cython.cimports.engine.layout.call import AGAIN, CONFLICT, MISS, OVERFLOW, SIZE, Value
from cython.cimports.engine.layout.regions import chunk_of, expiry_of, next_gen, obj_at, pages_of, pampd_at
from cython.cimports.engine.layout.structs import Bucket, Obj, Pampd
from cython.cimports.engine.layout.tail import is_key, tail_before
from cython.cimports.engine.layout.words import (
    copied_of,
    has_chunk,
    has_hidden_tail,
    has_open_tail,
    is_far,
    is_same,
    packed_in,
    target_of,
)
from cython.cimports.engine.pages.pins import is_viewed
from cython.cimports.engine.tree.lookaside import find_obj, is_dead, remember
from cython.cimports.engine.tree.objnode import lookup
from cython.cimports.engine.verbs.fetch import touch
from cython.cimports.engine.verbs.section import (
    bucket_of,
    end_section,
    find_page,
    lock_bucket,
)
from cython.cimports.engine.verbs.tail import check_chunk, look_at_value
from cython.cimports.shm.atomics import load, set
from cython.cimports.shm.clock import now
from cython.cimports.shm.journal import kill_point, store
from cython.cimports.shm.layout import FAULT_LOOP, FAULT_SENTINEL, OK, offset_of, u64
from cython.cimports.shm.lock import unlock
from cython.cimports.shm.memory import chunk_at

MOST = cython.declare(cython.longlong, (1 << 63) - 1)
LEAST = cython.declare(cython.longlong, -MOST - 1)


def allowed(w, p, c, obj_off):
    """True if the condition of a verb holds for what is there: the obj at an offset, or with 0
    nothing. Under the bucket's lock."""
    v: cython.pointer(Value) = c.ask.value
    d: cython.pointer(Pampd) = cython.NULL
    data: u64
    stored: u64
    size: u64
    link: u64
    if not v.absent and v.version == 0:
        return True
    if obj_off == 0:
        return v.absent
    link = lookup(w, obj_at(w, obj_off), 0)
    if link != 0 and w.fault == 0:
        d = pampd_at(w, target_of(link))
    if w.fault != 0:
        return False
    if not v.absent:
        # It was found alive, perhaps by a clock that was read long ago; who has seen it gone since
        # must not see it come back.
        return (
            d != cython.NULL
            and d.gen == v.version
            and not is_dead(w, p.record, obj_at(w, obj_off), 0)
            and (v.until == 0 or now(w) < v.until)
        )
    # A hidden tail may have any key, so that it is taken for the same.
    if d == cython.NULL or v.key == cython.NULL or has_hidden_tail(d.shape):
        return False
    # Of two keys whose hashes are the same the later one has the place.
    data = chunk_of(w, d.shape, d.data)
    stored = copied_of(d.shape)
    if not has_open_tail(d.shape) or is_same(d.shape):
        return True
    check_chunk(w, d.shape, data, stored)
    if w.fault != 0:
        return False
    size = tail_before(v, w.base + data + stored, stored)
    if size > stored:
        w.fault = FAULT_SENTINEL
        return False
    return not is_key(v, w.base + data + stored - size)


def date(w, p, b, obj_off, expires):
    """Say when an obj is dead; 0 = never. Who sweeps is told before, by hints that no rollback
    takes back: too early is no harm. Under the bucket's lock."""
    o: cython.pointer(Obj) = obj_at(w, obj_off)
    at: cython.pointer(u64) = expiry_of(w, o)
    if w.fault == 0 and pages_of(o) == 0:
        w.fault = FAULT_LOOP        # what has no page says nothing of its end
    if w.fault != 0 or at[0] == expires:
        return
    if expires != 0 and (b.earliest == 0 or expires < b.earliest):
        if load(cython.address(p.record.dated)) == 0:
            set(cython.address(p.record.dated), 1)
        kill_point(w)
        set(cython.address(b.earliest), expires)
    store(w, at, expires)


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _add(w: cython.pointer(Worker), p: cython.pointer(PoolRef), c: cython.pointer(Call), d: cython.pointer(Pampd),
         obj_off: u64) -> cython.int:
    """Add to the value of a page, 8 bytes, where it lies."""
    v: cython.pointer(Value) = c.ask.value
    at: cython.pointer(u64)
    new: u64
    status: cython.int
    old: cython.longlong
    c.found.shape = d.shape
    c.found.data = chunk_of(w, d.shape, d.data)
    c.found.stored = copied_of(d.shape)
    c.found.length = cython.cast(cython.uint, d.shape)
    if is_far(d.shape):
        return AGAIN            # its bytes are to be had first, by who gets them
    check_chunk(w, d.shape, c.found.data, c.found.stored)
    status = look_at_value(w, c, obj_off) if w.fault == 0 else OK
    if status == AGAIN:
        w.fault = FAULT_SENTINEL
    if w.fault != 0 or status != OK:
        return status
    if packed_in(d.shape) != 0 or not has_chunk(d) or is_viewed(w, d):
        return AGAIN            # as a put of another value
    if c.found.length != 8 or v.pages != 1:
        return SIZE
    at = cython.cast(cython.pointer(u64), chunk_at(w, c.found.data))
    old = cython.cast(cython.longlong, at[0])
    if (v.delta > 0 and old > MOST - v.delta) or (v.delta < 0 and old < LEAST - v.delta):
        return OVERFLOW
    v.count = old + v.delta
    new = cython.cast(u64, v.count)
    store(w, at, new)
    store(w, cython.address(d.gen), next_gen(w))
    if p.hits_max != 0:
        touch(w, p, offset_of(w, d))
    return OK


def incr(w, p, c, pam, host):
    """Add v.delta to a value of 8 bytes, signed: v.count. OK, MISS, SIZE (it has another length),
    OVERFLOW, AGAIN (it does not lie as it was put, or somebody has a view on it: put another),
    BUSY, DESTROYED or CORRUPT.

    The bytes change in place, in an odd section of the bucket's sequence: who copies them without
    the lock sees one value or the other."""
    b: cython.pointer(Bucket) = bucket_of(p, c)
    obj_off: u64
    d: cython.pointer(Pampd)
    status: cython.int = lock_bucket(w, p, b)
    if status != OK:
        return status
    d = find_page(w, p, c, b, 0, cython.address(obj_off))
    remember(p, c)
    c.found.length = 0
    status = MISS if obj_off == 0 else SIZE if d == cython.NULL else AGAIN
    if d != cython.NULL and not pam.foreign:
        status = _add(w, p, c, d, obj_off)
    status = end_section(w, b, status)
    unlock(w, cython.address(w.slot.own))
    return status


def touch_object(w, p, c, pam, host):
    """Let an object be dead at v.expires. OK, MISS, CONFLICT, BUSY, DESTROYED or CORRUPT."""
    b: cython.pointer(Bucket) = bucket_of(p, c)
    obj_off: u64
    status: cython.int = lock_bucket(w, p, b)
    if status != OK:
        return status
    obj_off = find_obj(w, p, c, b)
    remember(p, c)
    status = MISS
    if obj_off != 0:
        status = OK if allowed(w, p, c, obj_off) else CONFLICT
        if status == OK:
            date(w, p, b, obj_off, c.ask.value.expires)
    status = end_section(w, b, status)
    unlock(w, cython.address(w.slot.own))
    return status

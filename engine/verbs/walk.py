"""Owns reading many objects one after the other, a few at a time: what each says of itself, the
indexes of its pages, and under which names those are that are in a far tier.

Objects come by bucket, and in it by oid. None ever changes its bucket, so whoever goes on behind
the last oid meets each that lives all the time exactly once, whatever is moved or resized. A few
are read between two looks at the bucket's sequence word, fewer after each time that somebody wrote
meanwhile, and at last a few under the lock: a walk holds nobody up for longer than that. Nothing is
changed, and no hit counted.
Kill at any instruction: nothing was changed.
"""
import cython
import cython.cimports.engine.tree.walk as tree
from cython.cimports.engine.layout.call import AGAIN, DESTROYED, SIZE, PoolRef, Value
from cython.cimports.engine.layout.regions import (
    chunk_of,
    expiry_of,
    height_of,
    is_lean,
    obj_at,
    pages_of,
    pampd_at,
    pool_of_obj,
    root_of,
    stem_of,
)
from cython.cimports.engine.layout.structs import Bucket, Obj, Pampd
from cython.cimports.engine.layout.tail import tail_before
from cython.cimports.engine.layout.words import copied_of, has_any_tail, has_open_tail, is_far, is_same, target_of
from cython.cimports.engine.tree.lookaside import find_obj, is_dead
from cython.cimports.engine.tree.objnode import lookup
from cython.cimports.engine.verbs.section import begin_look, bucket_of, end_section, lock_bucket
from cython.cimports.engine.verbs.tail import check_chunk
from cython.cimports.engine.verbs.walk import Seen, Walk
from cython.cimports.libc.string import memcpy, memset
from cython.cimports.shm.atomics import load, prefetch
from cython.cimports.shm.layout import BUSY, FAULT_SENTINEL, OK, Worker, mark_of, offset_of, u64
from cython.cimports.shm.lock import seq_same, unlock

PIECE = cython.declare(cython.int, 64)      # objects that are read at once, of one bucket
LOOKS = cython.declare(cython.int, 1024)      # at buckets, before signal handlers and other threads have a turn
TRIES = cython.declare(cython.int, 4)       # each time half as many as before; then the lock is taken


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _page_0(w: cython.pointer(Worker), o: cython.pointer(Obj)) -> cython.pointer(Pampd):
    """The descriptor of page 0 of an object, or NULL."""
    link: u64 = load(root_of(o)) if height_of(o) == 0 else lookup(w, o, 0)
    return pampd_at(w, target_of(link)) if link != 0 and w.fault == 0 else cython.NULL


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _read_value(w: cython.pointer(Worker), p: cython.pointer(PoolRef), d: cython.pointer(Pampd),
                walk: cython.pointer(Walk), s: cython.pointer(Seen)) -> cython.int:
    """What the only page of an object, page 0, adds to what is seen of it. OK; SIZE: there is no
    room for its key."""
    v: Value
    shape: u64 = load(cython.address(d.shape))
    stored: u64 = copied_of(shape)
    data: u64
    size: u64
    at: cython.p_char
    s.length = cython.cast(cython.uint, shape)
    if s.length > p.page_max:
        w.fault = w.fault if w.fault else FAULT_SENTINEL
    if not has_any_tail(shape) or w.fault != 0:
        return OK
    s.hidden = not has_open_tail(shape)
    if s.hidden:
        return OK
    data = chunk_of(w, shape, load(cython.address(d.data)))
    check_chunk(w, shape, data, stored)
    if w.fault != 0:
        return OK
    memset(cython.address(v), 0, cython.sizeof(Value))
    size = stored + 1 if is_same(shape) else tail_before(cython.address(v), w.base + data + stored, stored)
    if size > stored:
        w.fault = FAULT_SENTINEL
        return OK
    at = w.base + data + stored - size
    s.length -= size
    s.word = v.word
    s.has_word = v.has_word
    s.has_key = v.has_key
    s.key = walk.keys_used
    s.key_length = v.key_found
    if s.key_length > walk.keys_room - walk.keys_used:
        walk.keys_needed = s.key_length
        return SIZE
    memcpy(walk.keys + s.key, at, s.key_length)
    walk.keys_used += s.key_length
    return OK


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _ask_for_tails(w: cython.pointer(Worker), offs: cython.pointer(u64), count: cython.int) -> cython.void:
    """Let what is read of the pages of these objects set out: hints."""
    i: cython.int
    o: cython.pointer(Obj)
    d: cython.pointer(Pampd)
    shape: u64
    for i in range(count):
        o = obj_at(w, offs[i])
        if height_of(o) != 0:
            continue
        d = pampd_at(w, target_of(load(root_of(o))))
        shape = load(cython.address(d.shape))
        if has_open_tail(shape) and copied_of(shape) != 0:
            prefetch(w.base + load(cython.address(d.data)) + copied_of(shape) - 1)
    w.fault = 0


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _read_some(w: cython.pointer(Worker), p: cython.pointer(PoolRef), walk: cython.pointer(Walk),
               b: cython.pointer(Bucket), most: cython.int) -> cython.int:
    """Read the next objects of a bucket, of up to `most` that are there the living ones: under the
    lock, or between two looks at the sequence word. OK: those were the last; AGAIN, or SIZE: there
    is no room for the key of the next one."""
    offs: u64[64]
    i: cython.int
    count: cython.int
    o: cython.pointer(Obj)
    d: cython.pointer(Pampd)
    s: cython.pointer(Seen)
    if most > walk.most - walk.count:
        most = walk.most - walk.count
    count = tree.objs_after(w, b, walk.after if walk.inside else cython.NULL, offs, most)
    if w.fault != 0:
        return AGAIN
    _ask_for_tails(w, offs, count)
    for i in range(count):
        o = obj_at(w, offs[i])
        s = walk.seen + walk.count
        memset(s, 0, cython.sizeof(Seen))
        s.oid[0] = o.oid[0]
        s.oid[1] = o.oid[1]
        s.oid[2] = o.oid[2]
        if pool_of_obj(o) != p.idx:
            w.fault = w.fault if w.fault else FAULT_SENTINEL
        if w.fault != 0:
            return AGAIN
        if not is_dead(w, p.record, o, 0):
            s.expires = load(expiry_of(w, o))
            s.length = load(cython.address(stem_of(o).asked)) if not is_lean(o) else 0
            d = _page_0(w, o)
            if d != cython.NULL:
                s.gen = load(cython.address(d.gen))
                s.hits = mark_of(w, offset_of(w, d)) if p.hits_max != 0 and w.fault == 0 else 0
                if pages_of(o) == 1 and _read_value(w, p, d, walk, s) == SIZE:
                    return SIZE
            if w.fault != 0:
                return AGAIN
            walk.count += 1
        walk.after[0] = s.oid[0]
        walk.after[1] = s.oid[1]
        walk.after[2] = s.oid[2]
        walk.inside = True
    return AGAIN if count == most else OK


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _read_bucket(w: cython.pointer(Worker), p: cython.pointer(PoolRef), walk: cython.pointer(Walk)) -> cython.int:
    """Read some objects of the bucket that is next. OK, SIZE or AGAIN as _read_some; BUSY,
    DESTROYED or CORRUPT."""
    b: cython.pointer(Bucket) = p.buckets + walk.bucket
    before: Walk = walk[0]
    tries: cython.int
    seq: u64
    status: cython.int
    for tries in range(TRIES):
        walk[0] = before
        status = begin_look(w, p, b, cython.address(seq))
        if status == DESTROYED:
            return DESTROYED
        if status == BUSY:
            continue
        status = _read_some(w, p, walk, b, PIECE >> tries)
        if w.fault == 0 and seq_same(cython.address(b.lock), seq):
            return status
    walk[0] = before
    w.fault = 0
    status = lock_bucket(w, p, b)
    if status != OK:
        return status
    status = _read_some(w, p, walk, b, PIECE >> TRIES)
    status = end_section(w, b, status)
    unlock(w, cython.address(w.slot.own))
    return status


def read_objects(w, p, walk):
    """Read the next objects of a pool into walk.seen, walk.count of them, until there are
    walk.most, or no room for another's key, or it has taken long. OK: that is all; AGAIN: more may
    come; SIZE: not even one key has room, which takes walk.keys_needed bytes; BUSY (what was read
    is good), DESTROYED or CORRUPT."""
    status: cython.int
    looks: cython.int = 0
    walk.count = 0
    walk.keys_used = 0
    while walk.bucket <= p.mask:
        looks += 1
        if walk.count == walk.most or looks > LOOKS:
            return AGAIN
        status = _read_bucket(w, p, walk)
        if status == SIZE:
            return AGAIN if walk.count != 0 else SIZE
        if status != OK and status != AGAIN:
            return status
        if status == OK:
            walk.bucket += 1
            walk.inside = False
    return OK


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _indexes(w: cython.pointer(Worker), p: cython.pointer(PoolRef), c: cython.pointer(Call),
             b: cython.pointer(Bucket), index: u64, found: cython.pointer(u64), gens: cython.pointer(u64),
             most: cython.int) -> cython.int:
    off: u64 = find_obj(w, p, c, b)
    d: cython.pointer(Pampd)
    link: u64
    i: cython.int
    count: cython.int
    if off == 0 or w.fault != 0:
        return 0
    count = tree.indexes_from(w, obj_at(w, off), index, found, most)
    for i in range(count if gens != cython.NULL else 0):
        link = lookup(w, obj_at(w, off), found[i])
        if link == 0 or w.fault != 0:
            return 0
        d = pampd_at(w, target_of(link))
        gens[i] = load(cython.address(d.gen)) if is_far(load(cython.address(d.shape))) else 0
    return count


def read_indexes(w, p, c, index, found, gens, most, count):
    """The indexes of an object's pages from one on, up to `most`: fewer if there are no more; and
    into gens, if it is not NULL, the generation of each page that is far, else 0. OK with count[0];
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
        count[0] = _indexes(w, p, c, b, index, found, gens, most)
        if w.fault == 0 and seq_same(cython.address(b.lock), seq):
            return OK
    w.fault = 0
    status = lock_bucket(w, p, b)
    if status != OK:
        return status
    count[0] = _indexes(w, p, c, b, index, found, gens, most)
    status = end_section(w, b, OK)
    unlock(w, cython.address(w.slot.own))
    return status

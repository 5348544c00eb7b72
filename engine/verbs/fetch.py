"""Owns the verbs that get: of a page and of a range, without a lock and under it, and of pages in a
foreign PAM.

A get that leaves the page where it is takes no lock: `peek` finds it, the caller copies,
`peek_valid` tells whether what was copied was the page; after a few tries `fetch` copies under the
lock. A get that removes goes through `fetch`; a long page is out of its tree then, and copied by
the caller, with the GIL released. How they follow one another is in `Bound.get_bytes`.
Kill at any instruction: a reader without a lock has changed nothing; the rest is as in section.py.
"""
import cython
import cython.cimports.engine.tree.objnode as objnode
from cython.cimports.engine.layout.call import AGAIN, AWAY, DESTROYED, MISS, SIZE, TAKEN, Call, PoolRef
from cython.cimports.engine.layout.regions import (
    chunk_of,
    copy_page,
    expiry_of,
    height_of,
    index_in,
    nodes_of,
    obj_at,
    pages_of,
    pampd_at,
    pool_of_obj,
    shard_at,
)
from cython.cimports.engine.layout.structs import GEO_SHARDS, Bucket, Obj, Pampd
from cython.cimports.engine.layout.tail import tail_before
from cython.cimports.engine.layout.words import (
    NOTES,
    ask_for,
    copied_of,
    has_any_tail,
    has_hidden_tail,
    has_open_tail,
    is_far,
    is_same,
    packed_in,
    page_hash,
    shard_in,
    target_of,
    without_flags,
)
from cython.cimports.engine.pages.queues import remember_ghost
from cython.cimports.engine.tree.lookaside import find_obj, remember
from cython.cimports.engine.verbs.fetch import LONG_BYTES
from cython.cimports.engine.verbs.section import (
    REAP_BUDGET,
    begin_look,
    bucket_of,
    drop_empty_obj,
    drop_page,
    end_section,
    find_page,
    finish,
    lock_bucket,
)
from cython.cimports.engine.verbs.tail import check_chunk, look_at_value
from cython.cimports.shm.atomics import load, prefetch, unlikely
from cython.cimports.shm.journal import kill_point
from cython.cimports.shm.layout import BUSY, FAULT_SENTINEL, OK, Worker, mark_at, mark_of, offset_of, set_mark, u64
from cython.cimports.shm.lock import lock_try, seq_same, unlock

PEEK_TRIES = cython.declare(cython.int, 8)


def peek(w, p, c):
    """Find a page without a lock. OK with c.found.data, c.found.length, c.found.stored, c.found.seq
    set (copy, then ask peek_valid), SIZE (it is longer than c.ask.room), AWAY (c.found is of one
    moment), MISS, DESTROYED, or BUSY: somebody was writing all the time, or the arena is corrupt;
    `fetch` knows."""
    b: cython.pointer(Bucket) = bucket_of(p, c)
    tries: cython.int
    status: cython.int
    obj_off: u64
    d: cython.pointer(Pampd)
    for tries in range(PEEK_TRIES):
        status = begin_look(w, p, b, cython.address(c.found.seq))
        if status == BUSY:
            continue
        if status == DESTROYED:
            return DESTROYED
        d = find_page(w, p, c, b, c.ask.index, cython.address(obj_off))
        if d != cython.NULL:
            # Each word once: without the lock a second read may give another value than the one
            # that was checked.
            c.found.shape = load(cython.address(d.shape))
            c.found.data = chunk_of(w, c.found.shape, load(cython.address(d.data)))
            c.found.length = cython.cast(cython.uint, c.found.shape)
            c.found.stored = copied_of(c.found.shape)
            c.found.page = offset_of(w, d)
            c.found.gen = load(cython.address(d.gen))
            if p.hits_max != 0:
                prefetch(mark_at(w, c.found.page))        # it is there when the page is copied
            if c.found.length > p.page_max or packed_in(c.found.shape) > p.packed_max:
                continue
            if unlikely(is_far(c.found.shape)):
                look_at_value(w, c, obj_off)
                if w.fault == 0 and seq_same(cython.address(b.lock), c.found.seq):
                    remember(p, c)
                    return AWAY
                continue
            check_chunk(w, c.found.shape, c.found.data, c.found.stored)
            # What is copied in vain, since it is no page any more, should not be long.
            if c.found.stored >= LONG_BYTES and not seq_same(cython.address(b.lock), c.found.seq):
                continue
            if unlikely(c.ask.value != cython.NULL or has_any_tail(c.found.shape)) and w.fault == 0:
                status = look_at_value(w, c, obj_off)
                if status == AGAIN:
                    continue
        if w.fault != 0:
            continue
        if d != cython.NULL and status == OK:
            if c.found.length <= c.ask.room or has_hidden_tail(c.found.shape):
                return OK
            if peek_valid(w, p, c):
                return SIZE
            continue
        if d == cython.NULL and c.ask.value != cython.NULL:
            c.ask.value.pages = pages_of(obj_at(w, obj_off)) if obj_off != 0 else 0
        if seq_same(cython.address(b.lock), c.found.seq):
            remember(p, c)
            return MISS
    w.fault = 0
    return BUSY


def look(w, p, c, pam, host):
    """Whether there is an object, and what it says of itself, into c.ask.value. No page is copied,
    and no hit counted. OK, MISS, BUSY, DESTROYED or CORRUPT."""
    b: cython.pointer(Bucket) = bucket_of(p, c)
    tries: cython.int
    status: cython.int
    for tries in range(PEEK_TRIES):
        status = begin_look(w, p, b, cython.address(c.found.seq))
        if status == BUSY:
            continue
        if status == DESTROYED:
            return DESTROYED
        status = _say(w, p, c, b)
        if w.fault == 0 and seq_same(cython.address(b.lock), c.found.seq):
            remember(p, c)
            return status
    w.fault = 0
    status = lock_bucket(w, p, b)
    if status != OK:
        return status
    status = end_section(w, b, _say(w, p, c, b))
    unlock(w, cython.address(w.slot.own))
    return status


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _say(
    w: cython.pointer(Worker), p: cython.pointer(PoolRef), c: cython.pointer(Call), b: cython.pointer(Bucket)
) -> cython.int:
    obj_off: u64 = find_obj(w, p, c, b)
    o: cython.pointer(Obj)
    if obj_off == 0:
        return MISS
    o = obj_at(w, obj_off)
    c.ask.value.pages = pages_of(o)
    c.ask.value.expires_found = load(expiry_of(w, o))
    return OK


def peek_valid(w, p, c):
    """True if what was copied since `peek` is the page as it was then; that is a hit."""
    if not seq_same(cython.address(bucket_of(p, c).lock), c.found.seq) and (
        c.found.stored < LONG_BYTES or not _is_there_still(w, p, c)
    ):
        return False
    remember(p, c)
    if p.hits_max != 0:
        touch(w, p, c.found.page)
    return True


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _is_there_still(w: cython.pointer(Worker), p: cython.pointer(PoolRef), c: cython.pointer(Call)) -> cython.bint:
    """True if a long page that was copied is under its handle in the same place and generation:
    then it has been there all the time, and its bytes were never written. Copying takes so long
    that somebody has written to the bucket meanwhile, if it is used at all."""
    shape: u64 = c.found.shape
    data: u64 = c.found.data
    gen: u64 = c.found.gen
    stored: u64 = c.found.stored
    same: cython.bint
    tries: cython.int
    for tries in range(PEEK_TRIES):
        if peek(w, p, c) != OK:
            break
        same = c.found.gen == gen and c.found.data == data and c.found.stored == stored
        if seq_same(cython.address(bucket_of(p, c).lock), c.found.seq):
            # Somebody may have begun to view it.
            return same and without_flags(c.found.shape, NOTES) == without_flags(shape, NOTES)
    c.found.stored = stored
    return False


def touch(w, p, off):
    """Count a hit of the page that a get has found by the descriptor at `off`. The page may be gone
    by now, and its chunk anything else's: then a mark that says nothing is changed, or another page
    has a hit too many. Of two hits at one moment one may be lost, which is why no locked
    instruction is needed. Full marks are only read, so a hot page's line stays shared."""
    kill_point(w)
    hits: u64 = mark_of(w, off)
    if hits < p.hits_max:
        set_mark(w, off, hits + 1)


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _leave_ghost(w: cython.pointer(Worker), p: cython.pointer(PoolRef), c: cython.pointer(Call), shard: u64
                 ) -> cython.void:
    """A get has taken pages away that somebody wanted: when they are put again, they are not new.
    Where gets leave nothing no page is ever hit, and a pool would live on what others leave it. A
    hint: not where the shard is busy."""
    if shard >= w.client_geometry[GEO_SHARDS] or lock_try(w, cython.address(shard_at(w, shard).lock)) != OK:
        return
    remember_ghost(w, shard, page_hash(c.ask.hash, c.ask.index, p.idx), c.ask.count)
    unlock(w, cython.address(shard_at(w, shard).lock))


def fetch(w, p, c, pam, host):
    """Get a page under the lock into c.did.out, which is for c.did.have bytes. OK, MISS, SIZE (it
    takes c.found.stored bytes; or the page is longer than c.ask.room), AWAY (it is far), AGAIN
    (`fetch_remote` is next), TAKEN (the caller copies the page, for which the own lock is held, and
    calls `finish`), FAILED, BUSY, DESTROYED or CORRUPT. A compressed page comes as it is stored,
    which c.found.shape tells. A foreign page goes to pam.result instead; c.did.out is not used
    then."""
    b: cython.pointer(Bucket) = bucket_of(p, c)
    obj_off: u64
    word: u64 = 0
    d: cython.pointer(Pampd)
    status: cython.int = lock_bucket(w, p, b)
    if status != OK:
        return status
    d = find_page(w, p, c, b, c.ask.index, cython.address(obj_off))
    remember(p, c)
    if d == cython.NULL:
        if c.ask.value != cython.NULL:
            c.ask.value.pages = pages_of(obj_at(w, obj_off)) if obj_off != 0 else 0
        status = end_section(w, b, MISS)
        unlock(w, cython.address(w.slot.own))
        return status
    c.found.shape = load(cython.address(d.shape))
    c.found.data = chunk_of(w, c.found.shape, d.data)
    c.found.length = cython.cast(cython.uint, c.found.shape)
    c.found.stored = copied_of(c.found.shape)
    c.found.gen = d.gen
    c.found.page = offset_of(w, d)
    if c.found.length > p.page_max or packed_in(c.found.shape) > p.packed_max:
        w.fault = FAULT_SENTINEL
    elif is_far(c.found.shape):
        look_at_value(w, c, obj_off)
        status = AWAY
    else:
        if not pam.foreign:
            check_chunk(w, c.found.shape, c.found.data, c.found.stored)
        if w.fault == 0 and (c.ask.value != cython.NULL or has_open_tail(c.found.shape)):
            status = look_at_value(w, c, obj_off)
            if status == AGAIN:
                w.fault = FAULT_SENTINEL
    if w.fault != 0 or status != OK:
        pass
    elif c.found.length > c.ask.room and not has_hidden_tail(c.found.shape):
        status = SIZE
    elif pam.foreign:
        if pam.is_remote(d):
            status = AGAIN
        else:
            status = pam.get_data_and_free(p.idx, c.ask.oid, d) if c.ask.remove else pam.get_data(p.idx, c.ask.oid, d)
    elif c.found.stored != c.did.have:
        status = SIZE
    elif not c.ask.remove:
        copy_page(w, c.did.out, c.found.shape, c.found.data, c.found.stored)
        if p.hits_max != 0:
            touch(w, p, offset_of(w, d))
    if status == OK and c.ask.remove and w.fault == 0:
        word = d.queue
        drop_page(w, p, c, obj_off, c.ask.index, True, pam, host)
        drop_empty_obj(w, p, c, b, obj_off, pam, host)
    status = end_section(w, b, status)
    if status == OK and c.ask.remove:
        if p.queued:
            _leave_ghost(w, p, c, shard_in(word))
        # The page is this worker's alone now: copied with the bucket free, before it is given back.
        if c.did.have >= LONG_BYTES:
            return TAKEN
        if not pam.foreign:
            copy_page(w, c.did.out, c.found.shape, c.found.data, c.found.stored)
    finish(w, REAP_BUDGET, host)
    return status


def fetch_remote(w, p, c, pam, host):
    """Get a remote page, which `fetch` answered AGAIN for: fetched with the bucket free, used only
    if the page is still of the generation seen. OK with pam.result, AGAIN, MISS, FAILED, BUSY,
    DESTROYED or CORRUPT."""
    b: cython.pointer(Bucket) = bucket_of(p, c)
    seen: Pampd
    d: cython.pointer(Pampd)
    obj_off: u64
    status: cython.int = lock_bucket(w, p, b)
    if status != OK:
        return status
    d = find_page(w, p, c, b, c.ask.index, cython.address(obj_off))
    if d != cython.NULL:
        seen = d[0]
        c.found.shape = d.shape     # maybe another page by now than the one that `fetch` has seen
        c.found.gen = d.gen
        if c.ask.value != cython.NULL:
            look_at_value(w, c, obj_off)
    status = end_section(w, b, OK if d != cython.NULL else MISS)
    unlock(w, cython.address(w.slot.own))
    if status != OK:
        return status
    status = pam.get_data(p.idx, c.ask.oid, cython.address(seen))
    if status != OK:
        return status
    status = lock_bucket(w, p, b)
    if status != OK:
        return status
    d = find_page(w, p, c, b, c.ask.index, cython.address(obj_off))
    if d == cython.NULL or d.gen != seen.gen:
        status = AGAIN
    elif c.ask.remove:
        drop_page(w, p, c, obj_off, c.ask.index, False, pam, host)
        drop_empty_obj(w, p, c, b, obj_off, pam, host)
    status = end_section(w, b, status)
    finish(w, REAP_BUDGET, host)
    return status


def note_obj(w, c, obj_off):
    """What an obj says of itself, into c.ask.value if that is asked; 0: there is none."""
    o: cython.pointer(Obj)
    if c.ask.value == cython.NULL:
        return
    c.ask.value.pages = 0
    if obj_off != 0 and w.fault == 0:
        o = obj_at(w, obj_off)
        c.ask.value.pages = pages_of(o)
        c.ask.value.expires_found = load(expiry_of(w, o))


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _walk_range(w: cython.pointer(Worker), p: cython.pointer(PoolRef), c: cython.pointer(Call),
                b: cython.pointer(Bucket), copy: cython.bint) -> cython.int:
    """Sum the bytes of the range's pages, as they are stored, into c.found.stored, and as they were
    put into c.found.length; with `copy`, copy them to c.did.out if they are c.did.have bytes, and
    leave their shapes in c.ask.shapes, if that is not NULL. OK, MISS, AWAY (one of them is far), or
    SIZE: they are more or fewer."""
    obj_off: u64 = find_obj(w, p, c, b)
    o: cython.pointer(Obj)
    d: cython.pointer(Pampd)
    link: u64
    off: u64
    data: u64
    shape: u64
    n: u64
    length: u64
    tail: u64
    i: u64
    c.found.stored = 0
    c.found.length = 0
    note_obj(w, c, obj_off)
    if obj_off == 0 or w.fault != 0:
        return MISS
    o = obj_at(w, obj_off)
    for i in range(c.ask.count):
        link = objnode.lookup(w, o, c.ask.index + i)
        if link == 0 or w.fault != 0:
            return MISS
        if copy:
            ask_for(w, link)
        off = target_of(link)
        d = pampd_at(w, off)
        shape = load(cython.address(d.shape))
        length = cython.cast(cython.uint, shape)
        n = copied_of(shape)
        if (w.fault != 0 or length > p.page_max or packed_in(shape) > p.packed_max
                or index_in(o, d) != c.ask.index + i or d.obj != obj_off or pool_of_obj(o) != p.idx):
            w.fault = w.fault if w.fault else FAULT_SENTINEL
            return MISS
        if unlikely(is_far(shape)):
            return AWAY
        if copy or has_open_tail(shape):
            # Read once: without the lock a second read may give another offset than the one that
            # was checked.
            data = chunk_of(w, shape, load(cython.address(d.data)))
            check_chunk(w, shape, data, n)
            if has_open_tail(shape) and w.fault == 0:
                tail = tail_before(cython.NULL, w.base + data + n, n)
                if tail > n or is_same(shape):
                    w.fault = FAULT_SENTINEL
                    return MISS
                length -= tail
                if c.ask.shapes == cython.NULL:     # else who decompresses takes it off
                    n -= tail
        if copy:
            if w.fault != 0 or c.found.stored + n > c.did.have:
                return SIZE
            copy_page(w, c.did.out + c.found.stored, shape, data, n)
            if p.hits_max != 0 and not c.ask.remove:
                # Before it is known whether all pages were there at one moment: a range that is
                # read again counts twice.
                touch(w, p, off)
            if c.ask.shapes != cython.NULL:
                c.ask.shapes[i] = shape
        if i == 0 and c.ask.value != cython.NULL:
            c.found.page = off
            c.found.gen = load(cython.address(d.gen))
        c.found.stored += n
        c.found.length += length
    if copy and c.found.stored != c.did.have:
        return SIZE
    return OK


def peek_range(w, p, c, copy):
    """A range without a lock. OK with c.found.stored, the bytes of all pages as stored, or SIZE:
    they are more than c.ask.room as they were put. With `copy` they go to c.did.out if they are
    c.did.have bytes: OK or SIZE. MISS, AWAY, DESTROYED; BUSY: try `fetch_range`."""
    b: cython.pointer(Bucket) = bucket_of(p, c)
    tries: cython.int
    status: cython.int
    for tries in range(PEEK_TRIES):
        status = begin_look(w, p, b, cython.address(c.found.seq))
        if status == BUSY:
            continue
        if status == DESTROYED:
            return DESTROYED
        status = _walk_range(w, p, c, b, copy)
        if w.fault != 0:
            continue
        if seq_same(cython.address(b.lock), c.found.seq):
            remember(p, c)
            return SIZE if status == OK and c.found.length > c.ask.room else status
    w.fault = 0
    return BUSY


def fetch_range(w, p, c, pam, host):
    """A range under the lock, into c.did.out, which is for c.did.have bytes; SIZE says that
    c.found.stored is what it takes, or that c.found.length is more than c.ask.room."""
    b: cython.pointer(Bucket) = bucket_of(p, c)
    i: u64
    obj_off: u64
    word: u64 = 0
    d: cython.pointer(Pampd)
    status: cython.int = lock_bucket(w, p, b)
    if status != OK:
        return status
    # Taking the lock made the word odd; if nothing else has changed it, what was copied without the
    # lock is what leaves.
    if c.did.copied == 0 or b.lock.seq != c.did.copied + 1:
        status = _walk_range(w, p, c, b, False)
        if status == OK and (c.did.out == cython.NULL or c.found.stored != c.did.have or c.found.length > c.ask.room):
            status = SIZE
        if status == OK:
            status = _walk_range(w, p, c, b, True)
    if status == OK and c.ask.remove and w.fault == 0:
        d = find_page(w, p, c, b, c.ask.index, cython.address(obj_off))
        if d == cython.NULL:
            status = MISS       # its time has come since then
        else:
            word = d.queue
            for i in range(c.ask.count):
                drop_page(w, p, c, obj_off, c.ask.index + i, False, pam, host)
            drop_empty_obj(w, p, c, b, obj_off, pam, host)
    status = end_section(w, b, status)
    if status == OK and c.ask.remove and p.queued:
        _leave_ghost(w, p, c, shard_in(word))
    finish(w, REAP_BUDGET, host)
    return status


def describe(w, p, c, pam, host):
    """To c.ask.into, five words: pampd_count, objnode_count, height of an object, and token and
    generation of the page at c.ask.index (0, 0 without).

    OK, MISS (no such object), BUSY, DESTROYED or CORRUPT."""
    b: cython.pointer(Bucket) = bucket_of(p, c)
    out: cython.pointer(u64) = cython.cast(cython.pointer(u64), c.ask.into)
    o: cython.pointer(Obj)
    d: cython.pointer(Pampd)
    obj_off: u64
    status: cython.int = lock_bucket(w, p, b)
    if status != OK:
        return status
    d = find_page(w, p, c, b, c.ask.index, cython.address(obj_off))
    if obj_off == 0:
        status = MISS
    else:
        o = obj_at(w, obj_off)
        out[0] = pages_of(o)
        out[1] = nodes_of(o)
        out[2] = height_of(o)
        out[3] = d.data if d != cython.NULL else 0
        out[4] = d.gen if d != cython.NULL else 0
    status = end_section(w, b, status)
    unlock(w, cython.address(w.slot.own))
    return status

"""Owns copying what objects are, as they are stored, into the blocks of a snapshot.

Objects come as in walk.py: by bucket, and in it by oid. A few are copied between two looks at the
bucket's sequence word, fewer after each time that somebody wrote meanwhile, and at last one under
the lock, which is at most a block. So each is as it was at one moment. An object that is larger
than a block is copied a few pages at a time, and its pages' generations are noted; if they are the
same when all is copied, the object was so at the moment of the last look, since no generation comes
twice. Nothing is changed, and no hit counted.
A far page of a pool that keeps its pages is wanted: who calls has it brought, and calls again from
where he was. What was brought is known by its generation.
Kill at any instruction: nothing was changed.
"""
import cython
import cython.cimports.engine.tree.walk as tree
from cython.cimports.engine.layout.call import AGAIN, DESTROYED, FULL, MISS, SIZE, Call, PoolRef
from cython.cimports.engine.layout.regions import (
    chunk_of,
    expiry_of,
    index_in,
    is_lean,
    obj_at,
    pages_of,
    pampd_at,
    pool_of_obj,
    stem_of,
)
from cython.cimports.engine.layout.stream import (
    AS_IT_IS,
    FIRST,
    LAST,
    ONE_WORD,
    PACKED_LZ4,
    PACKED_ZSTD,
    WITH_FORMER,
    WITH_TAIL,
    SavedObject,
    SavedPage,
    padded,
)
from cython.cimports.engine.layout.structs import Bucket, Obj, Pampd
from cython.cimports.engine.layout.words import (
    LZ4,
    NOTES,
    WITH_PRIOR,
    copied_of,
    flags_in,
    has_any_tail,
    is_far,
    is_foreign,
    is_same,
    packed_in,
    size_class,
    target_of,
    without_flags,
)
from cython.cimports.engine.tree.lookaside import find_obj, is_dead
from cython.cimports.engine.tree.objnode import lookup
from cython.cimports.engine.verbs.copy import STEP_BYTES, WISHES_MAX, Brought, Copied, Wish, brought_place
from cython.cimports.engine.verbs.fetch import peek
from cython.cimports.engine.verbs.section import begin_look, bucket_of, end_section, lock_bucket
from cython.cimports.engine.verbs.tail import check_chunk
from cython.cimports.libc.string import memcpy, memset
from cython.cimports.shm.atomics import load
from cython.cimports.shm.layout import BUSY, CORRUPT, EXTENT_CLASS, FAULT_SENTINEL, OK, Worker, mark_of, u64
from cython.cimports.shm.lock import seq_same, unlock

PIECE = cython.declare(cython.int, 64)      # objects, or indexes, that are read at once
LOOKS = cython.declare(cython.int, 1024)    # at buckets, before signal handlers and other threads have a turn
TRIES = cython.declare(cython.int, 5)       # each time half as much as before; then the lock is taken
STILL = cython.declare(cython.int, 3)       # looks at a page that was copied in part


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _head(w: cython.pointer(Worker), p: cython.pointer(PoolRef), k: cython.pointer(Copied), link: u64, index: u64,
          obj_off: u64, page: cython.pointer(SavedPage), shape_out: cython.pointer(u64),
          at: cython.pointer(cython.p_const_char)) -> u64:
    """Fill what is said of a page, by its link word: at[0], where its bytes are, NULL if it is far
    and was not brought; and the word it consists of, or its token. Worker.fault if it cannot be."""
    found: cython.pointer(Brought)
    d: cython.pointer(Pampd) = pampd_at(w, target_of(link))
    shape: u64 = load(cython.address(d.shape))
    data: u64 = load(cython.address(d.data))
    stored: u64 = copied_of(shape)
    exact: u64
    memset(page, 0, cython.sizeof(SavedPage))
    page.index = index
    page.version = load(cython.address(d.gen))
    page.length = cython.cast(cython.uint, shape)
    if w.fault == 0 and (index_in(obj_at(w, obj_off), d) != index or load(cython.address(d.obj)) != obj_off
                         or page.length > p.page_max or packed_in(shape) > p.packed_max or is_foreign(shape)):
        w.fault = FAULT_SENTINEL
    if w.fault != 0:
        return 0
    page.notes = (WITH_TAIL if has_any_tail(shape) else 0) | (
        WITH_FORMER if p.whole and load(cython.address(d.queue)) & WITH_PRIOR() else 0)
    if p.hits_max != 0:
        page.hits = mark_of(w, target_of(link))
    shape_out[0] = shape
    at[0] = cython.NULL
    if is_same(shape):
        page.how = ONE_WORD
        page.stored = 8
        return data
    if is_far(shape) and k.brought == cython.NULL:
        w.fault = FAULT_SENTINEL        # it was local a moment ago
    elif is_far(shape):
        found = brought_place(k.brought, page.version)
        if found.length == stored:
            at[0] = found.data
    else:
        data = chunk_of(w, shape, data)
        check_chunk(w, shape, data, stored)
        at[0] = w.base + data
    page.stored = stored
    page.how = AS_IT_IS
    if packed_in(shape) != 0 and w.fault == 0:
        page.how = PACKED_LZ4 if flags_in(shape) & LZ4 else PACKED_ZSTD
        if size_class(shape) == EXTENT_CLASS and stored > 8 and at[0] != cython.NULL:
            # How many of its bytes are to be read says the last word; another arena may lay it
            # otherwise.
            memcpy(cython.address(exact), at[0] + stored - 8, 8)
            page.stored = exact if exact < stored - 8 else stored - 8
    return data


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _is_away(w: cython.pointer(Worker), k: cython.pointer(Copied), link: u64) -> cython.bint:
    """True if a far tier has the bytes of a page, and need not keep them: then it is left out."""
    return k.brought == cython.NULL and is_far(load(cython.address(pampd_at(w, target_of(link)).shape)))


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _wish(w: cython.pointer(Worker), k: cython.pointer(Copied), page: cython.pointer(SavedPage), shape: u64,
          token: u64, obj_off: u64) -> cython.void:
    """Note that a far page is wanted; what is copied from here on is copied again when it was
    brought."""
    o: cython.pointer(Obj) = obj_at(w, obj_off)
    wish: cython.pointer(Wish)
    i: cython.int
    if k.wish_count < WISHES_MAX and w.fault == 0:
        wish = k.wishes + k.wish_count
        for i in range(3):
            wish.oid[i] = o.oid[i]
        wish.index = page.index
        wish.gen = page.version
        wish.token = token
        wish.shape = shape
        k.wish_count += 1


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _copy_page(w: cython.pointer(Worker), p: cython.pointer(PoolRef), k: cython.pointer(Copied), link: u64,
               index: u64, obj_off: u64) -> cython.int:
    """A page behind what is in the block. OK; FULL: there is no room; k says then what page it
    is."""
    page: SavedPage
    shape: u64 = 0
    at: cython.p_const_char = cython.NULL
    data: u64 = _head(w, p, k, link, index, obj_off, cython.address(page), cython.address(shape), cython.address(at))
    to: cython.p_char
    if w.fault != 0:
        return OK
    if k.used + cython.sizeof(SavedPage) + padded(page.stored) > k.room:
        k.length = page.stored
        k.gen = page.version
        k.shape = shape
        k.hits = page.hits
        k.former = page.notes & WITH_FORMER
        return FULL
    if is_far(shape) and at == cython.NULL:
        _wish(w, k, cython.address(page), shape, data, obj_off)
        k.used += cython.sizeof(SavedPage) + padded(page.stored)
        return OK
    page.piece = page.stored
    to = k.out + k.used
    memcpy(to, cython.address(page), cython.sizeof(SavedPage))
    to += cython.sizeof(SavedPage)
    memset(to + padded(page.stored) - 8, 0, 8 if page.stored != 0 else 0)
    if page.how == ONE_WORD:
        memcpy(to, cython.address(data), 8)
    else:
        memcpy(to, at, page.stored)
    k.used += cython.sizeof(SavedPage) + padded(page.stored)
    k.pages += 1
    k.bytes += page.length
    if page.hits > k.heat:
        k.heat = page.hits
    return OK


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _copy_object(w: cython.pointer(Worker), p: cython.pointer(PoolRef), k: cython.pointer(Copied), off: u64
                 ) -> cython.int:
    """A whole object behind what is in the block. OK; FULL: there is no room, and nothing was
    added."""
    o: cython.pointer(Obj) = obj_at(w, off)
    head: SavedObject
    found: u64[64]
    start: u64 = k.used
    pages: u64 = k.pages
    bytes: u64 = k.bytes
    next: u64 = 0
    link: u64
    away: u64 = 0
    count: cython.int = PIECE
    i: cython.int
    expires: u64 = load(expiry_of(w, o))
    memset(cython.address(head), 0, cython.sizeof(SavedObject))
    head.oid[0] = o.oid[0]
    head.oid[1] = o.oid[1]
    head.oid[2] = o.oid[2]
    head.expires = expires + k.ahead if expires != 0 else 0
    head.notes = FIRST | LAST
    stored: u64 = load(cython.address(stem_of(o).stored)) if not is_lean(o) else 0
    if k.used + cython.sizeof(SavedObject) + stored > k.room:
        return FULL
    k.used += cython.sizeof(SavedObject)
    while count == PIECE and w.fault == 0:
        count = tree.indexes_from(w, o, next, found, PIECE)
        for i in range(count):
            if w.fault != 0:
                return OK
            link = lookup(w, o, found[i])
            if _is_away(w, k, link):
                away += 1
            elif _copy_page(w, p, k, link, found[i], off) != OK:
                k.used = start
                k.pages = pages
                k.bytes = bytes
                return FULL
        head.pages += count
        next = found[count - 1] + 1 if count != 0 else 0
        if next == 0:
            break
    if head.pages != pages_of(o) and w.fault == 0:
        w.fault = FAULT_SENTINEL
    if head.pages == away:
        k.used = start          # nothing of it is here
        return OK
    head.pages -= away
    memcpy(k.out + start, cython.address(head), cython.sizeof(SavedObject))
    k.objects += 1
    return OK


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _copy_some(w: cython.pointer(Worker), p: cython.pointer(PoolRef), k: cython.pointer(Copied),
               b: cython.pointer(Bucket), most: cython.int, bytes: u64) -> cython.int:
    """The next objects of a bucket, of up to `most` that are there the living ones, until they are
    so many bytes: under the lock, or between two looks at the sequence word. OK: those were the
    last; AGAIN; FULL: the block has no room for the next one, which is in k.large."""
    offs: u64[64]
    i: cython.int
    start: u64 = k.used
    o: cython.pointer(Obj)
    count: cython.int = tree.objs_after(w, b, k.after if k.inside else cython.NULL, offs, most)
    if w.fault != 0:
        return AGAIN
    for i in range(count):
        o = obj_at(w, offs[i])
        if pool_of_obj(o) != p.idx:
            w.fault = w.fault if w.fault else FAULT_SENTINEL
        if w.fault != 0:
            return AGAIN
        k.large[0] = o.oid[0]
        k.large[1] = o.oid[1]
        k.large[2] = o.oid[2]
        if not is_dead(w, p.record, o, 0) and _copy_object(w, p, k, offs[i]) == FULL:
            return FULL
        if w.fault != 0:
            return AGAIN
        k.after[0] = k.large[0]
        k.after[1] = k.large[1]
        k.after[2] = k.large[2]
        k.inside = True
        if k.used - start >= bytes or k.wish_count == WISHES_MAX:
            return AGAIN
    return AGAIN if count == most else OK


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _copy_bucket(w: cython.pointer(Worker), p: cython.pointer(PoolRef), k: cython.pointer(Copied)) -> cython.int:
    """Some objects of the bucket that is next. OK, FULL or AGAIN as _copy_some; BUSY, DESTROYED or
    CORRUPT."""
    b: cython.pointer(Bucket) = p.buckets + k.bucket
    before: Copied = k[0]
    tries: cython.int
    seq: u64
    status: cython.int
    for tries in range(TRIES):
        k[0] = before
        status = begin_look(w, p, b, cython.address(seq))
        if status == DESTROYED:
            return DESTROYED
        if status == BUSY:
            continue
        status = _copy_some(w, p, k, b, PIECE >> tries, STEP_BYTES >> tries)
        if w.fault == 0 and seq_same(cython.address(b.lock), seq):
            return status
    k[0] = before
    if k.still:
        return BUSY if w.fault == 0 else CORRUPT       # in such a world, what looks wrong is wrong
    w.fault = 0
    status = lock_bucket(w, p, b)
    if status != OK:
        return status
    status = _copy_some(w, p, k, b, 1, 0)
    status = end_section(w, b, status)
    unlock(w, cython.address(w.slot.own))
    return status


def copy_objects(w, p, k):
    """Copy the next objects of a pool behind what is in the block. OK: that is all; AGAIN: more may
    come; FULL: the block has no room for the next one; SIZE: no empty block has, and it is
    k.large; BUSY (what was copied is good), DESTROYED or CORRUPT."""
    status: cython.int
    looks: cython.int = 0
    while k.bucket <= p.mask:
        looks += 1
        if looks > LOOKS or k.wish_count == WISHES_MAX:
            return AGAIN
        status = _copy_bucket(w, p, k)
        if status == FULL:
            return FULL if k.used != 0 else SIZE
        if status != OK and status != AGAIN:
            return status
        if status == OK:
            k.bucket += 1
            k.inside = False
    return OK


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _pages(w: cython.pointer(Worker), p: cython.pointer(PoolRef), c: cython.pointer(Call), k: cython.pointer(Copied),
           b: cython.pointer(Bucket), most: cython.int, bytes: u64) -> cython.int:
    """The next pages of c's object from k.index on, until they are so many bytes. OK: those were
    the last; AGAIN; FULL: the block has no room for the next one, of k.index; MISS."""
    found: u64[64]
    i: cython.int
    count: cython.int
    start: u64 = k.used
    link: u64
    off: u64 = find_obj(w, p, c, b)
    o: cython.pointer(Obj)
    if off == 0 or w.fault != 0:
        return MISS
    o = obj_at(w, off)
    k.expires = load(expiry_of(w, o))
    count = tree.indexes_from(w, o, k.index, found, most)
    for i in range(count):
        if w.fault != 0:
            return AGAIN
        k.index = found[i]
        link = lookup(w, o, found[i])
        if not _is_away(w, k, link) and _copy_page(w, p, k, link, found[i], off) == FULL:
            return FULL
        if w.fault != 0:
            return AGAIN
        k.known[k.known_count].index = found[i]
        k.known[k.known_count].gen = load(cython.address(pampd_at(w, target_of(link)).gen))
        k.known_count += 1
        k.index += 1
        if k.index == 0:
            return OK
        if k.used - start >= bytes or k.wish_count == WISHES_MAX:
            return AGAIN
    return AGAIN if count == most else OK


def copy_pages(w, p, c, k):
    """Copy the pages of c's object from k.index on behind what is in the block. OK: that is all;
    FULL: the block has no room for the page of k.index, which takes k.length bytes; MISS, BUSY,
    DESTROYED or CORRUPT; AGAIN: as many pages are wanted as can be brought at once. k.known has
    room for KNOWN_STEP more."""
    b: cython.pointer(Bucket) = bucket_of(p, c)
    before: Copied
    tries: cython.int
    seq: u64
    status: cython.int = AGAIN
    while status == AGAIN and k.wish_count < WISHES_MAX:
        status = BUSY
        before = k[0]
        for tries in range(TRIES):
            k[0] = before
            status = begin_look(w, p, b, cython.address(seq))
            if status == DESTROYED:
                return DESTROYED
            if status == BUSY:
                continue
            status = _pages(w, p, c, k, b, PIECE >> tries, STEP_BYTES >> tries)
            if w.fault == 0 and seq_same(cython.address(b.lock), seq):
                break
            status = BUSY
        if status != BUSY:
            continue
        k[0] = before
        if k.still:
            return BUSY if w.fault == 0 else CORRUPT       # in such a world, what looks wrong is wrong
        w.fault = 0
        status = lock_bucket(w, p, b)
        if status == OK:
            status = _pages(w, p, c, k, b, 1, 0)
            status = end_section(w, b, status)
            unlock(w, cython.address(w.slot.own))
    return status


def copy_piece(w, p, c, k, offset, count, to):
    """Copy bytes of the page of k.index, which is of k.gen, from an offset on. OK; MISS: it is
    another by now; BUSY or DESTROYED. c.ask.value wants the tail."""
    tries: cython.int
    status: cython.int = BUSY
    data: u64
    c.ask.index = k.index
    for tries in range(STILL):
        status = peek(w, p, c)
        if status != OK:
            return MISS if status == SIZE else status
        if (c.found.gen != k.gen or without_flags(c.found.shape, NOTES) != without_flags(k.shape, NOTES)
                or offset + count > c.found.stored):
            return MISS
        data = c.found.data
        memcpy(to, w.base + data + offset, count)
        if seq_same(cython.address(bucket_of(p, c).lock), c.found.seq):
            return OK
        # Somebody has written to the bucket meanwhile. If the page is there still, it was all the
        # time.
        status = peek(w, p, c)
        if (status == OK and c.found.gen == k.gen and c.found.data == data
                and seq_same(cython.address(bucket_of(p, c).lock), c.found.seq)):
            return OK
    return BUSY


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _same(w: cython.pointer(Worker), p: cython.pointer(PoolRef), c: cython.pointer(Call), k: cython.pointer(Copied),
          b: cython.pointer(Bucket)) -> cython.bint:
    found: u64[64]
    i: cython.int
    count: cython.int = PIECE
    at: u64 = 0
    next: u64 = 0
    off: u64 = find_obj(w, p, c, b)
    o: cython.pointer(Obj)
    d: cython.pointer(Pampd)
    if off == 0 or w.fault != 0:
        return False
    o = obj_at(w, off)
    if pages_of(o) != k.known_count:
        return False
    while count == PIECE and w.fault == 0:
        count = tree.indexes_from(w, o, next, found, PIECE)
        for i in range(count):
            d = pampd_at(w, target_of(lookup(w, o, found[i])))
            if (at >= k.known_count or found[i] != k.known[at].index
                    or load(cython.address(d.gen)) != k.known[at].gen):
                return False
            at += 1
        next = found[count - 1] + 1 if count != 0 else 0
        if next == 0:
            break
    return at == k.known_count


def same_pages(w, p, c, k):
    """Whether c's object has at this moment the pages that were copied, and no other ones. OK,
    MISS, BUSY, DESTROYED or CORRUPT."""
    b: cython.pointer(Bucket) = bucket_of(p, c)
    tries: cython.int
    seq: u64
    same: cython.bint
    status: cython.int
    for tries in range(TRIES):
        status = begin_look(w, p, b, cython.address(seq))
        if status == DESTROYED:
            return DESTROYED
        if status == BUSY:
            continue
        same = _same(w, p, c, k, b)
        if w.fault == 0 and seq_same(cython.address(b.lock), seq):
            return OK if same else MISS
    if k.still:
        return BUSY if w.fault == 0 else CORRUPT       # in such a world, what looks wrong is wrong
    w.fault = 0
    status = lock_bucket(w, p, b)
    if status != OK:
        return status
    same = _same(w, p, c, k, b)
    status = end_section(w, b, OK if same else MISS)
    unlock(w, cython.address(w.slot.own))
    return status

"""Owns how far pages come home: their bytes, which a get has had from the tier, lie in the arena
again.

Only what is asked for twice comes: the first get of a far page leaves a ghost in its shard, as an
eviction does, and the second finds it there if fewer were remembered meanwhile than there are local
pages, and than there is memory for. So a scan brings nothing home, however often it is repeated.
And only free memory is used for it, of which the puts keep a part: nothing is evicted, and nobody
is waited for. A page that does not come home now stays where it is, and the get has its bytes all
the same.
A page that comes home keeps its generation, so that its version is what it was. Its descriptor
stays, too: it exchanges the token with the chunk of a staged one, which takes the token along to
where dead tokens go. Generations are given to names when a page leaves (eviction/leaving.py), so
none is ever a name again.
Locks: own; then the shard's, and the bucket, as for a page that becomes far.
Kill at any instruction: what is staged hangs on the worker's slot; all pages of a call come home in
one transaction. What the tier has of them is garbage from then on.
"""
import cython
import cython.cimports.engine.tree.objnode as objnode
from cython.cimports.engine.layout.call import DESTROYED, MISS, REFUSED, Call, PoolRef
from cython.cimports.engine.layout.regions import (
    chunk_bytes,
    is_frozen,
    next_gen,
    obj_at,
    pampd_at,
    queue_at,
    shard_at,
)
from cython.cimports.engine.layout.structs import (
    GEO_SHARDS,
    OBJNODE_CLASS,
    PAMPD_CLASS,
    PAMPD_SENTINEL,
    ROOT_STAGED,
    Bucket,
    Pampd,
    Shard,
)
from cython.cimports.engine.layout.words import (
    FAR,
    QUEUE_FAR,
    QUEUE_MAIN,
    QUEUE_NONE,
    class_in,
    copied_of,
    flags_in,
    flags_of,
    is_far,
    link_to_page,
    packed_in,
    page_hash,
    pool_in,
    queue_word,
    shape_of,
    shard_in,
    size_class,
    state_in,
    stored_bytes,
    with_packed,
    without_flags,
)
from cython.cimports.engine.pages.pam.base import PamOps
from cython.cimports.engine.pages.queues import dequeue, push_newest, recall_ghost, remember_ghost
from cython.cimports.engine.pages.reclaim import drop_staged, has_ledger, retire
from cython.cimports.engine.tree.unlink import weigh
from cython.cimports.engine.verbs.away import Glimpse
from cython.cimports.engine.verbs.section import REAP_BUDGET, alive, bucket_of, end_section, find_page, finish
from cython.cimports.libc.string import memset
from cython.cimports.shm.atomics import load
from cython.cimports.shm.journal import conclude, rollback, store
from cython.cimports.shm.layout import BUSY, CORRUPT, NOMEM, OK, Worker, offset_of, set_mark, u64
from cython.cimports.shm.lock import lock_try, unlock
from cython.cimports.shm.memory import chunk_at
from cython.cimports.shm.segments import limit_of
from cython.cimports.shm.slab import ensure, pop

# A part of so many of the capacity stays free for puts: half of what the spiller keeps free, so
# that he makes place for more when pages have come home.
RESERVE = cython.declare(u64, 40)


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _comes(c: cython.pointer(Call), i: u64) -> cython.bint:
    """True if page i of a call is one that is to come home."""
    return c.ask.packs[i].data != cython.NULL


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _spare(w: cython.pointer(Worker), cls: u64) -> u64:
    """Bytes that are free, in whole segments and in chunks of a class, beside what stays for puts.
    Read while others work: a hint."""
    limit: u64 = limit_of(w)
    used: u64 = load(cython.address(w.depot.seg_used))
    free: u64 = (limit - used if used < limit else 0) << w.seg_shift
    if cls < OBJNODE_CLASS:
        free += load(cython.address(w.depot.class_free[cls])) * w.class_bytes[cls]
    return free - (limit << w.seg_shift) // RESERVE if free > (limit << w.seg_shift) // RESERVE else 0


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _is_wanted(w: cython.pointer(Worker), p: cython.pointer(PoolRef), c: cython.pointer(Call), pages: u64, more: u64
               ) -> cython.bint:
    """True if what is got now was got before, and not long ago; else it is remembered. `more`: for
    how many pages there is memory beside those that are local. Not where the shard is busy."""
    s: cython.pointer(Shard) = shard_at(w, c.did.shard)
    hash: u64 = page_hash(c.ask.hash, c.ask.index, p.idx)
    known: cython.bint
    if lock_try(w, cython.address(s.lock)) != OK:
        return False
    known = recall_ghost(w, c.did.shard, hash, (s.pages + more // w.client_geometry[GEO_SHARDS]) * 9 // 10 + 1, False)
    if not known:
        remember_ghost(w, c.did.shard, hash, pages)
    unlock(w, cython.address(s.lock))
    return known


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _stage(w: cython.pointer(Worker), c: cython.pointer(Call), i: u64, shape: u64, pam: PamOps) -> cython.int:
    """Copy page i into a chunk, which a descriptor on the staged list has. OK, BUSY, NOMEM or
    CORRUPT."""
    page: Pampd
    d: cython.pointer(Pampd)
    off: u64
    status: cython.int = ensure(w, PAMPD_CLASS, 1)
    if status != OK:
        return status
    memset(cython.address(page), 0, cython.sizeof(Pampd))
    status = pam.prepare(w, cython.address(page), c.ask.packs[i].data, c.ask.packs[i].length)
    if status != OK:
        return status
    off = pop(w, PAMPD_CLASS)
    if off == 0:
        rollback(w, 0)
        return CORRUPT
    d = cython.cast(cython.pointer(Pampd), chunk_at(w, off))
    d[0] = page
    d.shape = shape_of(cython.cast(cython.uint, shape), class_in(cython.address(page)),
                       cython.cast(cython.int, flags_in(without_flags(shape, FAR))))
    if packed_in(shape) != 0:
        d.shape = with_packed(d.shape, packed_in(shape))
    d.gen = next_gen(w)
    d.index = c.ask.index + i
    d.sentinel = PAMPD_SENTINEL
    d.link = w.slot.client[ROOT_STAGED]
    store(w, cython.address(w.slot.client[ROOT_STAGED]), off)
    return conclude(w)


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _all_there(w: cython.pointer(Worker), p: cython.pointer(PoolRef), c: cython.pointer(Call),
               b: cython.pointer(Bucket)) -> cython.bint:
    """True if all that is to come home is far still, of the generation that was seen, in the queue
    of the shard that is held, and takes what was staged for it."""
    seen: cython.pointer(Glimpse) = cython.cast(cython.pointer(Glimpse), c.ask.into)
    obj_off: u64
    d: cython.pointer(Pampd)
    i: u64
    for i in range(c.ask.count):
        if not _comes(c, i):
            continue
        d = find_page(w, p, c, b, c.ask.index + i, cython.address(obj_off))
        if (
            d == cython.NULL
            or d.gen != seen[i].gen
            or not is_far(d.shape)
            or d.shape != seen[i].shape
            or state_in(d.queue) != QUEUE_FAR
            or shard_in(d.queue) != c.did.shard
            or pool_in(d.queue) != p.idx
        ):
            return False
    return w.fault == 0


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _exchange(w: cython.pointer(Worker), p: cython.pointer(PoolRef), c: cython.pointer(Call),
              b: cython.pointer(Bucket), index: u64) -> cython.void:
    """The stores for one page: it gets the chunk of the first on the staged list, and a place in
    the main queue; that one gets its token, and is retired. Faults."""
    obj_off: u64
    d: cython.pointer(Pampd) = find_page(w, p, c, b, index, cython.address(obj_off))
    off: u64 = offset_of(w, d)
    staged: u64 = w.slot.client[ROOT_STAGED]
    s: cython.pointer(Pampd) = pampd_at(w, staged)
    at: cython.pointer(u64)
    token: u64
    shape: u64
    if w.fault != 0 or d == cython.NULL:
        return
    at = objnode.link_word(w, obj_at(w, obj_off), index, 0)
    if at == cython.NULL or w.fault != 0:
        return
    token = d.data
    shape = d.shape
    dequeue(w, off)
    store(w, cython.address(w.slot.client[ROOT_STAGED]), s.link)
    store(w, cython.address(d.data), s.data)
    store(w, cython.address(d.shape), s.shape)
    store(w, at, link_to_page(w, off, s.data, flags_of(d)))
    store(w, cython.address(s.data), token)
    store(w, cython.address(s.shape), shape)
    store(w, cython.address(s.gen), d.gen)
    # In no queue, and of this pool: whoever gives it back tells its tier.
    store(w, cython.address(s.queue), queue_word(0, c.did.shard, QUEUE_NONE, p.idx))
    retire(w, staged)
    push_newest(w, queue_at(w, p.idx, c.did.shard), QUEUE_MAIN, off)
    set_mark(w, off, 0)         # a hint: it may stay so where this is undone
    weigh(w, p.idx, obj_off, 0, chunk_bytes(w, d), stored_bytes(d))


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _swap(w: cython.pointer(Worker), p: cython.pointer(PoolRef), c: cython.pointer(Call), pages: u64) -> cython.int:
    """Let what is staged be the pages of a call: OK, MISS, BUSY, DESTROYED or CORRUPT. With the own
    lock alone."""
    b: cython.pointer(Bucket) = bucket_of(p, c)
    s: cython.pointer(Shard) = shard_at(w, c.did.shard)
    i: u64
    status: cython.int = OK
    if lock_try(w, cython.address(s.lock)) != OK:
        return BUSY
    if lock_try(w, cython.address(b.lock)) != OK:
        unlock(w, cython.address(s.lock))
        return BUSY
    if not alive(p):
        status = DESTROYED
    elif not _all_there(w, p, c, b):
        status = MISS
    for i in range(c.ask.count if status == OK else 0):
        if _comes(c, i) and w.fault == 0:
            _exchange(w, p, c, b, c.ask.index + i)
    status = end_section(w, b, status)
    if status == OK:
        # Counts, which are not journalled.
        queue_at(w, p.idx, c.did.shard).far_home += pages
        s.turn += pages
    unlock(w, cython.address(s.lock))
    return status


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _bring(w: cython.pointer(Worker), p: cython.pointer(PoolRef), c: cython.pointer(Call), pam: PamOps) -> cython.int:
    """As come_home, with the own lock."""
    seen: cython.pointer(Glimpse) = cython.cast(cython.pointer(Glimpse), c.ask.into)
    need: u64 = 0
    pages: u64 = 0
    cls: u64 = 0
    spare: u64
    i: u64
    status: cython.int
    c.did.shard = w.client_geometry[GEO_SHARDS]
    for i in range(c.ask.count):
        if not _comes(c, i):
            continue
        if c.did.shard == w.client_geometry[GEO_SHARDS]:
            c.did.shard = shard_in(seen[i].queue)
            cls = size_class(seen[i].shape)
        if shard_in(seen[i].queue) != c.did.shard:
            c.ask.packs[i].data = cython.NULL       # what lies in another shard is no part of it
            continue
        if c.ask.packs[i].length != copied_of(seen[i].shape):
            return MISS
        need += c.ask.packs[i].length + cython.sizeof(Pampd)
        pages += 1
    if c.did.shard >= w.client_geometry[GEO_SHARDS] or need == 0:
        return MISS
    spare = _spare(w, cls)
    if not _is_wanted(w, p, c, pages, spare // (need // pages)):
        return MISS
    if spare < need or is_frozen(w, p.record) or not has_ledger(w, p.idx):
        return REFUSED
    for i in range(c.ask.count):
        # The last one first, so that the first one heads the list.
        if _comes(c, c.ask.count - 1 - i):
            status = _stage(w, c, c.ask.count - 1 - i, seen[c.ask.count - 1 - i].shape, pam)
            if status != OK:
                return REFUSED if status == NOMEM else status
    return _swap(w, p, c, pages)


def come_home(w, p, c, pam, host):
    """Let the far pages of a call, c.ask.count from c.ask.index on, be local if they are still what
    is in the Glimpses at c.ask.into, and if it is time: all that are in the shard of the first one,
    or none. c.ask.packs has their bytes, as they are stored; NULL of a page that does not come. OK;
    MISS: they are others by now, or were not asked for before; REFUSED: there is no memory for
    them; BUSY: somebody is in the way, who is not waited for; DESTROYED or CORRUPT. Who calls has a
    journal for so many pages."""
    status: cython.int
    if lock_try(w, cython.address(w.slot.own)) != OK:
        return BUSY
    drop_staged(w)      # of a put that an exception ended
    status = _bring(w, p, c, pam)
    if w.fault != 0:
        status = CORRUPT
    elif status != OK:
        drop_staged(w)
    if finish(w, REAP_BUDGET, host) == CORRUPT:
        status = CORRUPT
    return status

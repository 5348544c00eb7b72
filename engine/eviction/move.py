"""Owns moving what lies in segments that leave to segments that stay: page bytes, page descriptors,
objnodes, objs.

No lock is held by who calls. Lock order: own, shard, bucket; shard and bucket are only tried, and
what is in use is left for the next sweep. A move is one transaction: the new chunk is filled while
nobody knows of it, then the one link to it changes, and the chunk takes the place of the new one in
the magazine, so that no list has to be touched while the bucket is held. Lock-free readers see the
bucket's sequence word change, and look again.
"""
import cython
import cython.cimports.engine.tree.objnode as objnode
import cython.cimports.engine.tree.rbtree as rbtree
from cython.cimports.engine.eviction.evict import evict_found
from cython.cimports.engine.eviction.move import SPARING, Supply
from cython.cimports.engine.eviction.relieve import relieve
from cython.cimports.engine.layout.call import AGAIN, MISS
from cython.cimports.engine.layout.regions import (
    bucket_at,
    height_of,
    index_in,
    is_lean,
    is_obj,
    next_gen,
    nodes_of,
    obj_at,
    obj_class,
    objnode_at,
    page_at,
    pages_of,
    pampd_at,
    pool_at,
    pool_of_obj,
    root_of,
    shard_at,
)
from cython.cimports.engine.layout.structs import (
    GEO_POOLS,
    GEO_SHARDS,
    HEIGHT_MAX,
    LEAN_SENTINEL,
    MAP_SIZE,
    OBJ_CLASS,
    OBJNODE_CLASS,
    OBJNODE_SENTINEL,
    PAMPD_CLASS,
    PAMPD_SENTINEL,
    POOL_LIVE,
    Bucket,
    Obj,
    Objnode,
    Pampd,
    Twin,
)
from cython.cimports.engine.layout.words import (
    QUEUE_LEFT,
    QUEUE_PENDING,
    class_in,
    copied_of,
    flags_of,
    has_chunk,
    in_chunk,
    is_foreign,
    is_queued,
    is_twin,
    link_to,
    link_to_page,
    pool_in,
    shard_in,
    size_class,
    state_in,
    target_of,
)
from cython.cimports.engine.oid import hash_oid
from cython.cimports.engine.pages.pins import is_viewed
from cython.cimports.engine.pages.queues import rename
from cython.cimports.engine.pages.reclaim import reap
from cython.cimports.engine.tree.hostops import HostOps
from cython.cimports.libc.string import memcpy, memset
from cython.cimports.shm.atomics import load
from cython.cimports.shm.extent import ensure_extent
from cython.cimports.shm.journal import conclude, reserve, shrink, store
from cython.cimports.shm.layout import (
    BUSY,
    CORRUPT,
    EXTENT_CLASS,
    FAULT_CHUNK,
    JOURNAL_BYTES,
    JOURNAL_ENTRY,
    NOMEM,
    OK,
    SEG_LEAVING,
    Magazine,
    Segment,
    Worker,
    mark_of,
    set_mark,
    u64,
)
from cython.cimports.shm.lock import lock_try, unlock
from cython.cimports.shm.memory import CHUNK_ALIGN, chunk_at
from cython.cimports.shm.segments import chunk_start, segment_of
from cython.cimports.shm.shrink import is_leaving
from cython.cimports.shm.shrink import leaves as bytes_leave
from cython.cimports.shm.slab import drain, mag_cap, refill, top

REAP_STEPS = cython.declare(cython.int, 64)
EVICT_PAGES = cython.declare(u64, 32)       # that go when there is nowhere to move to
TURNS_MAX = cython.declare(cython.int, 4)   # as pages of other classes may go for ever without a chunk of the right one
STARVED = cython.declare(cython.int, 64)    # a status: see _supply
# Who makes a segment free by moving moves no extent of more than 16 of them for it.
MERGED_SHIFT = cython.declare(u64, 4)
STANDING = cython.declare(u64, 64)          # stores of a move besides those to what names it


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _twin_leaves(w: cython.pointer(Worker), d: cython.pointer(Pampd)) -> cython.bint:
    """True if a page refers to a twin of which anything leaves. Without a lock: a hint."""
    t: cython.pointer(Twin)
    off: u64 = load(cython.address(d.data))
    leaves: cython.bint
    if not is_twin(load(cython.address(d.shape))):
        return False
    t = cython.cast(cython.pointer(Twin), chunk_at(w, off))
    shape: u64 = load(cython.address(d.shape))
    leaves = w.fault == 0 and (
        is_leaving(w, off) or bytes_leave(w, size_class(shape), load(cython.address(t.data)), copied_of(shape))
    )
    w.fault = 0
    return leaves


@cython.cfunc
@cython.nogil
@cython.inline
@cython.exceptval(check=False)
def _bytes_leave(w: cython.pointer(Worker), d: cython.pointer(Pampd)) -> cython.bint:
    """True if the chunk of a page, or any part of its extent, is to be moved. Without a lock: a
    hint."""
    shape: u64 = load(cython.address(d.shape))
    return in_chunk(shape) and bytes_leave(w, size_class(shape), load(cython.address(d.data)), copied_of(shape))


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _sort(w: cython.pointer(Worker), have: cython.pointer(Supply), cls: cython.int) -> cython.int:
    """Keep of a magazine the chunks that stay, and give the others back. OK, BUSY or CORRUPT."""
    mag: cython.pointer(Magazine) = cython.address(w.slot.mags[cls])
    off: u64
    i: u64
    good: u64 = 0
    if cls == EXTENT_CLASS:
        return drain(w, mag, cls, 0)
    if mag.count > mag_cap(cls):
        w.fault = FAULT_CHUNK
        return conclude(w)
    for i in range(mag.count):
        if not is_leaving(w, mag.items[i]):
            if i != good:
                off = mag.items[good]
                store(w, cython.address(mag.items[good]), mag.items[i])
                store(w, cython.address(mag.items[i]), off)
            good += 1
    have.good[cls] = 0
    if conclude(w) != OK:
        return CORRUPT
    have.good[cls] = good
    return drain(w, mag, cls, good)


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _supply(w: cython.pointer(Worker), have: cython.pointer(Supply), cls: cython.int, host: HostOps) -> cython.int:
    """Have a chunk of the class that stays, the last below `good`. OK, NOMEM (nothing is left that
    could make room, or none may be made), STARVED (whatever is made room for goes to others), BUSY
    or CORRUPT."""
    status: cython.int
    turns: cython.int = 0
    while have.good[cls] == 0:
        # What has been moved goes back; what stays is kept, and not shown to others who are short
        # of it too.
        status = _sort(w, have, cls)
        if status != OK:
            return status
        if have.good[cls] != 0:
            break
        status = refill(w, cls, 1)
        if status == OK:
            have.good[cls] = w.slot.mags[cls].count     # the depot gives no chunk of a segment that leaves
        if status != NOMEM or not have.evicts:
            return status
        if have.sparing:
            return STARVED
        turns += 1
        if turns > TURNS_MAX:
            return STARVED
        status = relieve(w, turns, EVICT_PAGES, host)
        if status != OK:
            return status
        memset(have.good, 0, cython.sizeof(have.good))      # what is given back comes into the magazines
        status = AGAIN
        while status == AGAIN:
            status = reap(w, REAP_STEPS)
        if status != OK:
            return status
    return OK


@cython.cfunc
@cython.nogil
@cython.inline
@cython.exceptval(check=False)
def _swap(w: cython.pointer(Worker), have: cython.pointer(Supply), cls: cython.int, old: u64) -> cython.void:
    """Put a chunk in the magazine, in the place of the one that was supplied."""
    have.good[cls] -= 1
    store(w, cython.address(w.slot.mags[cls].items[have.good[cls]]), old)


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _supplied(w: cython.pointer(Worker), have: cython.pointer(Supply), cls: cython.int) -> u64:
    return w.slot.mags[cls].items[have.good[cls] - 1]


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _lock_obj(w: cython.pointer(Worker), obj_off: u64, bucket: cython.pointer(cython.pointer(Bucket))) -> cython.int:
    """Lock the bucket of an obj by what it says of itself, if it is still there then. OK, BUSY, or
    NOMEM: it is not."""
    o: cython.pointer(Obj) = cython.cast(cython.pointer(Obj), chunk_at(w, obj_off))
    pool: u64 = pool_of_obj(o)
    b: cython.pointer(Bucket)
    if w.fault != 0 or not is_obj(o.sentinel) or pool >= w.client_geometry[GEO_POOLS]:
        w.fault = 0
        return NOMEM
    b = bucket_at(w, pool, hash_oid(o.oid[0], o.oid[1], o.oid[2]))
    if lock_try(w, cython.address(b.lock)) != OK:
        return BUSY
    # The tree of a dying pool has lost leaves, and its objs go anyway.
    if (
        load(cython.address(pool_at(w, pool).state)) != POOL_LIVE
        or not is_obj(o.sentinel)
        or pool_of_obj(o) != pool
        or bucket_at(w, pool, hash_oid(o.oid[0], o.oid[1], o.oid[2])) != b
        or rbtree.find(w, b, o.oid) != obj_off
    ):
        w.fault = 0
        unlock(w, cython.address(b.lock))
        return NOMEM
    bucket[0] = b
    return OK


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _move_page(w: cython.pointer(Worker), have: cython.pointer(Supply), off: u64, host: HostOps) -> cython.int:
    """Move the bytes of a page, its descriptor, or both, as far as they leave. OK, BUSY, NOMEM,
    CORRUPT, or AGAIN: it has gone."""
    d: cython.pointer(Pampd) = page_at(w, off)
    word: u64 = load(cython.address(d.queue))
    shape: u64 = load(cython.address(d.shape))
    cls: cython.int = size_class(shape)
    own_chunk: cython.bint = in_chunk(shape)
    queued: cython.bint = not is_foreign(shape) and is_queued(word)
    bytes_leave: cython.bint = _bytes_leave(w, d)
    leaves: cython.bint = is_leaving(w, off)
    status: cython.int = OK
    if load(cython.address(d.sentinel)) != PAMPD_SENTINEL:
        return AGAIN            # its chunk is another page's, or an obj's, by now
    if queued and (shard_in(word) >= w.client_geometry[GEO_SHARDS] or pool_in(word) >= w.client_geometry[GEO_POOLS]):
        return AGAIN
    if own_chunk and cls >= OBJNODE_CLASS:
        return AGAIN
    if leaves and not is_foreign(shape) and state_in(word) == QUEUE_LEFT:
        return BUSY             # whoever has its shard is moving it in its queue, or is about to evict it
    if leaves and not is_foreign(shape) and state_in(word) == QUEUE_PENDING:
        leaves = False          # on a worker's list, which only that worker may change
        status = BUSY
    if bytes_leave and cls == EXTENT_CLASS:
        status = _move_extent(w, have, off)
        if status != OK or not leaves:
            return status
        bytes_leave = False
    if bytes_leave:
        status = _supply(w, have, cls, host)
    if status == OK and leaves:
        status = _supply(w, have, PAMPD_CLASS, host)
        if status == OK and bytes_leave:
            status = _supply(w, have, cls, host)        # making room for one may have taken the other
    if status != OK:
        return status
    if bytes_leave and leaves and (have.good[cls] == 0 or have.good[PAMPD_CLASS] == 0):
        return BUSY
    if leaves and queued and lock_try(w, cython.address(shard_at(w, shard_in(word)).lock)) != OK:
        return BUSY
    status = _move_locked(w, have, off, word, leaves)
    if leaves and queued:
        unlock(w, cython.address(shard_at(w, shard_in(word)).lock))
    return status


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _move_extent(w: cython.pointer(Worker), have: cython.pointer(Supply), off: u64) -> cython.int:
    """Move a page that lies in an extent, copied with no bucket held: its bytes are never written
    while it is linked, and if it is of the same generation afterwards it was linked all the time.
    OK, BUSY, NOMEM, STARVED (no other place is so long), CORRUPT, or AGAIN: it has gone."""
    d: cython.pointer(Pampd) = page_at(w, off)
    mag: cython.pointer(Magazine) = cython.address(w.slot.mags[EXTENT_CLASS])
    b: cython.pointer(Bucket) = cython.NULL
    at: cython.pointer(u64)
    gen: u64 = load(cython.address(d.gen))
    obj_off: u64 = load(cython.address(d.obj))
    data: u64 = load(cython.address(d.data))
    length: u64 = copied_of(load(cython.address(d.shape)))
    new: u64
    status: cython.int
    if load(cython.address(d.sentinel)) != PAMPD_SENTINEL or class_in(d) != EXTENT_CLASS or length == 0:
        return AGAIN            # its chunk is another page's, or an obj's, by now
    if not have.evicts and length > cython.cast(u64, 1) << (w.seg_shift + MERGED_SHIFT):
        return BUSY             # too much for one segment
    status = ensure_extent(w, length)
    if status != OK:
        return STARVED if status == NOMEM and have.evicts else status
    new = top(w, EXTENT_CLASS)
    chunk_at(w, new + ((length - 1) & ~cython.cast(u64, 63)))
    if w.fault != 0:
        return conclude(w)
    chunk_at(w, data)
    chunk_at(w, data + ((length - 1) & ~cython.cast(u64, 63)))
    if w.fault != 0:
        # Read without a lock: the page may have gone, and its descriptor be anything by now.
        w.fault = 0
        return AGAIN
    memcpy(w.base + new, w.base + data, length)
    status = _lock_obj(w, obj_off, cython.address(b))
    if status != OK:
        return AGAIN if status == NOMEM else status
    at = objnode.link_word(w, obj_at(w, obj_off), index_in(obj_at(w, obj_off), d), 0)
    if (
        at == cython.NULL
        or target_of(at[0]) != off
        or d.sentinel != PAMPD_SENTINEL
        or d.obj != obj_off
        or d.gen != gen
        or d.data != data
        or class_in(d) != EXTENT_CLASS
        or copied_of(d.shape) != length
        or w.fault != 0
    ):
        w.fault = 0
        unlock(w, cython.address(b.lock))
        return AGAIN
    if is_viewed(w, d):
        unlock(w, cython.address(b.lock))
        return BUSY
    store(w, cython.address(d.data), new)
    store(w, at, link_to_page(w, off, new, flags_of(d)))
    # Who reads it just now knows it by its generation, and must not find it where it was.
    store(w, cython.address(d.gen), next_gen(w))
    store(w, cython.address(mag.items[0]), data)
    status = conclude(w)
    unlock(w, cython.address(b.lock))
    return drain(w, mag, EXTENT_CLASS, 0) if status == OK else status


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _move_locked(
    w: cython.pointer(Worker), have: cython.pointer(Supply), off: u64, word: u64, leaves: cython.bint
) -> cython.int:
    d: cython.pointer(Pampd) = page_at(w, off)
    o: cython.pointer(Obj)
    b: cython.pointer(Bucket) = cython.NULL
    at: cython.pointer(u64)
    cls: cython.int
    old: u64
    new: u64
    obj_off: u64 = load(cython.address(d.obj))
    status: cython.int = _lock_obj(w, obj_off, cython.address(b))
    if status != OK:
        return AGAIN if status == NOMEM else status
    o = obj_at(w, obj_off)
    at = objnode.link_word(w, o, index_in(o, d), 0)
    if (
        at == cython.NULL
        or target_of(at[0]) != off
        or d.sentinel != PAMPD_SENTINEL
        or d.obj != obj_off
        or (leaves and d.queue != word)
    ):
        w.fault = 0
        unlock(w, cython.address(b.lock))
        return AGAIN
    if has_chunk(d) and class_in(d) != EXTENT_CLASS and is_leaving(w, d.data):
        cls = class_in(d)
        old = d.data
        # Another page may have come under the handle since there was a chunk for it; or somebody
        # looks at this one where it is.
        if cls >= OBJNODE_CLASS or have.good[cls] == 0 or (cls == PAMPD_CLASS and leaves) or is_viewed(w, d):
            unlock(w, cython.address(b.lock))
            return BUSY
        new = _supplied(w, have, cls)
        chunk_at(w, new)
        chunk_at(w, old)
        chunk_at(w, new + w.class_bytes[cls] - CHUNK_ALIGN)
        chunk_at(w, old + w.class_bytes[cls] - CHUNK_ALIGN)
        if w.fault == 0:
            memcpy(w.base + new, w.base + old, w.class_bytes[cls])
        store(w, cython.address(d.data), new)
        store(w, at, link_to_page(w, off, new, flags_of(d)))
        _swap(w, have, cls, old)
    if leaves and w.fault == 0:
        new = _supplied(w, have, PAMPD_CLASS)
        memcpy(chunk_at(w, new), d, cython.sizeof(Pampd))
        if not is_foreign(d.shape) and is_queued(word):
            rename(w, off, new)
        store(w, at, link_to_page(w, new, d.data, flags_of(d)))
        if w.fault == 0:
            set_mark(w, new, mark_of(w, off))       # no journal is in the way of a wild chunk here
        # Whoever looks through descriptors must not take the old one for a page.
        store(w, cython.address(d.sentinel), ~d.sentinel)
        _swap(w, have, PAMPD_CLASS, off)
    status = conclude(w)
    unlock(w, cython.address(b.lock))
    return status


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _move_node(w: cython.pointer(Worker), have: cython.pointer(Supply), off: u64, host: HostOps) -> cython.int:
    """Move an objnode. OK, BUSY, NOMEM, CORRUPT, or AGAIN: it has gone."""
    n: cython.pointer(Objnode) = cython.cast(cython.pointer(Objnode), chunk_at(w, off))
    below: cython.pointer(Objnode)
    b: cython.pointer(Bucket) = cython.NULL
    at: cython.pointer(u64)
    obj_off: u64 = load(cython.address(n.obj))
    child: u64 = off
    level: u64
    i: u64
    new: u64
    status: cython.int = _supply(w, have, OBJNODE_CLASS, host)
    if status != OK:
        return status
    status = _lock_obj(w, obj_off, cython.address(b))
    if status != OK:
        return AGAIN if status == NOMEM else status
    at = cython.NULL
    level = n.level
    if n.sentinel == OBJNODE_SENTINEL and n.obj == obj_off and 0 < level <= HEIGHT_MAX:
        # The index of any page below it says where it hangs.
        while level > 0 and w.fault == 0:
            below = objnode_at(w, child)
            child = 0
            for i in range(MAP_SIZE):
                if below.slots[i] != 0:
                    child = target_of(below.slots[i])
                    break
            level -= 1
        if child != 0 and w.fault == 0:
            at = objnode.link_word(w, obj_at(w, obj_off), pampd_at(w, child).index, n.level)
    if w.fault != 0 or at == cython.NULL or target_of(at[0]) != off:
        w.fault = 0
        unlock(w, cython.address(b.lock))
        return AGAIN
    new = _supplied(w, have, OBJNODE_CLASS)
    memcpy(chunk_at(w, new), n, cython.sizeof(Objnode))
    store(w, at, link_to(new))
    store(w, cython.address(n.sentinel), ~n.sentinel)
    _swap(w, have, OBJNODE_CLASS, off)
    status = conclude(w)
    unlock(w, cython.address(b.lock))
    return status


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _adopt(w: cython.pointer(Worker), link: u64, level: u64, obj_off: u64) -> cython.void:
    """Let all pages and nodes below a link name another obj."""
    n: cython.pointer(Objnode)
    i: u64
    if level == 0:
        store(w, cython.address(pampd_at(w, target_of(link)).obj), obj_off)
        return
    n = objnode_at(w, target_of(link))
    store(w, cython.address(n.obj), obj_off)
    for i in range(MAP_SIZE):
        if n.slots[i] != 0 and w.fault == 0:
            _adopt(w, n.slots[i], level - 1, obj_off)


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _shrink(w: cython.pointer(Worker), have: cython.pointer(Supply)) -> cython.void:
    if have.evicts:
        shrink(w)


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _move_obj(w: cython.pointer(Worker), have: cython.pointer(Supply), off: u64, host: HostOps) -> cython.int:
    """Move an obj: all its pages name it, so the transaction is as long as it has pages. OK, BUSY,
    NOMEM, CORRUPT, or AGAIN: it has gone."""
    o: cython.pointer(Obj) = cython.cast(cython.pointer(Obj), chunk_at(w, off))
    b: cython.pointer(Bucket) = cython.NULL
    new: u64
    lean: cython.bint = is_lean(o)
    need: u64 = STANDING + pages_of(o) + nodes_of(o)
    status: cython.int = _supply(w, have, obj_class(lean), host)
    if status != OK:
        return status
    # Too large for any journal, or the file system is full just now. Who makes room for a put has
    # the journal that the put has: nothing is added to it, nor given back.
    if have.evicts and reserve(w, need) != OK or need > w.journal_cap:
        have.poor += need <= JOURNAL_BYTES // JOURNAL_ENTRY
        return BUSY
    status = _lock_obj(w, off, cython.address(b))
    if status != OK:
        _shrink(w, have)
        return AGAIN if status == NOMEM else status
    if (
        STANDING + pages_of(o) + nodes_of(o) > w.journal_cap
        or root_of(o)[0] == 0
        or height_of(o) > HEIGHT_MAX
        or is_lean(o) != lean
    ):
        unlock(w, cython.address(b.lock))
        _shrink(w, have)
        return BUSY
    new = _supplied(w, have, obj_class(lean))
    memcpy(chunk_at(w, new), o, w.class_bytes[obj_class(lean)])
    rbtree.replace(w, b, off, new)
    _adopt(w, root_of(o)[0], height_of(o), new)
    store(w, cython.address(o.sentinel), ~o.sentinel)
    _swap(w, have, obj_class(lean), off)
    status = conclude(w)
    unlock(w, cython.address(b.lock))
    _shrink(w, have)
    return status


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _move_or_evict(w: cython.pointer(Worker), have: cython.pointer(Supply), at: u64, sparing: cython.bint,
                   result: cython.pointer(Sweep), host: HostOps) -> cython.int:
    """Move a page; one that has no place goes: better than that others go for nothing."""
    shape: u64
    status: cython.int
    have.sparing = sparing
    status = _move_page(w, have, at, host)
    have.sparing = False
    if status == STARVED:
        status = evict_found(w, at, host)
        if status == MISS and sparing:
            status = _move_page(w, have, at, host)      # it may not go
            status = MISS if status == STARVED else status
        if status == MISS:
            shape = load(cython.address(page_at(w, at).shape))
            if size_class(shape) == EXTENT_CLASS:
                result.homeless = at
                result.homeless_bytes = copied_of(shape)
            status = BUSY
    return status


def sweep(w, number, evicts, result, host):
    """Move what leaves of a segment: chunks of it, if it leaves itself, and page bytes that its
    descriptors name. OK, NOMEM or CORRUPT; `result` is added to. Called with the own lock.

    evicts: pages may go, so that others have a place to move to, or since they cannot be moved.
    SPARING: a page that has no place goes itself, before others do for it."""
    have: Supply
    s: cython.pointer(Segment) = w.segtable + number
    cls: u64 = load(cython.address(s.cls)) - 1
    leaves: cython.bint = load(cython.address(s.state)) == SEG_LEAVING
    at: u64
    i: u64
    sentinel: u64
    source: u64
    d: cython.pointer(Pampd)
    status: cython.int
    if cls != PAMPD_CLASS and not (leaves and (cls == OBJ_CLASS or cls == OBJNODE_CLASS)):
        return OK
    memset(cython.address(have), 0, cython.sizeof(Supply))
    have.evicts = evicts != 0
    status = OK
    for i in range(w.class_chunks[cls]):
        at = chunk_start(w, number, cls, i)
        source = number
        # Which chunks are in use is not asked: who is about to move one finds out, with its bucket
        # locked, whether something links to it.
        sentinel = load(cython.cast(cython.pointer(u64), chunk_at(w, at)))
        if cls == PAMPD_CLASS and sentinel == PAMPD_SENTINEL:
            d = page_at(w, at)
            if _twin_leaves(w, d):
                # Readers copy from a twin as long as any page refers to it: it is not moved, all
                # its pages go.
                status = evict_found(w, at, host) if evicts else BUSY
                status = AGAIN if status == MISS else status
            elif not leaves and not _bytes_leave(w, d):
                continue
            else:
                source = segment_of(w, load(cython.address(d.data)))
                status = _move_or_evict(w, cython.address(have), at, evicts == SPARING, result, host)
        elif leaves and is_obj(sentinel) and cls == obj_class(cython.cast(cython.uint, sentinel) == LEAN_SENTINEL):
            status = _move_obj(w, cython.address(have), at, host)
        elif cls == OBJNODE_CLASS and sentinel == OBJNODE_SENTINEL:
            status = _move_node(w, cython.address(have), at, host)
        else:
            continue
        result.moved += status == OK
        result.left += status == OK and source == result.target
        result.busy += status == BUSY or status == STARVED
        if status == NOMEM or status == CORRUPT:
            break
        status = OK
    result.poor += have.poor
    return status


def rehouse(w, off):
    """Move the page of a descriptor from its extent to the one that lies ready in the magazine. OK
    (also if it has gone), NOMEM (not now: it is viewed, its bucket is taken, or another page of
    another length has come in its place) or CORRUPT. Called with the own lock."""
    have: Supply
    status: cython.int
    memset(cython.address(have), 0, cython.sizeof(Supply))
    have.evicts = True
    status = _move_extent(w, cython.address(have), off)
    if status == OK or status == AGAIN:
        return OK
    return CORRUPT if status == CORRUPT else NOMEM


def give_back_leaving(w, cls):
    """Give the chunks of a class that this worker has where they leave to their segments. OK, BUSY
    or CORRUPT."""
    have: Supply
    memset(cython.address(have), 0, cython.sizeof(Supply))
    return _sort(w, cython.address(have), cls)

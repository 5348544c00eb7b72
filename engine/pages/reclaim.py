"""Owns giving back: the retired list of a worker, taken apart piece by piece in small transactions.

What a verb unlinks under a bucket's lock it only chains here (`retire`, constant time); the chunks
go back to the magazines afterwards, with no bucket locked. An object, an objnode or a whole pool
may be retired with everything below it: taking it apart pushes its parts on the same list. A page
that somebody has a view on goes into limbo instead. The worker's own lock is held. A rescuer moves
the list of a dead worker to its own (`inherit`), and goes on with it.
Kill at any instruction: each step is one transaction on the list and the magazines; the list
outlives the worker.
"""
import cython
from cython.cimports.engine.layout.call import AGAIN, MISS
from cython.cimports.engine.layout.regions import (
    buckets_at,
    chunk_bytes,
    is_lean,
    is_obj,
    is_of_now,
    is_told,
    ledger_at,
    nodes_of,
    obj_at,
    obj_class,
    obj_count,
    pampd_at,
    pool_at,
    pool_it_was_of,
    pool_of_obj,
    pools_high,
    record_of,
    stem_of,
    was_lean,
    whole_pages,
)
from cython.cimports.engine.layout.structs import (
    DEPTH_MAX,
    GAUGE_BYTES_ASKED,
    GAUGE_BYTES_STORED,
    GAUGE_BYTES_USED,
    GAUGE_OBJECTS,
    GAUGE_OBJNODES,
    GAUGE_PAGES,
    GEO_BUCKETS,
    GEO_POOLS,
    LEDGER_BYTES,
    MAP_SIZE,
    OBJNODE_CLASS,
    OBJNODE_SENTINEL,
    PAMPD_CLASS,
    PAMPD_SENTINEL,
    PINS_MAX,
    POOL_DYING,
    POOL_FREE,
    POOL_LIVE,
    POOL_SENTINEL,
    ROOT_PENDING,
    ROOT_RETIRED,
    ROOT_STAGED,
    ROOT_WRITTEN,
    Bucket,
    ClientPage,
    Head,
    Obj,
    Objnode,
    Pampd,
    PoolRecord,
    Stem,
    TwinBucket,
)
from cython.cimports.engine.layout.words import (
    TWIN,
    VIEWED,
    class_in,
    copied_of,
    has_chunk,
    is_far,
    is_foreign,
    is_twin,
    length_of,
    pool_in,
    pool_mark,
    pool_of,
    stored_bytes,
    target_of,
    with_flags,
    without_flags,
)
from cython.cimports.engine.pages.dead import note_dead
from cython.cimports.engine.pages.pins import forget, is_pinned, is_viewed, keep
from cython.cimports.engine.pages.queues import leave_queue
from cython.cimports.engine.pages.reclaim import ForeignFree, HostTold, has_ledger, head_at, retire
from cython.cimports.engine.pages.twins import let_go
from cython.cimports.shm.atomics import load, set_release
from cython.cimports.shm.extent import drain_extent, trim_extent
from cython.cimports.shm.journal import commit, conclude, rollback, store
from cython.cimports.shm.kernel.liveness import RESIZE_BYTE, byte_held
from cython.cimports.shm.layout import (
    BUSY,
    CLASS_COUNT,
    CORRUPT,
    EXTENT_CLASS,
    FAULT_LOOP,
    FAULT_OFFSET,
    FAULT_SENTINEL,
    OK,
    SEG_LEAVING,
    SLOT_BYTES,
    Slot,
    Worker,
    offset_of,
    slot_at,
    slots_used,
    u64,
)
from cython.cimports.shm.lock import lock_both, lock_try, unlock, unlock_both
from cython.cimports.shm.memory import back, chunk_at
from cython.cimports.shm.recovery import is_open
from cython.cimports.shm.shrink import set_leaving_held
from cython.cimports.shm.slab import available, drain, drain_all, push, push_for

_foreign_free = cython.declare(ForeignFree, cython.NULL)


_host_told = cython.declare(HostTold, cython.NULL)


def set_host_told(f):
    global _host_told
    _host_told = f


def set_foreign_free(f):
    global _foreign_free
    _foreign_free = f


def pool_head(w, off):
    """The record of a pool by its offset; Worker.fault and zeroes if it is none."""
    idx: u64 = record_of(w, off)
    if idx >= w.client_geometry[GEO_POOLS] or offset_of(w, pool_at(w, idx)) != off:
        if w.fault == 0:
            w.fault = FAULT_SENTINEL
        return cython.cast(cython.pointer(Head), w.scratch)
    return cython.cast(cython.pointer(Head), w.base + off)


def back_ledger(w, pool):
    """Give the ledgers up to that of a pool memory. False: the file system is full, or there can be
    no such pool."""
    need: u64 = whole_pages((pool + 1) * LEDGER_BYTES)
    if pool >= w.client_geometry[GEO_POOLS] or back(w, w.ledgers_off + w.slot_idx * w.ledger_bytes, need) != OK:
        return False
    w.slot.ledger_backed = need
    return True


def back_ledgers(w):
    """Give the ledgers of all pools there are memory, if it can be had: to make room, pages of any
    of them go. Those of the slot that nobody has used yet with them: see take_slot in
    workers.py."""
    high: u64 = pools_high(w)
    if high * LEDGER_BYTES > w.slot.ledger_backed and has_ledger(w, high - 1) and slots_used(w) < w.max_workers:
        back(w, w.ledgers_off + slots_used(w) * w.ledger_bytes, whole_pages(high * LEDGER_BYTES))


def back_everybodys(w, pool):
    """Give the ledgers of a pool that is about to be memory, of whoever has a slot or may be the
    next to have one: who joins later, or never opens the pool, may have to let its pages go when
    there is none left. False: it cannot be had.

    Who attaches at this very moment may go without: what he cannot count he does not do."""
    need: u64 = whole_pages((pool + 1) * LEDGER_BYTES)
    i: u64
    if pool != 0 and need == whole_pages(pool * LEDGER_BYTES):
        return True         # with those of the pools before
    for i in range(w.max_workers):
        if i <= slots_used(w) and back(w, w.ledgers_off + i * w.ledger_bytes, need) != OK:
            return False
    return True


def ledger_for(w, pool):
    """This worker's ledger of any pool; NULL after a fault: whoever counts has asked `has_ledger`
    before."""
    if pool >= w.client_geometry[GEO_POOLS] or not has_ledger(w, pool):
        w.fault = w.fault if w.fault else FAULT_OFFSET
        return cython.NULL
    return ledger_at(w, w.slot_idx, pool)


def gauge(w, pool, which, delta):
    """Add to a gauge of any pool in this worker's ledger, inside the caller's transaction."""
    ledger: cython.pointer(u64) = ledger_for(w, pool)
    if ledger != cython.NULL:
        store(w, ledger + which, ledger[which] + delta)


def room_in(w, cls, count):
    """Make room for one or two chunks in the magazine, or for an extent. OK, BUSY or CORRUPT."""
    if cls == EXTENT_CLASS:
        return drain_extent(w, cython.address(w.slot.mags[cls]))
    if available(w, cls) + count <= 2 * w.class_batch[cls]:
        return OK
    return drain(w, cython.address(w.slot.mags[cls]), cls, w.class_batch[cls] + 1 - count)


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _unchain(w: cython.pointer(Worker), h: cython.pointer(Head)) -> cython.void:
    store(w, cython.address(w.slot.client[ROOT_RETIRED]), retired_link(h)[0])


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _mark_in(w: cython.pointer(Worker), queue: u64) -> u64:
    """The mark of the pool that has the slot which a queue word says, or 0. If that is a later one
    than the page was of, it is told of a token that it does not know."""
    idx: u64 = pool_in(queue)
    return pool_mark(idx, load(cython.address(pool_at(w, idx).gen))) if idx < pools_high(w) else 0


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _reap_pampd(w: cython.pointer(Worker), off: u64) -> cython.int:
    d: cython.pointer(Pampd) = cython.cast(cython.pointer(Pampd), chunk_at(w, off))
    cls: cython.int = class_in(d)
    mark: u64 = d.queue
    foreign: cython.bint = is_foreign(d.shape)
    orphaned: cython.bint
    twin: cython.bint = not foreign and is_twin(d.shape) and d.data != 0
    owns: cython.bint = has_chunk(d) and d.data != 0
    viewed: u64 = 0
    held: cython.pointer(TwinBucket) = cython.NULL
    status: cython.int = room_in(w, PAMPD_CLASS, 1 + twin)
    if not foreign and cls >= OBJNODE_CLASS:
        w.fault = FAULT_SENTINEL
        return CORRUPT
    if status == OK and not foreign:
        status = leave_queue(w, off, cython.address(orphaned))
        if status == OK and orphaned:
            return OK
    if status == OK and (owns or twin):
        status = room_in(w, cls, 1)
    if status == OK and owns and is_viewed(w, d):
        return keep(w, off)
    if status == OK and is_far(d.shape) and d.data != 0:
        # The next step finds it without a token.
        return note_dead(w, cython.address(d.data), _mark_in(w, mark), d.gen)
    if status == OK and twin:
        status = let_go(w, d.data, cls, cython.address(held), cython.address(viewed))
    if status != OK:
        return status
    if viewed != 0:
        # The twin is gone, and its chunk this page's, which goes into limbo with it at the next
        # step.
        store(w, cython.address(d.shape), with_flags(without_flags(d.shape, TWIN), VIEWED))
        store(w, cython.address(d.data), viewed)
        status = conclude(w)
        unlock(w, cython.address(held.lock))
        return status
    if foreign and d.data != 0:
        if _foreign_free != cython.NULL and is_of_now(w, mark):
            _foreign_free(w, pool_of(mark), off)
        d.data = 0
    _unchain(w, cython.cast(cython.pointer(Head), d))
    if owns:
        push_for(w, cls, d.data, copied_of(d.shape))
    push(w, PAMPD_CLASS, off)
    if held != cython.NULL:
        status = conclude(w)
        unlock(w, cython.address(held.lock))
    return status


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _reap_objnode(w: cython.pointer(Worker), off: u64) -> cython.int:
    """A node with slots in use hands them to the list and stays; an empty one goes."""
    n: cython.pointer(Objnode) = cython.cast(cython.pointer(Objnode), chunk_at(w, off))
    i: cython.int
    status: cython.int
    if n.slots_in_use != 0:
        for i in range(MAP_SIZE):
            if n.slots[i] != 0 and w.fault == 0:
                retire(w, target_of(n.slots[i]))
                store(w, cython.address(n.slots[i]), 0)
        store(w, cython.address(n.slots_in_use), 0)
        if _host_told != cython.NULL:
            _host_told(pool_it_was_of(cython.cast(cython.pointer(Obj), chunk_at(w, n.obj))), False)
        return OK
    status = room_in(w, OBJNODE_CLASS, 1)
    if status != OK:
        return status
    _unchain(w, cython.cast(cython.pointer(Head), n))
    push(w, OBJNODE_CLASS, off)
    return OK


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _reap_obj(w: cython.pointer(Worker), off: u64) -> cython.int:
    """An obj with a stem hands its tree to the list and stays below it, so that its pages can
    name it; then it goes. The page of a lean one was put there with it, and hosts in Python have
    none."""
    o: cython.pointer(Obj) = cython.cast(cython.pointer(Obj), chunk_at(w, off))
    s: cython.pointer(Stem) = stem_of(o)
    lean: cython.bint = was_lean(o)
    status: cython.int
    if not lean and s.root != 0:
        retire(w, target_of(s.root))
        store(w, cython.address(s.root), 0)
        if _host_told != cython.NULL:
            _host_told(pool_it_was_of(o), True)
        return OK
    status = room_in(w, obj_class(lean), 1)
    if status != OK:
        return status
    if is_told(o) and _foreign_free != cython.NULL:
        _foreign_free(w, pool_it_was_of(o), off)
    _unchain(w, cython.cast(cython.pointer(Head), o))
    push(w, obj_class(lean), off)
    return OK


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _declare_dying(p: cython.pointer(PoolRecord)) -> cython.void:
    """A pool is on a retired list: if its destroyer was killed before he said so, let it be said
    now, and not when its turn comes."""
    if p.state == POOL_LIVE and p.sentinel == ~cython.cast(u64, POOL_SENTINEL):
        set_release(cython.address(p.state), POOL_DYING)


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _reap_pool(w: cython.pointer(Worker), off: u64) -> cython.int:
    """Take one obj off a dying pool, a leaf of the first tree that has any; at the end the pool
    slot is free."""
    p: cython.pointer(PoolRecord) = cython.cast(cython.pointer(PoolRecord), w.base + off)
    idx: u64 = record_of(w, off)
    b: cython.pointer(Bucket)
    o: cython.pointer(Obj) = cython.NULL
    parent: cython.pointer(Obj) = cython.NULL
    at: u64
    depth: cython.int = 0
    status: cython.int
    _declare_dying(p)
    while p.cursor < w.client_geometry[GEO_BUCKETS]:
        b = buckets_at(w, idx) + p.cursor
        # Taken even when the tree looks empty: a verb that saw the pool alive may still be in
        # there.
        if lock_try(w, cython.address(b.lock)) != OK:
            return BUSY
        at = b.root
        if at == 0:
            store(w, cython.address(p.cursor), p.cursor + 1)
            status = conclude(w)
            unlock(w, cython.address(b.lock))
            if status != OK:
                return status
            continue
        while w.fault == 0:
            o = obj_at(w, at)
            depth += 1
            if depth > DEPTH_MAX:
                w.fault = FAULT_LOOP
            if o.left == 0 and o.right == 0:
                break
            parent = o
            at = o.left if o.left != 0 else o.right
        if parent == cython.NULL:
            store(w, cython.address(b.root), 0)
        elif parent.left == at:
            store(w, cython.address(parent.left), 0)
        else:
            store(w, cython.address(parent.right), 0)
        detach(w, at)
        status = conclude(w)
        unlock(w, cython.address(b.lock))
        return status
    # Under the table lock until it is committed: nobody may make a pool of a slot that a rollback
    # would take back.
    table: cython.pointer(ClientPage) = cython.cast(cython.pointer(ClientPage), w.base + w.client_off)
    if lock_try(w, cython.address(table.lock)) != OK:
        return BUSY
    _unchain(w, cython.cast(cython.pointer(Head), p))
    store(w, cython.address(p.state), POOL_FREE)
    store(w, cython.address(p.sentinel), 0)     # a list that leads here again ends here
    status = conclude(w)
    unlock(w, cython.address(table.lock))
    return status


def detach(w, off):
    """Retire an obj that its bucket no longer links, with all its pages, and take them out of the
    gauges."""
    o: cython.pointer(Obj) = obj_at(w, off)
    s: cython.pointer(Stem) = stem_of(o)
    d: cython.pointer(Pampd)
    pool: u64 = pool_of_obj(o)
    page: u64
    gauge(w, pool, GAUGE_OBJECTS, -obj_count(is_lean(o)))
    if is_lean(o):
        page = target_of(o.link)
        retire(w, off)
        if page != 0:
            d = pampd_at(w, page)
            gauge(w, pool, GAUGE_PAGES, -1)
            gauge(w, pool, GAUGE_BYTES_ASKED, -length_of(d))
            gauge(w, pool, GAUGE_BYTES_USED, -chunk_bytes(w, d))
            gauge(w, pool, GAUGE_BYTES_STORED, -stored_bytes(d))
            retire(w, page)
        return
    gauge(w, pool, GAUGE_OBJNODES, -nodes_of(o))
    gauge(w, pool, GAUGE_PAGES, -s.pampd_count)
    gauge(w, pool, GAUGE_BYTES_ASKED, -s.asked)
    gauge(w, pool, GAUGE_BYTES_USED, -s.used)
    gauge(w, pool, GAUGE_BYTES_STORED, -s.stored)
    retire(w, off)


def reap(w, budget):
    """Take up to `budget` steps on the retired list. OK when it is empty, AGAIN, BUSY or CORRUPT
    else."""
    off: u64
    kind: u64
    status: cython.int
    while w.slot.client[ROOT_RETIRED] != 0:
        if budget <= 0:
            return AGAIN
        budget -= 1
        off = w.slot.client[ROOT_RETIRED]
        kind = ~head_at(w, off).sentinel
        status = CORRUPT
        if w.fault == 0:
            if kind == PAMPD_SENTINEL:
                status = _reap_pampd(w, off)
            elif kind == OBJNODE_SENTINEL:
                status = _reap_objnode(w, off)
            elif is_obj(kind):
                status = _reap_obj(w, off)
            elif kind == POOL_SENTINEL:
                status = _reap_pool(w, off)
            else:
                w.fault = FAULT_SENTINEL
        if w.fault != 0:
            status = CORRUPT
            rollback(w, 0)
            # What cannot be read cannot be given back. The list is cut here; check() finds what it
            # lost.
            w.fault = 0
            store(w, cython.address(w.slot.client[ROOT_RETIRED]), 0)
            commit(w)
            w.fault = FAULT_SENTINEL
        if status != OK:
            return status
        commit(w)
        if w.slot.mags[EXTENT_CLASS].count != 0:
            status = trim_extent(w)
            if status != OK:
                return status
    return OK


def drop_staged(w):
    """Retire what was staged for a put that will not happen."""
    off: u64
    d: cython.pointer(Pampd)
    while w.slot.client[ROOT_STAGED] != 0 and w.fault == 0:
        off = w.slot.client[ROOT_STAGED]
        d = pampd_at(w, off)
        store(w, cython.address(w.slot.client[ROOT_STAGED]), d.link)
        retire(w, off)
        if conclude(w) != OK:
            # What cannot be read cannot be given back. The list is cut here; check() finds what it
            # lost.
            w.fault = 0
            store(w, cython.address(w.slot.client[ROOT_STAGED]), 0)
            commit(w)
            w.fault = FAULT_SENTINEL


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _drop_unwritten_of(w: cython.pointer(Worker), slot: cython.pointer(Slot)) -> cython.void:
    """Retire the pages that a worker was writing in place and has let go of: they are pinned no
    more. Its own lock is held, under which it pins them and puts them on the list."""
    at: cython.pointer(u64) = cython.address(slot.client[ROOT_WRITTEN])
    steps: u64 = 0
    off: u64
    d: cython.pointer(Pampd)
    while at[0] != 0 and w.fault == 0:
        off = at[0]
        d = pampd_at(w, off)
        steps += 1
        if steps > PINS_MAX:
            w.fault = FAULT_LOOP
        if w.fault == 0 and is_pinned(w, d.data):
            at = cython.address(d.link)
            continue
        store(w, at, d.link)
        retire(w, off)
        _commit_or_cut(w, cython.address(slot.client[ROOT_WRITTEN]))


def drop_unwritten(w):
    """Retire the pages that this worker was writing in place and has let go of. The own lock is
    held."""
    _drop_unwritten_of(w, w.slot)


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _commit_or_cut(w: cython.pointer(Worker), root: cython.pointer(u64)) -> cython.void:
    """Commit; after a fault, cut the list that cannot be read: check() finds what it lost."""
    if w.fault != 0:
        rollback(w, 0)
        w.fault = 0
        store(w, root, 0)
    commit(w)


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _endless(w: cython.pointer(Worker), root: cython.pointer(u64), steps: cython.pointer(u64)) -> cython.bint:
    """Count a step along a dead worker's list. After more than a sound list has, the list is cut,
    and True."""
    steps[0] += 1
    if steps[0] <= w.seg_span // 64 + 65536:
        return False
    w.fault = FAULT_LOOP
    _commit_or_cut(w, root)
    return True


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _inherit_retired(w: cython.pointer(Worker), other: cython.pointer(Slot)) -> cython.int:
    """Move another worker's retired list, whole and in its order (an obj must stay below its
    pages), before this worker's. OK, or BUSY: a pool is on it, and there is no memory now to count
    its pages as they go."""
    steps: u64 = 0
    status: cython.int = OK
    off: u64 = other.client[ROOT_RETIRED]
    h: cython.pointer(Head) = cython.NULL
    while (
        off != 0 and w.fault == 0 and not _endless(w, cython.address(other.client[ROOT_RETIRED]), cython.address(steps))
    ):
        h = head_at(w, off)
        if off < w.seg_lo and w.fault == 0:
            _declare_dying(cython.cast(cython.pointer(PoolRecord), h))
            if not has_ledger(w, record_of(w, off)):
                status = BUSY
        off = retired_link(h)[0]
    if other.client[ROOT_RETIRED] != 0 and (status == OK or w.fault != 0):
        if w.fault == 0:
            store(w, retired_link(h), w.slot.client[ROOT_RETIRED])
            store(w, cython.address(w.slot.client[ROOT_RETIRED]), other.client[ROOT_RETIRED])
            store(w, cython.address(other.client[ROOT_RETIRED]), 0)
        _commit_or_cut(w, cython.address(other.client[ROOT_RETIRED]))
    return status


def take_garbage(w, idx):
    """Take what another worker has retired and not given back yet, and what lies in its magazines:
    garbage is everybody's who lacks memory. OK, MISS (it has none), BUSY or CORRUPT. Called with no
    lock held. What it has staged or not queued yet stays its own."""
    other: cython.pointer(Slot) = slot_at(w, idx)
    cls: cython.int
    status: cython.int = MISS
    for cls in range(CLASS_COUNT):
        if load(cython.address(other.mags[cls].count)) != 0:
            status = OK
    if load(cython.address(other.client[ROOT_RETIRED])) != 0 or load(cython.address(other.client[ROOT_WRITTEN])) != 0:
        status = OK
    if status != OK:
        return status
    if lock_both(w, cython.address(other.own)) != OK:
        return BUSY
    # Not if a transaction is open there, of a dead worker that is not settled: as in take_over.
    status = BUSY if is_open(w, idx) else _inherit_retired(w, other)
    if status == OK:
        _drop_unwritten_of(w, other)
    if status == OK:
        status = drain_all(w, other)
    unlock_both(w, cython.address(other.own))
    return status


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _retire_list(w: cython.pointer(Worker), root: cython.pointer(u64)) -> cython.void:
    """Move pages that nobody links to from a list of a worker onto this worker's retired list."""
    off: u64
    steps: u64 = 0
    h: cython.pointer(Head)
    while root[0] != 0 and not _endless(w, root, cython.address(steps)):
        off = root[0]
        h = head_at(w, off)
        store(w, root, h.link)
        store(w, cython.address(h.sentinel), ~h.sentinel)
        store(w, retired_link(h), w.slot.client[ROOT_RETIRED])
        store(w, cython.address(w.slot.client[ROOT_RETIRED]), off)
        _commit_or_cut(w, root)


def inherit(w, dead):
    """Move a dead worker's lists onto this worker's retired and pending lists. A list that cannot
    be read is cut. OK, or BUSY: a pool is among what was retired, and there is no memory now to
    count its pages as they go; the lists stay for the next heir."""
    off: u64
    steps: u64 = 0
    status: cython.int
    h: cython.pointer(Head)
    _retire_list(w, cython.address(dead.client[ROOT_STAGED]))
    status = _inherit_retired(w, dead)
    steps = 0
    while (
        dead.client[ROOT_PENDING] != 0
        and not _endless(w, cython.address(dead.client[ROOT_PENDING]), cython.address(steps))
    ):
        off = dead.client[ROOT_PENDING]
        h = head_at(w, off)
        store(w, cython.address(dead.client[ROOT_PENDING]), h.link)
        store(w, cython.address(h.link), w.slot.client[ROOT_PENDING])
        store(w, cython.address(w.slot.client[ROOT_PENDING]), off)
        _commit_or_cut(w, cython.address(dead.client[ROOT_PENDING]))
    return status


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _let_stay(w: cython.pointer(Worker), dead: cython.pointer(Slot)) -> cython.int:
    """Open the segments that the dead worker wanted, and those of which nothing says who was
    emptying them: it may have been him, and nobody takes chunks of one that never gets empty. Who
    else is at one of these finds that it stays, and chooses anew; not if somebody resizes, who
    opens what is left himself. OK, BUSY or CORRUPT."""
    owner: u64 = (offset_of(w, dead) - w.slots_off) // SLOT_BYTES + 1
    wanted: u64
    resized: cython.bint = byte_held(w, RESIZE_BYTE())
    high: u64 = load(cython.address(w.depot.seg_high))
    number: u64
    status: cython.int = OK
    for number in range(high if high < w.seg_total else w.seg_total):
        if status == OK and load(cython.address((w.segtable + number).state)) == SEG_LEAVING:
            wanted = load(cython.address((w.segtable + number).wanted))
            if wanted == owner or wanted == 0 and not resized:
                status = set_leaving_held(w, number + 1, False)
    return status


def bury(w, dead):
    """What a dead worker leaves: its pins go, its lists become this worker's. If it is the slot
    that this worker has just taken, they are already. OK, BUSY or CORRUPT."""
    status: cython.int
    forget(w, dead)
    _retire_list(w, cython.address(dead.client[ROOT_WRITTEN]))
    status = _let_stay(w, dead)
    return status if status != OK or dead == w.slot else inherit(w, dead)

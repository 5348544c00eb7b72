"""Owns eviction: how a page goes. Which one does is the policy's to say (policies.py), and how a new
one comes into its queue is in admit.py.

Locks: who calls has the worker's own lock and no bucket. Lock order: own, shard, bucket; the bucket
is only ever tried, and a page whose bucket is taken is passed over.
Kill at any instruction: each step (a page moved on, a page evicted) is one transaction.
"""
import cython
import cython.cimports.engine.tree.objnode as objnode
from cython.cimports.engine.eviction.policies import Policy, policy_of
from cython.cimports.engine.layout.call import FAULT_POLICY, MISS, PINNED
from cython.cimports.engine.layout.regions import buckets_at, page_at, pool_at, pool_of_obj, queue_at, shard_at
from cython.cimports.engine.layout.structs import (
    EVICTED,
    GEO_BUCKETS,
    GEO_POOLS,
    GEO_SHARDS,
    OBJ_SENTINEL,
    PAMPD_SENTINEL,
    POOL_LIVE,
    Bucket,
    Obj,
    Pampd,
    Queue,
)
from cython.cimports.engine.layout.words import (
    QUEUE_NONE,
    QUEUE_SMALL,
    is_queued,
    page_hash,
    pool_in,
    shard_in,
    state_in,
    target_of,
)
from cython.cimports.engine.oid import hash_oid
from cython.cimports.engine.pages.pins import is_viewed
from cython.cimports.engine.pages.queues import dequeue, remember_ghost
from cython.cimports.engine.pages.reclaim import gauge, has_ledger
from cython.cimports.engine.tree.hostops import HostOps
from cython.cimports.engine.tree.unlink import take_obj, take_page
from cython.cimports.shm.atomics import load, load_acquire
from cython.cimports.shm.journal import conclude
from cython.cimports.shm.layout import BUSY, FAULT_LOOP, OK, Worker, u64
from cython.cimports.shm.lock import lock_try, unlock
from cython.cimports.shm.memory import chunk_at

BUSY_MAX = cython.declare(cython.int, 8)        # pages with a taken bucket that are passed over


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _is_linked(w: cython.pointer(Worker), o: cython.pointer(Obj), off: u64) -> cython.bint:
    """True if the object links to the descriptor at `off`. The bucket's lock is held."""
    at: cython.pointer(u64) = objnode.link_word(w, o, page_at(w, off).index, 0)
    linked: cython.bint = w.fault == 0 and at != cython.NULL and target_of(at[0]) == off
    w.fault = 0
    return linked


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _evict_page(w: cython.pointer(Worker), off: u64, found: cython.bint, host: HostOps) -> cython.int:
    """Evict the page at `off`, which is in a queue of a shard this worker holds. OK, BUSY (its
    bucket is taken), PINNED (somebody has a view on it), CORRUPT, or MISS: it is on its way out
    already, and has left its queue.

    found: by looking through descriptors, and so it may be none (PINNED): a free chunk has the copy
    that a worker made who was killed before it was linked."""
    d: cython.pointer(Pampd) = page_at(w, off)
    o: cython.pointer(Obj)
    b: cython.pointer(Bucket)
    word: u64 = d.queue
    pool: u64 = pool_in(word)
    obj_off: u64 = load_acquire(cython.address(d.obj))
    oid_hash: u64
    hash: u64
    status: cython.int
    if w.fault != 0 or pool >= w.client_geometry[GEO_POOLS]:
        w.fault = w.fault if w.fault else FAULT_LOOP
        return conclude(w)
    if d.sentinel == PAMPD_SENTINEL:
        # Without its bucket's lock the page may be retired, and its obj another struct, at any
        # moment: what is read here is a guess at the bucket. Under the bucket's lock it is looked
        # at again.
        o = cython.cast(cython.pointer(Obj), chunk_at(w, obj_off))
        w.fault = 0
        oid_hash = hash_oid(o.oid[0], o.oid[1], o.oid[2])
        b = buckets_at(w, pool) + (oid_hash & (w.client_geometry[GEO_BUCKETS] - 1))
        if lock_try(w, cython.address(b.lock)) != OK:
            return BUSY
        # The tree of a dying pool has lost leaves and is no red-black tree any more: its pages go
        # with it, and not one by one.
        if (
            load(cython.address(pool_at(w, pool).state)) == POOL_LIVE
            and d.sentinel == PAMPD_SENTINEL
            and d.obj == obj_off
            and o.sentinel == OBJ_SENTINEL
            and pool_of_obj(o) == pool
            and hash_oid(o.oid[0], o.oid[1], o.oid[2]) == oid_hash
            and (not found or _is_linked(w, o, off))
        ):
            if is_viewed(w, d):
                w.fault = 0
                unlock(w, cython.address(b.lock))
                return PINNED
            hash = page_hash(oid_hash, d.index, pool)
            dequeue(w, off)
            if take_page(w, pool, obj_off, d.index, host) != off and w.fault == 0:
                w.fault = FAULT_LOOP
            if o.pampd_count == 0 and w.fault == 0:
                take_obj(w, pool, b, obj_off, host)
            gauge(w, pool, EVICTED, 1)
            status = conclude(w)
            unlock(w, cython.address(b.lock))
            if status == OK and state_in(word) == QUEUE_SMALL:
                remember_ghost(w, shard_in(word), hash)
            return status
        # Its obj may just have been moved (move.py): a page that is linked somewhere keeps its
        # place.
        living: cython.bint = load(cython.address(pool_at(w, pool).state)) == POOL_LIVE and d.sentinel == PAMPD_SENTINEL
        moved: cython.bint = living and d.obj != obj_off
        unlock(w, cython.address(b.lock))
        if living or found:
            return BUSY if moved else PINNED
    else:
        # Retired; or about to be, by a transaction that may yet be taken back: then it is a living
        # page again, and must be where it was. Whoever gives its memory back takes it out of its
        # queue.
        return PINNED
    dequeue(w, off)
    status = conclude(w)
    return MISS if status == OK else status


def evict_one(w, pool, shard, host):
    """Let one page of the pool go from a shard that is held, whichever its policy says. OK, MISS
    (none can; or none by this worker now, which lacks the memory to count it), BUSY (only such as
    are in use) or CORRUPT."""
    q: cython.pointer(Queue) = queue_at(w, pool, shard)
    steps: u64 = 4 * (q.count[0] + q.count[1]) + 16
    return evict_of(w, pool, shard, QUEUE_NONE, cython.address(steps), host)


def evict_of(w, pool, shard, of, steps, host):
    """As evict_one, of one of the pool's queues, after a look at `steps` pages at most, which are
    counted down: MISS, too, if all of those were spared."""
    q: cython.pointer(Queue) = queue_at(w, pool, shard)
    policy: cython.pointer(Policy) = policy_of(pool_at(w, pool).policy)
    busy: cython.int = 0
    off: u64
    status: cython.int
    if policy == cython.NULL:
        w.fault = FAULT_POLICY
        return conclude(w)
    if not has_ledger(w, pool):
        return MISS
    while steps[0] > 0 and busy < BUSY_MAX and w.fault == 0:
        off = policy.victim(w, q, of, steps)
        if off == 0 or w.fault != 0:
            break
        status = _evict_page(w, off, False, host)
        if status == BUSY or status == PINNED:
            busy += status == BUSY
            status = policy.pass_over(w, q, off)
            if status != OK:
                return status
        elif status != MISS:
            return status
    if w.fault != 0:
        return conclude(w)
    return BUSY if busy else MISS


def evict_found(w, off, host):
    """Evict a page that was found by its descriptor, whatever its turn. OK, MISS (as in evict_one),
    BUSY or CORRUPT. Called with the own lock alone."""
    d: cython.pointer(Pampd) = page_at(w, off)
    word: u64 = load(cython.address(d.queue))
    shard: u64 = shard_in(word)
    status: cython.int = MISS
    if not is_queued(word) or shard >= w.client_geometry[GEO_SHARDS] or not has_ledger(w, pool_in(word)):
        return MISS
    if lock_try(w, cython.address(shard_at(w, shard).lock)) != OK:
        return BUSY
    word = load(cython.address(d.queue))
    if d.sentinel == PAMPD_SENTINEL and is_queued(word) and shard_in(word) == shard and has_ledger(w, pool_in(word)):
        status = _evict_page(w, off, True, host)
    unlock(w, cython.address(shard_at(w, shard).lock))
    return MISS if status == PINNED else status

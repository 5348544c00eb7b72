"""Owns eviction: how a page goes. Which one does is the policy's to say (policies.py), and how a
new one comes into its queue is in admit.py. Pages of a persistent pool may be in queues, since they
leave for its far tier (leaving.py): none of them goes here, whoever asks.

Locks: who calls has the worker's own lock and no bucket. Lock order: own, shard, bucket; the bucket
is only ever tried, and a page whose bucket is taken is passed over.
A page that came as part of a value goes with what is left of that, which hangs in the same tree:
one of them with hits keeps them all, and so does one with a view, or on its way into a queue.
Kill at any instruction: each step (a page moved on, a page evicted) is one transaction.
"""
import cython
import cython.cimports.engine.tree.objnode as objnode
from cython.cimports.engine.eviction.evict import Guess, Value
from cython.cimports.engine.eviction.policies import Policy, policy_of
from cython.cimports.engine.eviction.shares import pages_in
from cython.cimports.engine.layout.call import AGAIN, FAULT_POLICY, MISS, PINNED
from cython.cimports.engine.layout.regions import (
    buckets_at,
    chunk_bytes,
    has_far,
    index_in,
    is_obj,
    may_lose,
    obj_at,
    page_at,
    pages_of,
    pampd_at,
    pool_at,
    pool_of_obj,
    queue_at,
    shard_at,
)
from cython.cimports.engine.layout.structs import (
    EVICTED,
    GEO_BUCKETS,
    GEO_POOLS,
    GEO_SHARDS,
    PAMPD_SENTINEL,
    POOL_LIVE,
    POOL_WHOLE,
    Bucket,
    Obj,
    Pampd,
    Queue,
)
from cython.cimports.engine.layout.words import (
    QUEUE_FAR,
    QUEUE_MAIN,
    QUEUE_NONE,
    QUEUE_PENDING,
    QUEUE_SMALL,
    WITH_PRIOR,
    is_queued,
    may_go,
    page_hash,
    pool_in,
    shard_in,
    state_in,
    target_of,
)
from cython.cimports.engine.oid import hash_oid
from cython.cimports.engine.pages.pins import is_viewed
from cython.cimports.engine.pages.queues import dequeue, hits_of, remember_ghost, renew
from cython.cimports.engine.pages.reclaim import gauge, has_ledger
from cython.cimports.engine.tree.hostops import HostOps
from cython.cimports.engine.tree.unlink import take_obj, take_page
from cython.cimports.shm.atomics import load, load_acquire
from cython.cimports.shm.journal import conclude
from cython.cimports.shm.layout import BUSY, FAULT_LOOP, OK, Worker, offset_of, set_mark, u64
from cython.cimports.shm.lock import lock_try, unlock
from cython.cimports.shm.memory import chunk_at

BUSY_MAX = cython.declare(cython.int, 8)        # pages with a taken bucket that are passed over
WEIGHT_SHIFT = cython.declare(u64, 16)          # a page that is longer than so many bytes counts as several that go
VALUE_MAX = cython.declare(u64, 1024)           # pages that go at once: a shard and a bucket are held for so long


def page_of(w, o, index):
    """The page of an index, NULL if there is none; under its bucket's lock."""
    link: u64 = objnode.lookup(w, o, index)
    return pampd_at(w, target_of(link)) if link != 0 and w.fault == 0 else cython.NULL


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _is_linked(w: cython.pointer(Worker), o: cython.pointer(Obj), d: cython.pointer(Pampd)) -> cython.bint:
    """True if the object links to this descriptor. The bucket's lock is held."""
    linked: cython.bint = page_of(w, o, index_in(o, d)) == d
    w.fault = 0
    return linked


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _follows(page: cython.pointer(Pampd)) -> cython.bint:
    """True if there is a page, and it came as one value with the one before."""
    return page != cython.NULL and load(cython.address(page.queue)) & WITH_PRIOR() != 0


def value_of(w, o, d, value):
    """Which pages go with a page: of a value all that are left of it, as far as VALUE_MAX; in other
    pools itself. Its bucket's lock is held, and its shard's. Indexes are counted, not read: what a
    page says of itself may be damage."""
    page: cython.pointer(Pampd) = d
    whole: cython.bint = pool_at(w, pool_of_obj(o)).flags & POOL_WHOLE != 0
    index: u64 = index_in(o, d)
    value.obj_off = offset_of(w, o)
    value.first = index
    value.pages = 0
    value.gone = 0
    value.hits = 0
    value.broken = False
    value.stays = False
    if whole:
        while _follows(page) and value.first != 0 and index - value.first < VALUE_MAX:
            page = page_of(w, o, value.first - 1)
            value.first -= page != cython.NULL
        value.broken = page == cython.NULL or _follows(page)
    page = page_of(w, o, value.first)
    while page != cython.NULL and w.fault == 0:
        value.pages += 1
        value.stays = value.stays or state_in(load(cython.address(page.queue))) == QUEUE_PENDING or is_viewed(w, page)
        value.hits = max(value.hits, hits_of(w, offset_of(w, page)))
        if not whole or value.pages > VALUE_MAX or value.first + value.pages == 0:
            break
        page = page_of(w, o, value.first + value.pages)
        if not _follows(page):
            break


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _goes_with(page: cython.pointer(Pampd), pool: u64, shard: u64) -> cython.bint:
    """True if a page of a value is in a queue of the shard that is held. What lies in another shard
    comes by itself, and its word may change at any time: it is read once."""
    word: u64 = load(cython.address(page.queue))
    return is_queued(word) and shard_in(word) == shard and pool_in(word) == pool


def share_hits(w, o, word, value):
    """The pages of a value in the queue of this word get as many hits as that which has most: they
    age together. Those in other queues lose theirs, or each queue would have them from the other
    for ever, and none would go."""
    page: cython.pointer(Pampd)
    here: cython.bint
    i: u64
    for i in range(value.pages):
        page = page_of(w, o, value.first + i)
        if page != cython.NULL and w.fault == 0:
            here = _goes_with(page, pool_in(word), shard_in(word)) and state_in(page.queue) == state_in(word)
            set_mark(w, offset_of(w, page), value.hits if here else 0)


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _evict_value(w: cython.pointer(Worker), b: cython.pointer(Bucket), obj_off: u64, pool: u64, shard: u64,
                 value: cython.pointer(Value), gone: cython.pointer(u64), host: HostOps) -> cython.int:
    """Evict the pages of a value that are in queues of the shard, one a transaction, the first one
    first: what is left when this worker dies has no beginning. Shard and bucket are held. OK or
    CORRUPT."""
    o: cython.pointer(Obj) = obj_at(w, obj_off)
    page: cython.pointer(Pampd)
    off: u64
    i: u64
    weight: u64
    word: u64
    local: cython.bint
    empty: cython.bint = False
    status: cython.int = OK
    for i in range(value.pages):
        page = page_of(w, o, value.first + i)
        if page == cython.NULL or w.fault != 0:
            break
        if not _goes_with(page, pool, shard):
            continue
        off = offset_of(w, page)
        word = page.queue
        dequeue(w, off)
        if take_page(w, pool, obj_off, value.first + i, host) != off and w.fault == 0:
            w.fault = FAULT_LOOP
        weight = 1 + (chunk_bytes(w, page) >> WEIGHT_SHIFT)
        empty = pages_of(o) == 0
        if empty and w.fault == 0:
            take_obj(w, pool, b, obj_off, host)
        gauge(w, pool, EVICTED, 1)
        local = may_go(word)
        status = conclude(w)
        if status == OK:
            gone[0] += weight
            value.gone += 1
            if local and has_far(pool_at(w, pool)):
                queue_at(w, pool, shard).far_skipped += 1
        if status != OK or empty:
            break
    return status if w.fault == 0 else conclude(w)


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _evict_held(w: cython.pointer(Worker), b: cython.pointer(Bucket), d: cython.pointer(Pampd),
                value: cython.pointer(Value), spares: cython.bint, gone: cython.pointer(u64),
                host: HostOps) -> cython.int:
    """As _evict_page, of a page that is linked; its bucket is held, too, and given back. `spares`
    what has hits."""
    obj_off: u64 = d.obj
    o: cython.pointer(Obj) = obj_at(w, obj_off)
    word: u64 = d.queue
    oid_hash: u64 = hash_oid(o.oid[0], o.oid[1], o.oid[2])
    status: cython.int
    if page_of(w, o, index_in(o, d)) != d and w.fault == 0:
        w.fault = FAULT_LOOP
    if w.fault == 0:
        value_of(w, o, d, value)
    if w.fault != 0:
        status = conclude(w)
    elif value.stays:
        status = PINNED
    elif spares and not value.broken and value.hits > hits_of(w, offset_of(w, d)):
        share_hits(w, o, word, value)
        status = AGAIN
    else:
        status = _evict_value(w, b, obj_off, pool_in(word), shard_in(word), value, gone, host)
    unlock(w, cython.address(b.lock))
    if status == OK and state_in(word) == QUEUE_SMALL and not value.broken:
        remember_ghost(w, shard_in(word), page_hash(oid_hash, value.first, pool_in(word)), value.gone)
    return status


def lock_obj(w, d, pool, guess):
    """Lock the bucket of a page that is in a queue of a pool; the shard is held. Without the
    bucket's lock the page may be retired, and its obj another struct, at any moment: what is read
    here is a guess at the bucket, and under its lock it is looked at again. OK; MISS: it is not
    there, or its pool dies, whose trees have lost leaves and are none any more; the bucket is held
    all the same. BUSY."""
    hash: u64
    guess.obj_off = load_acquire(cython.address(d.obj))
    guess.o = cython.cast(cython.pointer(Obj), chunk_at(w, guess.obj_off))
    w.fault = 0
    hash = hash_oid(guess.o.oid[0], guess.o.oid[1], guess.o.oid[2])
    guess.b = buckets_at(w, pool) + (hash & (w.client_geometry[GEO_BUCKETS] - 1))
    if lock_try(w, cython.address(guess.b.lock)) != OK:
        return BUSY
    if (
        load(cython.address(pool_at(w, pool).state)) == POOL_LIVE
        and d.sentinel == PAMPD_SENTINEL
        and d.obj == guess.obj_off
        and is_obj(guess.o.sentinel)
        and pool_of_obj(guess.o) == pool
        and hash_oid(guess.o.oid[0], guess.o.oid[1], guess.o.oid[2]) == hash
    ):
        return OK
    return MISS


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _evict_page(w: cython.pointer(Worker), off: u64, found: cython.bint, value: cython.pointer(Value),
                gone: cython.pointer(u64), host: HostOps) -> cython.int:
    """Evict the page at `off`, which is in a queue of a shard this worker holds, and what goes with
    it; `gone` counts the pages, long ones as several. OK, BUSY (its bucket is taken), PINNED (it
    keeps its place; if its value does, since somebody has a view on a page of it or has not queued
    all, `value` says which), CORRUPT, MISS (it is on its way out already, and has left its queue),
    or AGAIN: another page of its value has hits.

    found: by looking through descriptors. Then no hits spare it, and it may be none (PINNED): a
    free chunk has the copy that a worker made who was killed before it was linked."""
    d: cython.pointer(Pampd) = page_at(w, off)
    guess: Guess
    pool: u64 = pool_in(d.queue)
    status: cython.int
    if w.fault != 0 or pool >= w.client_geometry[GEO_POOLS]:
        w.fault = w.fault if w.fault else FAULT_LOOP
        return conclude(w)
    if not may_lose(pool_at(w, pool)):
        return PINNED           # whoever has chosen it: no page of a persistent pool goes for good
    if d.sentinel != PAMPD_SENTINEL:
        # Retired; or about to be, by a transaction that may yet be taken back: then it is a living
        # page again, and must be where it was. Whoever gives its memory back takes it out of its
        # queue.
        return PINNED
    status = lock_obj(w, d, pool, cython.address(guess))
    if status == BUSY:
        return BUSY
    if status == OK and (not found or _is_linked(w, guess.o, d)):
        return _evict_held(w, guess.b, d, value, not found, gone, host)
    # Its obj may just have been moved: a page that is linked somewhere keeps its place.
    living: cython.bint = load(cython.address(pool_at(w, pool).state)) == POOL_LIVE and d.sentinel == PAMPD_SENTINEL
    moved: cython.bint = living and d.obj != guess.obj_off
    unlock(w, cython.address(guess.b.lock))
    if living or found:
        return BUSY if moved else PINNED
    dequeue(w, off)
    status = conclude(w)
    return MISS if status == OK else status


def looks(w, pages):
    """How often a page is looked at, of so many in a queue or a shard, before none is said to go:
    as often as hits can spare each, and no more than the arena can hold, whatever a damaged count
    says."""
    return 4 * min(pages, (w.seg_total << w.seg_shift) // cython.sizeof(Pampd)) + 16


def evict_one(w, pool, shard, host):
    """Let one page of the pool go from a shard that is held, whichever its policy says. OK, MISS
    (none can; or none by this worker now, which lacks the memory to count it), BUSY (only such as
    are in use) or CORRUPT."""
    q: cython.pointer(Queue) = queue_at(w, pool, shard)
    steps: u64
    gone: u64 = 0
    stays: Value
    status: cython.int = MISS
    of: u64
    i: cython.int
    stays.pages = 0
    # Where no page can go of the queue that has too many, since all are viewed, one of another
    # does. The shard counts the pages as well: where one of the counts is damaged, the other holds.
    for i in range(3):
        of = QUEUE_NONE if i == 0 else QUEUE_SMALL if i == 1 else QUEUE_MAIN
        steps = looks(w, min(q.count[0] + q.count[1], pages_in(w, shard)))
        status = evict_of(w, pool, shard, of, cython.address(steps), cython.address(stays), cython.address(gone), host)
        if (status != MISS and status != BUSY) or q.count[0] == 0:
            break
    return status


def evict_of(w, pool, shard, of, steps, stays, gone, host):
    """As evict_one, of one of the pool's queues, after a look at `steps` pages at most, which are
    counted down: MISS, too, if all of those were spared. `gone` counts the pages that go. `stays`:
    the value that was found to stay last, whose other pages are passed over without a look at all
    of them; of no pages at first. It is believed while the shard is held: it may only stay too
    long."""
    q: cython.pointer(Queue) = queue_at(w, pool, shard)
    policy: cython.pointer(Policy) = policy_of(pool_at(w, pool).policy)
    busy: cython.int = 0
    d: cython.pointer(Pampd)
    value: Value
    off: u64
    status: cython.int
    if policy == cython.NULL:
        w.fault = FAULT_POLICY
        return conclude(w)
    if not has_ledger(w, pool) or not may_lose(pool_at(w, pool)):
        return MISS
    while steps[0] > 0 and busy < BUSY_MAX and w.fault == 0:
        value.stays = False
        off = policy.victim(w, q, of, steps)
        if off == 0 or w.fault != 0:
            break
        d = page_at(w, off)
        if w.fault == 0 and not _goes_with(d, pool, shard):
            w.fault = FAULT_LOOP
        if w.fault != 0:
            break
        if stays.pages != 0 and d.obj == stays.obj_off and index_in(
            cython.cast(cython.pointer(Obj), chunk_at(w, stays.obj_off)), d
        ) - stays.first < stays.pages:
            status = PINNED
        else:
            status = _evict_page(w, off, False, cython.address(value), gone, host)
            if status == PINNED and value.stays:
                stays[0] = value
        if status == BUSY or status == PINNED:
            busy += status == BUSY
            status = policy.pass_over(w, q, off)
            if status != OK:
                return status
        elif status != MISS and status != AGAIN:
            return status
    if w.fault != 0:
        return conclude(w)
    return BUSY if busy else MISS


def evict_found(w, off, host):
    """Evict a page that was found by its descriptor, and what goes with it, whatever their turn.
    OK, MISS (as in evict_one), BUSY or CORRUPT. Called with the own lock alone."""
    d: cython.pointer(Pampd) = page_at(w, off)
    word: u64 = load(cython.address(d.queue))
    shard: u64 = shard_in(word)
    gone: u64 = 0
    value: Value
    status: cython.int = MISS
    if not is_queued(word) or shard >= w.client_geometry[GEO_SHARDS] or not has_ledger(w, pool_in(word)):
        return MISS
    if pool_in(word) >= w.client_geometry[GEO_POOLS] or not may_lose(pool_at(w, pool_in(word))):
        return MISS
    if lock_try(w, cython.address(shard_at(w, shard).lock)) != OK:
        return BUSY
    word = load(cython.address(d.queue))
    if d.sentinel == PAMPD_SENTINEL and is_queued(word) and shard_in(word) == shard and has_ledger(w, pool_in(word)):
        status = _evict_page(w, off, True, cython.address(value), cython.address(gone), host)
    unlock(w, cython.address(shard_at(w, shard).lock))
    return MISS if status == PINNED else status


def drop_far(w, pool, shard, below, most, host):
    """Let up to `most` far pages of a pool go from a shard, the first that became far first: as far
    as their tokens are below a number, if `below` is not 0. How many went into `most`. OK, BUSY or
    CORRUPT. Called with the own lock alone."""
    q: cython.pointer(Queue) = queue_at(w, pool, shard)
    left: u64 = most[0]
    gone: u64 = 0
    value: Value
    off: u64
    status: cython.int = OK
    most[0] = 0
    if load(cython.address(q.far_count)) == 0 or not has_ledger(w, pool) or not may_lose(pool_at(w, pool)):
        return OK
    if lock_try(w, cython.address(shard_at(w, shard).lock)) != OK:
        return BUSY
    while left > 0 and status == OK and q.far_tail != 0:
        left -= 1
        off = q.far_tail
        if w.fault == 0 and state_in(page_at(w, off).queue) != QUEUE_FAR:
            w.fault = FAULT_LOOP
        if w.fault != 0:
            status = conclude(w)
            break
        if below != 0 and load(cython.address(page_at(w, off).data)) >= below:
            break
        status = _evict_page(w, off, True, cython.address(value), cython.address(gone), host)
        if status == PINNED:
            # Somebody has a view on another page of its value, or is giving it back himself.
            status = renew(w, q, QUEUE_FAR, off, 0)
        elif status == OK or status == MISS:
            most[0] += 1
            status = OK
    unlock(w, cython.address(shard_at(w, shard).lock))
    return status

"""Owns how a new page comes into its queue, and caps: a pool or a client with one has that many
pages in queues once all calls have returned, and none of them went to make place while there were
fewer.

A put leaves the page it has linked on its worker's pending list; here, with the bucket free, it is
put into its queue. Where there is a cap, one page goes before, if there are as many as it says,
from the shard that has most of them: of two that do this at one moment each puts one in. Who finds
too many afterwards takes the cap's lock, counts again, and lets one go: where many find one too
many, one goes. Nobody counts but here: the queues know how many pages they have, so a cap costs a
look at all shards, and no cap costs nothing. The worker's own lock is held here, and no bucket.
Lock order: own, a cap's, one shard, bucket; all but the own are only ever tried.
Kill at any instruction: each step is one transaction; a cap's lock guards no word.
A cap in bytes is looked at afterwards only: how much the page takes is counted by then, with
whatever its put has changed, and no page knows beforehand how many must go for it.
Rejected: a part of the cap for each shard. Shards get pages by chance: small caps were missed by
far, in both directions.
"""
import cython
from cython.cimports.engine.eviction.evict import evict_one
from cython.cimports.engine.eviction.policies import Policy, policy_of
from cython.cimports.engine.eviction.shares import bytes_of, choose, spread
from cython.cimports.engine.eviction.sweep import sweep_owned
from cython.cimports.engine.layout.call import AGAIN, FAULT_POLICY, MISS, Choice
from cython.cimports.engine.layout.regions import client_at, may_lose, page_at, pool_at, queue_at, shard_at
from cython.cimports.engine.layout.structs import (
    GEO_POOLS,
    GEO_SHARDS,
    ROOT_PENDING,
    ROOT_RETIRED,
    ClientPage,
    ClientRecord,
    Pampd,
    PoolRecord,
    Queue,
    Shard,
)
from cython.cimports.engine.layout.words import (
    CAP_BYTES,
    QUEUE_MAIN,
    QUEUE_NONE,
    QUEUE_ORPHAN,
    QUEUE_PENDING,
    pool_in,
    queue_word,
    shard_in,
    state_in,
)
from cython.cimports.engine.pages.queues import push_newest
from cython.cimports.engine.pages.reclaim import reap
from cython.cimports.engine.tree.hostops import HostOps
from cython.cimports.shm.atomics import load
from cython.cimports.shm.journal import commit, conclude, store
from cython.cimports.shm.layout import BUSY, CORRUPT, FAULT_LOOP, OK, Lock, Worker, u64
from cython.cimports.shm.lock import lock_try, unlock

REAP_STEPS = cython.declare(cython.int, 64)
DEAD_REAPS = cython.declare(cython.int, 64)     # times so many steps are taken for what is dead, before a page goes
NOWHERE = cython.declare(u64, 64)       # no shard: there are at most 64, as many as counts below have room for


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _cap_of(w: cython.pointer(Worker), seat: u64) -> u64:
    """The cap of a client by its seat; 0: it has none."""
    client: cython.pointer(ClientRecord) = client_at(w, seat)
    return load(cython.address(client.cap)) if client != cython.NULL else 0


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _fullest(w: cython.pointer(Worker), counts: cython.pointer(u64), first: u64, tried: u64) -> u64:
    """The shard with most pages of those not tried, the nearest from `first` on of several;
    NOWHERE: none has any."""
    i: u64
    shard: u64
    most: u64 = 0
    found: u64 = NOWHERE
    for i in range(w.client_geometry[GEO_SHARDS]):
        shard = (first + i) & (w.client_geometry[GEO_SHARDS] - 1)
        if counts[shard] > most and tried >> shard & 1 == 0:
            most = counts[shard]
            found = shard
    return found


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _let_one_go(
    w: cython.pointer(Worker), pool: u64, seat: u64, counts: cython.pointer(u64), first: u64, tried: u64, host: HostOps
) -> cython.int:
    """Let one page of a pool, or of the client of a seat that is not 0, go, from the fullest shard
    not tried that can. OK, BUSY, CORRUPT, or MISS: none can."""
    shard: u64
    status: cython.int = MISS
    busy: cython.bint = False
    while status == MISS or status == BUSY:
        shard = _fullest(w, counts, first, tried)
        if shard == NOWHERE:
            return BUSY if busy else MISS
        tried |= cython.cast(u64, 1) << shard
        status = lock_try(w, cython.address(shard_at(w, shard).lock))
        if status == OK:
            status = _evict_here(w, pool, seat, shard, host)
            unlock(w, cython.address(shard_at(w, shard).lock))
        busy = busy or status == BUSY
    return status


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _evict_here(w: cython.pointer(Worker), pool: u64, seat: u64, shard: u64, host: HostOps) -> cython.int:
    """Let one page of a pool, or of a client, go from a shard that is held. As evict_one."""
    choice: Choice
    if seat != 0:
        choose(w, shard, seat, cython.address(choice))
        if choice.pool == 0:
            return MISS
        pool = choice.pool - 1
    return evict_one(w, pool, shard, host)


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _dead_went(w: cython.pointer(Worker), pool: u64, seat: u64) -> cython.bint:
    """A cap is reached: True if something was dead in the pool, or in those of the client, and has
    left the queues. What is damaged is found by whoever needs it."""
    turn: cython.int
    status: cython.int
    if sweep_owned(w, pool, seat) != OK:
        w.fault = 0
        return False
    for turn in range(DEAD_REAPS):
        status = reap(w, REAP_STEPS)
        if status != AGAIN:
            break
    w.fault = 0
    return True


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _make_place(w: cython.pointer(Worker), pool: u64, seat: u64, cap: u64, shard: u64, host: HostOps) -> cython.int:
    """Before a page comes into a shard: let one go elsewhere if there are as many as the cap says.
    No more than one, since whoever does the same at this moment brings a page, too. OK; or MISS: if
    one has to go, then from this shard."""
    counts: u64[64]
    if cap == 0 or cap & CAP_BYTES() or spread(w, pool, seat, counts) < cap:
        return OK
    if _dead_went(w, pool, seat) and spread(w, pool, seat, counts) < cap:
        return OK
    if _fullest(w, counts, shard, 0) == shard:
        return MISS
    return OK if _let_one_go(w, pool, seat, counts, shard, cython.cast(u64, 1) << shard, host) == OK else MISS


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _exceeds(w: cython.pointer(Worker), pool: u64, seat: u64, cap: u64) -> cython.bint:
    """True if a pool, or the client of a seat that is not 0, has more than a cap word says."""
    counts: u64[64]
    if cap & CAP_BYTES():
        return bytes_of(w, pool, seat) > cap & ~CAP_BYTES()
    return cap != 0 and spread(w, pool, seat, counts) > cap


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _trim(
    w: cython.pointer(Worker), lock: cython.pointer(Lock), pool: u64, seat: u64, cap: u64, first: u64, host: HostOps
) -> cython.int:
    """Let pages go while there are more than a cap says. OK (also if none can go), BUSY or
    CORRUPT."""
    counts: u64[64]
    status: cython.int = OK
    if not _exceeds(w, pool, seat, cap) or (_dead_went(w, pool, seat) and not _exceeds(w, pool, seat, cap)):
        return OK
    if lock_try(w, lock) != OK:
        return BUSY
    while status == OK and _exceeds(w, pool, seat, cap):
        spread(w, pool, seat, counts)
        # Of shards with as many pages, that of the page that has just come is the last.
        status = _let_one_go(w, pool, seat, counts, first + 1, 0, host)
    unlock(w, lock)
    return OK if status == MISS else status


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _take_in(
    w: cython.pointer(Worker), off: u64, pool_leaves: cython.bint, client_leaves: cython.bint, host: HostOps
) -> cython.int:
    """Put a pending page, first of the list, into its queue; its shard is held. OK or CORRUPT.
    `pool_leaves`, `client_leaves`: if a page of its pool, or of its client, has to go, then from
    this shard."""
    d: cython.pointer(Pampd) = page_at(w, off)
    pool: u64 = pool_in(d.queue)
    shard: u64 = shard_in(d.queue)
    q: cython.pointer(Queue) = queue_at(w, pool, shard)
    record: cython.pointer(PoolRecord) = pool_at(w, pool)
    policy: cython.pointer(Policy) = policy_of(record.policy)
    counts: u64[64]
    seat: u64 = load(cython.address(record.seat))
    if state_in(d.queue) == QUEUE_ORPHAN:
        # Retired and given up by whoever retired it: it is this worker's to give back.
        store(w, cython.address(w.slot.client[ROOT_PENDING]), d.link)
        store(w, cython.address(d.queue), queue_word(0, shard, QUEUE_NONE, pool))
        store(w, cython.address(d.obj), w.slot.client[ROOT_RETIRED])
        store(w, cython.address(w.slot.client[ROOT_RETIRED]), off)
        return conclude(w)
    if state_in(d.queue) != QUEUE_PENDING:
        w.fault = FAULT_LOOP
        return conclude(w)
    to: u64 = policy.enter(w, q, off) if policy != cython.NULL else QUEUE_MAIN
    if w.fault != 0:
        return conclude(w)
    cap: u64 = load(cython.address(record.cap))
    if pool_leaves and cap & CAP_BYTES() == 0 and spread(w, pool, 0, counts) >= cap:
        evict_one(w, pool, shard, host)
    cap = _cap_of(w, seat)
    if client_leaves and cap != 0 and cap & CAP_BYTES() == 0 and spread(w, pool, seat, counts) >= cap:
        _evict_here(w, pool, seat, shard, host)
    # Queued whatever was found in the queue: a pending page that stays would be in the way of the
    # check.
    damage: cython.int = w.fault
    w.fault = 0
    store(w, cython.address(w.slot.client[ROOT_PENDING]), d.link)
    shard_at(w, shard).turn += 1
    push_newest(w, q, to, off)
    if conclude(w) != OK:
        return CORRUPT
    w.fault = FAULT_POLICY if policy == cython.NULL else damage
    return OK if w.fault == 0 else CORRUPT


def settle_pending(w, host):
    """Put the pages that this worker has linked into their queues. OK, BUSY (some are left for the
    next time) or CORRUPT."""
    off: u64
    word: u64
    pool: u64
    shard: u64
    seat: u64
    pool_leaves: cython.bint
    client_leaves: cython.bint
    s: cython.pointer(Shard)
    damage: cython.int = 0
    status: cython.int = OK
    while w.slot.client[ROOT_PENDING] != 0 and status == OK:
        off = w.slot.client[ROOT_PENDING]
        word = load(cython.address(page_at(w, off).queue))
        pool = pool_in(word)
        shard = shard_in(word)
        if w.fault != 0 or shard >= w.client_geometry[GEO_SHARDS] or pool >= w.client_geometry[GEO_POOLS]:
            w.fault = 0
            store(
                w, cython.address(w.slot.client[ROOT_PENDING]), 0
            )  # what cannot be read cannot be queued; check() finds it
            commit(w)
            w.fault = FAULT_LOOP
            return CORRUPT
        # Once: it is an index. A client's cap is of its ephemeral pages.
        seat = load(cython.address(pool_at(w, pool).seat)) if may_lose(pool_at(w, pool)) else 0
        pool_leaves = _make_place(w, pool, 0, load(cython.address(pool_at(w, pool).cap)), shard, host) != OK
        # A page of the pool is one of the client: if it goes under the shard's lock, it is seen
        # there whether that was enough.
        client_leaves = pool_leaves or _make_place(w, pool, seat, _cap_of(w, seat), shard, host) != OK
        s = shard_at(w, shard)
        if w.fault != 0 or lock_try(w, cython.address(s.lock)) != OK:
            return BUSY if w.fault == 0 else conclude(w)
        status = _take_in(w, off, pool_leaves, client_leaves, host)
        unlock(w, cython.address(s.lock))
        if status == OK:
            status = hold_caps(w, pool, shard, host)
            status = OK if status == BUSY else status       # whoever put the page tries again when it holds nothing
        if status == CORRUPT and w.slot.client[ROOT_PENDING] != off:
            # It is queued; so are the others, before anybody hears of the damage.
            damage = w.fault
            w.fault = 0
            status = OK
    w.fault = damage if status == OK else w.fault
    return status if damage == 0 or status != OK else CORRUPT


def hold_caps(w, pool, first, host):
    """Let pages of a pool and of its client go while there are more than their caps say. OK, BUSY
    or CORRUPT. With the own lock alone."""
    record: cython.pointer(PoolRecord) = pool_at(w, pool)
    table: cython.pointer(ClientPage) = cython.cast(cython.pointer(ClientPage), w.base + w.client_off)
    seat: u64 = load(cython.address(record.seat))
    status: cython.int = _trim(
        w, cython.address(record.cap_lock), pool, 0, load(cython.address(record.cap)), first, host
    )
    if status == OK:
        status = _trim(w, cython.address(table.cap_lock), pool, seat, _cap_of(w, seat), first, host)
    return status


def is_over(w, pool):
    """True if a pool or its client has more than its cap says. Asked with no lock: an answer of a
    moment."""
    seat: u64 = load(cython.address(pool_at(w, pool).seat))
    return _exceeds(w, pool, 0, load(cython.address(pool_at(w, pool).cap))) or _exceeds(w, pool, seat, _cap_of(w, seat))


def is_capped(w, pool):
    """True if a pool or its client has a cap."""
    return (
        load(cython.address(pool_at(w, pool).cap)) != 0 or _cap_of(w, load(cython.address(pool_at(w, pool).seat))) != 0
    )


def caps_allow(w, pool, pages, bytes):
    """False if a value is larger than the cap of the pool or of its client."""
    cap: u64 = load(cython.address(pool_at(w, pool).cap))
    i: cython.int
    for i in range(2):
        if cap != 0 and (bytes > cap & ~CAP_BYTES() if cap & CAP_BYTES() else pages > cap):
            return False
        cap = _cap_of(w, load(cython.address(pool_at(w, pool).seat)))
    return True

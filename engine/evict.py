"""Owns eviction: which page goes when memory is short or a pool is at its cap, and how it goes.

Policies: S3-FIFO (Yang, Zhang, Qiu, Yue, Vinayak: "FIFO queues are all you need for cache eviction", SOSP 2023), SIEVE (Zhang et al.,
NSDI 2024), CLOCK (Corbato 1968), FIFO. A hit is two bits in the descriptor, added by readers without a lock; queues are walked only here.
May call: queues, objnode, rbtree, reclaim, and shm's journal and locks. Called by core between its locked sections, with the worker's
own lock and no bucket. Lock order: own, shard, bucket; the bucket is only ever tried, and a page whose bucket is taken is passed over.
Kill at any instruction: each step (a page into its queue, a page moved on, a page evicted) is one transaction.
"""
import cython
from cython.cimports.engine import objnode, rbtree
from cython.cimports.engine.hostops import HostOps
from cython.cimports.engine.layout import (
    AGAIN,
    CLIENTS_MAX,
    EVICTED,
    GAUGE_BYTES_ASKED,
    GAUGE_BYTES_USED,
    GAUGE_OBJECTS,
    GAUGE_OBJNODES,
    GAUGE_PAGES,
    GEO_BUCKETS,
    GEO_POOLS,
    GEO_SHARDS,
    HITS_MASK,
    OBJ_CLASS,
    OBJ_SENTINEL,
    PAMPD_CLASS,
    PAMPD_SENTINEL,
    POLICY_FIFO,
    POLICY_S3FIFO,
    POLICY_SIEVE,
    POOL_LIVE,
    QUEUE_MAIN,
    QUEUE_NONE,
    QUEUE_ORPHAN,
    QUEUE_PENDING,
    QUEUE_SMALL,
    ROOT_PENDING,
    ROOT_RETIRED,
    WEIGHT_MAX,
    Bucket,
    Client,
    ClientPage,
    Obj,
    Pampd,
    PoolRecord,
    Queue,
    Shard,
    buckets_at,
    chunk_bytes,
    client_at,
    is_same,
    length_of,
    page_hash,
    pool_at,
    pool_in,
    prev_in,
    queue_at,
    queue_word,
    shard_at,
    shard_in,
    state_in,
)
from cython.cimports.engine.oid import hash_oid
from cython.cimports.engine.queues import push_newest, recall_ghost, remember_ghost, unlink_page
from cython.cimports.engine.reclaim import gauge, reap, retire
from cython.cimports.shm.atomics import cas, load
from cython.cimports.shm.journal import commit, rollback, store
from cython.cimports.shm.layout import (
    BULK_CLASS,
    BUSY,
    CLASS_COUNT,
    CORRUPT,
    FAULT_LOOP,
    NOMEM,
    OK,
    Segment,
    Worker,
    offset_of,
    u64,
)
from cython.cimports.shm.lock import lock_try, unlock
from cython.cimports.shm.memory import chunk_at, widen
from cython.cimports.shm.slab import drain, ensure

EVICT_BATCH = cython.declare(u64, 8)          # pages that go at once when memory is short
REAP_STEPS = cython.declare(cython.int, 64)
EVICT_MISS = cython.declare(cython.int, 2)      # nothing here that may go
BUSY_MAX = cython.declare(cython.int, 8)        # pages with a taken bucket that are passed over


@cython.cfunc
@cython.nogil
@cython.inline
@cython.exceptval(check=False)
def _page(w: cython.pointer(Worker), off: u64) -> cython.pointer(Pampd):
    return cython.cast(cython.pointer(Pampd), chunk_at(w, off))


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _set_hits(d: cython.pointer(Pampd), hits: u64) -> cython.void:
    """A hint: a reader's hit at the same moment may be lost, and nothing is undone."""
    gen: u64 = load(cython.address(d.gen))
    cas(cython.address(d.gen), gen, (gen & ~cython.cast(u64, HITS_MASK)) | hits)


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _end(w: cython.pointer(Worker)) -> cython.int:
    if w.fault != 0:
        rollback(w, 0)
        return CORRUPT
    commit(w)
    return OK


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _evict_page(w: cython.pointer(Worker), off: u64, ghost: cython.bint, host: HostOps) -> cython.int:
    """Evict the page at `off`, which is in a queue of a shard this worker holds. OK, BUSY (its bucket is taken), CORRUPT, or
    EVICT_MISS: it is on its way out already, and has left its queue."""
    d: cython.pointer(Pampd) = _page(w, off)
    o: cython.pointer(Obj)
    b: cython.pointer(Bucket)
    word: u64 = d.queue
    pool: u64 = pool_in(word)
    obj_off: u64 = load(cython.address(d.obj))
    oid_hash: u64
    nodes: u64
    status: cython.int
    if w.fault != 0 or pool >= w.client_geometry[GEO_POOLS]:
        w.fault = w.fault if w.fault else FAULT_LOOP
        return CORRUPT
    if d.sentinel == PAMPD_SENTINEL:
        # Without its bucket's lock the page may be retired, and its obj another struct, at any moment: what is read here is a guess
        # at the bucket. Under the bucket's lock it is looked at again.
        o = cython.cast(cython.pointer(Obj), chunk_at(w, obj_off))
        w.fault = 0
        oid_hash = hash_oid(o.oid[0], o.oid[1], o.oid[2])
        b = buckets_at(w, pool) + (oid_hash & (w.client_geometry[GEO_BUCKETS] - 1))
        if lock_try(w, cython.address(b.lock)) != OK:
            return BUSY
        # The tree of a dying pool has lost leaves and is no red-black tree any more: its pages go with it, and not one by one.
        if (
            pool_at(w, pool).state == POOL_LIVE and d.sentinel == PAMPD_SENTINEL and d.obj == obj_off and o.sentinel == OBJ_SENTINEL and o.pool == pool
            and hash_oid(o.oid[0], o.oid[1], o.oid[2]) == oid_hash
        ):
            nodes = o.objnode_count
            unlink_page(w, off)
            if objnode.remove(w, obj_off, d.index, host) != off and w.fault == 0:
                w.fault = FAULT_LOOP
            store(w, cython.address(o.asked), o.asked - length_of(d))
            store(w, cython.address(o.used), o.used - chunk_bytes(w, d))
            gauge(w, pool, GAUGE_BYTES_ASKED, -length_of(d))
            gauge(w, pool, GAUGE_BYTES_USED, -chunk_bytes(w, d))
            gauge(w, pool, GAUGE_PAGES, -1)
            gauge(w, pool, EVICTED, 1)
            if o.objnode_count != nodes:
                gauge(w, pool, GAUGE_OBJNODES, o.objnode_count - nodes)
            retire(w, off)
            if o.pampd_count == 0 and w.fault == 0:
                rbtree.erase(w, b, obj_off)
                host.obj_free(w, pool, obj_off)
                gauge(w, pool, GAUGE_OBJECTS, -1)
            if ghost and w.fault == 0:
                remember_ghost(w, shard_in(word), page_hash(oid_hash, d.index, pool))
            status = _end(w)
            unlock(w, cython.address(b.lock))
            return status
        unlock(w, cython.address(b.lock))
    unlink_page(w, off)
    status = _end(w)
    return EVICT_MISS if status == OK else status


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _renew(w: cython.pointer(Worker), q: cython.pointer(Queue), state: u64, off: u64, hits: u64) -> cython.int:
    """Make a page the newest of a queue, with so many hits left. One transaction."""
    d: cython.pointer(Pampd) = _page(w, off)
    unlink_page(w, off)
    push_newest(w, q, state, off)
    if w.fault == 0:
        _set_hits(d, hits)
    return _end(w)


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _evict_one(w: cython.pointer(Worker), pool: u64, shard: u64, host: HostOps) -> cython.int:
    """Let one page of the pool go from a shard that is held. OK, EVICT_MISS (none can), BUSY (only such as are in use) or CORRUPT."""
    q: cython.pointer(Queue) = queue_at(w, pool, shard)
    policy: u64 = pool_at(w, pool).policy
    steps: u64 = 4 * (q.count[0] + q.count[1]) + 16
    busy: cython.int = 0
    off: u64
    hits: u64
    small: cython.bint
    status: cython.int
    d: cython.pointer(Pampd)
    while steps > 0 and busy < BUSY_MAX and w.fault == 0:
        steps -= 1
        small = q.count[0] != 0 and (q.count[1] == 0 or q.count[0] * 10 >= q.count[0] + q.count[1])
        off = q.tail[0 if small else 1]
        if policy == POLICY_SIEVE and q.hand != 0:
            off = q.hand
        if off == 0:
            return BUSY if busy else EVICT_MISS
        d = _page(w, off)
        if w.fault != 0:
            break
        hits = load(cython.address(d.gen)) & HITS_MASK
        if d.sentinel != PAMPD_SENTINEL or policy == POLICY_FIFO:
            hits = 0
        if policy == POLICY_SIEVE:
            store(w, cython.address(q.hand), off)       # the hand goes on with the page, also when it leaves
            if hits != 0:
                _set_hits(d, 0)
                store(w, cython.address(q.hand), prev_in(d.queue))
                status = _end(w)
                if status != OK:
                    return status
                continue
        elif small and hits >= 2:
            status = _renew(w, q, QUEUE_MAIN, off, 0)
            if status != OK:
                return status
            continue
        elif not small and hits != 0:
            status = _renew(w, q, QUEUE_MAIN, off, hits - 1 if policy == POLICY_S3FIFO else 0)
            if status != OK:
                return status
            continue
        status = _evict_page(w, off, small, host)
        if status == BUSY:
            busy += 1
            if policy == POLICY_SIEVE:
                store(w, cython.address(q.hand), prev_in(d.queue))
                status = _end(w)
            else:
                status = _renew(w, q, QUEUE_SMALL if small else QUEUE_MAIN, off, hits)
            if status != OK:
                return status
        elif status != EVICT_MISS:
            return status
    if w.fault != 0:
        rollback(w, 0)
        return CORRUPT
    return BUSY if busy else EVICT_MISS


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _take_in(w: cython.pointer(Worker), off: u64, host: HostOps) -> cython.int:
    """Put a pending page, first of the list, into its queue; its shard is held. OK or CORRUPT."""
    d: cython.pointer(Pampd) = _page(w, off)
    pool: u64 = pool_in(d.queue)
    shard: u64 = shard_in(d.queue)
    q: cython.pointer(Queue) = queue_at(w, pool, shard)
    record: cython.pointer(PoolRecord) = pool_at(w, pool)
    o: cython.pointer(Obj)
    share: u64
    pages: u64[121]
    client: cython.pointer(Client)
    tenant: u64
    largest: u64
    to: u64 = QUEUE_MAIN
    if state_in(d.queue) == QUEUE_ORPHAN:
        # Retired and given up by whoever retired it: it is this worker's to give back.
        store(w, cython.address(w.slot.client[ROOT_PENDING]), d.link)
        store(w, cython.address(d.queue), queue_word(0, shard, QUEUE_NONE, pool))
        store(w, cython.address(d.obj), w.slot.client[ROOT_RETIRED])
        store(w, cython.address(w.slot.client[ROOT_RETIRED]), off)
        return _end(w)
    if state_in(d.queue) != QUEUE_PENDING:
        w.fault = FAULT_LOOP
        return _end(w)
    if record.policy == POLICY_S3FIFO:
        o = cython.cast(cython.pointer(Obj), chunk_at(w, load(cython.address(d.obj))))
        w.fault = 0         # a page that is retired at this moment has another word there; then the answer does not matter
        to = QUEUE_SMALL
        if recall_ghost(w, shard, page_hash(hash_oid(o.oid[0], o.oid[1], o.oid[2]), d.index, pool),
                        (q.count[0] + q.count[1]) * 9 // 10 + 1):
            to = QUEUE_MAIN
    if record.cap != 0:
        share = record.cap // w.client_geometry[GEO_SHARDS]
        while q.count[0] + q.count[1] != 0 and q.count[0] + q.count[1] >= share:
            if _evict_one(w, pool, shard, host) != OK:
                break
    tenant = load(cython.address(record.tenant))        # once: it is an index
    client = client_at(w, tenant)
    if client != cython.NULL and client.cap != 0:
        share = client.cap // w.client_geometry[GEO_SHARDS]
        _tally(w, shard, pages)
        while pages[tenant] != 0 and pages[tenant] >= share:
            largest = _largest(w, shard, tenant)
            if largest == 0 or _evict_one(w, largest - 1, shard, host) != OK:
                break
            pages[tenant] -= 1
    if w.fault != 0:
        return _end(w)
    store(w, cython.address(w.slot.client[ROOT_PENDING]), d.link)
    push_newest(w, q, to, off)
    return _end(w)


def settle_pending(w, host):
    """Put the pages that this worker has linked into their queues. OK, BUSY (some are left for the next time) or CORRUPT."""
    off: u64
    word: u64
    s: cython.pointer(Shard)
    status: cython.int = OK
    while w.slot.client[ROOT_PENDING] != 0 and status == OK:
        off = w.slot.client[ROOT_PENDING]
        word = load(cython.address(_page(w, off).queue))
        if w.fault != 0 or shard_in(word) >= w.client_geometry[GEO_SHARDS] or pool_in(word) >= w.client_geometry[GEO_POOLS]:
            w.fault = 0
            store(w, cython.address(w.slot.client[ROOT_PENDING]), 0)    # what cannot be read cannot be queued; check() finds it
            commit(w)
            w.fault = FAULT_LOOP
            return CORRUPT
        s = shard_at(w, shard_in(word))
        if lock_try(w, cython.address(s.lock)) != OK:
            return BUSY
        status = _take_in(w, off, host)
        unlock(w, cython.address(s.lock))
    return status


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _tally(w: cython.pointer(Worker), shard: u64, pages: cython.pointer(u64)) -> cython.void:
    """Pages in a shard by client, `pages[0]` for pools whose client has no place in the table."""
    table: cython.pointer(ClientPage) = cython.cast(cython.pointer(ClientPage), w.base + w.client_off)
    pools: u64 = load(cython.address(table.pools_high))
    i: u64
    n: u64
    tenant: u64
    for i in range(CLIENTS_MAX + 1):
        pages[i] = 0
    if pools > w.client_geometry[GEO_POOLS]:
        pools = w.client_geometry[GEO_POOLS]
    for i in range(pools):
        n = queue_at(w, i, shard).count[0] + queue_at(w, i, shard).count[1]
        tenant = load(cython.address(pool_at(w, i).tenant))
        pages[tenant if tenant <= CLIENTS_MAX else 0] += n


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _pages(w: cython.pointer(Worker), shard: u64) -> u64:
    """Pages of all pools in a shard."""
    table: cython.pointer(ClientPage) = cython.cast(cython.pointer(ClientPage), w.base + w.client_off)
    pools: u64 = load(cython.address(table.pools_high))
    i: u64
    sum: u64 = 0
    if pools > w.client_geometry[GEO_POOLS]:
        pools = w.client_geometry[GEO_POOLS]
    for i in range(pools):
        sum += queue_at(w, i, shard).count[0] + queue_at(w, i, shard).count[1]
    return sum


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _largest(w: cython.pointer(Worker), shard: u64, tenant: u64) -> u64:
    """The pool of a client that has most pages in a shard, + 1; 0 if none has any."""
    table: cython.pointer(ClientPage) = cython.cast(cython.pointer(ClientPage), w.base + w.client_off)
    pools: u64 = load(cython.address(table.pools_high))
    i: u64
    n: u64
    most: u64 = 0
    found: u64 = 0
    if pools > w.client_geometry[GEO_POOLS]:
        pools = w.client_geometry[GEO_POOLS]
    for i in range(pools):
        n = queue_at(w, i, shard).count[0] + queue_at(w, i, shard).count[1]
        if n > most and (pool_at(w, i).tenant == tenant or (tenant == 0 and pool_at(w, i).tenant > CLIENTS_MAX)):
            most = n
            found = i + 1
    return found


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _victim(w: cython.pointer(Worker), shard: u64) -> u64:
    """The pool that has to let a page go, + 1; 0 if none has any: the largest of the client that has most pages for its weight."""
    table: cython.pointer(ClientPage) = cython.cast(cython.pointer(ClientPage), w.base + w.client_off)
    pages: u64[121]
    weight: u64
    heaviest: u64 = 1
    best: u64 = 0
    i: u64
    _tally(w, shard, pages)
    for i in range(1, CLIENTS_MAX + 1):
        weight = table.clients[i - 1].weight if pages[i] != 0 else 1
        weight = 1 if weight == 0 or weight > WEIGHT_MAX else weight
        # pages / weight, compared crosswise
        if pages[i] * heaviest > pages[best] * weight:
            best = i
            heaviest = weight
    return _largest(w, shard, best) if pages[best] != 0 else 0


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _relieve(w: cython.pointer(Worker), first: u64, pages: u64, host: HostOps) -> cython.int:
    """Let up to `pages` pages go, from shard `first` on. OK if at least one did, NOMEM if none can, BUSY or CORRUPT.

    Called with the own lock alone; what went is on the retired list."""
    shards: u64 = w.client_geometry[GEO_SHARDS]
    shard: u64
    pool: u64 = 0
    i: u64
    gone: u64 = 0
    count: u64
    most: u64 = 0
    start: u64 = first
    busy: cython.bint = False
    status: cython.int
    # The fullest of four: pages that go several at a time would else leave shards of ever more different sizes, like a random walk.
    for i in range(4):
        shard = (first + i * (shards // 4 + 1)) & (shards - 1)
        count = _pages(w, shard)
        if count > most:
            most = count
            start = shard
    for i in range(shards):
        shard = (start + i) & (shards - 1)
        if _pages(w, shard) == 0:
            continue
        if lock_try(w, cython.address(shard_at(w, shard).lock)) != OK:
            busy = True
            continue
        status = EVICT_MISS
        while gone < pages and (status == OK or status == EVICT_MISS):
            # Chosen anew when its queue has nothing more that can go.
            if status == EVICT_MISS:
                pool = _victim(w, shard)
            if pool == 0:
                break
            status = _evict_one(w, pool - 1, shard, host)
            gone += status == OK
            if status == EVICT_MISS and _victim(w, shard) == pool:
                break
        unlock(w, cython.address(shard_at(w, shard).lock))
        if status == CORRUPT:
            return CORRUPT
        busy = busy or status == BUSY
        if gone >= pages:
            break
    if gone != 0:
        return OK
    return BUSY if busy else NOMEM


# --- segments ---------------------------------------------------------------------------------------------


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _emptiest(w: cython.pointer(Worker)) -> u64:
    """Number + 1 of the segment of page chunks that has most free, if that is half of it or more; else 0."""
    number: u64
    best: u64 = 0
    most: u64 = 0
    s: cython.pointer(Segment)
    for number in range(w.seg_span >> w.seg_shift):
        s = w.segtable + number
        # Read without the depot's lock: a hint. What is in use is found by who clears it.
        if 0 < s.cls < BULK_CLASS + 1 and s.cls != PAMPD_CLASS + 1 and s.cls != OBJ_CLASS + 1:
            if s.free_count * 2 >= w.class_chunks[s.cls - 1] and s.free_count * w.class_bytes[s.cls - 1] > most:
                most = s.free_count * w.class_bytes[s.cls - 1]
                best = number + 1
    return best


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _oldest(w: cython.pointer(Worker), shard: u64) -> u64:
    """Number + 1 of the segment that has the oldest page of a shard, of the pool that has most pages there; 0: none."""
    off: u64
    q: cython.pointer(Queue)
    pool: u64 = _victim(w, shard) if _pages(w, shard) != 0 else 0
    if pool == 0:
        return 0
    q = queue_at(w, pool - 1, shard)
    off = load(cython.address(q.tail[0]))
    if off == 0:
        off = load(cython.address(q.tail[1]))
    off = load(cython.address(_page(w, off).data))
    chunk_at(w, off)
    if w.fault != 0:
        w.fault = 0
        return 0
    return ((off - w.seg_lo) >> w.seg_shift) + 1


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _evict_found(w: cython.pointer(Worker), off: u64, host: HostOps) -> cython.int:
    """Evict a page that was found by its descriptor, whatever its turn. OK, EVICT_MISS, BUSY or CORRUPT."""
    d: cython.pointer(Pampd) = _page(w, off)
    word: u64 = load(cython.address(d.queue))
    status: cython.int = EVICT_MISS
    if state_in(word) != QUEUE_SMALL and state_in(word) != QUEUE_MAIN:
        return EVICT_MISS
    if shard_in(word) >= w.client_geometry[GEO_SHARDS]:
        return EVICT_MISS
    if lock_try(w, cython.address(shard_at(w, shard_in(word)).lock)) != OK:
        return BUSY
    if d.sentinel == PAMPD_SENTINEL and (state_in(d.queue) == QUEUE_SMALL or state_in(d.queue) == QUEUE_MAIN) \
            and shard_in(d.queue) == shard_in(word):
        status = _evict_page(w, off, state_in(d.queue) == QUEUE_SMALL and pool_at(w, pool_in(d.queue)).policy == POLICY_S3FIFO, host)
    unlock(w, cython.address(shard_at(w, shard_in(word)).lock))
    return status


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _clear_segment(w: cython.pointer(Worker), first: u64, host: HostOps) -> cython.int:
    """Let all pages of one segment go, so that it can change its class: of one that is nearly empty, else of one with an old page.
    OK if a page went, NOMEM, BUSY or CORRUPT. Called with the own lock alone; what went is on the retired list."""
    shards: u64 = w.client_geometry[GEO_SHARDS]
    target: u64
    i: u64
    busy: cython.bint = False
    status: cython.int
    widen(w, 0)
    for i in range(shards + 1):
        # What is out of the emptiest one may lie in magazines, and then nothing of it can go.
        target = _emptiest(w) if i == 0 else _oldest(w, (first + i) & (shards - 1))
        if target != 0:
            status = _clear(w, target - 1, host)
            if status == OK or status == CORRUPT:
                return status
            busy = busy or status == BUSY
    return BUSY if busy else NOMEM


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _clear(w: cython.pointer(Worker), target: u64, host: HostOps) -> cython.int:
    """Evict what can be of a segment. Where its pages hang is not written in it: the descriptors of the arena are looked through, which
    is why pages go one segment at a time here and not one by one."""
    number: u64
    i: u64
    at: cython.p_char
    d: cython.pointer(Pampd)
    gone: u64 = 0
    busy: cython.bint = False
    status: cython.int
    for number in range(w.seg_span >> w.seg_shift):
        if load(cython.address((w.segtable + number).cls)) != PAMPD_CLASS + 1:
            continue
        at = w.base + w.seg_lo + (number << w.seg_shift) + w.class_start[PAMPD_CLASS]
        for i in range(w.class_chunks[PAMPD_CLASS]):
            d = cython.cast(cython.pointer(Pampd), at + i * w.class_bytes[PAMPD_CLASS])
            if d.sentinel != PAMPD_SENTINEL or is_same(d.shape) or (d.data - w.seg_lo) >> w.seg_shift != target:
                continue
            status = _evict_found(w, offset_of(w, d), host)
            if status == CORRUPT:
                return CORRUPT
            gone += status == OK
            busy = busy or status == BUSY
    if gone != 0:
        return OK
    return BUSY if busy else NOMEM


def make_room(w, first, cls, want, host):
    """Let pages go until the worker has `want` chunks of a class, and some pages more: a full arena must not evict at every put.

    first: the shard to begin with. OK, NOMEM (there is nothing left that may go), BUSY or CORRUPT. Called with the own lock alone."""
    turn: cython.int = 0
    other: cython.int
    status: cython.int = settle_pending(w, host)
    while status == OK:
        # Pages that go one by one leave chunks of their own class. If that is not what is missing, a segment has to change its class.
        status = _relieve(w, first, want if want > EVICT_BATCH else EVICT_BATCH, host) if turn == 0 else _clear_segment(w, first, host)
        if status != OK:
            return status
        status = AGAIN
        while status == AGAIN:
            status = reap(w, REAP_STEPS)
        if turn != 0:
            for other in range(CLASS_COUNT):
                if other != cls and other != PAMPD_CLASS and status == OK:
                    status = drain(w, cython.address(w.slot.mags[other]), other, 0)
        if status == OK:
            status = ensure(w, cls, want)
            if status != NOMEM:
                return status
            status = OK
        turn += 1
    return status

"""Owns whose turn it is when memory is short: which pool's queue has the page that is worth least.

Pages of persistent pools are in queues if they have a far tier that keeps them. They take part
where it is chosen who leaves for a far tier, as pages of any pool of their client; they do not
where it is chosen who goes.

Reads queues' counts and clients' words as they are, with the shard's lock or without: the answer is
a choice, and any choice is sound.
"""
import cython
from cython.cimports.engine.eviction.policies import Policy, policy_of
from cython.cimports.engine.eviction.shares import ANY_SEAT
from cython.cimports.engine.layout.call import Choice, Tally
from cython.cimports.engine.layout.regions import (
    client_at,
    ledger_at,
    may_lose,
    obj_class,
    page_at,
    pool_at,
    pools_high,
    queue_at,
    shard_at,
)
from cython.cimports.engine.layout.structs import (
    CLIENTS_MAX,
    GAUGE_BYTES_USED,
    GAUGE_OBJECTS,
    GAUGE_OBJNODES,
    GAUGE_PAGES,
    GEO_PAGE_SIZE,
    GEO_SHARDS,
    GETS_HIT,
    GETS_MISS,
    LEAN_SHIFT,
    LEDGER_BYTES,
    OBJNODE_CLASS,
    PAMPD_CLASS,
    PUTS_OK,
    SHARDS_MAX,
    WEIGHT_MAX,
    PoolRecord,
    Queue,
)
from cython.cimports.engine.layout.words import QUEUE_MAIN, QUEUE_SMALL, age_in
from cython.cimports.engine.pages.reclaim import has_ledger
from cython.cimports.libc.string import memset
from cython.cimports.shm.atomics import load, set
from cython.cimports.shm.layout import EXTENT_MAX, Worker, slot_at, slots_used, u64

UNIT_SHIFT = cython.declare(u64, 16)    # a page of more bytes than 1 << it counts as several, as where pages go
FORGOTTEN = cython.declare(u64, 64)     # turnovers of the arena after which a share protects no pool that is idle


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _pages(w: cython.pointer(Worker), pool: u64, shard: u64) -> u64:
    q: cython.pointer(Queue) = queue_at(w, pool, shard)
    return q.count[0] + q.count[1]


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _takes_part(w: cython.pointer(Worker), pool: u64, shard: u64, passed: cython.p_const_uchar
                ) -> cython.bint:
    """True if a pool has pages in a shard from which this worker may choose: who goes; or, if
    `passed` is not NULL, who leaves for a far tier, not of pools that it names."""
    if _pages(w, pool, shard) == 0 or not has_ledger(w, pool):
        return False
    return passed[pool] == 0 if passed != cython.NULL else may_lose(pool_at(w, pool))


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _seat(w: cython.pointer(Worker), pool: u64) -> u64:
    """Place of a pool's client in a tally. The word is read once: it becomes an index."""
    seat: u64 = load(cython.address(pool_at(w, pool).seat))
    return seat if seat <= CLIENTS_MAX else 0


def pages_in(w, shard):
    """Pages of all pools in a shard."""
    return load(cython.address(shard_at(w, shard).pages))


def spread(w, pool, seat, counts):
    """Pages of a pool in each shard, or, with a seat that is not 0, of all pools of its client; and
    their sum."""
    i: u64
    shard: u64
    count: u64
    sum: u64 = 0
    memset(counts, 0, SHARDS_MAX * 8)
    for i in range(pool if seat == 0 else 0, pool + 1 if seat == 0 else pools_high(w)):
        if seat != 0 and (_seat(w, i) != seat or not may_lose(pool_at(w, i))):
            continue
        for shard in range(w.client_geometry[GEO_SHARDS]):
            count = load(cython.address(queue_at(w, i, shard).count[0])) + load(
                cython.address(queue_at(w, i, shard).count[1])
            )
            counts[shard] += count
            sum += count
    return sum


def bytes_of(w, pool, seat):
    """Bytes of the chunks that pages of a pool take, or, with a seat that is not 0, those of all
    ephemeral pools of its client."""
    i: u64
    slot: u64
    sum: u64 = 0
    for i in range(pool if seat == 0 else 0, pool + 1 if seat == 0 else pools_high(w)):
        if seat != 0 and (_seat(w, i) != seat or not may_lose(pool_at(w, i))):
            continue
        sum -= pool_at(w, i).base[GAUGE_BYTES_USED]
        for slot in range(slots_used(w)):
            if load(cython.address(slot_at(w, slot).ledger_backed)) >= (i + 1) * LEDGER_BYTES:
                sum += load(ledger_at(w, slot, i) + GAUGE_BYTES_USED)
    # Read while others count: for a moment it can be less than nothing.
    return sum if sum >> 63 == 0 else 0


def mean_of(w, pool):
    """Bytes that a page of a pool takes, on average: a hint."""
    mean: u64 = load(cython.address(pool_at(w, pool).mean))
    return mean if mean != 0 else w.client_geometry[GEO_PAGE_SIZE]


def unit_bytes(w):
    """Bytes that a page of those that may go takes, on average, a long one counted as several: a
    hint."""
    i: u64
    shard: u64
    pages: u64
    bytes: cython.double = 0
    units: cython.double = 0
    for i in range(pools_high(w)):
        pages = 0
        for shard in range(w.client_geometry[GEO_SHARDS] if may_lose(pool_at(w, i)) else 0):
            pages += _pages(w, i, shard)
        if pages < cython.cast(u64, 1) << 40:       # read while others count
            bytes += cython.cast(cython.double, pages) * mean_of(w, i)
            units += cython.cast(cython.double, pages) * units_of(w, i)
    return cython.cast(u64, bytes / units) + 1 if units > 0 else w.client_geometry[GEO_PAGE_SIZE]


def units_of(w, pool):
    """What a page of a pool counts as, on average, where pages go: a long one as several."""
    return 1 + (mean_of(w, pool) >> UNIT_SHIFT)


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _weigh_clients(w: cython.pointer(Worker), shard: u64, passed: cython.p_const_uchar, tally: cython.pointer(Tally)
                   ) -> cython.void:
    """What is in a shard that this worker can choose: bytes by client, and units in small
    queues."""
    i: u64
    seat: u64
    memset(tally, 0, cython.sizeof(Tally))
    for i in range(pools_high(w)):
        if _takes_part(w, i, shard, passed):
            seat = _seat(w, i)
            tally.bytes[seat] += _pages(w, i, shard) * mean_of(w, i)
            tally.small += queue_at(w, i, shard).count[0] * units_of(w, i)
            tally.units += _pages(w, i, shard) * units_of(w, i)
            tally.pages += _pages(w, i, shard)
    for i in range(CLIENTS_MAX + 1):
        if tally.bytes[i] != 0:
            tally.all_bytes += tally.bytes[i]
            tally.all_weights += _weight(w, i)


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _weight(w: cython.pointer(Worker), seat: u64) -> cython.double:
    """The weight of a client. Of those that found no seat together it is 1."""
    weight: u64 = load(cython.address(client_at(w, seat).weight)) if seat != 0 else 1
    return weight if 0 < weight <= WEIGHT_MAX else 1


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _next_of(w: cython.pointer(Worker), pool: u64, shard: u64, small: cython.bint, choice: cython.pointer(Choice)
             ) -> cython.bint:
    """Which page of a pool would be looked at next, when pages go of small queues, or of main ones.
    False: it has none."""
    q: cython.pointer(Queue) = queue_at(w, pool, shard)
    policy: cython.pointer(Policy) = policy_of(load(cython.address(pool_at(w, pool).policy)))
    tries: cython.bint = policy != cython.NULL and policy.tries
    choice.pool = pool + 1
    choice.of = QUEUE_SMALL if tries and small else QUEUE_MAIN
    choice.off = q.tail[choice.of - QUEUE_SMALL]
    if not tries and q.hand != 0:
        choice.off = q.hand
    return choice.off != 0


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _is_idle(w: cython.pointer(Worker), pool: u64, tally: cython.pointer(Tally)) -> cython.bint:
    """True if nobody has asked a pool for anything while half as many bytes went as the arena
    holds: then it has given way soon after all of them have gone once. Where its client has less
    than its share, that takes longer. Bytes, since short pages come into the place of few that were
    long."""
    bytes: cython.double = tally.all_bytes * w.client_geometry[GEO_SHARDS] / 2
    quiet: u64 = load(cython.address(pool_at(w, pool).quiet))
    seat: u64 = _seat(w, pool)
    under: cython.bint = tally.bytes[seat] * tally.all_weights < tally.all_bytes * _weight(w, seat)
    return quiet > (FORGOTTEN * bytes if under else bytes)


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _collect(w: cython.pointer(Worker), shard: u64, seat: u64, small: cython.bint, passed: cython.p_const_uchar,
             tally: cython.pointer(Tally), idle: cython.pointer(Choice)) -> cython.void:
    """Each client's oldest candidate among its pools, of small queues or of main ones; and of idle
    pools the oldest of either kind."""
    next: Choice
    i: u64
    owner: u64
    age: u64
    of: cython.int
    turn: u64 = load(cython.address(shard_at(w, shard).turn))
    most: u64 = 0
    for i in range(CLIENTS_MAX + 1):
        tally.age[i] = 0
    for i in range(pools_high(w)):
        owner = _seat(w, i)
        if not _takes_part(w, i, shard, passed) or (seat != ANY_SEAT and owner != seat):
            continue
        for of in range(2):
            if not _next_of(w, i, shard, of == 0, cython.address(next)):
                continue
            age = age_in(page_at(w, next.off).link, turn) + 1
            if w.fault != 0:
                w.fault = 0         # whoever takes the page finds it damaged
                age = 1
            if age > most and _is_idle(w, i, tally):
                most = age
                idle[0] = next
            if (of == 0) == small and age > tally.age[owner]:
                tally.age[owner] = age
                tally.oldest[owner] = next


def choose(w, shard, seat, choice):
    """Which queue of a shard has to let a page go: of any client, or of that of a seat. As
    `choose_among`, of pools that may lose their pages."""
    choose_among(w, shard, seat, cython.NULL, choice)


def choose_among(w, shard, seat, passed, choice):
    """Which queue of a shard has a page that is to go; or to become far, if `passed` is not NULL: a
    byte for each pool, not 0 for those that have no turn.

    If a tenth of the pages or more are in small queues (long ones count as several) it is one of
    those, else a main one: so a scan of one pool does not reach what others have in their main
    queues. Of the clients with such a queue it is the one that has most bytes for its weight, and
    of his queues the one with the oldest page in front, which has not been asked for the longest,
    however small the pool is.
    Before all of them goes what is of a pool that is idle. Pools with a policy that tries no pages
    take part as small and as main."""
    tally: Tally
    i: u64
    best: u64 = CLIENTS_MAX + 1
    kind: cython.int
    choice.pool = 0
    choice.off = 0
    _weigh_clients(w, shard, passed, cython.address(tally))
    small: cython.bint = tally.small != 0 and tally.small * 10 >= tally.units
    # If none has a page of the one kind that may go, one of the other kind does.
    for kind in range(2):
        _collect(w, shard, seat, small, passed, cython.address(tally), choice)
        if choice.pool != 0:
            return
        for i in range(CLIENTS_MAX + 1):
            if tally.age[i] != 0 and (
                best > CLIENTS_MAX or tally.bytes[i] * _weight(w, best) > tally.bytes[best] * _weight(w, i)
            ):
                best = i
        if best <= CLIENTS_MAX:
            choice[0] = tally.oldest[best]
            return
        small = not small


def look_at_next(w, gone):
    """Find out of another pool, in turn, what a page of it takes, since shares are of bytes and
    queues count pages, and whether anybody asks for it. `gone`: bytes that went since the last such
    look."""
    pages: u64 = 0
    bytes: u64 = 0
    objects: u64 = 0
    asked: u64 = 0
    slot: u64
    ledger: cython.pointer(u64)
    high: u64 = pools_high(w)
    record: cython.pointer(PoolRecord)
    w.weighed = w.weighed + 1 if w.weighed + 1 < high else 0
    record = pool_at(w, w.weighed)
    for slot in range(slots_used(w)):
        if load(cython.address(slot_at(w, slot).ledger_backed)) >= (w.weighed + 1) * LEDGER_BYTES:
            ledger = ledger_at(w, slot, w.weighed)
            pages += load(ledger + GAUGE_PAGES)
            objects += load(ledger + GAUGE_OBJECTS)
            bytes += load(ledger + GAUGE_BYTES_USED)
            bytes += load(ledger + GAUGE_OBJNODES) * w.class_bytes[OBJNODE_CLASS]
            asked += load(ledger + GETS_HIT) + load(ledger + GETS_MISS) + load(ledger + PUTS_OK)
    pages -= record.base[GAUGE_PAGES]
    objects -= record.base[GAUGE_OBJECTS]
    bytes += cython.cast(cython.uint, objects) * w.class_bytes[obj_class(False)]
    bytes -= (objects >> LEAN_SHIFT) * (w.class_bytes[obj_class(False)] - w.class_bytes[obj_class(True)])
    bytes -= record.base[GAUGE_BYTES_USED]
    bytes -= record.base[GAUGE_OBJNODES] * w.class_bytes[OBJNODE_CLASS]
    # Read while others count: what cannot be is left out.
    if 0 < pages < cython.cast(u64, 1) << 40 and bytes // pages <= 2 * cython.cast(u64, EXTENT_MAX):
        set(cython.address(record.mean), bytes // pages + w.class_bytes[PAMPD_CLASS])
    if load(cython.address(record.asked)) != asked:
        set(cython.address(record.asked), asked)
        set(cython.address(record.quiet), 0)
    else:
        # Each pool has its turn once in as many looks as there are pools.
        set(cython.address(record.quiet), load(cython.address(record.quiet)) + gone * high)

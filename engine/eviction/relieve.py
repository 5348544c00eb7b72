"""Owns letting pages go because memory is short: how many, and from which shards.

Called with the worker's own lock alone. Lock order: own, one shard, which is only tried, bucket.
"""
import cython
from cython.cimports.engine.eviction.evict import Value, drop_far, evict_of, evict_one, looks
from cython.cimports.engine.eviction.shares import ANY_SEAT, choose, look_at_next, mean_of, pages_in, units_of
from cython.cimports.engine.layout.call import MISS, Choice
from cython.cimports.engine.layout.regions import has_far, may_lose, pool_at, pools_high, queue_at, shard_at
from cython.cimports.engine.layout.structs import GEO_SHARDS
from cython.cimports.engine.tree.hostops import HostOps
from cython.cimports.shm.layout import BUSY, CORRUPT, NOMEM, OK, Worker, u64
from cython.cimports.shm.lock import lock_try, unlock

STEPS = cython.declare(u64, 8)      # pages of one queue that are looked at, before it is asked again whose turn it is


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _any(w: cython.pointer(Worker), shard: u64, host: HostOps) -> cython.int:
    """Nothing of the queues whose turn it is can go, since all of it is viewed: let a page of any
    pool go from a shard that is held. As evict_one."""
    pool: u64
    status: cython.int = MISS
    for pool in range(pools_high(w)):
        if may_lose(pool_at(w, pool)) and queue_at(w, pool, shard).count[0] + queue_at(w, pool, shard).count[1] != 0:
            status = evict_one(w, pool, shard, host)
            if status == OK or status == CORRUPT:
                break
    return status


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _far_went(w: cython.pointer(Worker), first: u64, pages: u64, host: HostOps) -> cython.int:
    """No page can go whose bytes are here: let some go of which only the descriptor is. OK, NOMEM,
    BUSY or CORRUPT."""
    shards: u64 = w.client_geometry[GEO_SHARDS]
    pool: u64
    i: u64
    most: u64
    gone: u64 = 0
    busy: cython.bint = False
    status: cython.int
    for pool in range(pools_high(w)):
        for i in range(shards if has_far(pool_at(w, pool)) and may_lose(pool_at(w, pool)) else 0):
            most = pages - gone
            status = drop_far(w, pool, (first + i) & (shards - 1), 0, cython.address(most), host)
            gone += most
            busy = busy or status == BUSY
            if status == CORRUPT or gone >= pages:
                return status if status == CORRUPT else OK
    return OK if gone != 0 else BUSY if busy else NOMEM


def relieve(w, first, pages, host):
    """Let up to `pages` pages go, from shard `first` on. OK if at least one did, NOMEM if none can,
    BUSY or CORRUPT.

    Called with the own lock alone; what went is on the retired list."""
    shards: u64 = w.client_geometry[GEO_SHARDS]
    shard: u64
    steps: u64
    left: u64
    choice: Choice
    stays: Value
    i: u64
    gone: u64 = 0
    bytes: u64 = 0
    before: u64
    count: u64
    most: u64 = 0
    start: u64 = first
    busy: cython.bint = False
    status: cython.int
    # The fullest of four: pages that go several at a time would else leave shards of ever more
    # different sizes, like a random walk.
    for i in range(4):
        shard = (first + i * (shards // 4 + 1 if shards > 4 else 1)) & (shards - 1)
        count = pages_in(w, shard)
        if count > most:
            most = count
            start = shard
    for i in range(shards):
        shard = (start + i) & (shards - 1)
        if pages_in(w, shard) == 0:
            continue
        if lock_try(w, cython.address(shard_at(w, shard).lock)) != OK:
            busy = True
            continue
        status = MISS
        left = looks(w, pages_in(w, shard))
        steps = 0
        stays.pages = 0
        while gone < pages and (status == OK or status == MISS):
            # Chosen anew after so many looks, whatever they found: who has pages that earn their
            # keep is not asked until he gives one that does not.
            if steps == 0 or status == MISS:
                choose(w, shard, ANY_SEAT, cython.address(choice))
                if choice.pool == 0 or left == 0:
                    break
                steps = min(left, STEPS)
                left -= steps
            before = gone
            status = evict_of(w, choice.pool - 1, shard, choice.of, cython.address(steps), cython.address(stays),
                              cython.address(gone), host)
            bytes += (gone - before) * mean_of(w, choice.pool - 1) // units_of(w, choice.pool - 1)
        if status == MISS and gone == 0 and choice.pool != 0:
            status = _any(w, shard, host)
            gone += status == OK
            bytes += mean_of(w, choice.pool - 1) if status == OK else 0
        unlock(w, cython.address(shard_at(w, shard).lock))
        if status == CORRUPT:
            return CORRUPT
        busy = busy or status == BUSY
        if gone >= pages:
            break
    if gone != 0:
        look_at_next(w, bytes)
        return OK
    return BUSY if busy else _far_went(w, first, pages, host)

"""Owns whose turn it is when memory is short: which client has most pages for its weight, and which
of its pools is largest.

Reads queues' counts and clients' words as they are, with the shard's lock or without: the answer is
a choice, and any choice is sound.
"""
import cython
from cython.cimports.engine.layout.call import Tally
from cython.cimports.engine.layout.regions import client_at, pool_at, pools_high, queue_at
from cython.cimports.engine.layout.structs import (
    CLIENTS_MAX,
    GEO_SHARDS,
    POOL_PERSISTENT,
    SHARDS_MAX,
    WEIGHT_MAX,
    Queue,
)
from cython.cimports.engine.pages.reclaim import has_ledger
from cython.cimports.libc.string import memset
from cython.cimports.shm.atomics import load
from cython.cimports.shm.layout import Worker, u64


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _pages(w: cython.pointer(Worker), pool: u64, shard: u64) -> u64:
    q: cython.pointer(Queue) = queue_at(w, pool, shard)
    return q.count[0] + q.count[1]


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _seat(w: cython.pointer(Worker), pool: u64) -> u64:
    """Place of a pool's client in a tally. The word is read once: it becomes an index."""
    seat: u64 = load(cython.address(pool_at(w, pool).seat))
    return seat if seat <= CLIENTS_MAX else 0


def pages_in(w, shard):
    """Pages of all pools in a shard."""
    i: u64
    sum: u64 = 0
    for i in range(pools_high(w)):
        sum += _pages(w, i, shard)
    return sum


def spread(w, pool, seat, counts):
    """Pages of a pool in each shard, or, with a seat that is not 0, of all pools of its client; and
    their sum."""
    i: u64
    shard: u64
    count: u64
    sum: u64 = 0
    memset(counts, 0, SHARDS_MAX * 8)
    for i in range(pool if seat == 0 else 0, pool + 1 if seat == 0 else pools_high(w)):
        if seat != 0 and (_seat(w, i) != seat or pool_at(w, i).flags & POOL_PERSISTENT):
            continue
        for shard in range(w.client_geometry[GEO_SHARDS]):
            count = load(cython.address(queue_at(w, i, shard).count[0])) + load(
                cython.address(queue_at(w, i, shard).count[1])
            )
            counts[shard] += count
            sum += count
    return sum


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _count_by_client(w: cython.pointer(Worker), shard: u64, tally: cython.pointer(Tally)) -> cython.void:
    """Pages in a shard that this worker can let go, by client."""
    i: u64
    memset(tally, 0, cython.sizeof(Tally))
    for i in range(pools_high(w)):
        if _pages(w, i, shard) != 0 and has_ledger(w, i):
            tally.pages[_seat(w, i)] += _pages(w, i, shard)


def largest_pool(w, shard, seat):
    """The pool of a client that has most pages in a shard, + 1; 0 if none has any that this worker
    can let go."""
    i: u64
    most: u64 = 0
    found: u64 = 0
    for i in range(pools_high(w)):
        if _pages(w, i, shard) > most and _seat(w, i) == seat and has_ledger(w, i):
            most = _pages(w, i, shard)
            found = i + 1
    return found


def victim(w, shard):
    """The pool that has to let a page of a shard go, + 1; 0 if none has any that this worker can
    let go."""
    tally: Tally
    weight: u64
    heaviest: u64 = 1
    best: u64 = 0
    i: u64
    _count_by_client(w, shard, cython.address(tally))
    for i in range(1, CLIENTS_MAX + 1):
        if tally.pages[i] != 0:
            weight = load(cython.address(client_at(w, i).weight))
            weight = weight if 0 < weight <= WEIGHT_MAX else 1
            # pages / weight, compared crosswise
            if tally.pages[i] * heaviest > tally.pages[best] * weight:
                best = i
                heaviest = weight
    return largest_pool(w, shard, best)

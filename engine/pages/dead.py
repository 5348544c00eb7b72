"""Owns the dead ring: tokens of far pages that have gone, on their way to the tier, which may drop
what it has under them.

Nobody depends on it: a name in a tier is never used twice, so what is not dropped there is garbage
and no more. A token comes in when its page is given back, with no bucket locked, and is taken out
by the spiller before he tells the tier: who is killed between the two leaves garbage. When the ring
is full a token is forgotten, and counted.
Locks: the ring's, with nothing else but the worker's own.
Kill at any instruction: what comes in, and what is taken out, is one transaction each.
"""
import cython
from cython.cimports.engine.layout.regions import dead_ring, far_at, has_far, is_of_now, pool_at, pools_high
from cython.cimports.engine.layout.structs import DEAD_MAX, Dead, DeadRing, FarRecord
from cython.cimports.engine.layout.words import pool_of
from cython.cimports.shm.atomics import add, load, load_acquire
from cython.cimports.shm.journal import conclude, store
from cython.cimports.shm.layout import BUSY, FAULT_LOOP, OK, u64
from cython.cimports.shm.lock import lock_try, unlock


def note_dead(w, token, pool, gen):
    """A far page is being given back: note its token, a word of the descriptor, which becomes 0. In
    a transaction of its own. OK, BUSY or CORRUPT. `pool`: a mark, of the pool that it was of."""
    ring: cython.pointer(DeadRing) = dead_ring(w)
    record: cython.pointer(FarRecord)
    dead: cython.pointer(Dead)
    status: cython.int
    if not is_of_now(w, pool) or load(cython.address(far_at(w, pool_of(pool)).deletes)) == 0:
        store(w, token, 0)
        return conclude(w)
    record = far_at(w, pool_of(pool))
    if load_acquire(cython.address(ring.ready)) == 0 or load(cython.address(ring.count)) >= DEAD_MAX:
        add(cython.address(record.garbage), 1)
        store(w, token, 0)
        return conclude(w)
    if lock_try(w, cython.address(ring.lock)) != OK:
        return BUSY
    if ring.first >= DEAD_MAX or ring.count > DEAD_MAX:
        w.fault = FAULT_LOOP
    elif ring.count < DEAD_MAX:
        dead = cython.address(ring.dead[(ring.first + ring.count) % DEAD_MAX])
        dead.pool = pool
        dead.gen = gen
        dead.token = token[0]
        store(w, cython.address(ring.count), ring.count + 1)
    store(w, token, 0)
    status = conclude(w)
    unlock(w, cython.address(ring.lock))
    return status


def has_ring(w):
    """True if some pool has a tier that wants to hear of dead tokens: then the ring has memory, and
    may be touched."""
    i: u64
    for i in range(pools_high(w)):
        if has_far(pool_at(w, i)) and load(cython.address(far_at(w, i).deletes)) != 0:
            return True
    return False


def take_dead(w, out, most, count):
    """Take up to `most` tokens out, the oldest first: count[0]. OK, BUSY or CORRUPT. With the own
    lock alone."""
    ring: cython.pointer(DeadRing) = dead_ring(w)
    i: u64
    status: cython.int
    count[0] = 0
    if not has_ring(w) or load_acquire(cython.address(ring.ready)) == 0 or load(cython.address(ring.count)) == 0:
        return OK
    if lock_try(w, cython.address(ring.lock)) != OK:
        return BUSY
    if ring.first >= DEAD_MAX or ring.count > DEAD_MAX:
        w.fault = FAULT_LOOP
    else:
        count[0] = min(most, ring.count)
        for i in range(count[0]):
            out[i] = ring.dead[(ring.first + i) % DEAD_MAX]
        store(w, cython.address(ring.first), (ring.first + count[0]) % DEAD_MAX)
        store(w, cython.address(ring.count), ring.count - count[0])
    status = conclude(w)
    unlock(w, cython.address(ring.lock))
    return status

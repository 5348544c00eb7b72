"""Owns the contended side of taking a lock, short of sleeping: the spin, and the post to a sleeper.

State table, memory order and the fast path are in lock.pxd; sleeping and rescuing in waiting.py.
"""
import cython
from cython.cimports.libc.stdio import fprintf, stderr
from cython.cimports.libc.stdlib import abort
from cython.cimports.shm.atomics import cas, load, pause
from cython.cimports.shm.kernel.semaphores import post_one
from cython.cimports.shm.layout import BUSY, OK, Lock, RankOf, Worker, u64
from cython.cimports.shm.lock import new_owner

SPINS = cython.declare(u64, 120)        # pauses: a few microseconds, ten critical sections
SPINS_MAX = cython.declare(u64, 2000)
APART_MAX = cython.declare(u64, 64)     # pauses between two looks; a power of two
FIGHTS = cython.declare(u64, 128)       # times that a worker finds one lock taken, before it asks who else wants it
CROWD = cython.declare(u64, 3)          # workers that a lock is good for


def check_rank(w, offset):
    """End the process if it takes locks out of order: where the layer above has said what the order
    is."""
    rank: cython.int = cython.cast(RankOf, w.rank_of)(w, offset)
    i: u64
    for i in range(w.held):
        if rank <= cython.cast(RankOf, w.rank_of)(w, w.slot.held[i]):
            fprintf(
                stderr,
                "lock at 0x%llx (rank %d) taken with 0x%llx (rank %d) held\n",
                cython.cast(cython.ulonglong, offset),
                rank,
                cython.cast(cython.ulonglong, w.slot.held[i]),
                cython.cast(RankOf, w.rank_of)(w, w.slot.held[i]),
            )
            abort()


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _stands_aside(w: cython.pointer(Worker), lock: cython.pointer(Lock), offset: u64) -> cython.bint:
    """True if this worker has had its share of a lock that more than CROWD want: then it sleeps for
    a while (`stand_aside`), and leaves it to the others.

    Where many hand a lock around, each brings its line, and those of what it guards, from another
    core, and all who look at it are in the way of who has it. Few at a time do more, and most of
    their puts wait for nobody (Dice and Kogan, "Avoiding scalability collapse by restricting
    concurrency", 2019). How many want it says how often it was taken, for each verb of this worker
    meanwhile; what others know is not needed, so a dead worker leaves nothing behind."""
    seq: u64 = load(cython.address(lock.seq))
    own: u64 = load(cython.address(w.slot.own.seq))
    if w.fought_for == offset and w.fights_left != 0:
        w.fights_left -= 1
        return False
    crowded: cython.bint = w.fought_for == offset and seq - w.fought_since > CROWD * (own - w.worked_since)
    w.fought_for = offset
    w.fights_left = FIGHTS
    w.fought_since = seq
    w.worked_since = own
    if crowded:
        w.fought_for = 0
        w.aside_of = offset
        w.blocked_on = offset
    return crowded


def spin(w, lock, offset):
    """Try while the lock goes from hand to hand: at most SPINS_MAX pauses, and no more than SPINS
    under one holder, who may not be running; what chance adds between two looks, at most as much
    again, is not counted. OK with the lock taken, or BUSY with blocked_on set.

    Each look takes the lock's line from its holder, who needs it to give the lock back. So looks
    come at growing distances, that differ between workers (Anderson, "The performance of spin lock
    alternatives", 1990). Who has done so often enough stands aside: see `_stands_aside`."""
    i: u64
    pauses: u64 = 1
    under_one: u64 = 0
    total: u64 = 0
    owner: u64
    last: u64 = load(cython.address(lock.owner))
    chance: u64 = w.id * 40503 + load(cython.address(lock.seq)) + 1
    if _stands_aside(w, lock, offset):
        return BUSY
    while under_one < SPINS and total < SPINS_MAX:
        # xorshift (Marsaglia, 2003)
        chance ^= chance << 13
        chance ^= chance >> 7
        chance ^= chance << 17
        for i in range(pauses + (chance & (pauses - 1))):
            pause()
        under_one += pauses
        total += pauses
        owner = load(cython.address(lock.owner))
        if owner == 0 and cas(cython.address(lock.owner), 0, new_owner(w, offset)):
            return OK
        if owner != last:
            last = owner
            under_one = 0
        if pauses < APART_MAX:
            pauses *= 2
    w.blocked_on = offset
    return BUSY


def post(w, lock):
    """Wake one sleeper of `lock`. A post nobody takes costs its next sleeper one early look."""
    post_one(w, lock)

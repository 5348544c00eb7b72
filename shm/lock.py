"""Owns the contended side of taking a lock, short of sleeping: the spin, and the post to a sleeper.

State table, memory order and the fast path are in lock.pxd; sleeping and rescuing in waiting.py.
"""
import cython
from cython.cimports.libc.stdio import fprintf, stderr
from cython.cimports.libc.stdlib import abort
from cython.cimports.shm.atomics import cas, load, pause
from cython.cimports.shm.layout import BUSY, OK, RankOf, u64
from cython.cimports.shm.lock import new_owner
from cython.cimports.shm.semaphores import post_one

SPINS = cython.declare(cython.int, 120)   # about a microsecond: ten critical sections


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


def spin(w, lock, offset):
    """Try for about a microsecond. OK with the lock taken, or BUSY with blocked_on set."""
    i: cython.int
    for i in range(SPINS):
        pause()
        if (
            load(cython.address(lock.owner)) == 0
            and cas(cython.address(lock.owner), 0, new_owner(w, offset))
        ):
            return OK
    w.blocked_on = offset
    return BUSY


def post(w, lock):
    """Wake one sleeper of `lock`. A post nobody takes costs its next sleeper one early look."""
    post_one(w, lock)

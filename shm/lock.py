"""Owns the contended side of taking a lock, short of sleeping: the spin, and the post to a sleeper.

State table, memory order and the fast path are in lock.pxd; sleeping and rescuing in waiting.py.
May call: atomics, semaphores. Called by lock.pxd.
"""
import cython
from cython.cimports.shm.atomics import cas, load, pause
from cython.cimports.shm.layout import BUSY, OK, offset_of
from cython.cimports.shm.lock import new_owner

SPINS = cython.declare(cython.int, 120)   # about a microsecond: ten critical sections


def spin(w, lock, offset):
    """Try for about a microsecond. OK with the lock taken, or BUSY with blocked_on set."""
    i: cython.int
    for i in range(SPINS):
        pause()
        if load(cython.address(lock.owner)) == 0 and cas(
            cython.address(lock.owner), 0, new_owner(w, offset)
        ):
            return OK
    w.blocked_on = offset
    return BUSY


def post(w, lock):
    """Wake one sleeper of `lock`. A post nobody takes costs its next sleeper one early look."""
    cython.cast(object, w.semaphores).post(offset_of(w, lock), lock.sem)

"""Owns waiting for a lock that was BUSY: spin, ask whether the holder lives, rescue it or sleep.

May call: liveness, recovery, semaphores. Called with the GIL and with no lock held; releases the GIL while it
spins and sleeps. Returns after at most one time slice, so that the caller can run signal handlers.
The promise: a holder that is dead already costs no time slice, since liveness is asked before the first sleep. One slice is
what it costs a sleeper when the holder dies later, when a wake-up is lost because its sender or receiver died, or when
the receiver turns out not to want the lock any more (a get that finds its answer without it, a handler that raises).
"""
import time

import cython
from cython.cimports.shm.atomics import cas, load, pause, set_bits
from cython.cimports.shm.layout import (
    HELD_MAX,
    SLOT_LIVE,
    STAT_LOCK_WAIT_NS,
    STAT_LOCK_WAIT_NS_MAX,
    STAT_LOCK_WAITS,
    Lock,
    Slot,
    slot_at,
    u64,
)
from cython.cimports.shm.liveness import RESCUE_BYTE, byte_held
from cython.cimports.shm.lock import OWNER_WAITS
from cython.cimports.shm.recovery import rescue
from shm.errors import ArenaCorrupted

SLICE_S = 0.01           # longest sleep, and so the price of a lost wake-up
SPINS = cython.declare(cython.int, 2000)
_strange = cython.declare(cython.int, 0)   # slices in a row whose holder does not claim the lock
STRANGE_MAX = cython.declare(cython.int, 20)


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _spin_free(lock: cython.pointer(Lock)) -> cython.bint:
    i: cython.int
    for i in range(SPINS):
        if load(cython.address(lock.owner)) == 0:
            return True
        pause()
    return False


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _claims(slot: cython.pointer(Slot), offset: u64) -> cython.bint:
    i: cython.int
    for i in range(HELD_MAX):
        if load(cython.address(slot.held[i])) == offset:
            return True
    return False


@cython.cfunc
@cython.exceptval(-1)
def _no_such_holder(owner: u64, offset: u64) -> cython.int:
    raise ArenaCorrupted(f"lock at {offset:#x} names a holder that does not hold it (owner word {owner:#x})")


def wait(w):
    """Wait a little for the lock at w.blocked_on. 0; raises ArenaCorrupted when its word cannot be true."""
    global _strange
    offset: u64 = w.blocked_on
    lock: cython.pointer(Lock) = cython.cast(cython.pointer(Lock), w.base + offset)
    owner: u64
    idx: u64
    free: cython.bint
    rescued: cython.int
    began = time.monotonic_ns()
    with cython.nogil:
        free = _spin_free(lock)
    if free:
        _strange = 0
        return 0
    owner = load(cython.address(lock.owner))
    if owner == 0:
        return 0
    idx = (owner & 0xFFFF) - 1
    if idx >= w.max_workers or idx >= w.depot.slots_high:
        _no_such_holder(owner, offset)
    if idx == w.slot_idx:
        _no_such_holder(owner, offset)      # who waits holds nothing
    if not byte_held(w.fd, idx):
        with cython.nogil:
            rescued = rescue(w)
        if rescued >= 0 and load(cython.address(lock.owner)) == owner and (
            slot_at(w, idx).state != SLOT_LIVE or owner & ~OWNER_WAITS() != slot_at(w, idx).gen << 16 | (idx + 1)
        ):
            _no_such_holder(owner, offset)
        if rescued >= 0:
            # It is dead and settled: a lock it still has now, time after time, it never took.
            _strange = _strange + 1 if load(cython.address(lock.owner)) == owner else 0
            if _strange > STRANGE_MAX:
                _strange = 0
                _no_such_holder(owner, offset)
            return 0
    elif (
        not (_claims(slot_at(w, idx), offset) and owner & ~OWNER_WAITS() == slot_at(w, idx).gen << 16 | (idx + 1))
        and not byte_held(w.fd, RESCUE_BYTE())
        and load(cython.address(lock.owner)) == owner
    ):
        _strange += 1
        if _strange > STRANGE_MAX:
            _strange = 0
            _no_such_holder(owner, offset)
    else:
        _strange = 0
    if not owner & OWNER_WAITS() and not cas(cython.address(lock.owner), owner, owner | OWNER_WAITS()):
        return 0
    set_bits(cython.address(lock.sem), cython.cast(u64, 1) << 63)
    w.waited_on = offset
    cython.cast(object, w.semaphores).sleep(offset, lock.sem, SLICE_S)
    took: u64 = time.monotonic_ns() - began
    w.slot.stat[STAT_LOCK_WAITS] += 1
    w.slot.stat[STAT_LOCK_WAIT_NS] += took
    if took > w.slot.stat[STAT_LOCK_WAIT_NS_MAX]:
        w.slot.stat[STAT_LOCK_WAIT_NS_MAX] = took
    return 0

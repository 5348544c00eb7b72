"""Owns what to do about a lock that was BUSY: stand aside, spin, ask whether the holder lives,
rescue it, or sleep.

No lock is held here, and the turn is this thread's. The sleep itself is in workers.py, since the
turn is given up for it. A sleep is of one time slice at most, so that signal handlers run.
The promise: a holder that is dead already costs no time slice, since liveness is asked before the
first sleep. One slice is what it costs a sleeper when the holder dies later, when a wake-up is lost
because its sender or receiver died, or when the receiver turns out not to want the lock any more (a
get that finds its answer without it, a handler that raises).
"""
import cython
from cython.cimports.shm.atomics import cas, load, load_acquire, pause, set_bits
from cython.cimports.shm.clock import now
from cython.cimports.shm.kernel.liveness import NEWCOMER_BYTE, byte_held
from cython.cimports.shm.kernel.system import CLOCK_MONOTONIC, clock_nanosleep, timespec
from cython.cimports.shm.layout import (
    HELD_MAX,
    SLOT_LIVE,
    STAT_LOCK_WAIT_NS,
    STAT_LOCK_WAIT_NS_MAX,
    STAT_LOCK_WAITS,
    Lock,
    Slot,
    Worker,
    slot_at,
    slots_used,
    u64,
)
from cython.cimports.shm.lock import OWNER_WAITS
from cython.cimports.shm.recovery import gate_keeper, rescue
from cython.cimports.shm.waiting import GO_ON, REST, UNKNOWN, WRONG
from shm.errors import ArenaCorrupted

SPINS = cython.declare(cython.int, 2000)
NAP_NS = cython.declare(cython.long, 50_000)
NAPS_MAX = cython.declare(cython.int, 40)       # at most a few milliseconds: signal handlers wait so long
PASSED = cython.declare(u64, 3000)              # times that others have a lock before who stood aside comes back
SELDOM_NS = cython.declare(u64, 3000)           # a lock that is taken less often is not in demand
STRANGE_MAX = cython.declare(u64, 20)


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
def _claims(w: cython.pointer(Worker), idx: u64, owner: u64, offset: u64) -> cython.bint:
    """True if the living worker of a slot says that it has the lock, or need not say so: it has
    stopped the world, or is about to have the slot, and with it what the dead one had."""
    slot: cython.pointer(Slot) = slot_at(w, idx)
    i: cython.int
    if gate_keeper(w) == owner & ~OWNER_WAITS():
        return True
    # Of whatever generation: a dead worker's note stands until its heir has settled it.
    for i in range(HELD_MAX):
        if load(cython.address(slot.held[i])) == offset:
            return True
    # The own locks that a dead checker took are noted nowhere, and his slot is an heir's by now,
    # who may be stopped; nor does an heir note that of his slot before he lives there.
    return byte_held(w, NEWCOMER_BYTE(idx))


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _doubt(w: cython.pointer(Worker)) -> cython.int:
    """One slice more in which nobody says that the lock is his. After enough of them its word is a
    stray write."""
    w.strange += 1
    if w.strange <= STRANGE_MAX:
        return REST
    w.strange = 0
    return WRONG


def consider(w):
    """What to do about the lock at w.blocked_on. REST: somebody has been asked to post its
    semaphore."""
    offset: u64 = w.blocked_on
    lock: cython.pointer(Lock) = cython.cast(cython.pointer(Lock), w.base + offset)
    owner: u64
    idx: u64
    todo: cython.int = REST
    if _spin_free(lock):
        w.strange = 0
        return GO_ON
    owner = load_acquire(cython.address(lock.owner))
    if owner == 0:
        return GO_ON
    idx = (owner & 0xFFFF) - 1
    if idx >= slots_used(w) or idx == w.slot_idx:
        return WRONG            # nobody's; or this worker's, and who waits holds nothing
    if not byte_held(w, idx):
        rescue(w)
        if load(cython.address(lock.owner)) != owner:
            w.strange = 0
            return GO_ON
        # Its slot may be in the hands of another rescuer, who is slow. If not, the dead worker was
        # settled: this lock it never took.
        if (
            load(cython.address(slot_at(w, idx).own.owner)) == 0
            or load(cython.address(slot_at(w, idx).state)) != SLOT_LIVE
        ):
            todo = _doubt(w)
    elif not _claims(w, idx, owner, offset) and load(cython.address(lock.owner)) == owner:
        todo = _doubt(w)
    else:
        w.strange = 0
    if w.lost:
        return UNKNOWN
    if todo == REST:
        if not owner & OWNER_WAITS() and not cas(cython.address(lock.owner), owner, owner | OWNER_WAITS()):
            return GO_ON
        set_bits(cython.address(lock.sem), cython.cast(u64, 1) << 63)
        w.waited_on = offset
    return todo


def stand_aside(w):
    """Sleep in short naps while others hand around the lock at w.aside_of, until they have had it
    PASSED times, or it is not in demand any more."""
    lock: cython.pointer(Lock) = cython.cast(cython.pointer(Lock), w.base + w.aside_of)
    nap: timespec
    first: u64 = load(cython.address(lock.seq))
    seen: u64 = first
    seq: u64
    began: u64 = now(w)
    at: u64
    i: cython.int
    w.aside_of = 0
    nap.tv_sec = 0
    nap.tv_nsec = NAP_NS
    for i in range(NAPS_MAX):
        clock_nanosleep(CLOCK_MONOTONIC, 0, cython.address(nap), cython.NULL)
        at = now(w)
        seq = load(cython.address(lock.seq))
        # Each time that it is taken and given back adds 2.
        if seq - first >= 2 * PASSED or (seq - seen) // 2 * SELDOM_NS < at - began:
            break
        seen = seq
        began = at


def refuse(w):
    """ArenaCorrupted: the word of the lock at w.blocked_on cannot be true."""
    owner: u64 = load(cython.address(cython.cast(cython.pointer(Lock), w.base + w.blocked_on).owner))
    raise ArenaCorrupted(f"lock at {w.blocked_on:#x} names a holder that does not hold it (owner word {owner:#x})")


def note_wait(w, nanoseconds):
    """Count a wait in this worker's slot."""
    took: u64 = nanoseconds
    w.slot.stat[STAT_LOCK_WAITS] += 1
    w.slot.stat[STAT_LOCK_WAIT_NS] += took
    if took > w.slot.stat[STAT_LOCK_WAIT_NS_MAX]:
        w.slot.stat[STAT_LOCK_WAIT_NS_MAX] = took

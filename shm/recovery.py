"""Owns what happens to a dead worker: its transaction, its locks, its chunks, its slot.

It begins when the holder of a lock turns out to be dead, when a newcomer finds no free slot, and
when memory is short; always with no lock held. The rule: who touches anything of a slot that is not
his own holds the slot's own lock, in his own name. A rescuer takes it from the dead (`adopt`), so
two rescuers, or one and who resizes, never work on the same slot. There is no lock for all rescues:
one who is stopped in the middle of his holds up those alone who need what that one dead worker had.
Step one, for every dead worker, needs no lock besides, since what its journal covers is covered by
locks that are still its own: settle the journal, then release the locks. Step two uses the
rescuer's own transactions to take over its lists and to return its chunks; then the slot is free.
Each step may be cut anywhere and done again by the next rescuer, who finds the slot still taken and
its byte free.
"""
import cython
from cython.cimports.shm.atomics import barrier, cas, load, load_acquire, set, set_release
from cython.cimports.shm.journal import kill_point, settle
from cython.cimports.shm.kernel.liveness import byte_held
from cython.cimports.shm.layout import (
    BUSY,
    CORRUPT,
    HELD_MAX,
    JOURNAL_BYTES,
    OK,
    SLOT_FREE,
    SLOT_LIVE,
    STAT_RECOVERIES,
    Inherit,
    Lock,
    Slot,
    Worker,
    offset_of,
    slot_at,
    slots_used,
    u64,
)
from cython.cimports.shm.lock import OWNER_WAITS, check_rank, lock_try, post, unlock
from cython.cimports.shm.slab import drain_all


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _is_dead(w: cython.pointer(Worker), idx: u64) -> cython.bint:
    """True if the worker of a slot is dead: it says that it lives, and the kernel that it does not.
    The word is read before, since a slot is given its word by who has the byte already; and again
    after, with the generation: that worker may have closed when the kernel was asked, and another
    have come since."""
    slot: cython.pointer(Slot) = slot_at(w, idx)
    gen: u64 = load_acquire(cython.address(slot.gen))
    return (
        idx != w.slot_idx
        and load_acquire(cython.address(slot.state)) == SLOT_LIVE
        and not byte_held(w, idx)
        and load_acquire(cython.address(slot.state)) == SLOT_LIVE
        and load(cython.address(slot.gen)) == gen
    )


def is_gone(w, owner):
    """True if the holder that an owner word names is dead: its slot has another worker by now, or
    none that lives."""
    idx: u64 = (owner & 0xFFFF) - 1
    if idx >= slots_used(w) or (owner & ~OWNER_WAITS()) == w.id:
        return False
    if (owner & ~OWNER_WAITS()) >> 16 < load_acquire(cython.address(slot_at(w, idx).gen)):
        return True
    return not byte_held(w, idx)


def may_adopt(w, idx, owner):
    """True if the own lock of a dead worker may be taken from whom its owner word names: from
    nobody, from a worker of that slot, or from another that is dead and has no transaction open.
    One that has must be settled first: it may be about words of this slot. It has its own lock
    then, so that can be had; two dead workers that have each other's have no transactions."""
    other: cython.pointer(Slot)
    if owner == 0:
        return True
    if (owner & 0xFFFF) == idx + 1:
        # The byte is asked after the word was read: an heir has it before he writes his name there.
        # Else he would be robbed.
        return idx == w.slot_idx or not byte_held(w, idx)
    if not is_gone(w, owner):
        return False
    other = slot_at(w, (owner & 0xFFFF) - 1)
    return load_acquire(cython.address(other.journal_len)) == 0 and load(cython.address(other.redo_len)) == 0


def is_open(w, idx):
    """True if a transaction of a slot is open, its own lock being held by this worker, who is not
    the slot's."""
    return load(cython.address(slot_at(w, idx).journal_len)) != 0 or load(cython.address(slot_at(w, idx).redo_len)) != 0


def adopt(w, idx):
    """Take the own lock of a slot whose worker is dead. OK with it held, or BUSY: somebody else is
    about it."""
    lock: cython.pointer(Lock) = cython.address(slot_at(w, idx).own)
    offset: u64 = offset_of(w, lock)
    owner: u64
    if w.held >= HELD_MAX:
        return BUSY
    if w.rank_of != cython.NULL:
        check_rank(w, offset)
    w.slot.held[w.held] = offset        # before it is taken, as in lock_try
    barrier()
    kill_point(w)
    owner = load(cython.address(lock.owner))
    if not may_adopt(w, idx, owner) or not cas(cython.address(lock.owner), owner, w.id | (owner & OWNER_WAITS())):
        w.slot.held[w.held] = 0
        return BUSY
    kill_point(w)
    w.held += 1
    set(cython.address(lock.seq), lock.seq | 1)
    return OK


def give_back(w, idx):
    """Give back what `adopt` has taken."""
    unlock(w, cython.address(slot_at(w, idx).own))


def gate_keeper(w):
    """The owner word of the gate if somebody who lives has closed it, and says so in his slot; 0:
    it is open, whatever its word is."""
    owner: u64 = load_acquire(cython.address(w.depot.gate.owner))
    idx: u64 = (owner & 0xFFFF) - 1
    if owner == 0 or owner == w.id or idx >= slots_used(w) or is_gone(w, owner):
        return 0
    if load(cython.address(slot_at(w, idx).held[HELD_MAX - 1])) != offset_of(w, cython.address(w.depot.gate)):
        return 0            # noted before it is taken, so this is a stray write
    return owner


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _release(w: cython.pointer(Worker), lock: cython.pointer(Lock), idx: u64) -> cython.void:
    """Give back a lock if a dead worker of the slot has it: sequence even first, owner last, then
    wake a sleeper. Of whatever generation: an heir may have died as well. By compare-and-swap: of a
    dead worker that is settled another rescuer may adopt an own lock just now."""
    owner: u64 = load(cython.address(lock.owner))
    if owner & 0xFFFF != idx + 1 or owner & ~OWNER_WAITS() == w.id:
        return
    if lock.seq & 1:
        set_release(cython.address(lock.seq), lock.seq + 1)
        barrier()
        kill_point(w)
    while not cas(cython.address(lock.owner), owner, 0):
        owner = load(cython.address(lock.owner))        # somebody waits by now, or has it
        if owner & 0xFFFF != idx + 1 or owner & ~OWNER_WAITS() == w.id:
            return
    kill_point(w)
    if owner & OWNER_WAITS():
        post(w, lock)
    kill_point(w)


def disown(w, idx):
    """Give back the own lock of the slot that this worker has taken, if an earlier worker of it has
    it."""
    _release(w, cython.address(slot_at(w, idx).own), idx)


def settle_slot(w, idx):
    """Step one for slot `idx`, whose own lock the caller has adopted."""
    dead: cython.pointer(Slot) = slot_at(w, idx)
    i: u64
    offset: u64
    journal: cython.pointer(u64) = cython.cast(
        cython.pointer(u64), w.base + w.journals_off + idx * JOURNAL_BYTES
    )
    if settle(w, dead, idx, journal) == CORRUPT:
        # Its transaction cannot be undone. The locks go back all the same: what it left behind will
        # be found by sentinel and bounds checks, and hanging everybody is not better.
        pass
    for i in range(HELD_MAX):
        offset = dead.held[i]
        if offset != 0 and offset & 7 == 0 and offset < w.map_bytes - cython.sizeof(Lock):
            _release(w, cython.cast(cython.pointer(Lock), w.base + offset), idx)
        dead.held[i] = 0
        barrier()
        kill_point(w)
    # A worker that stopped the world held other workers' own locks, which no `held` lists.
    for i in range(slots_used(w)):
        _release(w, cython.address(slot_at(w, i).own), idx)


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _bury(w: cython.pointer(Worker), idx: u64) -> cython.int:
    """Step two: take over what the dead worker had, and free its slot. Both own locks are held. OK,
    BUSY or CORRUPT."""
    dead: cython.pointer(Slot) = slot_at(w, idx)
    status: cython.int = OK
    if w.inherit != cython.NULL:
        status = cython.cast(Inherit, w.inherit)(w, dead)
    if status == OK:
        status = drain_all(w, dead)
    if status == OK:
        set_release(cython.address(dead.state), SLOT_FREE)
        barrier()
        kill_point(w)
        w.slot.stat[STAT_RECOVERIES] += 1
    return status


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _settle_dead(w: cython.pointer(Worker)) -> cython.int:
    """Step one for every dead worker that can be had: how many."""
    i: u64
    n: cython.int = 0
    left: cython.int
    before: cython.int
    # Again as long as that helps: one may wait for another to be settled that comes after it.
    left = cython.cast(cython.int, slots_used(w)) + 1
    while True:
        before = left
        left = 0
        n = 0
        for i in range(slots_used(w)):
            if not _is_dead(w, i):
                continue
            if adopt(w, i) != OK:
                left += 1
                continue
            if _is_dead(w, i):          # a newcomer may have taken the slot, or another rescuer have freed it
                settle_slot(w, i)
                n += 1
            give_back(w, i)
        if left == 0 or left >= before:
            return n


def rescue(w):
    """Recover every dead worker that can be had: how many were settled. Called with no lock held.

    A dead worker whose step two has to wait (the depot's holder is slow, somebody else is at it)
    stays for the next rescuer; nobody is blocked by it any more."""
    i: u64
    n: cython.int = _settle_dead(w)
    status: cython.int
    if n > 0 and lock_try(w, cython.address(w.slot.own)) == OK:
        for i in range(slots_used(w)):
            if not _is_dead(w, i) or adopt(w, i) != OK:
                continue
            status = BUSY
            if _is_dead(w, i):
                settle_slot(w, i)      # it may have died only now
                status = _bury(w, i)
            give_back(w, i)
            if status == CORRUPT:
                break
        unlock(w, cython.address(w.slot.own))
    return n

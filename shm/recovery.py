"""Owns what happens to a dead worker: its transaction, its locks, its chunks, its slot.

May call: liveness, journal, lock, slab, and the `Inherit` function of the layer above. Called by waiting (a
lock's holder is dead), workers (a newcomer), and by anyone short of memory. Never called with a lock held.
One rescuer at a time, elected by the rescue byte, which the kernel takes back if the rescuer dies.
Step one, for every dead worker, needs no lock, since what its journal covers is covered by locks that are
still its own: settle the journal, then release the locks. Step two uses the rescuer's own transactions
to take over its lists and to return its chunks; then the slot is free. Each step may be
cut anywhere and done again by the next rescuer, who finds the slot still taken and its byte free.
"""
import cython
from cython.cimports.shm.atomics import barrier, load, set_release, swap
from cython.cimports.shm.journal import kill_point, settle
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
    slot_at,
    slots_used,
    u64,
)
from cython.cimports.shm.liveness import RESCUE_BYTE, byte_held, byte_release, byte_try
from cython.cimports.shm.lock import OWNER_WAITS, lock_try, post, unlock
from cython.cimports.shm.slab import drain_all


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _release(w: cython.pointer(Worker), lock: cython.pointer(Lock), dead_id: u64) -> cython.void:
    """Give back a lock if the dead worker has it: sequence even first, owner last, then wake a sleeper."""
    if load(cython.address(lock.owner)) & ~OWNER_WAITS() != dead_id:
        return
    if lock.seq & 1:
        set_release(cython.address(lock.seq), lock.seq + 1)
        barrier()
        kill_point(w)
    if swap(cython.address(lock.owner), 0) & OWNER_WAITS():
        kill_point(w)
        post(w, lock)
    kill_point(w)


def settle_slot(w, idx):
    """Step one for slot `idx`, whose liveness byte the caller holds."""
    dead: cython.pointer(Slot) = slot_at(w, idx)
    dead_id: u64 = dead.gen << 16 | (idx + 1)
    i: u64
    offset: u64
    journal: cython.pointer(u64) = cython.cast(
        cython.pointer(u64), w.base + w.journals_off + idx * JOURNAL_BYTES
    )
    if settle(w, dead, idx, journal) == CORRUPT:
        # Its transaction cannot be undone. The locks go back all the same: what it left behind will be
        # found by sentinel and bounds checks, and hanging everybody is not better.
        pass
    for i in range(HELD_MAX):
        offset = dead.held[i]
        if offset != 0 and offset & 7 == 0 and offset < w.map_bytes - cython.sizeof(Lock):
            _release(w, cython.cast(cython.pointer(Lock), w.base + offset), dead_id)
        dead.held[i] = 0
        barrier()
        kill_point(w)
    # A worker that stopped the world held other workers' own locks, which no `held` lists.
    for i in range(slots_used(w)):
        _release(w, cython.address(slot_at(w, i).own), dead_id)


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _bury(w: cython.pointer(Worker), idx: u64) -> cython.int:
    """Step two: take over what the dead worker had, and free its slot. OK, BUSY or CORRUPT."""
    dead: cython.pointer(Slot) = slot_at(w, idx)
    status: cython.int = OK
    if w.inherit != cython.NULL:
        status = cython.cast(Inherit, w.inherit)(w, dead)
    if status == OK:
        status = drain_all(w, dead)
    if status == OK:
        dead.state = SLOT_FREE
        barrier()
        kill_point(w)
        w.slot.stat[STAT_RECOVERIES] += 1
    return status


def settle_dead(w):
    """Step one for every dead worker: how many. The caller holds the rescue byte, and has none of the dead's slots.

    It goes before anything is done with any dead worker's slot: the journal of a rescuer that died covers words there.
    """
    i: u64
    n: cython.int = 0
    for i in range(slots_used(w)):
        if i == w.slot_idx or slot_at(w, i).state != SLOT_LIVE or byte_held(w.fd, i):
            continue
        if byte_try(w.fd, i) != OK:
            continue
        if slot_at(w, i).state == SLOT_LIVE:
            settle_slot(w, i)
            n += 1
        byte_release(w.fd, i)
    return n


def rescue(w):
    """Recover every dead worker. How many, or -1 while another rescuer is at work.

    Called with no lock held. A dead worker whose step two has to wait (the depot's holder is slow)
    stays for the next rescuer; nobody is blocked by it any more.
    """
    i: u64
    n: cython.int
    status: cython.int
    # The byte is one for the whole opening: taking it again succeeds, and giving it back would give up a checker's too.
    if not w.keeps_rescue and byte_try(w.fd, RESCUE_BYTE()) != OK:
        return -1
    n = settle_dead(w)
    if n > 0 and lock_try(w, cython.address(w.slot.own)) == OK:
        for i in range(slots_used(w)):
            if i == w.slot_idx or slot_at(w, i).state != SLOT_LIVE or byte_held(w.fd, i):
                continue
            if byte_try(w.fd, i) != OK:
                continue
            status = BUSY
            if slot_at(w, i).state == SLOT_LIVE:
                settle_slot(w, i)      # it may have died only now
                status = _bury(w, i)
            byte_release(w.fd, i)
            if status == CORRUPT:
                break
        unlock(w, cython.address(w.slot.own))
    if not w.keeps_rescue:
        byte_release(w.fd, RESCUE_BYTE())
    return n

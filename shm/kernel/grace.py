"""Owns grace periods: waiting until no worker can still be reading what was unlinked a while ago.

Readers take no lock, so memory must not go back to the system under one that has not noticed: on a
full file system its next access would be a SIGBUS. Every worker counts in `Slot.phase` when it
enters and leaves a call, by plain stores. What these lack in ordering the waiting side pays for:
membarrier(2) runs a full barrier on every running thread of the machine (an asymmetric fence, as in
user-space RCU: Desnoyers, McKenney, Stern, Dagenais, Walpole, IEEE TPDS 2012). Takes no lock; who
waits here holds none.
"""
import cython
from cython.cimports.shm.atomics import load
from cython.cimports.shm.kernel.liveness import byte_held
from cython.cimports.shm.kernel.system import MEMBARRIER_GLOBAL, SYS_membarrier, syscall
from cython.cimports.shm.layout import OK, SLOT_LIVE, slot_at, slots_used, u64


def announce():
    """What this process has written is seen by every call that begins from now on. OK, or not: the
    system has no membarrier."""
    return OK if syscall(SYS_membarrier, MEMBARRIER_GLOBAL, 0, 0) == 0 else -1


def note_phases(w, phases):
    """Remember who is inside a call: max_workers words."""
    i: u64
    for i in range(w.max_workers):
        phases[i] = 0
        if i < slots_used(w) and i != w.slot_idx:
            phases[i] = load(cython.address(slot_at(w, i).phase))


def still_inside(w, phases):
    """A worker that has been in one call ever since `note_phases`, its slot + 1; 0 if there is
    none. The dead read no more."""
    i: u64
    for i in range(w.max_workers):
        if phases[i] & 1 == 0:
            continue
        if (
            load(cython.address(slot_at(w, i).phase)) == phases[i]
            and load(cython.address(slot_at(w, i).state)) == SLOT_LIVE
            and byte_held(w, i)
        ):
            return i + 1
        phases[i] = 0
    return 0

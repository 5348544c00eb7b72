"""Owns what a resize does with a worker's lock held: a sweep through a segment, and taking over
what other workers keep.

No lock is held before. Lock order: own, another worker's own, which is only tried; then
what a move takes (eviction/move.py).
"""
import cython
from cython.cimports.engine.eviction.move import rehouse, sweep
from cython.cimports.engine.eviction.window import make_window
from cython.cimports.engine.pages.reclaim import inherit
from cython.cimports.shm.atomics import load
from cython.cimports.shm.layout import BUSY, OK, SLOT_LIVE, slot_at
from cython.cimports.shm.lock import lock_try, unlock
from cython.cimports.shm.recovery import is_open
from cython.cimports.shm.slab import drain_all


def sweep_segment(w, number, result, host):
    """Move what leaves of a segment, as `sweep`. Called with no lock held; BUSY: the own lock."""
    status: cython.int
    if lock_try(w, cython.address(w.slot.own)) != OK:
        return BUSY
    status = sweep(w, number, True, result, host)
    unlock(w, cython.address(w.slot.own))
    return status


def move_aside(w, off, length, host):
    """Find another place for a long page that may not go and is in the way, and move it there. OK
    (also if it has gone), NOMEM (there is none), BUSY or CORRUPT. Called with no lock held."""
    status: cython.int
    if lock_try(w, cython.address(w.slot.own)) != OK:
        return BUSY
    status = make_window(w, 0, length, host)
    if status == OK:
        status = rehouse(w, off)
    unlock(w, cython.address(w.slot.own))
    return status


def take_over(w, idx):
    """Take what lies in another worker's lists and magazines: the chunks go to the depot, what it
    has retired onto this worker's list. OK, BUSY or CORRUPT. Called with no lock held.

    What it has staged goes too: a put that waits for a bucket at this moment finds its list empty,
    and stages anew."""
    status: cython.int = OK
    if lock_try(w, cython.address(w.slot.own)) != OK:
        return BUSY
    if idx == w.slot_idx:
        status = drain_all(w, w.slot)
    elif load(cython.address(slot_at(w, idx).state)) == SLOT_LIVE:
        if lock_try(w, cython.address(slot_at(w, idx).own)) != OK:
            unlock(w, cython.address(w.slot.own))
            return BUSY
        # A transaction that is open is of a dead worker that is not settled, though its lock is
        # free: a rescuer gave it back to an heir, or died. Nothing of it may be touched before
        # that.
        status = BUSY if is_open(w, idx) else inherit(w, slot_at(w, idx))
        if status == OK:
            status = drain_all(w, slot_at(w, idx))
        unlock(w, cython.address(slot_at(w, idx).own))
    unlock(w, cython.address(w.slot.own))
    return status

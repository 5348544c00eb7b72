"""Owns what a resize does with a worker's lock held: a sweep through a segment, making way for what
has no place to move to, and taking over what other workers keep.

No lock is held before. Lock order: own, another worker's own, which is only tried; then
what a move takes (eviction/move.py).
"""
import cython
from cython.cimports.engine.eviction.move import move_starved, sweep
from cython.cimports.engine.eviction.window import make_window
from cython.cimports.engine.layout.regions import page_at
from cython.cimports.engine.layout.structs import PAMPD_SENTINEL, Pampd
from cython.cimports.engine.layout.words import copied_of, in_chunk, size_class
from cython.cimports.engine.pages.reclaim import inherit
from cython.cimports.shm.atomics import load
from cython.cimports.shm.layout import BUSY, EXTENT_CLASS, OK, SLOT_LIVE, slot_at, u64
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


def make_way(w, off, result, host):
    """Let pages go, and move others together, until there is a place for a long page that leaves,
    may not go and had none; then move it there. OK (also if it has gone), NOMEM (there is none to
    be had), BUSY or CORRUPT. Called with no lock held."""
    d: cython.pointer(Pampd)
    shape: u64
    status: cython.int
    if lock_try(w, cython.address(w.slot.own)) != OK:
        return BUSY
    d = page_at(w, off)
    shape = load(cython.address(d.shape))
    status = OK
    if d.sentinel == PAMPD_SENTINEL and in_chunk(shape) and size_class(shape) == EXTENT_CLASS:
        status = make_window(w, 0, copied_of(shape), host)
        if status == OK and move_starved(w, off, host) == OK:
            result.moved += 1
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

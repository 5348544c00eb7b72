"""Owns what all verbs share: a bucket locked and given back, where a page hangs, taking one out.
docs/walk-of-a-put.md names the steps of a verb.

Nothing here blocks, raises or touches a Python object (adapters of Python back ends aside). A verb
that meets a taken lock gives back what it holds and answers BUSY; the caller waits and calls it
again, and it goes on from where it was (staged pages stay staged). Lock order: the worker's own
lock, then one bucket. The worker's own lock is the right to change anything at all: who holds
everybody's has stopped the world (stop.py).
Kill at any instruction: what a locked section did is undone from its journal or complete; what was
staged or retired hangs on the worker's slot, where recovery finds it.
"""
import cython
import cython.cimports.engine.tree.objnode as objnode
from cython.cimports.engine.eviction.admit import settle_pending
from cython.cimports.engine.layout.call import DESTROYED
from cython.cimports.engine.layout.regions import (
    height_of,
    index_in,
    is_told,
    obj_at,
    page_at,
    pages_of,
    pampd_at,
    pool_of_obj,
    stem_of,
)
from cython.cimports.engine.layout.structs import ROOT_PENDING, Obj, Pampd
from cython.cimports.engine.layout.words import ask_for, length_of, target_of
from cython.cimports.engine.pages.reclaim import reap
from cython.cimports.engine.tree.lookaside import ask_for_leaf, find_obj, note_leaf
from cython.cimports.engine.tree.unlink import take_obj, take_page
from cython.cimports.shm.atomics import load
from cython.cimports.shm.journal import conclude, store
from cython.cimports.shm.layout import BUSY, CORRUPT, FAULT_SENTINEL, OK, u64
from cython.cimports.shm.lock import lock_both, unlock, unlock_both
from cython.cimports.shm.memory import chunk_at


def lock_bucket(w, p, b):
    """OK with own lock and bucket held, or BUSY, DESTROYED with neither."""
    if lock_both(w, cython.address(b.lock)) != OK:
        return BUSY
    if not alive(p):
        unlock_both(w, cython.address(b.lock))
        return DESTROYED
    return OK


def end_section(w, b, status):
    """Commit (or roll back after a fault), release the bucket; own lock stays. The status, or
    CORRUPT."""
    if conclude(w) != OK:
        status = CORRUPT
    unlock(w, cython.address(b.lock))
    return status


def find_place(w, p, c, b, index, obj_off):
    """Where the link word lies that leads to the page of an index, or NULL, and the offset of the
    obj, 0 without one. Under the lock, or between two looks at the sequence word."""
    o: cython.pointer(Obj)
    at: cython.pointer(u64)
    ask_for_leaf(w, p, c, index)
    obj_off[0] = find_obj(w, p, c, b)
    if obj_off[0] == 0 or w.fault != 0:
        return cython.NULL
    o = obj_at(w, obj_off[0])
    at = objnode.link_word(w, o, index, 0)
    if at != cython.NULL and height_of(o) > 1:
        note_leaf(p, c, index, objnode.leaf_of(w, at, index))
    return at if w.fault == 0 else cython.NULL


def find_page(w, p, c, b, index, obj_off):
    """The page of an index and the offset of its obj; NULL, and 0 without an obj. Under the lock,
    or between two looks at the sequence word. A page that says it is another's, or of an impossible
    length, sets the fault and is not answered."""
    link: u64
    length: u64
    o: cython.pointer(Obj)
    d: cython.pointer(Pampd)
    at: cython.pointer(u64) = find_place(w, p, c, b, index, obj_off)
    link = load(at) if at != cython.NULL else 0
    if link == 0:
        return cython.NULL
    ask_for(w, link)
    d = pampd_at(w, target_of(link))
    length = length_of(d)
    o = obj_at(w, obj_off[0])
    if w.fault == 0 and (index_in(o, d) != index or d.obj != obj_off[0] or pool_of_obj(o) != p.idx
                         or length > p.page_max):
        w.fault = FAULT_SENTINEL
    return d if w.fault == 0 else cython.NULL


def finish(w, budget, host):
    """Queue what was linked and give back what was retired, as far as no lock is in the way, and
    release the own lock."""
    status: cython.int = OK
    if w.slot.client[ROOT_PENDING] != 0:
        status = settle_pending(w, host)
    if status != CORRUPT:
        status = reap(w, budget)
    unlock(w, cython.address(w.slot.own))
    return status


def drop_page(w, p, c, obj_off, index, told, pam, host):
    """Unlink the page of an index and retire it: its offset, or 0. `told`: the back end freed it
    already."""
    off: u64 = take_page(w, p.idx, obj_off, index, host)
    d: cython.pointer(Pampd)
    if off != 0 and pam.foreign:
        d = page_at(w, off)
        if not told:
            pam.free(p.idx, c.ask.oid, d)
        store(w, cython.address(d.data), 0)
    return off


def forget_told(w, obj_off):
    """Whoever gives an obj back need not tell its back end."""
    o: cython.pointer(Obj) = cython.cast(cython.pointer(Obj), chunk_at(w, obj_off))     # it may be retired
    if is_told(o):
        store(w, cython.address(stem_of(o).nodes), stem_of(o).nodes & ~cython.cast(u64, 1))


def drop_empty_obj(w, p, c, b, obj_off, pam, host):
    """Unlink an obj that has no page left."""
    o: cython.pointer(Obj) = obj_at(w, obj_off)
    if w.fault != 0 or pages_of(o) != 0:
        return
    if is_told(o):
        pam.free_obj(p.idx, c.ask.oid)
        forget_told(w, obj_off)
    take_obj(w, p.idx, b, obj_off, host)

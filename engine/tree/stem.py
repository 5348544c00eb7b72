"""Owns giving a stem to a lean obj that is to have other pages than page 0.

The bucket's lock is held, a chunk for the obj lies in the worker's magazine, and the stores are
part of the caller's transaction: the obj with the stem takes the place of the lean one, which is
retired.
"""
import cython
import cython.cimports.engine.tree.rbtree as rbtree
from cython.cimports.engine.layout.regions import (
    chunk_bytes,
    epoch_of_obj,
    obj_at,
    obj_count,
    obj_sentinel,
    pampd_at,
    pool_of_obj,
    stem_of,
)
from cython.cimports.engine.layout.structs import GAUGE_OBJECTS, OBJ_CLASS, Obj, Pampd, Stem
from cython.cimports.engine.layout.words import length_of, stored_bytes, target_of
from cython.cimports.engine.pages.reclaim import gauge, retire
from cython.cimports.libc.string import memset
from cython.cimports.shm.journal import store
from cython.cimports.shm.layout import u64
from cython.cimports.shm.memory import chunk_at
from cython.cimports.shm.slab import pop


def give_stem(w, b, obj_off):
    """The offset of the obj that has the oid, the page and the expiry of a lean one, and a stem; 0
    after a fault."""
    o: cython.pointer(Obj) = obj_at(w, obj_off)
    new: u64 = pop(w, OBJ_CLASS)
    n: cython.pointer(Obj)
    s: cython.pointer(Stem)
    d: cython.pointer(Pampd) = cython.NULL
    if new == 0 or w.fault != 0:
        return 0
    n = cython.cast(cython.pointer(Obj), chunk_at(w, new))
    s = stem_of(n)
    n[0] = o[0]
    n.sentinel = obj_sentinel(False, pool_of_obj(o), epoch_of_obj(o))
    n.link = 0
    memset(s, 0, cython.sizeof(Stem))
    if o.link != 0:
        d = pampd_at(w, target_of(o.link))
        s.root = o.link
        s.pampd_count = 1
        s.expires = d.index
        s.asked = length_of(d)
        s.used = chunk_bytes(w, d)
        s.stored = stored_bytes(d)
    # Its place first, which ends in a release fence: who follows the page to its obj without the
    # lock sees the obj whole.
    rbtree.replace(w, b, obj_off, new)
    if o.link != 0:
        store(w, cython.address(d.index), 0)
        store(w, cython.address(d.obj), new)
    gauge(w, pool_of_obj(o), GAUGE_OBJECTS, obj_count(False) - obj_count(True))
    retire(w, obj_off)
    return new if w.fault == 0 else 0

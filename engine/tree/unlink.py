"""Owns taking a page out of its object, and an object out of its bucket, without pages or with all
it has, with everything that counts them.

The bucket's lock is held, and the stores are part of the caller's transaction. What a foreign back
end holds is the verbs' business.
"""
import cython
import cython.cimports.engine.tree.objnode as objnode
import cython.cimports.engine.tree.rbtree as rbtree
from cython.cimports.engine.layout.regions import (
    chunk_bytes,
    is_lean,
    nodes_of,
    obj_at,
    obj_count,
    pampd_at,
    pool_of_obj,
    stem_of,
)
from cython.cimports.engine.layout.structs import (
    EXPIRED,
    GAUGE_BYTES_ASKED,
    GAUGE_BYTES_STORED,
    GAUGE_BYTES_USED,
    GAUGE_OBJECTS,
    GAUGE_OBJNODES,
    GAUGE_PAGES,
    Obj,
    Pampd,
    Stem,
)
from cython.cimports.engine.layout.words import length_of, stored_bytes
from cython.cimports.engine.pages.reclaim import detach, gauge, ledger_for, retire
from cython.cimports.engine.tree.lookaside import was_cleared
from cython.cimports.shm.journal import store
from cython.cimports.shm.layout import u64


def weigh(w, pool, obj_off, asked, used, stored):
    """Add to the bytes of an obj, if it has a stem, and to the gauges of its pool: lengths of
    pages, bytes of chunks, bytes really stored."""
    o: cython.pointer(Obj) = obj_at(w, obj_off)
    s: cython.pointer(Stem) = stem_of(o)
    lean: cython.bint = is_lean(o)
    ledger: cython.pointer(u64)
    if asked == 0 and used == 0 and stored == 0:
        return
    ledger = ledger_for(w, pool)
    if ledger == cython.NULL:
        return
    if asked != 0:
        if not lean:
            store(w, cython.address(s.asked), s.asked + asked)
        store(w, ledger + GAUGE_BYTES_ASKED, ledger[GAUGE_BYTES_ASKED] + asked)
    if used != 0:
        if not lean:
            store(w, cython.address(s.used), s.used + used)
        store(w, ledger + GAUGE_BYTES_USED, ledger[GAUGE_BYTES_USED] + used)
    if stored != 0:
        if not lean:
            store(w, cython.address(s.stored), s.stored + stored)
        store(w, ledger + GAUGE_BYTES_STORED, ledger[GAUGE_BYTES_STORED] + stored)


def take_page(w, pool, obj_off, index, host):
    """Unlink the page of an index and retire it: its offset, or 0 if there is none, or after a
    fault."""
    o: cython.pointer(Obj) = obj_at(w, obj_off)
    nodes: u64 = nodes_of(o)
    off: u64 = objnode.remove(w, obj_off, index, host)
    d: cython.pointer(Pampd)
    if off == 0 or w.fault != 0:
        return 0
    d = pampd_at(w, off)
    if w.fault != 0:
        return 0
    weigh(w, pool, obj_off, -length_of(d), -chunk_bytes(w, d), -stored_bytes(d))
    retire(w, off)
    gauge(w, pool, GAUGE_PAGES, -1)
    if nodes_of(o) != nodes:
        gauge(w, pool, GAUGE_OBJNODES, nodes_of(o) - nodes)
    return off


def take_obj(w, pool, b, obj_off, host):
    """Unlink an obj from its bucket and retire it."""
    gauge(w, pool, GAUGE_OBJECTS, -obj_count(is_lean(obj_at(w, obj_off))))
    rbtree.erase(w, b, obj_off)
    host.obj_free(w, pool, obj_off)


def bury(w, b, obj_off):
    """Take an obj out of its bucket, with all its pages, in constant time; whoever works off the
    retired list takes it apart."""
    rbtree.erase(w, b, obj_off)
    detach(w, obj_off)


def bury_dead(w, p, b, obj_off):
    """The same of one that is dead; what had expired is counted."""
    o: cython.pointer(Obj) = obj_at(w, obj_off)
    if w.fault == 0 and not was_cleared(p, o):
        gauge(w, pool_of_obj(o), EXPIRED, 1)
    bury(w, b, obj_off)

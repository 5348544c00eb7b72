"""Owns the radix tree of an object: 64-slot objnodes, 6 bits of the index a level, as high as the
largest index needs.

A tree of height 0 is the page of index 0 itself; that of a lean obj never gets any higher.
The bucket's lock is held, but for `link_word` and
`lookup`, which readers without a lock use too. Faults as in rbtree.py. Counts of the obj are kept
here, so that a rollback of the transaction undoes tree and counts together.
"""
import cython
from cython.cimports.engine.layout.call import REFUSED
from cython.cimports.engine.layout.regions import height_of, is_lean, obj_at, objnode_at, pool_of_obj, root_of, stem_of
from cython.cimports.engine.layout.structs import (
    HEIGHT_MAX,
    MAP_SIZE,
    NODES_SHIFT,
    OBJNODE_SENTINEL,
    Obj,
    Objnode,
    Stem,
)
from cython.cimports.engine.layout.words import link_to, target_of
from cython.cimports.engine.tree.hostops import HostOps
from cython.cimports.engine.tree.objnode import height_for
from cython.cimports.libc.string import memset
from cython.cimports.shm.atomics import load
from cython.cimports.shm.journal import store
from cython.cimports.shm.layout import CORRUPT, FAULT_LOOP, OK, Worker, u64
from cython.cimports.shm.memory import chunk_at


def link_word(w, o, index, level):
    """Where the link word lies that leads to the page of `index` (level 0), or to the objnode of a
    level above it; NULL: nowhere. Under the bucket's lock, or between two looks at its sequence
    word."""
    height: u64 = height_of(o)
    at: cython.pointer(u64) = root_of(o)
    link: u64 = load(at)
    n: cython.pointer(Objnode)
    if height_for(index) > height or level > height:
        return cython.NULL
    if height > HEIGHT_MAX:
        w.fault = FAULT_LOOP
        return cython.NULL
    while height > level and link != 0:
        n = objnode_at(w, target_of(link))
        if w.fault != 0:
            return cython.NULL
        height -= 1
        at = cython.address(n.slots[(index >> (6 * height)) & (MAP_SIZE - 1)])
        link = load(at)
    return at if link != 0 else cython.NULL


def lookup(w, o, index):
    """Link word of the page of `index`, or 0."""
    at: cython.pointer(u64) = link_word(w, o, index, 0)
    return load(at) if at != cython.NULL else 0


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _new_node(w: cython.pointer(Worker), obj_off: u64, level: u64, host: HostOps) -> u64:
    """A node with empty slots, counted in the obj's stem; 0: refused. Nothing links to it, so it is
    written plainly."""
    o: cython.pointer(Obj) = obj_at(w, obj_off)
    off: u64 = host.objnode_alloc(w, pool_of_obj(o))
    n: cython.pointer(Objnode)
    if off == 0 or w.fault != 0:
        return 0
    n = cython.cast(cython.pointer(Objnode), chunk_at(w, off))
    memset(n, 0, cython.sizeof(Objnode))
    n.sentinel = OBJNODE_SENTINEL
    n.obj = obj_off
    n.level = level
    store(w, cython.address(stem_of(o).nodes), stem_of(o).nodes + (cython.cast(u64, 1) << NODES_SHIFT))
    return off


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _link_at(w: cython.pointer(Worker), at: cython.pointer(u64), page: u64) -> u64:
    """Link a page where one may be already: the offset of that, or 0. Then the descriptor stays,
    with other bytes behind it: only the hint is new."""
    off: u64 = target_of(at[0])
    store(w, at, page if off == 0 else (page >> 37 << 37) | link_to(off))
    return off


def insert(w, obj_off, index, page, old, host):
    """Link a page (`page`: its link word) at an index; `old`: offset of the page that is there and
    stays, or 0. An obj that gets any other index than 0 has a stem.

    OK, REFUSED (some nodes may be linked: roll back) or CORRUPT."""
    o: cython.pointer(Obj) = obj_at(w, obj_off)
    s: cython.pointer(Stem) = stem_of(o)
    n: cython.pointer(Objnode)
    want: u64 = height_for(index)
    level: u64
    at: cython.pointer(u64)
    off: u64
    old[0] = 0
    if w.fault == 0 and is_lean(o):
        if want != 0:
            w.fault = FAULT_LOOP
        old[0] = _link_at(w, cython.address(o.link), page)
        return OK if w.fault == 0 else CORRUPT
    if w.fault != 0 or s.height > HEIGHT_MAX:
        w.fault = w.fault if w.fault else FAULT_LOOP
        return CORRUPT
    if s.root == 0:
        if s.height != want:
            store(w, cython.address(s.height), want)
    while s.height < want and w.fault == 0:
        off = _new_node(w, obj_off, s.height + 1, host)
        if off == 0:
            return REFUSED
        n = objnode_at(w, off)
        n.slots[0] = s.root
        n.slots_in_use = 1
        store(w, cython.address(s.root), link_to(off))
        store(w, cython.address(s.height), s.height + 1)
    level = s.height
    at = cython.address(s.root)
    n = cython.NULL
    while w.fault == 0:
        off = target_of(at[0])
        if level == 0:
            old[0] = _link_at(w, at, page)
            if old[0] != 0:
                return OK if w.fault == 0 else CORRUPT
        elif off == 0:
            off = _new_node(w, obj_off, level, host)
            if off == 0:
                return REFUSED
            store(w, at, link_to(off))
        else:
            n = objnode_at(w, off)
            level -= 1
            at = cython.address(n.slots[(index >> (6 * level)) & (MAP_SIZE - 1)])
            continue
        if n != cython.NULL:
            store(w, cython.address(n.slots_in_use), n.slots_in_use + 1)
        if level == 0:
            break
        n = objnode_at(w, off)
        level -= 1
        at = cython.address(n.slots[(index >> (6 * level)) & (MAP_SIZE - 1)])
    if w.fault != 0:
        return CORRUPT
    store(w, cython.address(s.pampd_count), s.pampd_count + 1)
    return OK


def remove(w, obj_off, index, host):
    """Unlink the page of `index`: its offset, or 0 if there is none. Empty nodes go, the tree gets
    as low as it can."""
    o: cython.pointer(Obj) = obj_at(w, obj_off)
    s: cython.pointer(Stem) = stem_of(o)
    n: cython.pointer(Objnode)
    path: u64[12]
    level: u64 = height_of(o)
    top: u64 = level
    off: u64 = target_of(root_of(o)[0])
    page: u64
    at: cython.pointer(u64)
    if w.fault != 0 or top > HEIGHT_MAX:
        w.fault = w.fault if w.fault else FAULT_LOOP
        return 0
    if height_for(index) > top:
        return 0
    while level > 0 and off != 0:
        path[level] = off
        n = objnode_at(w, off)
        level -= 1
        off = target_of(n.slots[(index >> (6 * level)) & (MAP_SIZE - 1)])
    if off == 0 or w.fault != 0:
        return 0
    page = off
    if is_lean(o):
        store(w, cython.address(o.link), 0)
        return page
    store(w, cython.address(s.pampd_count), s.pampd_count - 1)
    # From the page up: clear the slot; a node that has none left goes too.
    level = 1
    while level <= top and w.fault == 0:
        n = objnode_at(w, path[level])
        at = cython.address(n.slots[(index >> (6 * (level - 1))) & (MAP_SIZE - 1)])
        store(w, at, 0)
        store(w, cython.address(n.slots_in_use), n.slots_in_use - 1)
        if n.slots_in_use != 0:
            break
        host.objnode_free(w, pool_of_obj(o), path[level])
        store(w, cython.address(s.nodes), s.nodes - (cython.cast(u64, 1) << NODES_SHIFT))
        level += 1
    if level > top:
        store(w, cython.address(s.root), 0)
        if s.height != 0:
            store(w, cython.address(s.height), 0)
        return page
    if level == top:
        n = objnode_at(w, target_of(s.root))
        while w.fault == 0 and s.height > 0 and n.slots_in_use == 1 and n.slots[0] != 0:
            off = target_of(s.root)
            store(w, cython.address(s.root), n.slots[0])
            store(w, cython.address(s.height), s.height - 1)
            store(w, cython.address(s.nodes), s.nodes - (cython.cast(u64, 1) << NODES_SHIFT))
            # The chain it headed is someone else's now: a retired node must not give it back.
            store(w, cython.address(n.slots[0]), 0)
            store(w, cython.address(n.slots_in_use), 0)
            host.objnode_free(w, pool_of_obj(o), off)
            if s.height > 0:
                n = objnode_at(w, target_of(s.root))
    return page if w.fault == 0 else 0

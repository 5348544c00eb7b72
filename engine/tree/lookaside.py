"""Owns this process's memory of where objs are: oid to obj, so that a page is found without walking
the bucket's tree.

A table comes and goes with its Pool, and is used between Attachment.enter and leave alone. An entry
holds the offset of an obj and what Bucket.unlinked was when it was found. That word changes with
every obj that is unlinked or moved, before it is, and never goes back, not even in a rollback:
while it is the same, an obj that was linked for good is still linked where it was. A part of the
oid's hash in it saves a look at the wrong obj. An entry serves one hash value modulo the table, and
a table has at least as many entries as the pool has buckets, so the entries of one place are of one
bucket. Nothing here is shared, so a kill takes it along. A second table, made when a tree of
several levels is met, has hints where bottom nodes are.
Rejected: trusting sentinel and oid of the obj (a page's bytes may look like one); offsets kept in
the handles of pool.object() (the same work for one way of calling only).
"""
import cython
from cython.cimports.engine.layout.call import ASIDES_MAX, LEAVES_MIN, Aside
from cython.cimports.libc.stdlib import calloc, free
from cython.cimports.shm.layout import NOMEM, OK


def new_table(p, entries):
    """An empty table of so many entries, a power of two, in place of the one there is. OK, or NOMEM
    with the old one still there."""
    table: cython.pointer(Aside) = cython.cast(cython.pointer(Aside), calloc(entries, cython.sizeof(Aside)))
    if table == cython.NULL:
        return NOMEM
    free(p.asides)
    p.asides = table
    p.aside_mask = entries - 1
    p.aside_clashes = 0
    return OK


def keep(p, c):
    """Remember what `find_obj` found; where entries fight for places, with more of them."""
    a: cython.pointer(Aside)
    if p.aside_clashes > p.aside_mask >> 2 and p.aside_mask + 1 < ASIDES_MAX:
        new_table(p, (p.aside_mask + 1) * 2)
        p.aside_clashes = 0
    a = p.asides + (c.ask.hash & p.aside_mask)
    a.obj = c.found.obj >> 6 | c.ask.hash >> 37 << 37
    a.unlinked = c.found.unlinked
    a.top = c.found.top


def keep_leaf(p, key, leaf):
    """Remember where a bottom node is, in place of another; where they fight for places, with more
    of them."""
    entries: u64 = (p.leaf_mask + 1) * 2
    table: cython.pointer(u64)
    if p.leaves != cython.NULL and p.leaves[key & p.leaf_mask] != 0:
        p.leaf_clashes += 1
    if p.leaves == cython.NULL or (p.leaf_clashes > p.leaf_mask >> 1 and entries <= ASIDES_MAX):
        entries = max(entries, LEAVES_MIN)
        table = cython.cast(cython.pointer(u64), calloc(entries, 8))
        if table == cython.NULL:
            return
        free(p.leaves)
        p.leaves = table
        p.leaf_mask = entries - 1
        p.leaf_clashes = 0
    p.leaves[key & p.leaf_mask] = leaf


def forget(p):
    """Give the tables back."""
    free(p.leaves)
    p.leaves = cython.NULL
    free(p.asides)
    p.asides = cython.NULL

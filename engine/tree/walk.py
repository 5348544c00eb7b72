"""Owns going through what hangs in a bucket or an object in order, a few at a time: which objs come
after an oid, which pages from an index on.

The bucket's lock is held, or the caller looks at its sequence word before and after: then anything
may come out, and is worth nothing before the second look. Faults as in rbtree.py. Every loop is
bounded, and what comes out rises, so that a walk that goes on behind the last one ends.
"""
import cython
from cython.cimports.engine.layout.regions import height_of, obj_at, objnode_at, root_of
from cython.cimports.engine.layout.structs import DEPTH_MAX, HEIGHT_MAX, MAP_SIZE, Obj, Objnode
from cython.cimports.engine.layout.words import target_of
from cython.cimports.engine.tree.objnode import height_for
from cython.cimports.engine.tree.rbtree import compare
from cython.cimports.shm.atomics import load, prefetch
from cython.cimports.shm.layout import FAULT_LOOP, Worker, u64


def objs_after(w, b, after, offs, most):
    """The offsets of up to `most` objs whose oids come after one, the nearest first; NULL: of the
    first ones. How many; fewer than `most`: there are no more, or there is a fault."""
    path: u64[128]                # those whose left subtrees are done or under way, and who come next themselves
    depth: cython.int = 0
    steps: cython.int = 0
    count: cython.int = 0
    off: u64 = load(cython.address(b.root))
    o: cython.pointer(Obj)
    while off != 0 or depth > 0:
        while off != 0:
            o = obj_at(w, off)
            steps += 1
            if steps > DEPTH_MAX or depth >= DEPTH_MAX:
                w.fault = w.fault if w.fault else FAULT_LOOP
            if w.fault != 0:
                return count
            if after != cython.NULL and compare(o.oid, after) <= 0:
                off = load(cython.address(o.right))
                continue
            path[depth] = off
            depth += 1
            off = load(cython.address(o.left))
        if depth == 0:
            break
        depth -= 1
        offs[count] = path[depth]
        o = obj_at(w, path[depth])
        if count != 0 and compare(o.oid, obj_at(w, offs[count - 1]).oid) <= 0:
            w.fault = w.fault if w.fault else FAULT_LOOP
        if w.fault != 0:
            return count
        prefetch(w.base + target_of(load(root_of(o))))
        count += 1
        if count == most:
            break
        off = load(cython.address(o.right))
        steps = depth
    return count


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _leaf_from(w: cython.pointer(Worker), o: cython.pointer(Obj), height: u64, index: cython.pointer(u64)
               ) -> cython.pointer(Objnode):
    """The bottom node with the first page of an object from an index on, in a tree of a height that
    is not 0, and was read once and checked; `index` becomes the first that may be in it. NULL:
    there is no such page."""
    level: u64 = height
    nodes: cython.pointer(Objnode)[12]
    slot: u64
    slots: u64
    shift: u64
    back: cython.int = 0        # a sound tree has a page below every node, so few of them are left again
    nodes[level] = objnode_at(w, target_of(load(root_of(o))))
    while w.fault == 0 and back <= HEIGHT_MAX:
        shift = 6 * (level - 1)
        slot = index[0] >> shift & (MAP_SIZE - 1)
        slots = MAP_SIZE if level < HEIGHT_MAX else MAP_SIZE >> 2       # the highest level has the last 4 bits
        while slot < slots and load(cython.address(nodes[level].slots[slot])) == 0:
            slot += 1
            index[0] = index[0] >> shift << shift       # from the beginning of the next one
        if slot < slots:
            index[0] = index[0] & ~(cython.cast(u64, MAP_SIZE - 1) << shift) | slot << shift
            if level == 1:
                return nodes[1]
            level -= 1
            nodes[level] = objnode_at(w, target_of(load(cython.address(nodes[level + 1].slots[slot]))))
            continue
        # Nothing more below this node: go on in the lowest one above it that has a next slot.
        back += 1
        while level < height and (index[0] >> 6 * level & (MAP_SIZE - 1)) == MAP_SIZE - 1:
            level += 1
        if level == height:
            return cython.NULL
        level += 1
        shift = 6 * (level - 1)
        index[0] = ((index[0] >> shift) + 1) << shift
    w.fault = w.fault if w.fault else FAULT_LOOP
    return cython.NULL


def indexes_from(w, o, index, found, most):
    """Up to `most` indexes of an object's pages, the lowest first, from one on. How many; fewer
    than `most`: there are no more, or there is a fault."""
    count: cython.int = 0
    root: u64 = load(root_of(o))
    height: u64 = height_of(o)
    n: cython.pointer(Objnode)
    if height > HEIGHT_MAX:
        w.fault = w.fault if w.fault else FAULT_LOOP
    if root == 0 or w.fault != 0 or height_for(index) > height:
        return 0
    if height == 0:
        found[0] = 0
        return 1
    while count < most:
        n = _leaf_from(w, o, height, cython.address(index))
        if n == cython.NULL or w.fault != 0:
            break
        while count < most:
            if load(cython.address(n.slots[index & (MAP_SIZE - 1)])) != 0:
                found[count] = index
                count += 1
            index += 1
            if index & (MAP_SIZE - 1) == 0:
                break
        # Behind the last index of all, or of this tree.
        if index == 0 or height_for(index) > height:
            break
    return count

"""Owns the red-black tree of objs in a bucket: find, insert, erase, put one in another's place.

Algorithms: Cormen, Leiserson, Rivest, Stein, "Introduction to Algorithms", chapter 13, with offset
0 as nil. The bucket's lock is held, but for `find`, which readers use too that have no lock and
check the sequence word afterwards. A bad offset or sentinel sets Worker.fault: from then on reads
give zeroes (nil), stores do nothing, and the caller rolls back. Every loop is bounded.
"""
import cython
from cython.cimports.engine.layout.regions import obj_at
from cython.cimports.engine.layout.structs import DEPTH_MAX, Bucket, Obj
from cython.cimports.engine.tree.rbtree import compare
from cython.cimports.shm.atomics import fence_release, load, set
from cython.cimports.shm.journal import store
from cython.cimports.shm.layout import FAULT_LOOP, Worker, u64

RED = cython.declare(u64, 1)


def find(w, b, oid):
    """Offset of the obj of `oid`, or 0."""
    off: u64 = load(cython.address(b.root))
    depth: cython.int = 0
    order: cython.int
    o: cython.pointer(Obj)
    while off != 0:
        o = obj_at(w, off)
        if w.fault != 0:
            return 0
        order = compare(oid, o.oid)
        if order == 0:
            return off
        off = load(cython.address(o.left)) if order < 0 else load(cython.address(o.right))
        depth += 1
        if depth > DEPTH_MAX:
            w.fault = FAULT_LOOP
            return 0
    return 0


@cython.cfunc
@cython.nogil
@cython.inline
@cython.exceptval(check=False)
def _parent(o: cython.pointer(Obj)) -> u64:
    return o.parent & ~RED


@cython.cfunc
@cython.nogil
@cython.inline
@cython.exceptval(check=False)
def _is_red(w: cython.pointer(Worker), off: u64) -> cython.bint:
    return off != 0 and obj_at(w, off).parent & RED != 0


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _paint(w: cython.pointer(Worker), off: u64, colour: u64) -> cython.void:
    o: cython.pointer(Obj) = obj_at(w, off)
    if o.parent & RED != colour:
        store(w, cython.address(o.parent), (o.parent & ~RED) | colour)


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _set_parent(w: cython.pointer(Worker), off: u64, parent: u64) -> cython.void:
    o: cython.pointer(Obj) = obj_at(w, off)
    store(w, cython.address(o.parent), parent | (o.parent & RED))


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _replace_child(
    w: cython.pointer(Worker), b: cython.pointer(Bucket), parent: u64, old: u64, new: u64
) -> cython.void:
    """Make whatever pointed at child `old` of `parent` (0: the root) point at `new`."""
    o: cython.pointer(Obj)
    if parent == 0:
        store(w, cython.address(b.root), new)
        return
    o = obj_at(w, parent)
    if o.left == old:
        store(w, cython.address(o.left), new)
    else:
        store(w, cython.address(o.right), new)


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _rotate(w: cython.pointer(Worker), b: cython.pointer(Bucket), x: u64, left: cython.bint) -> cython.void:
    """Rotate at x: its right (left=True) or left child takes its place."""
    ox: cython.pointer(Obj) = obj_at(w, x)
    y: u64 = ox.right if left else ox.left
    oy: cython.pointer(Obj) = obj_at(w, y)
    inner: u64
    if w.fault != 0:
        return
    inner = oy.left if left else oy.right
    store(w, cython.address(ox.right) if left else cython.address(ox.left), inner)
    if inner != 0:
        _set_parent(w, inner, x)
    _set_parent(w, y, _parent(ox))
    _replace_child(w, b, _parent(ox), x, y)
    store(w, cython.address(oy.left) if left else cython.address(oy.right), x)
    _set_parent(w, x, y)


def insert(w, b, off):
    """Link the obj at `off`, whose oid is not in the tree yet; left, right and parent are set
    here."""
    o: cython.pointer(Obj) = obj_at(w, off)
    op: cython.pointer(Obj)
    parent: u64 = 0
    at: u64 = b.root
    depth: cython.int = 0
    order: cython.int = 0
    grand: u64
    uncle: u64
    on_left: cython.bint
    while at != 0:
        op = obj_at(w, at)
        depth += 1
        if w.fault != 0 or depth > DEPTH_MAX:
            w.fault = w.fault if w.fault else FAULT_LOOP
            return
        parent = at
        order = compare(o.oid, op.oid)
        at = op.left if order < 0 else op.right
    o.left = 0
    o.right = 0
    o.parent = parent | RED
    if parent == 0:
        store(w, cython.address(b.root), off)
    else:
        op = obj_at(w, parent)
        if order < 0:
            store(w, cython.address(op.left), off)
        else:
            store(w, cython.address(op.right), off)
    depth = 0
    while w.fault == 0 and depth < DEPTH_MAX:
        depth += 1
        parent = _parent(obj_at(w, off))
        if not _is_red(w, parent):
            break
        grand = _parent(obj_at(w, parent))
        if grand == 0:
            break
        on_left = obj_at(w, grand).left == parent
        uncle = obj_at(w, grand).right if on_left else obj_at(w, grand).left
        if _is_red(w, uncle):
            _paint(w, parent, 0)
            _paint(w, uncle, 0)
            _paint(w, grand, RED)
            off = grand
            continue
        if off == (obj_at(w, parent).right if on_left else obj_at(w, parent).left):
            _rotate(w, b, parent, on_left)
            off, parent = parent, off
        _paint(w, parent, 0)
        _paint(w, grand, RED)
        _rotate(w, b, grand, not on_left)
        break
    if b.root != 0:
        _paint(w, b.root, 0)


def erase(w, b, off):
    """Unlink the obj at `off`. Its own words are left as they are."""
    o: cython.pointer(Obj) = obj_at(w, off)
    oy: cython.pointer(Obj)
    y: u64 = off
    x: u64
    parent: u64
    depth: cython.int = 0
    removed_red: cython.bint = o.parent & RED != 0
    # Before the obj goes. A plain store, which no rollback takes back: lookaside tables forget the
    # bucket's objs.
    set(cython.address(b.unlinked), b.unlinked + 1)
    if o.left == 0 or o.right == 0:
        x = o.left if o.left != 0 else o.right
        parent = _parent(o)
        _replace_child(w, b, parent, off, x)
        if x != 0:
            _set_parent(w, x, parent)
    else:
        y = o.right
        oy = obj_at(w, y)
        while w.fault == 0 and oy.left != 0:
            y = oy.left
            oy = obj_at(w, y)
            depth += 1
            if depth > DEPTH_MAX:
                w.fault = FAULT_LOOP
        if w.fault != 0:
            return
        removed_red = oy.parent & RED != 0
        x = oy.right
        if _parent(oy) == off:
            parent = y
        else:
            parent = _parent(oy)
            _replace_child(w, b, parent, y, x)
            if x != 0:
                _set_parent(w, x, parent)
            store(w, cython.address(oy.right), o.right)
            _set_parent(w, o.right, y)
        _replace_child(w, b, _parent(o), off, y)
        store(w, cython.address(oy.parent), o.parent)
        store(w, cython.address(oy.left), o.left)
        _set_parent(w, o.left, y)
    if not removed_red:
        _rebalance(w, b, x, parent)


def replace(w, b, off, new):
    """Link the obj at `new`, written whole and not linked yet, where the one at `off` is, whose
    oid, left, right and parent it has. What they name is the caller's."""
    o: cython.pointer(Obj) = obj_at(w, off)
    fence_release()         # who follows a page to its obj without the lock (evict.py) sees the obj whole
    set(cython.address(b.unlinked), b.unlinked + 1)      # as in `erase`
    _replace_child(w, b, _parent(o), off, new)
    if o.left != 0:
        _set_parent(w, o.left, new)
    if o.right != 0:
        _set_parent(w, o.right, new)


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _rebalance(w: cython.pointer(Worker), b: cython.pointer(Bucket), x: u64, parent: u64) -> cython.void:
    """The subtree x under `parent` is one black short."""
    sibling: u64
    far: u64
    near: u64
    on_left: cython.bint
    depth: cython.int = 0
    while x != b.root and not _is_red(w, x) and w.fault == 0:
        depth += 1
        if depth > DEPTH_MAX or parent == 0:
            w.fault = FAULT_LOOP
            return
        on_left = obj_at(w, parent).left == x
        sibling = obj_at(w, parent).right if on_left else obj_at(w, parent).left
        if _is_red(w, sibling):
            _paint(w, sibling, 0)
            _paint(w, parent, RED)
            _rotate(w, b, parent, on_left)
            sibling = obj_at(w, parent).right if on_left else obj_at(w, parent).left
        near = obj_at(w, sibling).left if on_left else obj_at(w, sibling).right
        far = obj_at(w, sibling).right if on_left else obj_at(w, sibling).left
        if not _is_red(w, near) and not _is_red(w, far):
            _paint(w, sibling, RED)
            x = parent
            parent = _parent(obj_at(w, x))
            continue
        if not _is_red(w, far):
            _paint(w, near, 0)
            _paint(w, sibling, RED)
            _rotate(w, b, sibling, not on_left)
            sibling = obj_at(w, parent).right if on_left else obj_at(w, parent).left
            far = obj_at(w, sibling).right if on_left else obj_at(w, sibling).left
        _paint(w, sibling, obj_at(w, parent).parent & RED)
        _paint(w, parent, 0)
        _paint(w, far, 0)
        _rotate(w, b, parent, on_left)
        x = b.root
        parent = 0
    if x != 0:
        _paint(w, x, 0)

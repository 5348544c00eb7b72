# C-level names of lookaside.py, and the way in to the objs of a bucket.
from engine.layout.call cimport Aside, Call, PoolRef
from engine.layout.regions cimport epoch_of, epoch_of_obj, expiry_of, height_of, obj_at, root_of
from engine.layout.structs cimport HEIGHT_MAX, MAP_SIZE, Bucket, Obj, PoolRecord
from engine.layout.words cimport target_of
from engine.tree.rbtree cimport compare, find
from shm.atomics cimport likely, load, prefetch
from shm.clock cimport now
from shm.layout cimport Worker, u64

cdef int new_table(PoolRef *p, u64 entries) noexcept nogil
cdef void keep(PoolRef *p, Call *c) noexcept nogil
cdef void keep_leaf(PoolRef *p, u64 key, u64 leaf) noexcept nogil
cdef void forget(PoolRef *p) noexcept nogil

cdef inline u64 top_of(Obj *o) noexcept nogil:
    return target_of(load(root_of(o))) >> 6 | height_of(o) << 37

cdef inline void ask_for_node(Worker *w, u64 top, u64 index) noexcept nogil:
    # What hangs on the obj, its top node or its only page, sets out together with the obj itself; a
    # hint, like the one in a link word.
    cdef u64 height = top >> 37
    cdef char *at = w.base + target_of(top)
    prefetch(at)
    if height - 1 < HEIGHT_MAX:
        prefetch(at + 64 + ((index >> 6 * (height - 1)) & (MAP_SIZE - 1)) * 8)

cdef inline bint was_cleared(PoolRecord *p, Obj *o) noexcept nogil:
    return epoch_of_obj(o) != epoch_of(p)

cdef inline bint is_dead(Worker *w, PoolRecord *p, Obj *o, u64 time) noexcept nogil:
    # True if an obj was cleared with its pool, or has expired: no verb finds it, and its chunks are
    # given back by who comes by.
    cdef u64 expires = load(expiry_of(w, o))
    return was_cleared(p, o) or (expires != 0 and expires <= (time if time != 0 else now(w)))

cdef inline u64 _living(Worker *w, PoolRef *p, Call *c, u64 off, Obj *o) noexcept nogil:
    if likely(not is_dead(w, p.record, o, c.ask.value.time if c.ask.value != NULL else 0)):
        return off
    c.found.dead = off
    return 0

cdef inline u64 find_obj(Worker *w, PoolRef *p, Call *c, Bucket *b) noexcept nogil:
    # Offset of the obj of c.ask.oid, or 0; c.found.dead is the offset of one that is dead. Under the
    # bucket's lock, or between two looks at its sequence word.
    cdef Aside *a = p.asides + (c.ask.hash & p.aside_mask)
    cdef u64 unlinked = load(&b.unlinked)
    cdef u64 off
    cdef Obj *o
    c.found.obj = 0
    c.found.dead = 0
    c.found.unlinked = unlinked
    if a.unlinked == unlinked and a.obj != 0:
        off = target_of(a.obj)
        if (a.obj ^ c.ask.hash) >> 37 == 0:
            o = obj_at(w, off)
            ask_for_node(w, a.top, c.ask.index)
            if compare(c.ask.oid, o.oid) == 0 or w.fault != 0:
                a.top = top_of(o)
                return _living(w, p, c, off, o) if w.fault == 0 else 0
        p.aside_clashes += 1
    c.found.obj = find(w, b, c.ask.oid)
    if c.found.obj == 0:
        return 0
    o = obj_at(w, c.found.obj)
    c.found.top = top_of(o)
    return _living(w, p, c, c.found.obj, o)

cdef inline u64 leaf_key(Call *c, u64 index) noexcept nogil:
    cdef u64 key = c.ask.hash + (index >> 6) * 0x9E3779B97F4A7C15u
    return key ^ key >> 29

cdef inline void ask_for_leaf(Worker *w, PoolRef *p, Call *c, u64 index) noexcept nogil:
    # The bottom node of a tree of several levels sets out together with the obj and the top node.
    cdef u64 key = leaf_key(c, index)
    cdef u64 leaf
    cdef char *at
    if p.leaves == NULL:
        return
    leaf = p.leaves[key & p.leaf_mask]
    if (leaf ^ key) >> 37 == 0:
        at = w.base + target_of(leaf)
        prefetch(at)
        prefetch(at + 64 + (index & (MAP_SIZE - 1)) * 8)

cdef inline void note_leaf(PoolRef *p, Call *c, u64 index, u64 off) noexcept nogil:
    # Only ever prefetched: whatever is found may be noted, true or not.
    cdef u64 key = leaf_key(c, index)
    cdef u64 leaf = off >> 6 | key >> 37 << 37
    if p.leaves == NULL or p.leaves[key & p.leaf_mask] != leaf:
        keep_leaf(p, key, leaf)

cdef inline void remember(PoolRef *p, Call *c) noexcept nogil:
    # What `find_obj` found in the tree, once it is known to have been true: under the lock, or
    # after the sequence word was the same.
    if c.found.obj != 0:
        keep(p, c)

# C-level names of lookaside.py, and the way in to the objs of a bucket.
from engine.layout cimport Aside, Bucket, Call, Obj, PoolRef, obj_at
from engine.rbtree cimport compare, find
from shm.atomics cimport load
from shm.layout cimport Worker, u64

cdef int make_room(PoolRef *p, u64 entries) noexcept nogil
cdef void keep(PoolRef *p, Call *c) noexcept nogil
cdef void forget(PoolRef *p) noexcept nogil

cdef inline u64 find_obj(Worker *w, PoolRef *p, Call *c, Bucket *b) noexcept nogil:
    # Offset of the obj of c.oid, or 0. Under the bucket's lock, or between two looks at its sequence word.
    cdef Aside *a = p.asides + (c.hash & p.aside_mask)
    cdef u64 members = load(&b.members)
    cdef Obj *o
    c.obj = 0
    c.members = members
    if a.members == members and a.obj != 0:
        o = obj_at(w, a.obj)
        if compare(c.oid, o.oid) == 0 or w.fault != 0:
            return a.obj if w.fault == 0 else 0
        p.aside_clashes += 1
    c.obj = find(w, b, c.oid)
    return c.obj

cdef inline void remember(PoolRef *p, Call *c) noexcept nogil:
    # What `find_obj` found in the tree, once it is known to have been true: under the lock, or after the sequence word was the same.
    if c.obj != 0:
        keep(p, c)

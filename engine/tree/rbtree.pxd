# C-level names of rbtree.py.
from engine.layout.structs cimport Bucket, Obj
from shm.layout cimport Worker, u64

cdef u64 find(Worker *w, Bucket *b, u64 *oid) noexcept nogil
cdef void insert(Worker *w, Bucket *b, u64 off) noexcept nogil
cdef void erase(Worker *w, Bucket *b, u64 off) noexcept nogil
cdef void replace(Worker *w, Bucket *b, u64 off, u64 new) noexcept nogil

cdef inline int compare(u64 *a, u64 *b) noexcept nogil:
    # Unsigned, first word first.
    if a[0] != b[0]:
        return -1 if a[0] < b[0] else 1
    if a[1] != b[1]:
        return -1 if a[1] < b[1] else 1
    if a[2] != b[2]:
        return -1 if a[2] < b[2] else 1
    return 0

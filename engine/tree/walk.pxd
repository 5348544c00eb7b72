# C-level names of walk.py.
from engine.layout.structs cimport Bucket, Obj
from shm.layout cimport Worker, u64

cdef int objs_after(Worker *w, Bucket *b, u64 *after, u64 *offs, int most) noexcept nogil
cdef int indexes_from(Worker *w, Obj *o, u64 index, u64 *found, int most) noexcept nogil

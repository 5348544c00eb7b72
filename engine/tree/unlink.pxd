# C-level names of unlink.py.
from engine.tree.hostops cimport HostOps
from engine.layout.structs cimport Bucket, PoolRecord
from shm.layout cimport Worker, u64

cdef void weigh(Worker *w, u64 pool, u64 obj_off, u64 asked, u64 used, u64 stored) noexcept nogil
cdef u64 take_page(Worker *w, u64 pool, u64 obj_off, u64 index, HostOps host) noexcept nogil
cdef void bury(Worker *w, Bucket *b, u64 obj_off) noexcept nogil
cdef void bury_dead(Worker *w, PoolRecord *p, Bucket *b, u64 obj_off) noexcept nogil
cdef void take_obj(Worker *w, u64 pool, Bucket *b, u64 obj_off, HostOps host) noexcept nogil

# C-level names of evict.py.
from engine.tree.hostops cimport HostOps
from shm.layout cimport Worker, u64

cdef int evict_one(Worker *w, u64 pool, u64 shard, HostOps host) noexcept nogil
cdef int evict_of(Worker *w, u64 pool, u64 shard, u64 of, u64 *steps, HostOps host) noexcept nogil
cdef int evict_found(Worker *w, u64 off, HostOps host) noexcept nogil

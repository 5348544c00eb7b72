# C-level names of ends.py.
from engine.layout.call cimport PoolRef
from engine.tree.hostops cimport HostOps
from shm.layout cimport Worker, u64

cdef int begin_destroy(Worker *w, PoolRef *p) noexcept nogil
cdef int keep_caps(Worker *w, u64 pool, HostOps host) noexcept nogil
cdef int work_off(Worker *w, HostOps host) noexcept nogil

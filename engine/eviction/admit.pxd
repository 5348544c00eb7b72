# C-level names of admit.py.
from engine.tree.hostops cimport HostOps
from shm.layout cimport Worker, u64

cdef int settle_pending(Worker *w, HostOps host) noexcept nogil
cdef int hold_caps(Worker *w, u64 pool, u64 first, HostOps host) noexcept nogil
cdef bint is_over(Worker *w, u64 pool) noexcept nogil
cdef bint caps_allow(Worker *w, u64 pool, u64 pages, u64 bytes) noexcept nogil
cdef bint is_capped(Worker *w, u64 pool) noexcept nogil

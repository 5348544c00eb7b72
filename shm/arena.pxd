# C-level names of arena.py.
from shm.layout cimport Worker, u64

cdef class Arena:
    cdef readonly str name
    cdef readonly dict geometry
    cdef readonly int fd
    cdef char *base
    cdef u64 map_bytes
    cdef void describe(self, Worker *w)

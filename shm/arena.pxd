# C-level names of arena.py.
from shm.layout cimport Worker, u64

cdef class Arena:
    cdef readonly str name
    cdef readonly dict geometry
    cdef readonly int fd
    cdef u64 dev                # which file that is
    cdef u64 ino
    cdef readonly object owner
    cdef readonly object group
    cdef char *claimed          # addresses that are this mapping's, from here on
    cdef u64 claimed_bytes
    cdef char *base             # the arena, somewhere in them
    cdef u64 map_bytes
    cdef void describe(self, Worker *w)

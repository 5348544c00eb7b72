# C-level names of handle.py.
from engine.layout cimport Call
from engine.pool cimport Pool
from shm.layout cimport u64

cdef class Object:
    cdef readonly Pool pool
    cdef u64 words[3]
    cdef u64 hash
    cdef int handle(self, Call *c, object index) except -1

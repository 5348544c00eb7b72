# C-level names of handle.py.
from engine.layout.call cimport Call
from engine.member.bound cimport Bound
from shm.layout cimport u64

cdef class Object:
    cdef readonly Bound pool
    cdef u64 words[3]
    cdef u64 hash
    cdef int handle(self, Call *c, object index) except -1
    cdef int aim(self, Call *c) except -1

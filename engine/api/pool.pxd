# C-level names of pool.py.
from engine.member.bound cimport Bound

cdef class Pool(Bound):
    cdef int drop_semaphores(self) except -1

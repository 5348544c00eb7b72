# C-level names of repeated.py.
from shm.layout cimport u64

cdef class Repeated:
    cdef char *at
    cdef u64 length
    cdef int begin(self, bytes word, u64 length) except -1

cdef Repeated repeated(bytes word, u64 length)

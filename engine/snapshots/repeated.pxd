# C-level names of repeated.py.
from shm.layout cimport u64

cdef class Repeated:
    cdef char *at
    cdef u64 length

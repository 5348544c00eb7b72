# C-level names of client.py.
from engine.session cimport Engine

cdef class Client:
    cdef readonly Engine engine
    cdef readonly object id
    cdef int set(self, int which, object value) except -1
    cdef object get(self, int which)

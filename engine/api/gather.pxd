# C-level names of gather.py.
from engine.layout.call cimport Call
from engine.member.bound cimport Bound
from shm.layout cimport u64

cdef enum:
    GATHER_NAMES = 256          # names that a tier is asked for at once, at most
    GATHER_BYTES = 4194304      # and bytes, if it is more than one name

# Far pages that a batch has met, each with where in the batch it is.
cdef class Gather:
    cdef Bound pool
    cdef list places
    cdef list gens
    cdef list shapes
    cdef list names
    cdef list tokens
    cdef list lengths
    cdef int note(self, Call *c, Py_ssize_t place) except -1
    cdef Py_ssize_t piece(self, Py_ssize_t first) except -1
    cdef list values(self, Py_ssize_t first, Py_ssize_t stop)
    cdef list ask(self, Py_ssize_t first, Py_ssize_t stop)
    cdef bytes give(self, Call *c, Py_ssize_t i, object value)

cdef Gather new_gather(Bound pool)

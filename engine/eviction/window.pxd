# C-level names of window.py.
from engine.tree.hostops cimport HostOps
from shm.layout cimport Worker, u64

cdef enum:
    FAILED_MAX = 16         # windows that one call tries

# What a call has found out.
cdef struct Tried:
    u64 windows             # that could not be emptied
    bint inner              # what is sought is a place for what stands in another window's way
    unsigned char *stuck    # of each segment: 1 if something in it is viewed, or could not be moved; NULL: of none

cdef int close_window(Worker *w) noexcept nogil
cdef int make_window(Worker *w, u64 first, u64 length, HostOps host) noexcept nogil

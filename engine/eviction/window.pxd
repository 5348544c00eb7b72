# C-level names of window.py.
from engine.tree.hostops cimport HostOps
from shm.layout cimport Worker, u64

cdef enum:
    FAILED_MAX = 4          # windows that one call tries

# What a call has tried already.
cdef struct Tried:
    u64 first[FAILED_MAX]
    u64 count[FAILED_MAX]
    u64 windows
    unsigned char *pinned   # of each segment: 1 if something in it is viewed; NULL: nothing is, in any

cdef int close_window(Worker *w) noexcept nogil
cdef int make_window(Worker *w, u64 first, u64 length, HostOps host) noexcept nogil

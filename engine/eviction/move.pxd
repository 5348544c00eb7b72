# C-level names of move.py.
from engine.tree.hostops cimport HostOps
from shm.layout cimport CLASS_COUNT, Worker, u64

# Chunks in this worker's magazines that stay where they are: of a class, those below `good`. Above
# lie chunks of what was moved.
cdef struct Supply:
    u64 good[CLASS_COUNT]
    bint evicts     # pages may go, to make a place
    bint sparing    # not just now, for a page that may go itself
    u64 poor        # objs that stay for want of memory for a journal as long as they are

# What a sweep came to.
cdef struct Sweep:
    u64 moved
    u64 target      # number of a segment
    u64 left        # of the moved: out of that one
    u64 busy        # in use just then: another sweep will find it
    u64 poor        # as in Supply; of the busy
    # a page in an extent that may not go, and for which there is no other place: its descriptor, and its bytes; 0: none
    u64 homeless
    u64 homeless_bytes

cdef enum:
    SPARING = 2         # see sweep

cdef int sweep(Worker *w, u64 number, int evicts, Sweep *result, HostOps host) noexcept nogil
cdef int rehouse(Worker *w, u64 off) noexcept nogil
cdef int give_back_leaving(Worker *w, int cls) noexcept nogil

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
    u64 busy        # in use just then: another sweep will find it
    u64 poor        # as in Supply; of the busy
    u64 starved     # a descriptor whose extent has no place to go to; 0: none

cdef enum:
    SPARING = 2         # see sweep

cdef int sweep(Worker *w, u64 number, int evicts, Sweep *result, HostOps host) noexcept nogil
cdef int move_starved(Worker *w, u64 off, HostOps host) noexcept nogil
cdef int give_back_leaving(Worker *w, int cls) noexcept nogil

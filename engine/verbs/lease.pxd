# C-level names of lease.py.
from engine.layout.structs cimport Lease
from shm.layout cimport Lock, Worker, u64

cdef enum:
    # Statuses beside those of call.pxd.
    TAKEN = 64          # somebody who lives has the lease
    MINE = 65           # this very thread has it, of those who want it for a thread
    CROWDED = 66        # all places where its name can stand are held, by other names

cdef enum:
    EVERY_THREAD = 0xFFFFFFFFFFFFFFFF       # Wanted.thread of who wants it for his process

# What somebody wants of a lease, process-local.
cdef struct Wanted:
    u64 oid[3]
    u64 hash            # of the oid
    u64 thread          # who wants it: never 0, and no other's; or EVERY_THREAD
    bint waits          # whoever has it shall post its semaphore when he gives it back
    bint slept          # this one may be one of several who slept on it
    Lock *place         # out, of `take` that answers TAKEN: what to sleep on

cdef bint is_over(Worker *w, u64 holder) noexcept nogil
cdef bint is_whole(Lease *lease, u64 holder) noexcept nogil
cdef int take(Worker *w, Wanted *want) noexcept nogil
cdef bint give(Worker *w, Wanted *want) noexcept nogil
cdef Lease *mine(Worker *w, Wanted *want) noexcept nogil
cdef int look(Worker *w, Wanted *want) noexcept nogil

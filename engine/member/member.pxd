# C-level names of member.py.
from engine.layout.structs cimport ClientPage
from shm.layout cimport Lock, u64
from shm.workers cimport Attachment

cdef enum:
    EMPTIED_MIN = 8     # segments that a worker's frees empty before it looks whether memory can go back

cdef class Member:
    cdef readonly str name
    cdef Attachment att
    cdef readonly object page_size
    cdef readonly object max_capacity
    cdef u64 resizing               # id of the worker that resizes, if it is this engine's: a forked child's is another
    cdef u64 giving                 # the same of the worker that gives memory back to the system
    cdef u64 spilling               # the same of the one that may change what far tiers have
    cdef object spiller             # what it knows of far tiers as the one who spills; None: nothing yet
    cdef object tide                # what it knows of how much memory is needed; None: nothing yet
    cdef readonly object buckets
    cdef readonly object max_workers
    cdef readonly object max_pools
    cdef readonly object client_id
    cdef object __weakref__
    cdef int begin(self, object arena, object client) except -1
    cdef int raise_status(self, int status) except -1
    cdef int settle(self) except -1
    cdef int settle_quietly(self) except -1
    cdef bint salvage(self) except -1
    cdef u64 sweep(self) except? 0xFFFFFFFFFFFFFFFF
    cdef u64 sweep_pool(self, u64 idx) except? 0xFFFFFFFFFFFFFFFF
    cdef bint salvage_of(self, u64 idx) except -1
    cdef object sound(self, object answer)
    cdef int no_memory(self, str what) except -1
    cdef int refuse_fork(self, int epoch) except -1
    cdef int refuse_while_viewed(self) except -1
    cdef int give_back(self, bint destroyed) except -1
    cdef int hold(self, Lock *lock) except -1
    cdef ClientPage *lock_table(self) except NULL
    cdef list live(self)
    cdef list live_slots(self)
    cdef object recover_dead(self)

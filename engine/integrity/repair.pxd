# C-level names of repair.py.
from engine.integrity.judge cimport Judge
from engine.layout.structs cimport Bucket
from shm.layout cimport u64

cdef class Mender(Judge):
    cdef bint queued                # pages of the pool that is being put right go into queues
    cdef int mend_twins(self) except -1
    cdef int requeue(self, u64 off, u64 level, u64 oid_hash, bint lean) except -1
    cdef int mend_pool(self, u64 idx) except -1
    cdef int mend_bucket(self, u64 idx, u64 number) except -1
    cdef int plant(self, Bucket *b, list good) except -1
    cdef int mend_slots(self) except -1
    cdef int mend_depot(self) except -1
    cdef int mend_limbo(self) except -1
    cdef int mend_ring(self) except -1
    cdef u64 free_descriptor(self) except? 1
    cdef int set_gauges(self, u64 idx) except -1

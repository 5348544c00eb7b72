# C-level names of carrying.py.
from engine.eviction.leaving cimport Leaving
from engine.far.batch cimport Batch
from engine.member.bound cimport Bound
from shm.layout cimport u64

# What became of pages that were to leave.
cdef struct Carried:
    int far         # so many are far since
    int taken       # so many the tier has taken, of which some may be others by now
    u64 gone        # so many were not there any more when they were to be copied
    u64 sent        # so many were given to the tier

# A batch on its way to a tier.
cdef class Flight:
    cdef Batch batch
    cdef Leaving *table     # which the places of the batch's parcels count from
    cdef bint begun         # the tier is about it
    cdef list tokens        # what the tier has answered

# The memory of two batches, from one time to the next.
cdef class Carrier:
    cdef Batch next         # that is filled next
    cdef Batch other
    cdef int carry(self, Bound pool, Leaving *table, int count, Carried *done) except -1

cdef int delete_names(Bound pool, list names, list tokens) except -1

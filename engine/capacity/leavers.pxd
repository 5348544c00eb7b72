# C-level names of leavers.py.
from engine.eviction.leaving cimport Leaving
from engine.far.batch cimport Batch
from engine.layout.call cimport Call
from engine.member.bound cimport Bound

cdef Batch packed(Bound pool, Leaving *table, int count)
cdef int aim_at(Call *c, Leaving *page) except -1

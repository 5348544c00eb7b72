# C-level names of kept.py.
from engine.eviction.leaving cimport Leaving
from engine.member.bound cimport Bound
from engine.member.member cimport Member

cdef bytearray passed_over(Member engine, dict pools)
cdef int fitting(Bound pool, Leaving *table, int count) except -1

# C-level names of spill.py.
from engine.member.member cimport Member
from shm.layout cimport u64

cdef class Spiller:
    cdef u64 shard          # that is looked at next
    cdef dict pools         # Bound by index and generation, with their tiers open

cdef bint has_tiers(Member engine) except -1

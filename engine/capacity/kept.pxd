# C-level names of kept.py.
from engine.member.bound cimport Bound
from engine.member.member cimport Member
from shm.layout cimport u64

cdef bytearray passed_over(Member engine, dict pools)
cdef u64 far_room(Bound pool) except? 0

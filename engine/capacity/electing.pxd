# C-level names of electing.py.
from engine.member.member cimport Member
from shm.layout cimport u64

cdef u64 elected(Member engine) except? 0
cdef int step_down(Member engine, u64 me) except -1

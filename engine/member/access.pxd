# C-level names of access.py.
from engine.layout.structs cimport PoolRecord
from engine.member.member cimport Member
from shm.layout cimport u64

cdef int set_allow(PoolRecord *p, object allow) except -1
cdef object allow_list(PoolRecord *p)
cdef int assert_open_to(Member engine, PoolRecord *p, u64 gen) except -1

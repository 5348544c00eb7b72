# C-level names of client.py.
from engine.layout.structs cimport ClientRecord
from engine.member.member cimport Member
from shm.layout cimport u64

cdef class Client:
    cdef readonly Member engine
    cdef readonly object id
    cdef u64 seat
    cdef ClientRecord *record(self) except NULL
    cdef u64 cap_word(self) except? 1
    cdef int freeze_or_thaw(self, u64 frozen) except -1

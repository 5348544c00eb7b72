# C-level names of session.py.
from engine.layout.structs cimport ClientPage
from engine.member.member cimport Member
from shm.layout cimport u64

cdef class Engine(Member):
    cdef int fill(self) except -1
    cdef tuple publish_locked(self, ClientPage *table, object asked)
    cdef int note_far(self, u64 idx, object far) except -1

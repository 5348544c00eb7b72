# C-level names of client.py.
from engine.layout cimport ClientRecord
from engine.session cimport Engine
from shm.layout cimport u64

cdef class Client:
    cdef readonly Engine engine
    cdef readonly object id
    cdef u64 seat
    cdef ClientRecord *record(self) except NULL
    cdef int freeze_or_thaw(self, u64 frozen) except -1

cdef u64 seat_of(Engine engine, u64 id, bint enter)

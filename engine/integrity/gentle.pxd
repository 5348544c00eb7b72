# C-level names of gentle.py.
from engine.integrity.linked cimport Linked
from shm.layout cimport u64

cdef class Gentle(Linked):
    cdef u64 **words                # those of the maps in which this part has set bits
    cdef u64 count, room
    cdef void forget(self) noexcept

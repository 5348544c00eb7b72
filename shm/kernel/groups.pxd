# C-level names of groups.py.
from shm.layout cimport u64

cdef int find() except -1
cdef bint has_room(u64 bytes) noexcept nogil

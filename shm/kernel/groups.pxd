# C-level names of groups.py.
from shm.layout cimport u64

cdef enum:
    LEVELS = 8          # groups with a limit, from this process's up, that are looked at
    PATH_BYTES = 512

# The groups of this process that have a limit: of each the files that tell limit, use, and of what.
cdef struct Groups:
    char limits[LEVELS][PATH_BYTES]
    char uses[LEVELS][PATH_BYTES]
    char parts[LEVELS][PATH_BYTES]
    int count
    bint total          # version 1, whose figures of all below have a prefix

cdef int find() except -1
cdef bint has_room(u64 bytes) noexcept nogil

# C-level names of liveness.py.
from shm.layout cimport u64

cdef enum:
    BYTE_TAKEN = 1      # another open file description holds it

cdef int byte_try(int fd, u64 which) noexcept nogil
cdef void byte_release(int fd, u64 which) noexcept nogil
cdef bint byte_held(int fd, u64 which) noexcept nogil

cdef inline u64 RESCUE_BYTE() noexcept nogil:
    return 1 << 20

cdef inline u64 RESIZE_BYTE() noexcept nogil:
    return (1 << 20) + 1

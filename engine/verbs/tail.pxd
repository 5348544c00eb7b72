# C-level names of tail.py.
from engine.layout.call cimport Call
from shm.layout cimport Worker, u64

cdef void check_chunk(Worker *w, u64 shape, u64 data, u64 length) noexcept nogil
cdef int look_at_value(Worker *w, Call *c, u64 obj_off) noexcept nogil

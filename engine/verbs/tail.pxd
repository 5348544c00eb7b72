# C-level names of tail.py.
from engine.layout.call cimport Call
from engine.layout.words cimport is_same
from shm.layout cimport Worker, u64
from shm.memory cimport chunk_at

cdef inline void check_chunk(Worker *w, u64 shape, u64 data, u64 length) noexcept nogil:
    # The fault is set if the page says that its bytes lie outside the arena.
    if not is_same(shape):
        chunk_at(w, data)
        chunk_at(w, data + ((length - 1) & ~<u64>63))

cdef int look_at_value(Worker *w, Call *c, u64 obj_off) noexcept nogil

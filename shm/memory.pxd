# C-level names of memory.py.
from shm.layout cimport Depot, Worker, u64
from shm.layout cimport FAULT_OFFSET
from shm.atomics cimport unlikely

cdef int back_segment(Worker *w, u64 offset, bint run) noexcept nogil
cdef bint is_arena(Worker *w) noexcept nogil
cdef int back_file(int fd, u64 offset, u64 length) noexcept nogil
cdef int back(Worker *w, u64 offset, u64 length) noexcept nogil
cdef int punch(Worker *w, u64 offset, u64 length) noexcept nogil
cdef u64 next_data(Worker *w, u64 at) noexcept nogil
cdef u64 next_hole(Worker *w, u64 at) noexcept nogil
cdef u64 backed_bytes(Worker *w) noexcept nogil
cdef bint widen(Worker *w, u64 rel) noexcept nogil

cdef enum:
    CHUNK_ALIGN = 16        # all chunks begin at a multiple of it; those of structs at one of a cache line

# The door to chunk memory: the address of chunk offset `off`, or of a zeroed scratch page with
# Worker.fault set. Readers go on reading zeroes until they look at the fault; writers cannot write.
cdef inline char *chunk_at(Worker *w, u64 off) noexcept nogil:
    cdef u64 rel = off - w.seg_lo
    if unlikely((rel & (CHUNK_ALIGN - 1)) != 0 or rel >= w.seg_span):
        if (rel & (CHUNK_ALIGN - 1)) != 0 or not widen(w, rel):
            if w.fault == 0:
                w.fault = FAULT_OFFSET
            return w.scratch
    return w.base + off

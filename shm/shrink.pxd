# C-level names of shrink.py.
from shm.layout cimport Worker, u64

cdef int set_limit(Worker *w, u64 segments) noexcept nogil
cdef bint is_leaving(Worker *w, u64 off) noexcept nogil
cdef int set_leaving_held(Worker *w, u64 number, bint leaves) noexcept nogil
cdef int set_leaving(Worker *w, u64 number, bint leaves) noexcept nogil
cdef int dig(Worker *w) noexcept nogil
cdef int dig_one(Worker *w, u64 number) noexcept nogil
cdef int fill_up(Worker *w, u64 number, u64 dug) noexcept nogil
cdef int begin_punch(Worker *w, u64 number, u64 dug) noexcept nogil
cdef int end_punch(Worker *w, u64 number) noexcept nogil
cdef u64 too_many(Worker *w) noexcept nogil

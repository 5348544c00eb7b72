# C-level names of shrink.py.
from shm.layout cimport EXTENT_CLASS, Worker, u64

cdef int set_limit(Worker *w, u64 segments) noexcept nogil
cdef bint is_leaving(Worker *w, u64 off) noexcept nogil
cdef bint extent_leaves(Worker *w, u64 off, u64 length) noexcept nogil
# True if what holds so many bytes, a chunk of a class or an extent, is to be moved.
cdef inline bint leaves(Worker *w, int cls, u64 off, u64 length) noexcept nogil:
    return is_leaving(w, off) if cls != EXTENT_CLASS else extent_leaves(w, off, length)

cdef int want(Worker *w, u64 first, u64 count) noexcept nogil
cdef int unwant(Worker *w, u64 first, u64 count) noexcept nogil
cdef int set_leaving_held(Worker *w, u64 number, bint leaves) noexcept nogil
cdef int set_leaving(Worker *w, u64 number, bint leaves) noexcept nogil
cdef int dig_one(Worker *w, u64 number) noexcept nogil
cdef int fill_up(Worker *w, u64 number, u64 dug) noexcept nogil
cdef int fill_next(Worker *w) noexcept nogil
cdef int begin_punch(Worker *w, u64 number, u64 dug) noexcept nogil
cdef int end_punch(Worker *w, u64 number) noexcept nogil
cdef u64 too_many(Worker *w) noexcept nogil

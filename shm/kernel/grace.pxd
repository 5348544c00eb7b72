# C-level names of grace.py.
from shm.layout cimport Worker, u64

cdef int announce() noexcept nogil
cdef void note_phases(Worker *w, u64 *phases) noexcept nogil
cdef u64 still_inside(Worker *w, u64 *phases) noexcept nogil

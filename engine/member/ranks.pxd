# C-level names of ranks.py.
from shm.layout cimport Worker, u64

cdef int rank_of(Worker *w, u64 offset) noexcept nogil

# C-level names of recovery.py.
from shm.layout cimport Slot, Worker, u64

cdef int settle_dead(Worker *w) noexcept nogil
cdef void settle_slot(Worker *w, u64 idx) noexcept nogil
cdef int rescue(Worker *w) noexcept nogil

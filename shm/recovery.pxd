# C-level names of recovery.py.
from shm.layout cimport Slot, Worker, u64

cdef void settle_slot(Worker *w, u64 idx) noexcept nogil
cdef int rescue(Worker *w) noexcept nogil

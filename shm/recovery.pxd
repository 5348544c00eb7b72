# C-level names of recovery.py.
from shm.layout cimport Slot, Worker, u64

cdef bint may_adopt(Worker *w, u64 idx, u64 owner) noexcept nogil
cdef bint is_gone(Worker *w, u64 owner) noexcept nogil
cdef u64 gate_keeper(Worker *w) noexcept nogil
cdef bint is_open(Worker *w, u64 idx) noexcept nogil
cdef void disown(Worker *w, u64 idx) noexcept nogil
cdef int adopt(Worker *w, u64 idx) noexcept nogil
cdef void give_back(Worker *w, u64 idx) noexcept nogil
cdef void settle_slot(Worker *w, u64 idx) noexcept nogil
cdef int rescue(Worker *w) noexcept nogil

# C-level names of seats.py.
from shm.layout cimport Worker, u64

cdef u64 seat_of(Worker *w, u64 id, bint enter) noexcept

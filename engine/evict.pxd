# C-level names of evict.py.
from engine.hostops cimport HostOps
from shm.layout cimport Worker, u64

cdef int settle_pending(Worker *w, HostOps host) noexcept nogil
cdef int make_room(Worker *w, u64 first, int cls, u64 want, HostOps host) noexcept nogil

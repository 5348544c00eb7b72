# C-level names of room.py.
from engine.tree.hostops cimport HostOps
from shm.layout cimport Worker, u64

cdef int make_room(Worker *w, u64 first, int cls, u64 want, HostOps host) noexcept nogil

# C-level names of relieve.py.
from engine.tree.hostops cimport HostOps
from shm.layout cimport Worker, u64

cdef int relieve(Worker *w, u64 first, u64 pages, HostOps host) noexcept nogil

# C-level names of compact.py.
from engine.eviction.move cimport Sweep
from engine.tree.hostops cimport HostOps
from shm.layout cimport Worker, u64

cdef int sweep_segment(Worker *w, u64 number, Sweep *result, HostOps host) noexcept nogil
cdef int make_way(Worker *w, u64 off, Sweep *result, HostOps host) noexcept nogil
cdef int take_over(Worker *w, u64 idx) noexcept nogil

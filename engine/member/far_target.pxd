# C-level names of far_target.py.
from shm.layout cimport Worker, u64

cdef str target_of(Worker *w, u64 idx)

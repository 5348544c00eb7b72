# C-level names of waiting.py.
from shm.layout cimport Worker

cdef int wait(Worker *w) except -1

# C-level names of overwrite.py.
from engine.tree.hostops cimport HostOps
from engine.layout.call cimport Call, PoolRef
from shm.layout cimport Worker

cdef enum:
    OVER_MAX = 16           # pages of a call that may go the short way

cdef int overwrite(Worker *w, PoolRef *p, Call *c, HostOps host) noexcept nogil

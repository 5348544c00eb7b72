# C-level names of put.py.
from engine.layout.call cimport Call, PoolRef
from engine.pages.pam.base cimport PamOps
from engine.tree.hostops cimport HostOps
from shm.layout cimport Worker, u64

cdef bint could_fit(Worker *w, PoolRef *p, Call *c) noexcept nogil
cdef int lacking(Worker *w, PoolRef *p, Call *c, u64 length, PamOps pam, HostOps host) noexcept nogil
cdef int stage(Worker *w, PoolRef *p, Call *c, PamOps pam) noexcept nogil
cdef int put(Worker *w, PoolRef *p, Call *c, PamOps pam, HostOps host) noexcept nogil

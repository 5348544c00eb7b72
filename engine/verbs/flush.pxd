# C-level names of flush.py.
from engine.layout.call cimport Call, PoolRef
from engine.pages.pam.base cimport PamOps
from engine.tree.hostops cimport HostOps
from shm.layout cimport Worker

cdef int flush_page(Worker *w, PoolRef *p, Call *c, PamOps pam, HostOps host) noexcept nogil
cdef int flush_object(Worker *w, PoolRef *p, Call *c, PamOps pam, HostOps host) noexcept nogil
cdef int replace(Worker *w, PoolRef *p, Call *c, PamOps pam, HostOps host) noexcept nogil

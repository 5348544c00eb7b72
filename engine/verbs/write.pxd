# C-level names of write.py. The first two are verbs (section.pxd).
from engine.layout.call cimport Call, PoolRef
from engine.pages.pam.base cimport PamOps
from engine.tree.hostops cimport HostOps
from shm.layout cimport Worker

cdef int begin(Worker *w, PoolRef *p, Call *c, PamOps pam, HostOps host) noexcept nogil
cdef int publish(Worker *w, PoolRef *p, Call *c, PamOps pam, HostOps host) noexcept nogil

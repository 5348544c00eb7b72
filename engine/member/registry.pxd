from engine.tree.hostops cimport HostOps
from engine.pages.pam.base cimport PamOps

cdef class Registry:
    cdef HostOps host
    cdef dict factories
    cdef dict instances
    cdef PamOps pam(self, str name)

cdef Registry registry

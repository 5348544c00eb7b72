from engine.tree.hostops cimport HostOps
from engine.pages.pam.base cimport PamOps

cdef class Registry:
    cdef HostOps host
    cdef dict factories
    cdef dict instances
    cdef list replaced          # see `replace`
    cdef PamOps pam(self, str name)
    cdef int replace(self, object old) except -1
    cdef int set_host(self, HostOps host) except -1

cdef Registry registry

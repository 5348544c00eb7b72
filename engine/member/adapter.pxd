from engine.pages.pam.base cimport PamOps

cdef class PyPam(PamOps):
    cdef object ops
    cdef dict errors            # of the calls under way, by thread: engines share a back end, and not their turns
    cdef dict results
    cdef object call(self, str verb, tuple args)

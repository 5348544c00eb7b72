from engine.pages.pam.base cimport PamOps

cdef class PyPam(PamOps):
    cdef object ops
    cdef object call(self, str verb, tuple args)

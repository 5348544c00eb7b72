from engine.pam.base cimport PamOps

cdef class RawPam(PamOps):
    pass

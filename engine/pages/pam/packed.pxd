# C-level names of packed.py.
from engine.layout.call cimport Call, PoolRef
from engine.pages.pam.raw cimport RawPam
from shm.layout cimport Worker, u64

cdef class PackedPam(RawPam):
    cdef object codec
    cdef u64 flag
    cdef list pack(self, Worker *w, PoolRef *p, Call *c)
    cdef bytes unpack(self, u64 shape, bytes data)
    cdef list unpack_all(self, Call *c, bytes data)

cdef bytes digest(PoolRef *p, Call *c)
cdef u64 flag_of(str name) except? 0

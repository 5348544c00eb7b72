# C-level names of raw.py.
from engine.layout.structs cimport Pampd
from engine.pages.pam.base cimport PamOps
from shm.layout cimport Worker, u64

cdef class RawPam(PamOps):
    cdef int place(self, Worker *w, Pampd *d, const char *data, u64 length, int cls) noexcept nogil

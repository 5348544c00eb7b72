# C-level names of twins.py.
from engine.layout.call cimport Call, PoolRef
from engine.layout.structs cimport Pampd, TwinBucket
from engine.pages.pam.base cimport PamOps
from shm.layout cimport Worker, u64

cdef int share(Worker *w, PoolRef *p, Call *c, u64 i, Pampd *page, PamOps pam, TwinBucket **held) noexcept nogil
cdef int let_go(Worker *w, u64 off, int cls, TwinBucket **held, u64 *viewed) noexcept nogil

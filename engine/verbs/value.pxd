# C-level names of value.py.
from engine.layout.call cimport Call, PoolRef
from engine.layout.structs cimport Bucket
from engine.pages.pam.base cimport PamOps
from engine.tree.hostops cimport HostOps
from shm.layout cimport Worker, u64

cdef bint allowed(Worker *w, PoolRef *p, Call *c, u64 obj_off) noexcept nogil
cdef void date(Worker *w, PoolRef *p, Bucket *b, u64 obj_off, u64 expires) noexcept nogil
cdef int incr(Worker *w, PoolRef *p, Call *c, PamOps pam, HostOps host) noexcept nogil
cdef int touch_object(Worker *w, PoolRef *p, Call *c, PamOps pam, HostOps host) noexcept nogil

# C-level names of ends.py.
from engine.layout.call cimport Call, PoolRef
from engine.pages.pam.base cimport PamOps
from engine.tree.hostops cimport HostOps
from shm.layout cimport Worker, u64

cdef int begin_destroy(Worker *w, PoolRef *p, Call *c, PamOps pam, HostOps host) noexcept nogil
cdef int clear(Worker *w, PoolRef *p, Call *c, PamOps pam, HostOps host) noexcept nogil
cdef int sweep_step(Worker *w, u64 idx, u64 *bucket, u64 end, u64 *buried, bint *busy) noexcept nogil
cdef int keep_caps(Worker *w, PoolRef *p, Call *c, PamOps pam, HostOps host) noexcept nogil
cdef void give_up(Worker *w) noexcept nogil
cdef int work_off(Worker *w, HostOps host) noexcept nogil

# C-level names of core.py.
from engine.hostops cimport HostOps
from engine.layout cimport Call, PoolRef
from engine.pam.base cimport PamOps
from shm.layout cimport Worker, u64

cdef int put(Worker *w, PoolRef *p, Call *c, PamOps pam, HostOps host) noexcept nogil
cdef int peek(Worker *w, PoolRef *p, Call *c) noexcept nogil
cdef bint peek_valid(Worker *w, PoolRef *p, Call *c) noexcept nogil
cdef int fetch(Worker *w, PoolRef *p, Call *c, char *out, bint remove, PamOps pam, HostOps host) noexcept nogil
cdef int fetch_remote(Worker *w, PoolRef *p, Call *c, bint remove, PamOps pam, HostOps host) noexcept nogil
cdef int peek_range(Worker *w, PoolRef *p, Call *c, char *out) noexcept nogil
cdef int fetch_range(Worker *w, PoolRef *p, Call *c, char *out, bint remove, PamOps pam, HostOps host) noexcept nogil
cdef int flush_page(Worker *w, PoolRef *p, Call *c, PamOps pam, HostOps host) noexcept nogil
cdef int flush_object(Worker *w, PoolRef *p, Call *c) noexcept nogil
cdef int describe(Worker *w, PoolRef *p, Call *c, u64 *out) noexcept nogil
cdef int replace(Worker *w, PoolRef *p, Call *c, u64 data, u64 gen, PamOps pam) noexcept nogil
cdef int begin_destroy(Worker *w, PoolRef *p) noexcept nogil
cdef int work_off(Worker *w) noexcept nogil
cdef int finish(Worker *w, int budget) noexcept nogil

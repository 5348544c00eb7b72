# C-level names of fetch.py.
from engine.tree.hostops cimport HostOps
from engine.layout.call cimport Call, PoolRef
from engine.pages.pam.base cimport PamOps
from shm.layout cimport Worker, u64

cdef enum:
    # From here on bytes are copied with the GIL released, and a page is known by its generation.
    LONG_BYTES = 65536

cdef void note_obj(Worker *w, Call *c, u64 obj_off) noexcept nogil
cdef int look(Worker *w, PoolRef *p, Call *c, PamOps pam, HostOps host) noexcept nogil
cdef int peek(Worker *w, PoolRef *p, Call *c) noexcept nogil
cdef bint peek_valid(Worker *w, PoolRef *p, Call *c) noexcept nogil
cdef void touch(Worker *w, PoolRef *p, u64 off) noexcept nogil
cdef int fetch(Worker *w, PoolRef *p, Call *c, PamOps pam, HostOps host) noexcept nogil
cdef int fetch_remote(Worker *w, PoolRef *p, Call *c, PamOps pam, HostOps host) noexcept nogil
cdef int peek_range(Worker *w, PoolRef *p, Call *c, bint copy) noexcept nogil
cdef int fetch_range(Worker *w, PoolRef *p, Call *c, PamOps pam, HostOps host) noexcept nogil
cdef int describe(Worker *w, PoolRef *p, Call *c, PamOps pam, HostOps host) noexcept nogil

# Op table of the host: who may have memory for objs and objnodes, and where it comes from.
from engine.layout.call cimport Call
from shm.layout cimport Worker, u64

cdef class HostOps:
    cdef readonly bint careful      # has side effects: a verb must not have to try twice
    cdef object take_error(self)    # what was raised first in this thread's call, once; None: nothing
    cdef u64 obj_alloc(self, Worker *w, u64 pool, int cls) noexcept nogil
    cdef void obj_free(self, Worker *w, u64 pool, u64 off) noexcept nogil
    cdef u64 objnode_alloc(self, Worker *w, u64 pool) noexcept nogil
    cdef void objnode_free(self, Worker *w, u64 pool, u64 off) noexcept nogil
    cdef void objnode_undone(self, Worker *w, u64 pool, u64 count) noexcept nogil
    cdef void obj_undone(self, Worker *w, u64 pool, u64 count) noexcept nogil

cdef class PyHostOps(HostOps):
    cdef object ops
    cdef dict errors                # of the calls under way, by thread: engines share the host, and not their turns
    cdef bint ask(self, str verb, u64 pool) noexcept with gil
    cdef void tell(self, str verb, u64 pool, u64 count) noexcept with gil

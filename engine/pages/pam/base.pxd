# Op table of page-accessible memory: where page bytes live.
from engine.layout.structs cimport Pampd
from shm.layout cimport Worker, u64

cdef class PamOps:
    cdef readonly bint foreign      # page bytes do not lie in the arena: Pampd.data is a token
    cdef bint failed(self) noexcept nogil       # something was raised in this thread's call
    cdef object take_error(self)    # what was raised first in it, once; None: nothing
    cdef object take_result(self)   # bytes that get_data fetched in it, once; None: none
    cdef int prepare(self, Worker *w, Pampd *d, const char *data, u64 length) noexcept nogil
    cdef int prepare_larger(self, Worker *w, Pampd *d, const char *data, u64 length, u64 most) noexcept nogil
    cdef int create(self, u64 pool, u64 *oid, Pampd *d, const char *data, u64 length) noexcept nogil
    cdef int get_data(self, u64 pool, u64 *oid, Pampd *d) noexcept nogil
    cdef int get_data_and_free(self, u64 pool, u64 *oid, Pampd *d) noexcept nogil
    cdef void free(self, u64 pool, u64 *oid, Pampd *d) noexcept nogil
    cdef void new_obj(self, u64 pool, u64 *oid) noexcept nogil
    cdef void free_obj(self, u64 pool, u64 *oid) noexcept nogil
    cdef bint is_remote(self, Pampd *d) noexcept nogil
    cdef bint replace_in_obj(self, u64 pool, u64 *oid, Pampd *d, u64 data) noexcept nogil

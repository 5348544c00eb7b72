# C-level names of check.py.
from engine.integrity.linked cimport Linked
from shm.layout cimport u64

cdef class Checker(Linked):
    cdef bint gives_way             # the walk ends when it holds somebody up and nothing wrong was found yet
    cdef bint holds_up(self) noexcept
    cdef int walk_dying(self, u64 off, int depth) except -1
    cdef int compare_gauges(self, u64 idx) except -1
    cdef int walk_below(self, u64 off, u64 level) except -1
    cdef int walk_staged(self, u64 off) except -1
    cdef int walk_pending(self, u64 off) except -1
    cdef int walk_retired(self, u64 off) except -1
    cdef int walk_slot(self, u64 idx) except -1
    cdef u64 walk_root(self, u64 idx, int root, str name, u64 steps) except? 1
    cdef int walk_pool(self, u64 idx) except -1
    cdef int walk_twins(self) except -1
    cdef int walk_limbo(self) except -1
    cdef int walk_ring(self) except -1
    cdef int walk_pins(self) except -1
    cdef int walk_twin(self, u64 off) except -1

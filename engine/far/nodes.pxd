# C-level names of nodes.py.
from engine.layout.structs cimport FarNode
from shm.layout cimport u64
from shm.workers cimport Attachment

cdef class Nodes:
    cdef Attachment att
    cdef u64 pool
    cdef u64 gen
    cdef FarNode *at(self, int seat) noexcept
    cdef int seat(self, bytes address) except -2

cdef Nodes nodes_of(Attachment att, u64 pool, u64 gen)

# C-level names of merge.py.
from engine.tree.hostops cimport HostOps
from shm.layout cimport CLASS_COUNT, Worker, u64

# Free chunks of each class, in all segments that stay.
cdef struct FreeChunks:
    u64 of[CLASS_COUNT]

cdef int merge(Worker *w, u64 quarters, HostOps host) noexcept nogil
cdef bint others_inside(Worker *w) noexcept nogil
cdef int call_all_in(Worker *w, int cls) noexcept nogil
cdef int call_in(Worker *w, u64 i, int cls, u64 keep) noexcept nogil

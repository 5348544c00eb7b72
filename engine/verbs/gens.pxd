# C-level names of gens.py.
from engine.layout.call cimport Call, PoolRef
from shm.layout cimport Worker, u64

# Called as verbs are, with the GIL released.
cdef int read_far_gens(
    Worker *w, PoolRef *p, Call *c, u64 index, u64 *found, u64 *gens, int most, int *count) noexcept nogil

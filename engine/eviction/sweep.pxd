# C-level names of sweep.py.
from engine.layout.structs cimport PoolRecord
from shm.layout cimport Worker, u64

# What a sweep has done so far, process-local.
cdef struct Swept:
    u64 buried              # objs taken out
    u64 cost                # about the time that it took, in looks at a bucket
    bint busy               # something was in the way: not all was looked at
    bint paused             # the last one found too little: not tried

cdef bint may_be_dead(Worker *w, u64 idx) noexcept nogil
cdef int sweep_range(Worker *w, u64 idx, u64 *bucket, u64 end, u64 most, u64 enough, Swept *s) noexcept nogil
cdef void note_swept(PoolRecord *p, u64 epoch) noexcept nogil
cdef int sweep_some(Worker *w) noexcept nogil
cdef int sweep_owned(Worker *w, u64 pool, u64 seat) noexcept nogil

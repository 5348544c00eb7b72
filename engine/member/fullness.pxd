# C-level names of fullness.py.
from engine.member.member cimport Member
from shm.layout cimport CLASS_COUNT, Worker, u64

# Bytes of the capacity that somebody has.
cdef struct Kept:
    u64 evictable       # chunks of pages that may go
    u64 persistent      # of pages that may not
    u64 structs         # descriptors, objs, objnodes and twins

# Chunks of one class.
cdef struct Census:
    u64 segments
    u64 out             # not in the depot, and not where a put may take them
    u64 free            # in the depot and in magazines

ctypedef Census AllClasses[CLASS_COUNT]

cdef void keep_pool(Worker *w, u64 idx, list words, u64 objects, Kept *kept)
cdef dict fullness(Member engine, Kept *kept)

# C-level names of ranks.py.
from shm.layout cimport Worker, u64

cdef enum:
    OWN = 0
    OTHERS = 1      # another worker's own lock: only tried
    CAP = 1         # of a pool or of the clients: never together, nor with another worker's own
    SHARD = 2
    LAST = 3        # bucket, pool table, limbo, depot, twin bucket: whoever has one of these takes no other

cdef int rank_of(Worker *w, u64 offset) noexcept nogil

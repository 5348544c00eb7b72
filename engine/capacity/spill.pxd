# C-level names of spill.py.
from engine.far.batch cimport Batch
from engine.member.member cimport Member
from shm.layout cimport Worker, u64

cdef class Spiller:
    cdef u64 shard          # that is looked at next
    cdef u64 lost           # pages that had gone for want of memory, when the last batch began; NEVER: it is long ago
    cdef u64 skip           # of a shard, that went while it was on its way: those would be gone before the next is far
    cdef bytearray passed   # a byte for each pool: 1 if no page of it can leave in this round (kept.py)
    cdef dict pools         # Bound by index and generation, with their tiers open
    cdef Batch batch        # its memory, from one to the next
    cdef int look_ahead(self, Worker *w, dict pools) except -1

cdef list tiered(Member engine)

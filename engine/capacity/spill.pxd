# C-level names of spill.py.
from engine.capacity.carrying cimport Carrier
from engine.eviction.leaving cimport Leaving
from engine.member.member cimport Member
from shm.layout cimport Worker, u64

cdef enum:
    CHOSEN_MAX = 1020       # pages that are chosen at once: four batches

cdef class Spiller:
    cdef u64 shard          # that is looked at next
    cdef u64 lost           # pages that had gone for want of memory, when pages were last chosen; NEVER: it is long ago
    cdef u64 skip           # of a shard, that went while it was on its way: those would be gone before the next is far
    cdef bytearray passed   # a byte for each pool: 1 if no page of it can leave in this round (kept.py)
    cdef const unsigned char *passed_at     # its bytes
    cdef dict pools         # Bound by index and generation, with their tiers open
    cdef Carrier carrier
    cdef Leaving *chosen    # CHOSEN_MAX, what is to leave next
    cdef int look_ahead(self, Worker *w, dict pools) except -1

cdef list tiered(Member engine)

# C-level names of gentle.py.
from engine.integrity.linked cimport Linked
from engine.layout.structs cimport Bucket
from shm.layout cimport u64

cdef class Gentle(Linked):
    cdef u64 **words                # those of the maps in which this part has set bits
    cdef u64 count, words_room
    cdef u64 oid[3]                 # of the obj that is walked in the bucket; all below are done
    cdef bint done                  # it is, too
    cdef bint alone                 # nobody has written into the bucket since its walk began
    cdef u64 seq                    # of the bucket's lock, as the last slice had it; 0: no slice yet
    cdef int begin_bucket(self) except -1
    cdef bint walk_slice(self, Bucket *b, u64 bucket) except -1
    cdef u64 following(self, Bucket *b) noexcept
    cdef void forget(self) noexcept

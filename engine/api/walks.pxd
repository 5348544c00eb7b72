# C-level names of walks.py.
from engine.layout.call cimport Call
from engine.member.bound cimport Bound
from engine.verbs.walk cimport Seen, Walk
from shm.layout cimport u64

cdef class Objects:
    cdef Bound pool
    cdef Walk walk
    cdef list ready             # what was read and not given yet, the next one last
    cdef object left            # how many may still come; None: all
    cdef bint ended
    cdef bint bare              # oids are wanted, and no more
    cdef int read(self) except -1
    cdef int read_inside(self) except -1
    cdef object info_of(self, Seen *s, u64 at)

cdef class Indexes:
    cdef Bound pool
    cdef u64 words[3]
    cdef u64 hash
    cdef u64 next               # index from which they are read
    cdef list ready
    cdef object left
    cdef bint ended
    cdef int read(self) except -1

cdef Objects walk_objects(Bound pool, object after, object limit)
cdef Objects walk_oids(Bound pool)
cdef Indexes walk_indexes(Bound pool, const u64 *oid, u64 hash, object after, object limit)

# C-level names of ballot.py.
from engine.layout.structs cimport Pampd
from engine.member.member cimport Member
from shm.layout cimport Worker, u64

# The number of the segment that a chunk of a class begins in at an offset; -1: none can.
cdef long long segment_holding(Worker *w, u64 span, u64 off, int cls) noexcept nogil

# The objs of a bucket, in whatever way they hang below its root; those that cannot be read are
# counted.
cdef list objs_below(Worker *w, u64 root, u64 *unreadable)

cdef class Ballot:
    cdef Worker *w
    cdef u64 span                   # bytes of segments that the maps cover
    cdef u64 *named                 # a map of the segments: something names a chunk there
    cdef u64 *contested             # two do
    cdef unsigned int *votes        # of each segment, for each class: chunks that are named
    cdef bint is_contested(self, u64 off) noexcept
    cdef int class_of(self, u64 number) noexcept
    cdef bint count(self, u64 off, int cls) noexcept
    cdef bint name(self, u64 off, int cls) noexcept
    cdef void name_bytes(self, u64 off, int cls, u64 length) noexcept
    cdef int walk_pages(self, Member engine) except -1
    cdef int walk_bucket(self, u64 root) except -1
    cdef int walk_below(self, u64 off, int depth) noexcept
    cdef int walk_page(self, Pampd *d) noexcept

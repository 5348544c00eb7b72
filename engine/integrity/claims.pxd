# C-level names of claims.py.
from engine.member.member cimport Member
from shm.layout cimport Segment, Worker, u64

# A map has one bit for every 16 bytes of segments, where a chunk may begin; `rel` is an offset into
# them.
cdef inline u64 map_words(u64 span) noexcept nogil:
    # How long a map of so many bytes of segments is.
    return (span >> 10) + 1

cdef inline u64 word_of(u64 rel) noexcept nogil:
    return rel >> 10

cdef inline u64 bit_of(u64 rel) noexcept nogil:
    return <u64>1 << ((rel >> 4) & 63)

cdef inline bint has_bit(u64 *map, u64 rel) noexcept nogil:
    return map[word_of(rel)] & bit_of(rel) != 0

cdef class Claims:
    cdef Member engine
    cdef Worker *w
    cdef u64 span                   # bytes of segments that `seen` covers
    cdef u64 *seen                  # a map of the backed segments: a chunk found owned
    cdef list problems              # (id, where, what), as of a Problem
    cdef dict counts                # as of a Report
    cdef bint stopped
    cdef u64 steps                  # so far, of all walks
    cdef int note(self, str id, u64 where, str what) except -1
    cdef bint fault(self, str id, u64 where, str what) except -1
    cdef int count_step(self) except -1
    cdef int look_up(self) except -1
    cdef bint own(self, u64 off, int cls, str what) except -1
    cdef bint own_bytes(self, u64 off, int cls, u64 length, str what) except -1
    cdef int set_bit(self, u64 *map, u64 rel) except -1
    cdef int claimed(self, u64 rel, int cls) except -1
    cdef int walk_depot(self) except -1
    cdef int look_at_state(self, Segment *s) except -1
    cdef u64 count_out(self, Segment *s, int cls) except? 1
    cdef int walk_list(self, int cls, u64 *listed) except -1

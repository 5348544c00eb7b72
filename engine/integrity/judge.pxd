# C-level names of judge.py.
from engine.integrity.ballot cimport Ballot
from engine.member.member cimport Member
from shm.layout cimport Worker, u64

cdef class Judge:
    cdef Member engine
    cdef Worker *w
    cdef u64 span                   # bytes of segments that `seen` covers
    cdef u64 *seen                  # a map of the segments: start of a chunk that is kept
    cdef u64 pool_idx
    cdef str pool_name
    cdef object claims              # (offset, class) claimed for the object under the walk
    cdef Ballot ballot
    cdef object classes             # segment index -> class
    cdef object lost
    cdef object named               # what name_pages has seen of the object under the walk
    cdef bint lean                  # the object under the walk is lean
    cdef u64 objects, leans, nodes, pages, asked, used, stored, obj_asked, obj_used, obj_stored
    # offset of a twin that is kept -> [pages that refer to it, mark of its pool, its chunk, its
    # shape]
    cdef dict twins
    cdef bint claim(self, u64 off, int cls, bint agrees) except -1
    cdef bint claim_bytes(self, u64 off, int cls, u64 length, bint agrees) except -1
    cdef bint claim_twin(self, u64 off, u64 shape) except -1
    cdef int unclaim(self) except -1
    cdef int release(self, u64 off) except -1
    cdef u64 link(self, u64 off, u64 level) except? 1
    cdef bint sound_tree(self, u64 link, u64 obj_off, u64 level, u64 prefix, u64 *pages, u64 *nodes) except -1
    cdef bint sound_obj(self, u64 off, u64 bucket) except -1
    cdef list find_sound(self, u64 root, u64 number)
    cdef int name_pages(self, u64 off, u64 level, u64 prefix, object into, int depth) except -1

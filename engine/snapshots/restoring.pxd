# C-level names of restoring.py.
from engine.layout.call cimport Call, Packed, Value
from engine.layout.stream cimport SavedObject, SavedPage
from engine.member.bound cimport Bound
from engine.member.member cimport Member
from engine.snapshots.source cimport Source
from shm.layout cimport u64

cdef class Restorer:
    cdef Member engine
    cdef Source source
    cdef list pools             # Bound or None, by their place in the head's list
    cdef bint partial
    cdef bint fresh             # the arena was made for it
    cdef u64 secret             # of the arena that was saved
    cdef u64 wall               # now, in nanoseconds since 1970
    cdef u64 behind             # what is taken off a time of the wall's clock to have one of the arena's
    # what came of it
    cdef u64 objects
    cdef u64 pages
    cdef u64 bytes
    cdef u64 refused
    cdef u64 expired
    cdef u64 missing
    cdef set gone
    # the pass over the stream
    cdef int heat               # objects of this heat; -1: all of them
    cdef bint persistent        # pools of the one kind
    cdef bint ephemeral         # and of the other
    cdef u64 budget             # bytes of the arena that are free, in such a pass
    cdef bint full              # nothing more of ephemeral pools
    # the object that is put
    cdef Bound pool
    cdef u64 oid[3]
    cdef u64 hash
    cdef u64 expires            # by the arena's clock
    cdef bint wanted            # it is put; else passed over
    cdef bint begun
    cdef u64 put_here           # pages of it that were put
    # a page that comes in pieces
    cdef bytearray long
    cdef SavedPage page
    # pages that go together
    cdef bytearray run
    cdef bytes packs
    cdef u64 run_first
    cdef u64 run_count
    cdef u64 run_length         # bytes
    cdef bint run_packed
    cdef u64 run_heat
    cdef bytes scratch
    cdef int pass_over(self, bint persistent, bint ephemeral, int heat) except -1
    cdef int take_block(self, Bound pool, char *at, u64 length, u64 heat) except -1
    cdef int begin_object(self, Bound pool, SavedObject *o, char *first, u64 left, u64 heat) except -1
    cdef int end_object(self) except -1
    cdef int take_page(self, SavedPage *s, char *data, bint alone) except -1
    cdef int take_piece(self, SavedPage *s, char *data) except -1
    cdef int whole_page(self, SavedPage *s, char *data, bint alone) except -1
    cdef int add_to_run(self, SavedPage *s, char *data) except -1
    cdef int end_run(self) except -1
    cdef int put(self, Call *c, u64 count, u64 length, u64 hits) except -1
    cdef bytes fill(self, SavedPage *s, char *data)
    cdef bint pack(self, Packed *one, SavedPage *s, char *data, list kept) except -1
    cdef int rekey(self, SavedPage *s, char *data) except -1
    cdef int take_guarded(self, u64 kind, u64 place, u64 length, u64 heat) except -1
    cdef bytes unpacked(self, u64 length, bytes data)
    cdef int drop(self) except -1

# C-level names of bound.py.
from cpython.buffer cimport Py_buffer
from engine.eviction.policies cimport Policy
from engine.layout.call cimport Call, PoolRef
from engine.pages.pam.base cimport PamOps
from engine.pages.pam.packed cimport PackedPam
from engine.member.member cimport Member
from engine.verbs.fetch cimport LONG_BYTES
from engine.verbs.section cimport Verb
from engine.layout.structs cimport FarRecord
from shm.layout cimport u64

cdef enum:
    PEEKS = 8                   # tries without a lock, each of several looks
    SHORT_BYTES = 131072        # from here on a put lets others have their turn when it has copied
    AWAY_TRIES = 8              # times that a far page is fetched anew, since it is another by now
    STORES_A_PAGE = 30          # journalled stores of a range a page, at most: an old page out and a new one in

cdef object copied(bytes data, void *out, Py_ssize_t room)

cdef class Bound:
    cdef readonly Member engine
    cdef PoolRef ref
    cdef PamOps ops
    cdef int epoch
    cdef readonly object id
    cdef readonly str name
    cdef readonly str pam
    cdef readonly bint persistent
    cdef readonly bint shared
    cdef readonly object client
    cdef readonly str policy
    cdef readonly object cap
    cdef readonly object cap_bytes
    cdef readonly object allow
    cdef readonly bint dedup
    cdef readonly bint whole
    cdef readonly object page_size
    cdef bint exclusive
    cdef bint elsewhere         # what is stored of a page is not the page: it is compressed, or a back end's
    cdef object tier            # of a pool with a far tier; None: it has none, or it cannot be had here
    cdef object nodes           # the servers of a far tier, if it has such
    cdef bint localifies        # far pages that are wanted come home
    cdef bint keeps_far         # a page of it that is far is never a miss: FarUnavailable or FarLost
    cdef str far_target         # what the pool was made with
    cdef str untold             # why the tier cannot be had
    cdef object __weakref__
    cdef int bind(self) except -1
    cdef Policy *policy_row(self) except NULL
    cdef int enter(self) except -1
    cdef int pause(self) except -1
    cdef int let_others(self, Call *c, bint wait) except -1
    cdef int leave(self) except -1
    cdef int leave_python(self) except -1
    cdef int until_free(self, Call *c, Verb verb) except -1
    cdef int attempt(self, Call *c, Verb verb) except -1
    cdef int fail(self, int status) except -1
    cdef bint put_call(self, Call *c) except -1
    cdef u64 room_for(self, u64 length) except? 0
    cdef bint put_inside(self, Call *c) except -1
    cdef bint put_pages(self, Call *c) except -1
    cdef PackedPam packer(self)
    cdef list packed(self, Call *c)
    cdef object unpacked(self, Call *c, bytes data)
    cdef bint put_buffer(self, Call *c, object data) except -1
    cdef object get_call(self, Call *c, object free)
    cdef bytes get_bytes(self, Call *c)
    cdef int get_locked(self, Call *c) except -1
    cdef bytes got_none(self, Call *c, int status)
    cdef FarRecord *far_record(self) except NULL
    cdef list ask_tier(self, list names, list tokens, list lengths)
    cdef bint drop_gone(self, Call *c, u64 gen) except -1
    cdef int note_lost(self, Call *c, u64 gen, bint lost) except -1
    cdef object far_error(self, Call *c, bint lost)
    cdef bytes opened(self, Call *c, u64 index, u64 gen, u64 shape, object value)
    cdef bint is_none(self, Call *c, u64 gen, object value) except -1
    cdef bint is_still(self, Call *c, u64 gen) except -1
    cdef bytes give_out(self, Call *c, u64 gen, u64 shape, object value, int *status)
    cdef bytes get_away(self, Call *c)
    cdef bytes place(self, Call *c, bytes data)
    cdef list far_pages(self, Call *c)
    cdef int let_home(self, Call *c, u64 gen, bytes stored) except -1
    cdef int bring_home(self, Call *c) except -1
    cdef int let_range_home(self, Call *c, bytes table, list stored) except -1
    cdef list fetch_seen(self, Call *c, bytes table, list values, list stored)
    cdef bytes get_range_away(self, Call *c)
    cdef bytes fetched(self, Call *c)
    cdef bint flushed(self, int status) except -1
    cdef int look_at_what_is_free(self) except -1
    cdef object flush_page_call(self, Call *c)
    cdef object flush_object_call(self, Call *c)
    cdef bint look_call(self, Call *c) except -1
    cdef int describe_call(self, Call *c, u64 *out) except -1
    cdef object object_info_call(self, Call *c)
    cdef object descriptor_call(self, Call *c)
    cdef object replace_call(self, Call *c, object pampd, object generation)
    cdef object put_range_call(self, Call *c, object buffer)
    cdef object get_into_call(self, Call *c, object buffer, object free)

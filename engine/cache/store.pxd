# C-level names of store.py.
from engine.api.gather cimport Gather
from engine.cache.keys cimport Key
from engine.layout.call cimport Call, Value
from engine.member.arguments cimport aim
from engine.member.bound cimport Bound
from engine.oid cimport hash_oid
from libc.string cimport memset
from shm.kernel.system cimport clockid_t
from shm.layout cimport u64

cdef extern from "<time.h>" nogil:
    clockid_t CLOCK_MONOTONIC_COARSE

cdef enum:
    OWN_COUNTERS = 2    # objects in which a cache counts, see computing.py
    TAIL_ROOM = 320     # bytes for the tail of a value whose key is not very long

    # What became of a put.
    STORED = 1
    REFUSED = 0         # no memory
    CHANGED = -1        # the condition does not hold

# Room for the tail of a value: its key, its word, and what they are.
cdef struct Tail:
    char data[TAIL_ROOM]

# What a look at a value has found.
cdef struct Seen:
    u64 word
    u64 version
    u64 expires         # when it is dead, by the clock of the arena; 0 = never
    bint unhad          # it is in a far tier, and was not had: a miss, of which only the version is known

cdef inline void ask(Key *key, Call *c, Value *v) noexcept nogil:
    # A call that is about the value of a key.
    aim(c, key.oid, hash_oid(key.oid[0], key.oid[1], key.oid[2]), 0)
    memset(v, 0, sizeof(Value))
    v.key = key.data
    v.key_length = key.length
    c.ask.value = v

cdef inline void note_seen(Call *c, Value *v, Seen *seen) noexcept nogil:
    seen.word = v.word if v.has_word else 0
    seen.version = c.found.gen
    seen.expires = v.expires_found
    seen.unhad = False

cdef inline void note_miss(Call *c, Value *v, Seen *seen) noexcept nogil:
    seen.word = 0
    seen.version = c.found.gen
    seen.expires = 0
    seen.unhad = v.unhad

cdef class Store:
    cdef readonly str arena
    cdef readonly str name
    cdef readonly object ttl
    cdef readonly object serializer
    cdef dict options
    cdef object engine
    cdef Bound pool                 # None until the first call, and never again
    cdef bint shut
    cdef object given               # the engine that it was made by; None: it opens its own
    cdef object former              # the pool that was let go last
    cdef u64 seed
    cdef bint dated                 # the ttl is a point in time
    cdef double life                # of a value when nothing is said, in seconds, if that is so many
    cdef unsigned long long looked  # when the arena's entry was last looked at, in nanoseconds
    cdef object __weakref__
    cdef int describe(self, str arena, str name, object ttl, object serializer, dict options) except -1
    cdef int open_slow(self) except -1
    cdef int open_guarded(self) except -1
    cdef bint is_destroyed(self) noexcept
    cdef bint is_replaced(self) except -1
    cdef int ready(self) except -1
    cdef double life_of(self, object ttl) except? -2
    cdef u64 moment(self, double life, Value *v) noexcept
    cdef double left(self, Seen *seen) noexcept
    cdef bint is_stale(self, Seen *seen) noexcept
    cdef u64 own_end(self, Seen *seen) noexcept
    cdef object version_of(self, Seen *seen)
    cdef bytes find(self, Key *key, Seen *seen)
    cdef bytes find_or_note(self, Key *key, Seen *seen, Gather gather, Py_ssize_t place)
    cdef bytes find_noted(self, Key *key, Seen *seen, Gather gather, Py_ssize_t i, object value)
    cdef bytes find_fresh(self, Key *key, Seen *seen)
    cdef bint look(self, Key *key, Seen *seen) except -1
    cdef bint look_fresh(self, Key *key, Seen *seen) except -1
    cdef object find_page(self, Key *key, Seen *seen)
    cdef int put(self, Key *key, object data, u64 word, double life, bint absent, u64 version,
                  u64 until=*) except -2
    cdef int put_absent(self, Key *key, object data, u64 word, double life) except -2
    cdef bint drop(self, Key *key) except -1
    cdef bint drop_version(self, Key *key, u64 version) except -1
    cdef bint date(self, Key *key, double life) except -1
    cdef object count(self, Key *key, object delta, object initial, double life)
    cdef int note(self, int counter, object delta) except -1
    cdef int uncount(self, int counted) except -1
    cdef object noted(self, int counter)
    cdef Py_ssize_t own_counters(self) except -1
    cdef bint is_value(self, object info) except -1
    cdef int let_go(self) except -1

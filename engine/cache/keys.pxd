# C-level names of keys.py.
from engine.layout.call cimport Call
from shm.layout cimport u64

cdef enum:
    # What a key is, in the upper byte of the last word of its oid; its length in bytes is the rest.
    # Such an oid is none that `engine.oid` makes.
    KEY_STR = 17        # its UTF-8
    KEY_BYTES = 18      # itself
    KEY_INT = 19        # two's complement, little-endian: 8 bytes, or as many more as it needs
    KEY_FORM = 20       # anything else: see keys.py
    OWN_COUNTER = 21    # no key: a counter of the cache's own
    OWN_LEASE = 22      # no key: the lease of who computes the value of one
    KEY_LEASE = 23      # no key: the lease that a caller asks for under one
    KIND_SHIFT = 56

    FORM_ROOM = 256     # bytes of a form for which no memory is asked for

# The bytes of a key, and the oid that follows from them.
cdef struct Key:
    const char *data
    u64 length
    u64 oid[3]
    char room[8]        # the bytes of an int

# The form of a key while it is written.
cdef struct Form:
    char *data          # where it is: at `stack`, or at `heap`, when that became too small
    char *heap
    size_t length
    size_t room
    char stack[FORM_ROOM]

cdef object read_key(object key, u64 seed, Key *out)
cdef int oid_from(const char *data, u64 length, u64 kind, u64 seed, u64 *oid) except -1
cdef bint is_key(u64 last_word) noexcept nogil
cdef object key_of(u64 last_word, bytes data)

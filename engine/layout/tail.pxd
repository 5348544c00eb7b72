# Owns how the tail of a value lies.
#
# A value is page 0 of its object, and the only one. Behind its bytes there may be a tail, which the
# flag TAIL of the page's shape tells; the length of the page is of both:
#   the key, then the user's word (8 bytes), if there is one, then the trailer (4 bytes): the length
#   of the key, bit 30: there is a key, bit 31: there is a word. All little-endian, and not aligned.

from engine.layout.call cimport Value
from libc.string cimport memcmp, memcpy
from shm.layout cimport u64

cdef enum:
    TRAILER_BYTES = 4
    WORD_BYTES = 8
    KEY_MAX = 1048576

cdef inline unsigned int HAS_KEY() noexcept nogil:
    return <unsigned int>1 << 30

cdef inline unsigned int HAS_WORD() noexcept nogil:
    return <unsigned int>1 << 31

cdef inline u64 write_tail(char *to, const char *key, u64 key_length, u64 word, bint wordy) noexcept nogil:
    # Write the tail of a value to where there is room for it: its bytes. `key` is NULL without one.
    cdef unsigned int trailer = <unsigned int>key_length | (HAS_KEY() if key != NULL else 0)
    cdef u64 size = key_length
    if key_length != 0:
        memcpy(to, key, key_length)
    if wordy:
        memcpy(to + size, &word, WORD_BYTES)
        size += WORD_BYTES
        trailer |= HAS_WORD()
    memcpy(to + size, &trailer, TRAILER_BYTES)
    return size + TRAILER_BYTES

cdef inline u64 tail_before(Value *v, const char *end, u64 stored) noexcept nogil:
    # Bytes of the tail of a page of so many bytes, which ends there; what it says goes into v, if
    # that is not NULL. More than are stored: it is damaged, or, without a lock, was written
    # meanwhile.
    cdef unsigned int trailer
    cdef u64 key
    cdef u64 size
    if stored < TRAILER_BYTES:
        return stored + 1
    memcpy(&trailer, end - TRAILER_BYTES, TRAILER_BYTES)
    key = trailer & (HAS_KEY() - 1)
    size = key + TRAILER_BYTES + (WORD_BYTES if trailer & HAS_WORD() else 0)
    if size <= stored and v != NULL:
        v.tail_found = size
        v.key_found = key
        v.has_key = trailer & HAS_KEY() != 0
        v.has_word = trailer & HAS_WORD() != 0
        if v.has_word:
            memcpy(&v.word, end - TRAILER_BYTES - WORD_BYTES, WORD_BYTES)
    return size

cdef inline bint is_key(Value *v, const char *key) noexcept nogil:
    # True if the value whose tail was looked at, and has its key there, has the one that is asked
    # for.
    return v.has_key and v.key_found == v.key_length and memcmp(key, v.key, v.key_length) == 0

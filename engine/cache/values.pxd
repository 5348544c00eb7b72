# C-level names of values.py.
from shm.layout cimport u64

cdef enum:
    # How a value is to be read: the lowest byte of the word that is kept with it.
    RAW = 1             # bytes, as they are
    COUNTER = 2         # an int of 64 bits, two's complement, little-endian
    PICKLE = 3          # a pickle of protocol 5
    PICKLE_APART = 4    # the same, with buffers apart: see values.py
    SERIAL = 5          # bytes of the caller's serializer
    SERIAL_TEXT = 6     # text of it, as UTF-8
    HOW = 0x3F
    PADDED = 0x40       # the last byte is none of the value: it would be as long as a counter

# What is kept with a value that was computed: how long it is good beyond its time, and how long it
# took.
cdef u64 timed(u64 word, double stale, double took) noexcept nogil
cdef double stale_of(u64 word) noexcept nogil
cdef double took_of(u64 word) noexcept nogil

cdef object store_form(object value, object serializer, u64 *word)
cdef object load_form(object data, u64 word, object serializer)
cdef object load_in_place(object page, u64 word, object serializer)

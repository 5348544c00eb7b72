# C-level names of oid.py.
from shm.layout cimport u64

cdef extern from *:
    """
    #if SIZEOF_LONG == 8
    #define int_word_slowly PyLong_AsUnsignedLong
    #else
    #define int_word_slowly PyLong_AsUnsignedLongLong
    #endif
    static inline uint64_t int_word_of(PyObject *number)
    {
    #if PY_VERSION_HEX < 0x030C0000 && PYLONG_BITS_IN_DIGIT == 30
        const digit *d = ((PyLongObject *)number)->ob_digit;
        switch (Py_SIZE(number)) {
        case 1: return d[0];
        case 2: return (uint64_t)d[1] << 30 | d[0];
        case 3: if (d[2] < 16) return (uint64_t)d[2] << 60 | (uint64_t)d[1] << 30 | d[0];
        }
    #endif
        return int_word_slowly(number);
    }
    """
    # An int as a word; all ones, with an exception set, if it is none. Without the look at PyErr_Occurred behind each call of cpython.long.
    # Where the digits are known they are read here: 12 instructions instead of 68, and 300 in PyLong_AsUnsignedLongLong.
    u64 int_word "int_word_of"(object number) noexcept

cdef inline u64 rotl(u64 x, int r) noexcept nogil:
    return x << r | x >> (64 - r)

cdef inline u64 hash_oid(u64 a, u64 b, u64 c) noexcept nogil:
    # XXH64 (Yann Collet, specification 0.1.1) of the three words, little-endian, with seed 0. Written out
    # because the xxhash package can only be called with Python objects; tests compare the two.
    cdef u64 p1 = 0x9E3779B185EBCA87u
    cdef u64 p2 = 0xC2B2AE3D27D4EB4Fu
    cdef u64 p3 = 0x165667B19E3779F9u
    cdef u64 p4 = 0x85EBCA77C2B2AE63u
    cdef u64 p5 = 0x27D4EB2F165667C5u
    cdef u64 h = p5 + 24
    h = rotl(h ^ rotl(a * p2, 31) * p1, 27) * p1 + p4
    h = rotl(h ^ rotl(b * p2, 31) * p1, 27) * p1 + p4
    h = rotl(h ^ rotl(c * p2, 31) * p1, 27) * p1 + p4
    h = (h ^ h >> 33) * p2
    h = (h ^ h >> 29) * p3
    return h ^ h >> 32

cdef int oid_words(object oid, u64 *out) except -1

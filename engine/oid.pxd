# C-level names of oid.py.
from shm.layout cimport u64

cdef extern from *:
    """
    #if PYLONG_BITS_IN_DIGIT == 30 && PY_VERSION_HEX < 0x030C0000
    #define INT_SIZE(number) Py_SIZE(number)
    #define INT_ZERO 0
    #define INT_DIGITS(number) ((PyLongObject *)(number))->ob_digit
    #define INT_OF(digits) (digits)
    #elif PYLONG_BITS_IN_DIGIT == 30 && PY_VERSION_HEX < 0x03100000
    #define INT_SIZE(number) (((PyLongObject *)(number))->long_value.lv_tag & ~(uintptr_t)4)     /* 4: it is immortal */
    #define INT_ZERO 1
    #define INT_DIGITS(number) ((PyLongObject *)(number))->long_value.ob_digit
    #define INT_OF(digits) ((digits) << 3)    /* the sign lies below */
    #endif
    static inline uint64_t int_word_of(PyObject *number)
    {
    #ifdef INT_SIZE
        const digit *d = INT_DIGITS(number);
        switch (INT_SIZE(number)) {
        case INT_ZERO: return 0;
        case INT_OF(1): return d[0];
        case INT_OF(2): return (uint64_t)d[1] << 30 | d[0];
        case INT_OF(3): if (d[2] < 16) return (uint64_t)d[2] << 60 | (uint64_t)d[1] << 30 | d[0];
        }
    #elif PY_VERSION_HEX >= 0x030C0000
        if (PyUnstable_Long_IsCompact((PyLongObject *)number)) {
            Py_ssize_t value = PyUnstable_Long_CompactValue((PyLongObject *)number);
            if (value >= 0)
                return (uint64_t)value;
        }
    #endif
    #if PY_VERSION_HEX >= 0x030E0000
        uint64_t word;
        return PyLong_AsUInt64(number, &word) == 0 ? word : (uint64_t)-1;
    #else
        return PyLong_AsUnsignedLong(number);
    #endif
    }
    """
    # An int as a word; all ones, with an exception set, if it is none. Without the look at
    # PyErr_Occurred behind each call of cpython.long. Where the digits are known (Python 3.11, and
    # otherwise 3.12 to 3.15) they are read here: 12 instructions instead of 68.
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

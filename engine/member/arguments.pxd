# C-level names of arguments.py, and the handle of a page, which every call begins with.
from cpython.buffer cimport Py_buffer
from engine.layout.call cimport Call
from engine.oid cimport hash_oid, oid_words
from libc.string cimport memset
from shm.layout cimport u64

cdef u64 word(str name, object value) except? 0xFFFFFFFFFFFFFFFF
cdef object wrong_length(str name, u64 most, u64 length)
cdef int buffer_of(str name, object data, Py_buffer *view, int flags) except -1
cdef object free_flag(object free)

cdef inline void clear(Call *c) noexcept nogil:
    # In pieces that the compiler writes out, the last over the one before: for all of it at once it
    # takes `rep stos`, three times as slow.
    cdef size_t at
    for at in range(0, sizeof(Call) - 64, 64):
        memset(<char *>c + at, 0, 64)
    memset(<char *>c + sizeof(Call) - 64, 0, 64)

cdef inline int handle(Call *c, object oid, object index) except -1:
    # Fill a Call with the handle of one page, and clear the rest of it.
    clear(c)
    oid_words(oid, c.oid)
    c.hash = hash_oid(c.oid[0], c.oid[1], c.oid[2])
    c.index = word("index", index)
    c.count = 1
    return 0

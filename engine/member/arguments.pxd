# C-level names of arguments.py, and the handle of a page, which every call begins with.
from cpython.buffer cimport Py_buffer
from engine.layout.call cimport Asked, Call, Done
from engine.oid cimport hash_oid, oid_words
from libc.string cimport memset
from shm.layout cimport u64

cdef u64 word(str name, object value) except? 0xFFFFFFFFFFFFFFFF
cdef object wrong_length(str name, u64 least, u64 most, u64 length)
cdef int buffer_of(str name, object data, Py_buffer *view, int flags) except -1
cdef object free_flag(object free)
cdef int set_count(Call *c, object count, u64 most, str also) except -1
cdef int refuse_wrap(Call *c) except -1

cdef inline void clear(Call *c) noexcept nogil:
    # All but what it will find. In pieces that the compiler writes out, the last over the one before:
    # for all of it at once it takes `rep stos`, three times as slow.
    cdef size_t at
    for at in range(0, sizeof(Asked) + sizeof(Done) - 64, 64):
        memset(<char *>c + at, 0, 64)
    memset(<char *>c + sizeof(Asked) + sizeof(Done) - 64, 0, 64)

cdef inline void one_page(Call *c, u64 hash, u64 index) noexcept nogil:
    c.ask.hash = hash
    c.ask.index = index
    c.ask.count = 1
    c.ask.room = <u64>-1

cdef inline void aim(Call *c, const u64 *oid, u64 hash, u64 index) noexcept nogil:
    # Fill a Call with the handle of one page, and clear the rest of it.
    clear(c)
    c.ask.oid[0] = oid[0]
    c.ask.oid[1] = oid[1]
    c.ask.oid[2] = oid[2]
    one_page(c, hash, index)

cdef inline int handle(Call *c, object oid, object index) except -1:
    # The same of an oid and an index as the caller gives them.
    clear(c)
    oid_words(oid, c.ask.oid)
    one_page(c, hash_oid(c.ask.oid[0], c.ask.oid[1], c.ask.oid[2]), word("index", index))
    return 0

# C-level names of values.py.
from cpython.buffer cimport Py_buffer
from engine.api.views cimport View
from engine.layout.call cimport Call, Part, Value
from engine.member.bound cimport Bound
from shm.layout cimport u64

# What a put of a value came to.
cdef enum:
    VALUE_REFUSED = 0
    VALUE_PUT = 1
    VALUE_CONFLICT = 2

cdef class Falsy:
    pass

cdef class Pieces:
    cdef Py_buffer *views
    cdef Part *parts
    cdef size_t count           # buffers that are held
    cdef u64 length             # of all together
    cdef bytes tail
    cdef bint ask(self, Bound pool, Value *v, object ttl, object if_absent, object if_version, object word,
                  object key) except -1
    cdef int hold(self, object data) except -1

cdef Pieces new_pieces()
cdef u64 expiry(Bound pool, object ttl, Value *v, bint *gone) except? 0xFFFFFFFFFFFFFFFF
cdef int put_value(Bound pool, Call *c, Value *v, u64 length) except -1
cdef bytes get_value(Bound pool, Call *c, Value *v, bint with_tail)
cdef int flush_value(Bound pool, Call *c, Value *v) except -1
cdef bint flush_or_conflict(Bound pool, Call *c, Value *v) except -1
cdef object put_object(
    Bound pool, Call *c, object data, object ttl, object if_absent, object if_version, object word_, object key)
cdef object get_object(Bound pool, Call *c, bint info)
cdef object get_object_into(Bound pool, Call *c, object buffer)
cdef View view_object(Bound pool, Call *c)
cdef bint has(Bound pool, Call *c) except -1
cdef object expires(Bound pool, Call *c)
cdef bint touch(Bound pool, Call *c, object ttl) except -1
cdef object flush(Bound pool, Call *c, object if_version)
cdef object count(Bound pool, Call *c, object delta, object initial, object ttl, object word_, object key)

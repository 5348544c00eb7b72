# C-level names of arguments.py.
from cpython.buffer cimport Py_buffer
from engine.layout cimport Call
from shm.layout cimport u64

cdef u64 word(str name, object value) except? 0xFFFFFFFFFFFFFFFF
cdef int handle(Call *c, object oid, object index) except -1
cdef int buffer_of(str name, object data, Py_buffer *view, int flags) except -1
cdef object free_flag(object free)

# C-level names of writing.py.
from engine.api.values cimport Pieces
from engine.layout.call cimport Call, Value
from engine.member.bound cimport Bound
from shm.layout cimport u64

cdef class Writing:
    cdef Bound pool
    cdef Call call          # the handle, and where the page is
    cdef Value value        # of a value, what is asked beside;
    cdef Pieces pieces      # and its tail; of a page None
    cdef bint gone          # dead as soon as it is put
    cdef u64 since          # when it was made, from which `value.expires` is counted until it is put
    cdef u64 length         # bytes that are to be filled
    cdef u64 worker         # whose it is; 0: it has not begun, or it lies in `copy`
    cdef u64 size           # bytes that its pin keeps
    cdef object copy        # a bytearray, in pools that do not keep a page as it is; or None
    cdef Py_ssize_t exports # buffers of it that are in use
    cdef bint begun, ended
    cdef int take(self) except -1
    cdef int put(self) except -1
    cdef int let_go(self) except -1
    cdef bint is_open(self) noexcept

cdef Writing writing(Bound pool, Call *c, object length)
cdef Writing writing_object(
    Bound pool, Call *c, object length, object ttl, object if_absent, object if_version, object word, object key)

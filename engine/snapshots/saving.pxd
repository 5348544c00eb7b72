# C-level names of saving.py.
from engine.layout.call cimport Call
from engine.member.bound cimport Bound
from engine.member.member cimport Member
from engine.verbs.copy cimport Brought, Copied
from shm.layout cimport u64

cdef class Saver:
    cdef Member engine
    cdef int epoch              # of the attachment, when it began: a forked child's is another
    cdef list pools
    cdef object target
    cdef int fd                 # what is written to; of a frozen save into a pipe, a file without a name
    cdef u64 id
    cdef u64 number             # of the block that is filled
    cdef u64 place              # of the pool in the head's list
    cdef u64 size               # bytes that were written
    cdef u64 pushed             # of these, those that the disk was told to begin with
    cdef u64 torn
    cdef list gone
    cdef bytes buffer           # the block: its head, and then what is in it
    cdef object seen            # the same as a memoryview
    cdef char *block
    cdef Copied k
    cdef Brought *table
    cdef list held              # the bytes of what k.brought has
    cdef u64 known_room
    cdef int write(self, const char *data, u64 count) except -1
    cdef int put_block(self, int kind, u64 length) except -1
    cdef int flush(self) except -1
    cdef int save_pool(self, Bound pool) except -1
    cdef int step(self, Bound pool, Call *c, int what) except? -1
    cdef int begin_far(self, Bound pool) except -1
    cdef int bring(self, Bound pool) except -1
    cdef int forget_brought(self) except -1
    cdef int save_large(self, Bound pool) except -1
    cdef int try_large(self, Bound pool, Call *c, bint anyhow) except? -1
    cdef int save_long(self, Bound pool, Call *c) except? -1
    cdef bytes whole_page(self, Bound pool, Call *c)
    cdef bint lives(self, Bound pool) noexcept
    cdef int drop_object(self, Call *c) except -1
    cdef int begin_object(self, Call *c, bint first) except -1
    cdef int end_object(self, u64 pages, bint last) except -1
    cdef int save_all(self) except -1
    cdef int save_frozen(self) except -1
    cdef int pour(self, object spool) except -1

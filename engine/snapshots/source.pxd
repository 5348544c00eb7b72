# C-level names of source.py.
from engine.layout.stream cimport Block
from shm.layout cimport u64

cdef enum:
    BLOCK_GOOD = 0
    BLOCK_BAD = 1               # it is damaged, or not there; `why` says what
    BLOCK_END = 2               # the stream has ended

cdef class Source:
    cdef int fd
    cdef readonly object where  # the file, for people
    cdef u64 id
    cdef u64 start              # where the blocks begin
    cdef u64 number             # of the block that is next
    cdef readonly bint again    # it can be read once more
    cdef readonly object said   # what the head says
    cdef readonly str why
    cdef object file            # opened here
    cdef bytes window
    cdef char *at
    cdef u64 begin              # of what was read and not looked at, in the window,
    cdef u64 end
    cdef Block head             # of the block that was just read
    cdef u64 lost               # blocks that are missing before the one that was just read
    cdef u64 have(self, u64 count) except? 0xFFFFFFFFFFFFFFFF
    cdef int next(self) except -1
    cdef int bad(self, str why) except -1
    cdef char *inside(self) noexcept
    cdef int skip(self) noexcept

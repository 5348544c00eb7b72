# C-level names of views.py.
from engine.layout.call cimport Call
from engine.member.bound cimport Bound
from engine.member.member cimport Member
from shm.layout cimport u64

# Where a view has found one page.
cdef struct Sight:
    u64 shape
    u64 data        # offset of the chunk, or the word that a page is filled with
    u64 page        # offset of the descriptor
    u64 place       # of the pin + 1; 0: nothing is pinned
    u64 length      # bytes from `data` on that are the page, as it is stored

cdef class Pin:
    cdef Member engine
    cdef u64 worker         # who pinned it
    cdef u64 place
    cdef u64 data
    cdef u64 length
    cdef u64 size           # of the chunk, or the extent

cdef class View:
    cdef object pages       # what entering it gives
    cdef readonly bint released

cdef void let_go_of(Member engine, u64 worker, u64 place, u64 size, u64 data, bint counted) noexcept
cdef View view(Bound pool, Call *c, object count)

# C-level names of away.py.
from engine.layout.call cimport Call, PoolRef
from engine.pages.pam.base cimport PamOps
from engine.tree.hostops cimport HostOps
from shm.layout cimport Worker, u64

# What a survey says of a page of a range.
cdef struct Glimpse:
    u64 shape
    u64 data
    u64 gen
    u64 queue       # a hint: its guard is the shard's lock

cdef int copy_out(Worker *w, PoolRef *p, Call *c, u64 *expires) noexcept nogil
cdef int become_far(Worker *w, PoolRef *p, Call *c, PamOps pam, HostOps host) noexcept nogil
cdef int note_lost(Worker *w, PoolRef *p, Call *c, PamOps pam, HostOps host) noexcept nogil
cdef int drop_away(Worker *w, PoolRef *p, Call *c, PamOps pam, HostOps host) noexcept nogil
cdef int survey(Worker *w, PoolRef *p, Call *c, PamOps pam, HostOps host) noexcept nogil
cdef int take_surveyed(Worker *w, PoolRef *p, Call *c, PamOps pam, HostOps host) noexcept nogil

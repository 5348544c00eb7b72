# C-level names of leavers.py.
from engine.eviction.leaving cimport Leaving
from engine.far.batch cimport Batch
from engine.layout.call cimport PoolRef
from engine.pages.pam.base cimport PamOps
from engine.tree.hostops cimport HostOps
from shm.layout cimport Worker, u64

cdef int copy_leavers(
    Worker *w, PoolRef *p, Leaving *table, int count, u64 longest, u64 most, Batch batch, u64 *gone) noexcept nogil
cdef int let_go(
    Worker *w, PoolRef *p, Leaving *table, Batch batch, int *at, PamOps pam, HostOps host) noexcept nogil

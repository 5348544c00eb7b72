# C-level names of home.py.
from engine.layout.call cimport Call, PoolRef
from engine.pages.pam.base cimport PamOps
from engine.tree.hostops cimport HostOps
from shm.layout cimport Worker, u64

cdef enum:
    HOME_MAX = 1024             # pages that come home at once: a shard and a bucket are held for so long
    HOME_STORES = 40            # journalled stores of a page that comes home, at most

cdef int come_home(Worker *w, PoolRef *p, Call *c, PamOps pam, HostOps host) noexcept nogil

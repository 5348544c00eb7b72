from engine.layout cimport ClientPage
from shm.arena cimport Arena
from shm.layout cimport u64
from shm.workers cimport Attachment

cdef class Engine:
    cdef readonly str name
    cdef Attachment att
    cdef readonly object page_size
    cdef readonly object max_capacity
    cdef bint resizing
    # Pins that Python objects of this process own, of the worker whose id that is: a forked child has none of them.
    cdef u64 viewing
    cdef u64 viewer
    cdef readonly object buckets
    cdef readonly object max_workers
    cdef readonly object max_pools
    cdef readonly object client_id
    cdef object __weakref__
    cdef int begin(self, object arena, object client) except -1
    cdef int raise_status(self, int status) except -1
    cdef int settle(self) except -1
    cdef int refuse_while_viewed(self) except -1
    cdef ClientPage *lock_table(self) except NULL
    cdef tuple publish_locked(self, ClientPage *table, bytes name, u64 flags, u64 client, bytes pam, u64 policy, u64 cap, object allow)

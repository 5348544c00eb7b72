# C-level names of queues.py.
from engine.layout.structs cimport Queue
from shm.layout cimport Worker, u64

cdef void push_newest(Worker *w, Queue *q, u64 state, u64 off) noexcept nogil
cdef u64 hits_of(Worker *w, u64 off) noexcept nogil
cdef int renew(Worker *w, Queue *q, u64 state, u64 off, u64 hits) noexcept nogil
cdef void rename(Worker *w, u64 off, u64 new) noexcept nogil
cdef void dequeue(Worker *w, u64 off) noexcept nogil
cdef int leave_queue(Worker *w, u64 off, bint *orphaned) noexcept nogil
cdef void remember_ghost(Worker *w, u64 shard, u64 hash, u64 pages) noexcept nogil
cdef bint recall_ghost(Worker *w, u64 shard, u64 hash, u64 age, bint forget) noexcept nogil

# C-level names of evict.py.
from engine.layout.structs cimport Bucket, Obj, Pampd
from engine.tree.hostops cimport HostOps
from shm.layout cimport Worker, u64

# Pages that go together: of one object, indexes next to each other.
cdef struct Value:
    u64 obj_off
    u64 first
    u64 pages
    u64 gone        # of them, when it was evicted
    u64 hits        # of that which has most
    bint broken     # the page before the first one has gone
    bint stays      # somebody has a view on one of them, or is about to queue one

# Where the obj of a queued page was, when that was looked at last, and the bucket that it is in then.
cdef struct Guess:
    u64 obj_off
    Obj *o
    Bucket *b

cdef int lock_obj(Worker *w, Pampd *d, u64 pool, Guess *guess) noexcept nogil
cdef Pampd *page_of(Worker *w, Obj *o, u64 index) noexcept nogil
cdef void value_of(Worker *w, Obj *o, Pampd *d, Value *value) noexcept nogil
cdef void share_hits(Worker *w, Obj *o, u64 word, Value *value) noexcept nogil
cdef u64 looks(Worker *w, u64 pages) noexcept nogil
cdef int evict_one(Worker *w, u64 pool, u64 shard, HostOps host) noexcept nogil
cdef int evict_of(Worker *w, u64 pool, u64 shard, u64 of, u64 *steps, Value *stays, u64 *gone,
                  HostOps host) noexcept nogil
cdef int evict_found(Worker *w, u64 off, HostOps host) noexcept nogil
cdef int drop_far(Worker *w, u64 pool, u64 shard, u64 below, u64 *most, HostOps host) noexcept nogil

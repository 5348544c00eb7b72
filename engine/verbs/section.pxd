# C-level names of section.py.
from engine.tree.hostops cimport HostOps
from engine.layout.call cimport DESTROYED, Call, PoolRef
from engine.layout.structs cimport POOL_LIVE, Bucket, Pampd
from engine.pages.pam.base cimport PamOps
from shm.atomics cimport likely, load, load_acquire, pause, unlikely
from shm.layout cimport BUSY, OK, Worker, u64
from shm.lock cimport seq_begin

cdef enum:
    REAP_BUDGET = 64        # steps a verb may have to spend on what others left

# What every verb looks like from above: a call, by a worker in a pool; a status. Bound.attempt calls
# it again when it is BUSY.
ctypedef int (*Verb)(Worker *w, PoolRef *p, Call *c, PamOps pam, HostOps host) noexcept nogil

# What the verbs share.
cdef inline Bucket *bucket_of(PoolRef *p, Call *c) noexcept nogil:
    return p.buckets + (c.ask.hash & p.mask)

cdef inline bint alive(PoolRef *p) noexcept nogil:
    return load_acquire(&p.record.state) == POOL_LIVE and load(&p.record.gen) == p.gen

cdef inline int begin_look(Worker *w, PoolRef *p, Bucket *b, u64 *seq) noexcept nogil:
    # Begin to read a bucket without its lock: what is read counts if the sequence word is the same
    # afterwards (seq_same). OK, BUSY (somebody writes: look again) or DESTROYED.
    cdef u64 begun
    w.fault = 0
    begun = seq_begin(&b.lock)
    seq[0] = begun
    if unlikely(begun & 1):
        pause()
        return BUSY
    return OK if likely(alive(p)) else DESTROYED

cdef int lock_bucket(Worker *w, PoolRef *p, Bucket *b) noexcept nogil
cdef int end_section(Worker *w, Bucket *b, int status) noexcept nogil
cdef u64 *find_place(Worker *w, PoolRef *p, Call *c, Bucket *b, u64 index, u64 *obj_off) noexcept nogil
cdef Pampd *find_page(Worker *w, PoolRef *p, Call *c, Bucket *b, u64 index, u64 *obj_off) noexcept nogil
cdef u64 drop_page(
    Worker *w, PoolRef *p, Call *c, u64 obj_off, u64 index, bint told, PamOps pam, HostOps host) noexcept nogil
cdef void forget_told(Worker *w, u64 obj_off) noexcept nogil
cdef void drop_empty_obj(
    Worker *w, PoolRef *p, Call *c, Bucket *b, u64 obj_off, PamOps pam, HostOps host) noexcept nogil
cdef int finish(Worker *w, int budget, HostOps host) noexcept nogil

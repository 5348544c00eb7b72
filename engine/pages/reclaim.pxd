# C-level names of reclaim.py, and the one step verbs take inside their transactions.
from engine.layout.regions cimport is_obj
from engine.layout.structs cimport (
    OBJNODE_SENTINEL,
    PAMPD_SENTINEL,
    POOL_SENTINEL,
    LEDGER_BYTES,
    ROOT_RETIRED,
    ROOT_STAGED,
    Head,
    Pampd,
    PoolRecord,
)
from engine.layout.words cimport is_foreign
from shm.layout cimport FAULT_SENTINEL
from shm.atomics cimport likely, unlikely
from shm.journal cimport store
from shm.layout cimport Slot, Worker, u64
from shm.memory cimport chunk_at

# Frees what a foreign back end holds for a retired page or object; set by the session of this
# process.
ctypedef void (*ForeignFree)(Worker *w, u64 pool, u64 off) noexcept nogil

# Tells a host written in Python that an obj or objnode went with a whole object; NULL for the
# built-in host.
ctypedef void (*HostTold)(u64 pool, bint is_obj) noexcept nogil

cdef void set_host_told(HostTold f) noexcept
cdef void set_foreign_free(ForeignFree f) noexcept
cdef void detach(Worker *w, u64 off) noexcept nogil
cdef int room_in(Worker *w, int cls, u64 count) noexcept nogil
cdef int reap(Worker *w, int budget) noexcept nogil
cdef int bury(Worker *w, Slot *dead) noexcept nogil
cdef int inherit(Worker *w, Slot *dead) noexcept nogil
cdef int take_garbage(Worker *w, u64 idx) noexcept nogil
cdef void drop_staged(Worker *w) noexcept nogil
cdef void drop_unwritten(Worker *w) noexcept nogil
cdef bint back_ledger(Worker *w, u64 pool) noexcept nogil
cdef void back_ledgers(Worker *w) noexcept nogil
cdef bint back_everybodys(Worker *w, u64 pool) noexcept nogil
cdef u64 *ledger_for(Worker *w, u64 pool) noexcept nogil
cdef void gauge(Worker *w, u64 pool, int which, u64 delta) noexcept nogil

cdef inline Head *head_at(Worker *w, u64 off) noexcept nogil:
    # A retired or staged struct: a chunk, or the record of a pool that is being destroyed.
    if off < w.seg_lo:
        return pool_head(w, off)
    return <Head *>chunk_at(w, off)

cdef Head *pool_head(Worker *w, u64 off) noexcept nogil

cdef inline bint has_ledger(Worker *w, u64 pool) noexcept nogil:
    # True if this worker's ledger of a pool has memory, or can be given some now. Asked before a
    # transaction that counts pages of a pool which this worker may never have opened: what cannot
    # be counted is not done.
    return likely((pool + 1) * LEDGER_BYTES <= w.slot.ledger_backed) or back_ledger(w, pool)

cdef inline u64 *retired_link(Head *h) noexcept nogil:
    # Where a struct on a retired list names the next: a page in the arena may still be in a queue,
    # whose link its own is.
    if h.sentinel == ~<u64>PAMPD_SENTINEL and not is_foreign((<Pampd *>h).shape):
        return &(<Pampd *>h).obj
    return &h.link

cdef inline void retire(Worker *w, u64 off) noexcept nogil:
    # Put an unlinked struct on this worker's retired list, its sentinel inverted, inside the
    # caller's transaction.
    cdef Head *h = head_at(w, off)
    if unlikely(h.sentinel != PAMPD_SENTINEL and h.sentinel != OBJNODE_SENTINEL and not is_obj(h.sentinel)
                and h.sentinel != POOL_SENTINEL):
        w.fault = FAULT_SENTINEL
        return
    store(w, &h.sentinel, ~h.sentinel)
    store(w, retired_link(h), w.slot.client[ROOT_RETIRED])
    store(w, &w.slot.client[ROOT_RETIRED], off)

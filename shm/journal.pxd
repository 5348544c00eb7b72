# Owns the undo journal: store, commit, roll back, the redo copy, and the kill-point counter.
#
# A transaction is what lies between two commits; it needs no begin. Every change of a journalled
# word goes through `store`: the old value is written to the worker's journal, the length is bumped,
# the word is changed, in this order. A worker killed anywhere leaves a journal that undoes exactly
# what it had done; undoing twice is undoing once. Words that nothing links to yet are written
# plainly.
#
# A transaction may end in one copy that cannot be undone (a page over a page): it is armed last,
# and from then on recovery goes forward, by doing the copy again, instead of back.

from shm.atomics cimport barrier, unlikely
from shm.layout cimport CORRUPT, FAULT_JOURNAL, OK, Slot, Worker, u64

cdef inline void kill_point(Worker *w) noexcept nogil:
    if unlikely(w.kill_at != 0):
        die_here(w)

cdef inline void store(Worker *w, u64 *p, u64 value) noexcept nogil:
    cdef u64 n = w.slot.journal_len
    if unlikely(w.fault != 0 or n >= w.journal_cap):
        if w.fault == 0:
            w.fault = FAULT_JOURNAL
        return
    w.journal[2 * n] = <u64>(<char *>p - w.base)
    w.journal[2 * n + 1] = p[0]
    barrier()
    w.slot.journal_len = n + 1
    barrier()
    kill_point(w)
    p[0] = value
    barrier()
    kill_point(w)

cdef inline void commit(Worker *w) noexcept nogil:
    # Length first, redo second: between the two, recovery repeats the copy, which is harmless.
    barrier()
    w.slot.journal_len = 0
    barrier()
    kill_point(w)
    if unlikely(w.slot.redo_len != 0):
        w.slot.redo_len = 0
        barrier()
        kill_point(w)

cdef inline u64 savepoint(Worker *w) noexcept nogil:
    return w.slot.journal_len

cdef void rollback(Worker *w, u64 to) noexcept nogil

cdef inline int conclude(Worker *w) noexcept nogil:
    # The end of a transaction: commit, or roll back after a fault. OK or CORRUPT.
    if unlikely(w.fault != 0):
        rollback(w, 0)
        return CORRUPT
    commit(w)
    return OK

cdef void die_here(Worker *w) noexcept nogil
cdef int reserve(Worker *w, u64 entries) noexcept nogil
cdef void shrink(Worker *w) noexcept nogil
cdef void redo_copy(Worker *w, u64 src, u64 dst, u64 length) noexcept nogil
cdef int settle(Worker *w, Slot *dead, u64 idx, u64 *journal) noexcept nogil

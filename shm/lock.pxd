# Owns the owner-word lock: take, give back, and the read side of its sequence word.
#
# `owner`, written only by compare-and-swap and swap:
#
#   state      value                          who may change it, to what
#   free       0                              anyone: held
#   held       id of a worker                 holder: free; anyone: awaited
#   awaited    id of a worker | OWNER_WAITS   holder: free, then post the semaphore once
#   orphaned   id of a dead worker (| WAITS)  the rescuer, after settling its journal: free, then post;
#                                             a slot's own lock: the rescuer, before: held by itself (recovery.adopt)
#
# The id is generation << 16 | slot + 1, so a lock always names its holder. OWNER_WAITS is a bit and
# not a count: a count would stay wrong for ever when a waiter dies; a bit costs one post too many.
#
# Taking never sleeps: after a short spin it answers BUSY with Worker.blocked_on set, the caller
# gives back whatever it holds, waits (waiting.py) with nothing held, and starts over. So no worker
# ever waits while it holds, which rules out deadlock; the order in docs/locking.md is what the
# verbs use all the same.
#
# Memory order: the compare-and-swap acquires, the swap releases. `seq` is made odd before the first
# store of a section (release fence between) and even by a release store after the last. It is made
# odd whatever it was: a stray write that changed its lowest bit must not let readers take what a
# writer is in the middle of.

from shm.atomics cimport (barrier, cas, fence_acquire, fence_release, load, load_acquire, set,
                          set_release, swap, unlikely)
from shm.journal cimport kill_point
from shm.layout cimport BUSY, FAULT_LOCK, HELD_MAX, OK, Lock, Worker, offset_of, u64

cdef inline u64 OWNER_WAITS() noexcept nogil:
    return <u64>1 << 63

cdef void check_rank(Worker *w, u64 offset) noexcept nogil
cdef int spin(Worker *w, Lock *lock, u64 offset) noexcept nogil
cdef void post(Worker *w, Lock *lock) noexcept nogil

cdef inline u64 new_owner(Worker *w, u64 offset) noexcept nogil:
    # Who slept on this lock may have been one of several: it takes it awaited, to pass the wake-up
    # on.
    return w.id | OWNER_WAITS() if w.waited_on == offset else w.id

cdef inline int lock_try(Worker *w, Lock *lock) noexcept nogil:
    # Recorded before it is taken, so that recovery finds it however early the worker dies.
    cdef u64 offset = offset_of(w, lock)
    if unlikely(w.rank_of != NULL):
        check_rank(w, offset)
    if unlikely(w.held >= HELD_MAX):
        w.fault = FAULT_LOCK
        return BUSY
    w.slot.held[w.held] = offset
    barrier()
    kill_point(w)
    if unlikely(not cas(&lock.owner, 0, new_owner(w, offset))):
        if spin(w, lock, offset) != OK:
            w.slot.held[w.held] = 0
            return BUSY
    kill_point(w)
    if w.waited_on == offset:
        w.waited_on = 0
    w.held += 1
    set(&lock.seq, (lock.seq + 1) | 1)
    fence_release()
    kill_point(w)
    return OK

cdef inline void unlock(Worker *w, Lock *lock) noexcept nogil:
    cdef u64 old
    kill_point(w)
    set_release(&lock.seq, lock.seq + 1)
    barrier()
    kill_point(w)
    old = swap(&lock.owner, 0)
    kill_point(w)
    w.held -= 1
    w.slot.held[w.held] = 0
    if unlikely(old != w.id):
        if (old & ~OWNER_WAITS()) != w.id:
            w.fault = FAULT_LOCK
        else:
            post(w, lock)

# The worker's own lock, which is the right to change anything while nobody checks, and then another
# one. OK, or BUSY with neither.
cdef inline int lock_both(Worker *w, Lock *lock) noexcept nogil:
    if lock_try(w, &w.slot.own) != OK:
        return BUSY
    if lock_try(w, lock) != OK:
        unlock(w, &w.slot.own)
        return BUSY
    return OK

cdef inline void unlock_both(Worker *w, Lock *lock) noexcept nogil:
    unlock(w, lock)
    unlock(w, &w.slot.own)

# Read side. `seq_begin` answers an odd number while somebody writes. What is copied between it and
# a `seq_same` that answers True was there, all of it, at one moment.
cdef inline u64 seq_begin(Lock *lock) noexcept nogil:
    return load_acquire(&lock.seq)

cdef inline bint seq_same(Lock *lock, u64 seen) noexcept nogil:
    fence_acquire()
    return load(&lock.seq) == seen

"""Owns taking a lease and giving it back: who has which name.

A lease is held by a thread of a worker, in whose code anything may happen meanwhile: so it is no
lock of the arena's. Nobody who holds one holds up anybody but those who want this one, no `held`
notes it, and recovery does not know of it. It is held as long as its word `holder` is not 0 and the
worker that this names lives (`is_over`): so it passes on with the holder's end, whatever that was,
and there is nothing to give back for the dead. An id of a worker has its generation in it, so who
comes into the slot later does not pass for the holder.
Taking is done under the bucket's lock: a place is found and named, and the store of `holder`, the
last one, is what takes it. Kill at any instruction before: the place is free, whatever its name is.
Giving back is one compare-and-swap of the holder, without a lock, so that nothing can be in its
way. A place that is free keeps its name, since who sleeps on it will look for it there.
The seal tells a word that the holder did not write: who waits for a lease must not wait for a
stray one.
Rejected: to have recovery give leases back (waiters would wait for a rescuer, and it would walk the
table at each death); a note of each lease in the holder's slot (then there may be only so many).
"""
import cython
from cython.cimports.engine.layout.regions import has_leases, lease_bucket, lease_page, leases_offset
from cython.cimports.engine.layout.structs import CLIENT_PAGE, LEASES_A_BUCKET, ClientPage, Lease, LeaseBucket
from cython.cimports.engine.oid import hash_oid
from cython.cimports.engine.verbs.lease import CROWDED, EVERY_THREAD, MINE, TAKEN, Wanted
from cython.cimports.shm.atomics import barrier, cas, ctz, load, load_acquire, set_bits, set_release
from cython.cimports.shm.journal import kill_point
from cython.cimports.shm.kernel.semaphores import post_one
from cython.cimports.shm.layout import (
    BUSY,
    CORRUPT,
    FAULT_LOCK,
    NOSPACE,
    OK,
    SLOT_LIVE,
    Lock,
    Worker,
    slot_at,
    slots_used,
    u64,
)
from cython.cimports.shm.lock import OWNER_WAITS, lock_both, unlock_both
from cython.cimports.shm.memory import back
from cython.cimports.shm.recovery import is_gone

HAS_SEMAPHORE = cython.declare(u64, cython.cast(u64, 1) << 63)      # Lock.sem


def is_over(w, holder):
    """True if the worker that a word `holder` names has no lease any more: it is dead, or has left,
    or never was."""
    idx: u64 = (holder & 0xFFFF) - 1
    return (
        idx >= slots_used(w)
        or load_acquire(cython.address(slot_at(w, idx).state)) != SLOT_LIVE     # it has left; an heir may be to come
        or is_gone(w, holder)
    )


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _seal(lease: cython.pointer(Lease), holder: u64) -> u64:
    return hash_oid(lease.oid[0] ^ (holder & ~OWNER_WAITS()), lease.oid[1] ^ lease.thread, lease.oid[2])


def is_whole(lease, holder):
    """True if all words of a lease are what this holder has written. They stay while he has it."""
    return lease.seal == _seal(lease, holder)


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _is_named(lease: cython.pointer(Lease), want: cython.pointer(Wanted)) -> cython.bint:
    return lease.oid[0] == want.oid[0] and lease.oid[1] == want.oid[1] and lease.oid[2] == want.oid[2]


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _find(w: cython.pointer(Worker), b: cython.pointer(LeaseBucket), want: cython.pointer(Wanted)
          ) -> cython.pointer(Lease):
    """The place of a name, in a locked bucket: where it is held; else where it was last; else one
    that is free; else one whose holder is dead. NULL: there is none, or (Worker.fault) a word that
    no holder has written."""
    i: u64
    holder: u64
    lease: cython.pointer(Lease)
    free: cython.pointer(Lease) = cython.NULL
    last: cython.pointer(Lease) = cython.NULL
    held: cython.pointer(Lease) = cython.NULL
    for i in range(LEASES_A_BUCKET):
        lease = cython.address(b.leases[i])
        holder = load_acquire(cython.address(lease.holder))
        if holder != 0 and not is_whole(lease, holder) and not is_over(w, holder):
            w.fault = FAULT_LOCK
            return cython.NULL
        if holder != 0 and _is_named(lease, want):
            held = lease
        elif holder == 0 and _is_named(lease, want):
            last = lease
        elif holder == 0 and free == cython.NULL:
            free = lease
    if held != cython.NULL or last != cython.NULL:
        return held if held != cython.NULL else last
    for i in range(LEASES_A_BUCKET if free == cython.NULL else 0):
        lease = cython.address(b.leases[i])
        if is_over(w, load_acquire(cython.address(lease.holder))):
            return lease
    return free


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _take_locked(w: cython.pointer(Worker), b: cython.pointer(LeaseBucket), want: cython.pointer(Wanted)) -> cython.int:
    lease: cython.pointer(Lease) = _find(w, b, want)
    holder: u64
    if w.fault != 0:
        return CORRUPT
    if lease == cython.NULL:
        return CROWDED
    while True:
        holder = load_acquire(cython.address(lease.holder))
        if holder == 0 or is_over(w, holder):
            break
        if holder & ~OWNER_WAITS() == w.id and lease.thread == want.thread and want.thread != EVERY_THREAD:
            return MINE
        want.place = cython.cast(cython.pointer(Lock), lease)
        if not want.waits:
            return TAKEN
        # As with a lock: who gives it back changes the same word. So either he sees that somebody
        # waits, or this sees that it is free.
        if holder & OWNER_WAITS() or cas(cython.address(lease.holder), holder, holder | OWNER_WAITS()):
            set_bits(cython.address(lease.sem), HAS_SEMAPHORE)
            return TAKEN
    # Of a dead holder it is freed first: what is written then is nobody's until it is whole.
    set_release(cython.address(lease.holder), 0)
    kill_point(w)
    lease.oid[0], lease.oid[1], lease.oid[2] = want.oid[0], want.oid[1], want.oid[2]
    lease.thread = want.thread
    lease.seal = _seal(lease, w.id)
    barrier()
    kill_point(w)
    # Who slept may have been one of several, and passes the wake-up on.
    set_release(cython.address(lease.holder), w.id | (OWNER_WAITS() if want.slept or holder & OWNER_WAITS() else 0))
    kill_point(w)
    return OK


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _prepare(w: cython.pointer(Worker), want: cython.pointer(Wanted)) -> cython.int:
    """Give the page of a bucket memory, if it has none yet. OK or NOSPACE. Twice is once."""
    table: cython.pointer(ClientPage) = cython.cast(cython.pointer(ClientPage), w.base + w.client_off)
    if has_leases(w, want.hash):
        return OK
    if back(w, leases_offset(w) + ctz(lease_page(want.hash)) * CLIENT_PAGE, CLIENT_PAGE) != OK:
        return NOSPACE
    kill_point(w)
    set_bits(cython.address(table.leases), lease_page(want.hash))
    kill_point(w)
    return OK


def take(w, want):
    """Take the lease if nobody who lives has it. OK, TAKEN (with `place`, if it waits), MINE,
    CROWDED; BUSY, NOSPACE or CORRUPT."""
    b: cython.pointer(LeaseBucket) = lease_bucket(w, want.hash)
    status: cython.int = _prepare(w, want)
    if status != OK:
        return status
    if lock_both(w, cython.address(b.lock)) != OK:
        return BUSY
    status = _take_locked(w, b, want)
    unlock_both(w, cython.address(b.lock))
    return status


def look(w, want):
    """Whether somebody who lives has the lease: TAKEN, or OK if nobody has; BUSY or CORRUPT."""
    b: cython.pointer(LeaseBucket) = lease_bucket(w, want.hash)
    lease: cython.pointer(Lease)
    holder: u64
    if not has_leases(w, want.hash):
        return OK
    if lock_both(w, cython.address(b.lock)) != OK:
        return BUSY
    lease = _find(w, b, want)
    holder = load(cython.address(lease.holder)) if lease != cython.NULL and _is_named(lease, want) else 0
    unlock_both(w, cython.address(b.lock))
    if w.fault != 0:
        return CORRUPT
    return TAKEN if holder != 0 and not is_over(w, holder) else OK


def mine(w, want):
    """The lease if this thread of this worker has it, else NULL. Without a lock: what names the
    caller nobody else writes."""
    i: u64
    lease: cython.pointer(Lease)
    if has_leases(w, want.hash):
        for i in range(LEASES_A_BUCKET):
            lease = cython.address(lease_bucket(w, want.hash).leases[i])
            if (
                load_acquire(cython.address(lease.holder)) & ~OWNER_WAITS() == w.id
                and lease.thread == want.thread
                and _is_named(lease, want)
            ):
                return lease
    return cython.NULL


def give(w, want):
    """Give the lease back, and wake one who sleeps on it. False: this thread does not have it."""
    lease: cython.pointer(Lease) = mine(w, want)
    holder: u64 = w.id
    if lease == cython.NULL:
        return False
    kill_point(w)
    while not cas(cython.address(lease.holder), holder, 0):
        holder = load(cython.address(lease.holder))
        if holder & ~OWNER_WAITS() != w.id:
            return False            # a repair has freed it, or somebody has written over it
    kill_point(w)
    if holder & OWNER_WAITS():
        post_one(w, cython.cast(cython.pointer(Lock), lease))
        kill_point(w)
    return True

"""Owns turns: which thread of a process uses an attachment now, and in what order the others
follow.

A turn has an owner, and who does not own it gives nothing away: a verb that was ended while another
thread had the turn leaves that thread's turn alone. Who gives a turn up hands it to the thread that
has waited longest, so no thread waits longer than for the calls that were asked for before its own;
a thread that calls in a loop goes to the end of the queue each time.

One word says whose turn it is (`Turn.owner`):

    nobody's    0                   anyone, by compare-and-swap: owned
    owned       a thread            the owner, by compare-and-swap: nobody's
                                    who has the queue, by compare-and-swap: awaited
    awaited     a thread, WAITED    the owner, who has the queue: the next one's, or nobody's

So the bit is there whenever somebody is queued, and an owner that sees it looks at the queue: there
is no moment at which one queues up and nobody hands on. With the GIL each of these is a plain load
or store, which nothing interrupts, and the queue's mutex is no lock (atomics.pxd).
Rejected: polling with naps (a thread that calls long verbs in a loop starves the others, and each
turn costs a nap); a mutex of the interpreter as the turn (who has waited longest is passed over for
a millisecond each time, it cannot be asked who owns it, and no signal handler runs meanwhile).
"""
import cython
from cython.cimports.cpython.exc import PyErr_CheckSignals
from cython.cimports.cpython.pythread import (
    PyThread_acquire_lock,
    PyThread_allocate_lock,
    PyThread_free_lock,
    PyThread_release_lock,
    PyThread_type_lock,
)
from cython.cimports.shm.atomics import cas, claim, glance, mutex_lock, mutex_unlock, set_release, this_thread
from cython.cimports.shm.kernel.system import PyThread_acquire_lock_timed
from cython.cimports.shm.turns import WAITED, Waiter

# How long a waiting thread sleeps at most before it looks for signals: one that arrives in another
# thread does not wake it.
SLICE_US = cython.declare(cython.longlong, 50_000)
ACQUIRED = cython.declare(cython.int, 1)
NOWAIT = cython.declare(cython.int, 0)


@cython.cfunc
@cython.exceptval(check=False)
def _own_or_await(turn: cython.pointer(Turn), thread: u64) -> cython.bint:
    """True: the turn is this thread's, since it was nobody's. False: whoever has it will look at
    the queue, which the caller has."""
    owner: u64
    while not claim(cython.address(turn.owner), thread):
        owner = glance(cython.address(turn.owner))
        if owner & WAITED != 0 or (owner != 0 and cas(cython.address(turn.owner), owner, owner | WAITED)):
            return False
    return True


@cython.cfunc
@cython.exceptval(check=False)
def _unlink(turn: cython.pointer(Turn), me: cython.pointer(Waiter)) -> cython.void:
    at: cython.pointer(cython.pointer(Waiter)) = cython.address(turn.first)
    before: cython.pointer(Waiter) = cython.NULL
    while at[0] != cython.NULL and at[0] != me:
        before = at[0]
        at = cython.address(before.next)
    if at[0] == me:
        at[0] = me.next
        if turn.last == me:
            turn.last = before


@cython.cfunc
@cython.exceptval(check=False)
def _queue_up(turn: cython.pointer(Turn), me: cython.pointer(Waiter), first: cython.bint) -> cython.bint:
    """True: the turn is this thread's. False: it is the last of those that wait, or the first."""
    owned: cython.bint
    mutex_lock(cython.address(turn.queue))
    owned = _own_or_await(turn, me.thread)
    if not owned:
        if first or turn.first == cython.NULL:
            me.next = turn.first
            turn.first = me
        else:
            me.next = cython.NULL
            turn.last.next = me
        if me.next == cython.NULL:
            turn.last = me
    mutex_unlock(cython.address(turn.queue))
    return owned


@cython.cfunc
@cython.exceptval(check=False)
def _step_out(turn: cython.pointer(Turn), me: cython.pointer(Waiter)) -> cython.bint:
    """Leave the queue for a moment. False: the turn has been granted."""
    granted: cython.bint
    mutex_lock(cython.address(turn.queue))
    granted = me.granted
    if not granted:
        _unlink(turn, me)
    mutex_unlock(cython.address(turn.queue))
    return not granted


def pass_turn(turn):
    """Give the turn, which is this thread's, to the thread that has waited longest, or to
    nobody."""
    heir: cython.pointer(Waiter)
    mutex_lock(cython.address(turn.queue))
    heir = turn.first
    if heir == cython.NULL:
        set_release(cython.address(turn.owner), 0)
    else:
        turn.first = heir.next
        if turn.first == cython.NULL:
            turn.last = cython.NULL
        heir.granted = True
        set_release(cython.address(turn.owner), heir.thread | (WAITED if turn.first != cython.NULL else 0))
        PyThread_release_lock(cython.cast(PyThread_type_lock, heir.lock))
    mutex_unlock(cython.address(turn.queue))


def take_turn(turn, interruptible):
    """Wait until the turn is this thread's. If `interruptible`, signal handlers run meanwhile, with
    the place in the queue kept and nothing owned, so that they may take turns themselves; what one
    raises ends the wait, without the turn."""
    me: Waiter
    got: cython.int
    owned: cython.bint
    me.thread = this_thread()
    if claim(cython.address(turn.owner), me.thread):
        turn.count += 1
        return 0
    me.lock = cython.cast(cython.p_void, PyThread_allocate_lock())
    if me.lock == cython.NULL:
        raise MemoryError
    PyThread_acquire_lock(cython.cast(PyThread_type_lock, me.lock), NOWAIT)
    me.granted = False
    try:
        owned = _queue_up(turn, cython.address(me), False)
        while not owned and not me.granted:
            with cython.nogil:
                got = PyThread_acquire_lock_timed(cython.cast(PyThread_type_lock, me.lock), SLICE_US, interruptible)
            if got == ACQUIRED:
                break
            # A handler that wants a turn must not wait for this very thread.
            if not interruptible or not _step_out(turn, cython.address(me)):
                continue
            PyErr_CheckSignals()
            owned = _queue_up(turn, cython.address(me), True)       # its place is kept
        # Whoever has granted it may still be about the lock.
        mutex_lock(cython.address(turn.queue))
        mutex_unlock(cython.address(turn.queue))
    finally:
        PyThread_free_lock(cython.cast(PyThread_type_lock, me.lock))
    turn.count += 1
    return 0

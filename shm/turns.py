"""Owns turns: which thread of a process uses an attachment now, and in what order the others
follow.

A turn has an owner, and who does not own it gives nothing away: a verb that was ended while another
thread had the turn leaves that thread's turn alone. Who gives a turn up hands it to the thread that
has waited longest, so no thread waits longer than for the calls that were asked for before its own;
a thread that calls in a loop goes to the end of the queue each time.
Guard of everything here: the GIL, which is held between any two lines.
Rejected: polling with naps (a thread that calls long verbs in a loop starves the others, and each
turn costs a nap).
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
from cython.cimports.shm.atomics import this_thread
from cython.cimports.shm.kernel.system import PyThread_acquire_lock_timed
from cython.cimports.shm.turns import Waiter

# How long a waiting thread sleeps at most before it looks for signals: one that arrives in another
# thread does not wake it.
SLICE_US = cython.declare(cython.longlong, 50_000)
ACQUIRED = cython.declare(cython.int, 1)
NOWAIT = cython.declare(cython.int, 0)


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


def pass_turn(turn):
    """Give the turn, which is this thread's, to the thread that has waited longest, or to
    nobody."""
    heir: cython.pointer(Waiter) = turn.first
    if heir == cython.NULL:
        turn.busy = False
        return
    turn.first = heir.next
    if turn.first == cython.NULL:
        turn.last = cython.NULL
    turn.thread = heir.thread
    heir.granted = True
    PyThread_release_lock(cython.cast(PyThread_type_lock, heir.lock))


def take_turn(turn, interruptible):
    """Wait until the turn is this thread's. If `interruptible`, signal handlers run meanwhile, with
    the place in the queue kept and nothing owned, so that they may take turns themselves; what one
    raises ends the wait, without the turn."""
    me: Waiter
    got: cython.int
    if not turn.busy:
        turn.busy = True
        turn.thread = this_thread()
        turn.count += 1
        return 0
    me.lock = cython.cast(cython.p_void, PyThread_allocate_lock())
    if me.lock == cython.NULL:
        raise MemoryError
    PyThread_acquire_lock(cython.cast(PyThread_type_lock, me.lock), NOWAIT)
    me.thread = this_thread()
    me.granted = False
    me.next = cython.NULL
    if turn.last != cython.NULL:
        turn.last.next = cython.address(me)
    else:
        turn.first = cython.address(me)
    turn.last = cython.address(me)
    try:
        while not me.granted:
            with cython.nogil:
                got = PyThread_acquire_lock_timed(cython.cast(PyThread_type_lock, me.lock), SLICE_US, interruptible)
            if got == ACQUIRED or me.granted or not interruptible:
                continue
            _unlink(turn, cython.address(me))       # a handler that wants a turn must not wait for this very thread
            PyErr_CheckSignals()
            if not turn.busy:
                turn.busy = True
                turn.thread = me.thread
                break
            me.next = turn.first
            turn.first = cython.address(me)
            if turn.last == cython.NULL:
                turn.last = cython.address(me)
    finally:
        PyThread_free_lock(cython.cast(PyThread_type_lock, me.lock))
    turn.count += 1
    return 0

"""Owns Lease, a lock by name for all threads of all processes of an arena, and how it is waited
for.

Who waits sleeps on the semaphore of the lease, in slices, with nothing held and the turn given up.
After each he asks the kernel, by way of `take`, whether the holder lives: so a death is noticed
within a slice, and a wake-up that was lost costs one. No handler runs in the middle of giving back:
what one raises must not leave a lease held that nobody means to hold.
"""
import math
import time

import cython
import cython.cimports.engine.verbs.lease as leases
from cython.cimports.cpython.pystate import PyThreadState_Get
from cython.cimports.engine.api.lease import PyThreadState_GetID
from cython.cimports.engine.layout.structs import LEASES_A_BUCKET
from cython.cimports.engine.member.member import Member
from cython.cimports.engine.oid import hash_oid, oid_words
from cython.cimports.engine.verbs.lease import CROWDED, EVERY_THREAD, MINE, TAKEN, Wanted
from cython.cimports.shm.layout import BUSY, NOSPACE, OK, Worker
from cython.cimports.shm.seal import seal
from engine.errors import ArenaBusy, ArenaFull, LeaseTimeout
from engine.oid import oid as oid_of
from shm.entry import no_memory

SLICE_S = 0.005         # longest sleep, and so what the death of a holder costs whoever waits


def open_lease(engine: Member, oid, timeout=None, any_thread=False):
    """The Lease of a name."""
    found: Lease = Lease.__new__(Lease)
    found.engine = engine
    oid_words(oid if isinstance(oid, (tuple, list)) else oid_of(oid), found.words)
    found.hash = hash_oid(found.words[0], found.words[1], found.words[2])
    found.timeout = seconds_or_none(timeout)
    if not isinstance(any_thread, bool):
        raise TypeError(f"any_thread: True or False, not {type(any_thread).__name__}")
    found.any_thread = any_thread
    return found


def seconds_or_none(timeout):
    """A `timeout`: seconds, or None for as long as it takes."""
    if timeout is None:
        return None
    if isinstance(timeout, bool) or not isinstance(timeout, (int, float)):
        raise TypeError(f"timeout: a number or None, not {type(timeout).__name__}")
    if not timeout >= 0:
        raise ValueError(f"timeout: 0 or more, not {timeout}")
    return float(timeout) if math.isfinite(timeout) else None


@cython.cclass
class Lease:
    """A lock by name, of one thread of one process on the arena at a time. Made by Engine.lease; a
    context manager.

    Whoever holds it may take his time: only those who want this lease wait for him, and as long as
    he lives. When his process ends, however it does, or closes the engine, the lease passes on at
    once. A thread that ends without giving it back keeps it until then. A forked child holds
    nothing of its parent's. Nobody has a right to be next: who asks at the right moment has it. Not
    reentrant. With any_thread the process holds it, and not the thread: any of its threads may give
    it back, and all of them, the one that took it as well, wait for that."""

    def describe(self, want):
        want.oid[0], want.oid[1], want.oid[2] = self.words[0], self.words[1], self.words[2]
        want.hash = self.hash
        want.thread = EVERY_THREAD if self.any_thread else PyThreadState_GetID(PyThreadState_Get())
        want.waits = False
        want.slept = False
        want.place = cython.NULL
        return 0

    def answer(self, status):
        """What a status means that ends the asking: True, it was taken; False, somebody has it; or
        an exception."""
        if self.engine.att.w.lost:
            self.engine.att.lose()
        if status == OK or status == TAKEN or status == MINE:
            return status == OK
        if status == NOSPACE:
            raise ArenaFull(*no_memory(self.engine.name, "a table of leases").args)
        if status == CROWDED:
            raise ArenaBusy(
                f"arena {self.engine.name!r}: too many leases are held: all {LEASES_A_BUCKET} places that "
                "this one could have"
            )
        self.engine.raise_status(status)
        return False

    def take(self, want):
        """As the verb; and BUSY is not because of somebody dead."""
        w: cython.pointer(Worker) = cython.address(self.engine.att.w)
        status: cython.int = leases.take(w, want)
        if status == BUSY:
            self.engine.att.recover_quick()
            status = leases.take(w, want)
        return status

    def try_once(self):
        """One look, without sleep."""
        want: Wanted
        status: cython.int
        self.describe(cython.address(want))
        self.engine.att.enter()
        try:
            status = self.take(cython.address(want))
            return status != BUSY and self.answer(status)
        finally:
            self.engine.att.leave()

    def wait(self, seconds):
        """True: it was taken. False: the time has run out."""
        want: Wanted
        status: cython.int
        left: cython.double = SLICE_S
        until = None if seconds is None else time.monotonic() + seconds
        self.describe(cython.address(want))
        self.engine.att.enter()
        try:
            while True:
                if until is not None:
                    left = min(SLICE_S, until - time.monotonic())
                want.waits = left > 0
                status = self.take(cython.address(want))
                if status == MINE:
                    raise RuntimeError("acquire: this thread holds the lease already, and would wait for itself")
                if status != BUSY and status != TAKEN:
                    return self.answer(status)
                if self.engine.att.w.lost:
                    self.engine.att.lose()
                if left <= 0:
                    return False
                if status == BUSY:
                    self.engine.att.pause()
                else:
                    self.engine.att.rest_at(want.place, left)
                    want.slept = True
        finally:
            self.engine.att.leave()

    def acquire(self, timeout=None, blocking=True):
        """Take the lease. True, or False: somebody else had it until the time ran out.

        timeout: seconds; None: those that the lease was made with, or, without any, as long as it
        takes. blocking=False: as try_acquire. Signal handlers run meanwhile, and what one raises
        ends the wait. Raises RuntimeError (this thread holds it already), ArenaBusy (too many
        leases are held), ArenaFull (no memory for a table of them), TypeError, ValueError."""
        if not isinstance(blocking, bool):
            raise TypeError(f"blocking: True or False, not {type(blocking).__name__}")
        if blocking:
            return self.engine.sound(self.wait(self.timeout if timeout is None else seconds_or_none(timeout)))
        if timeout is not None:
            raise ValueError("timeout: None where blocking=False")
        return self.try_acquire()

    def try_acquire(self):
        """Take the lease if it is free, without sleeping: for an event loop, which sleeps a little
        longer after each try. True, or False: somebody has it, this very thread perhaps, or is
        about to. Raises ArenaBusy (too many leases are held), ArenaFull (no memory for a table of
        them)."""
        return self.engine.sound(self.try_once())

    def release(self):
        """Give the lease back. Raises RuntimeError if this thread of this process, or with
        any_thread this process, does not hold it."""
        want: Wanted
        held: cython.bint
        self.describe(cython.address(want))
        self.engine.att.enter_quietly()
        try:
            held = leases.give(cython.address(self.engine.att.w), cython.address(want))
        finally:
            self.engine.att.leave()
        if not held:
            who = "this process" if self.any_thread else "this thread of this process"
            raise RuntimeError(f"release: {who} does not hold the lease")

    def locked(self):
        """True if anybody holds the lease. Nothing is taken."""
        w: cython.pointer(Worker) = cython.address(self.engine.att.w)
        want: Wanted
        status: cython.int = BUSY
        self.describe(cython.address(want))
        self.engine.att.enter()
        try:
            while status == BUSY:
                status = leases.look(w, cython.address(want))
                if status == BUSY:
                    self.engine.att.pause()
            return status == TAKEN or not self.answer(status)
        finally:
            self.engine.att.leave()

    def mine(self):
        """True if this thread of this process, or with any_thread this process, holds the lease."""
        want: Wanted
        self.describe(cython.address(want))
        self.engine.att.enter()
        try:
            return leases.mine(cython.address(self.engine.att.w), cython.address(want)) != cython.NULL
        finally:
            self.engine.att.leave()

    @property
    def oid(self):
        """The name, as a tuple of three ints."""
        return (self.words[0], self.words[1], self.words[2])

    def __enter__(self):
        if not self.acquire():
            raise LeaseTimeout(f"lease {self.oid}: somebody else has it, after waiting for {self.timeout:g} s")
        return self

    def __exit__(self, kind, value, traceback):
        self.release()

    def __reduce__(self):
        return (open_lease, (self.engine, self.oid, self.timeout, self.any_thread))

    def __repr__(self):
        return f"<tmem lease {self.oid} of arena {self.engine.name!r}>"


seal(Lease, "Engine.lease")

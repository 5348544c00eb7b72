"""Owns the worker table: taking a slot, living in it, turns among threads, fork, leaving.

May call: arena, liveness, recovery, slab, waiting. Called by the layer above, which runs every operation between
`enter` and `leave`. A slot is chosen under the rescue byte; who holds its liveness byte owns it. A newcomer may
take the slot of a dead worker: it settles the transaction, releases the locks, and inherits the chunks as they lie.
Kill at any instruction: until `state` is SLOT_LIVE the slot is free; from then on it is a dead worker's.
After a fork the child closes the inherited descriptor at once (it would keep the parent alive for the kernel)
and takes a slot of its own at first use.
"""
import os
import signal
import time
import weakref

import cython
from cython.cimports.cpython.exc import PyErr_CheckSignals
from cython.cimports.cpython.pythread import PyThread_get_thread_ident
from cython.cimports.libc.stdlib import calloc, free
from cython.cimports.libc.string import memset
from cython.cimports.posix.unistd import close
from cython.cimports.shm.atomics import barrier
from cython.cimports.shm.journal import kill_point
from cython.cimports.shm.layout import (
    BUSY,
    CORRUPT,
    JOURNAL_BACKED,
    JOURNAL_BYTES,
    JOURNAL_ENTRY,
    OK,
    SLOT_BYTES,
    SLOT_FREE,
    SLOT_LIVE,
    STAT_RECOVERIES,
    Inherit,
    Slot,
    slot_at,
    u64,
)
from cython.cimports.shm.liveness import RESCUE_BYTE, byte_release, byte_try
from cython.cimports.shm.lock import lock_try, unlock
from cython.cimports.shm.memory import back
from cython.cimports.shm.recovery import rescue, settle_dead, settle_slot
from cython.cimports.shm.seal import seal
from cython.cimports.shm.slab import drain_all, set_classes
from cython.cimports.shm.waiting import wait
from shm import arena as arenas
from shm.errors import ArenaBusy, ArenaCorrupted, TmemError
from shm.semaphores import Semaphores

ATTACH_WAIT_S = 30.0
_birth_kill_point = cython.declare(u64, 0)
_birth_stops = cython.declare(cython.bint, False)
SCRATCH_BYTES = 1 << 17
_ALL_SIGNALS = signal.valid_signals()
_attachments = weakref.WeakSet()


def kill_newcomers_at(n, stop=False):
    """Let every later attachment of this process die (or stop) at its n-th kill point, attaching included; 0: never. For tests."""
    global _birth_kill_point, _birth_stops
    _birth_kill_point = n
    _birth_stops = stop


def _after_fork_in_child():
    for attachment in list(_attachments):
        attachment._disown()


os.register_at_fork(after_in_child=_after_fork_in_child)


@cython.cclass
class Attachment:
    """A worker of an arena: one slot, one journal, one set of magazines.

    Threads of a process may share one; they take turns. ArenaBusy when all slots are taken by the living.
    """

    def __cinit__(self):
        # Set by the layer above before __init__, which must not touch it.
        self.inherit = cython.NULL
        self.rank_of = cython.NULL
        self.w.fd = -1
        self.closed = True

    def __init__(self, arena, client_layout):
        self.arena = arena
        self.client_layout = client_layout
        self.semaphores = Semaphores(arena.name, arena.geometry["mode"], arena.geometry["max_workers"])
        self.w.scratch = cython.cast(cython.p_char, calloc(1, SCRATCH_BYTES))
        if self.w.scratch == cython.NULL:
            raise MemoryError
        self.attach_slot()
        _attachments.add(self)

    def __dealloc__(self):
        # No orderly detach here: other objects may be gone, at the end of the interpreter the names of modules too. The kernel tells the others.
        if self.w.fd >= 0:
            close(self.w.fd)
            self.w.fd = -1
        free(self.w.scratch)

    def attach_slot(self):
        """Fill the Worker and take a slot."""
        scratch: cython.p_char = self.w.scratch
        memset(cython.address(self.w), 0, cython.sizeof(self.w))
        self.w.scratch = scratch
        self.w.kill_at = _birth_kill_point
        self.w.kill_stops = _birth_stops
        self.arena.describe(cython.address(self.w))
        set_classes(cython.address(self.w), self.arena.geometry["capacity"])
        self.w.fd = self.arena.fd
        self.w.semaphores = cython.cast(cython.p_void, self.semaphores)
        self.w.inherit = cython.cast(cython.p_void, self.inherit)
        self.w.rank_of = cython.cast(cython.p_void, self.rank_of)
        self.w.slot_idx = self.w.max_workers
        deadline = time.monotonic() + ATTACH_WAIT_S
        while byte_try(self.w.fd, RESCUE_BYTE()) != OK:
            if time.monotonic() > deadline:
                raise ArenaBusy(f"arena {self.arena.name!r}: somebody has been recovering or checking for "
                                f"{ATTACH_WAIT_S:.0f} s")
            time.sleep(0.0005)
        try:
            self.take_slot()
        finally:
            byte_release(self.w.fd, RESCUE_BYTE())
        self.closed = False
        self.forked = False
        self.busy = False
        return 0

    def take_slot(self):
        """Choose, back and enter a slot; the caller holds the rescue byte."""
        idx: u64
        slot: cython.pointer(Slot) = cython.NULL
        settle_dead(cython.address(self.w))
        high: u64 = min(self.w.depot.slots_high, self.w.max_workers)
        for wanted in (SLOT_FREE, SLOT_LIVE):
            for idx in range(high):
                slot = slot_at(cython.address(self.w), idx)
                if slot.state == wanted and byte_try(self.w.fd, idx) == OK:
                    return self._enter_slot(idx)
            if wanted == SLOT_FREE and high < self.w.max_workers and byte_try(self.w.fd, high) == OK:
                for start, size in (
                    (self.w.slots_off + high * SLOT_BYTES, SLOT_BYTES),
                    (self.w.bounces_off + high * self.w.bounce_bytes, self.w.bounce_bytes),
                    (self.w.journals_off + high * JOURNAL_BYTES, JOURNAL_BACKED),
                ):
                    if back(self.w.fd, start, size) != OK:
                        byte_release(self.w.fd, high)
                        raise TmemError(f"arena {self.arena.name!r}: no memory for another worker")
                kill_point(cython.address(self.w))
                self.w.depot.slots_high = high + 1
                return self._enter_slot(high)
        raise ArenaBusy(f"arena {self.arena.name!r}: all {self.w.max_workers} worker slots are taken")

    def _enter_slot(self, idx_object):
        idx: u64 = idx_object
        slot: cython.pointer(Slot) = slot_at(cython.address(self.w), idx)
        self.w.slot = slot
        self.w.slot_idx = idx
        if slot.state == SLOT_LIVE:
            settle_slot(cython.address(self.w), idx)
            if self.w.inherit != cython.NULL:
                cython.cast(Inherit, self.w.inherit)(cython.address(self.w), slot)
            slot.stat[STAT_RECOVERIES] += 1
        kill_point(cython.address(self.w))
        slot.gen = (slot.gen + 1) & ((1 << 46) - 1)
        slot.pid = os.getpid()
        barrier()
        kill_point(cython.address(self.w))
        slot.state = SLOT_LIVE
        barrier()
        kill_point(cython.address(self.w))
        self.w.id = slot.gen << 16 | (idx + 1)
        self.w.journal = cython.cast(cython.pointer(u64), self.w.base + self.w.journals_off + idx * JOURNAL_BYTES)
        self.w.journal_cap = JOURNAL_BACKED // JOURNAL_ENTRY
        return 0

    def enter_slow(self):
        """Wait for this thread's turn; a forked child takes a slot of its own first."""
        if self.forked:
            self._reattach()
        nap = 0.0
        while self.busy:
            if self.thread == PyThread_get_thread_ident():
                raise ArenaBusy(f"arena {self.arena.name!r}: called from inside a call of the same engine (a back end?)")
            time.sleep(nap)
            nap = min(nap + 0.00005, 0.002)
            PyErr_CheckSignals()
        if self.closed:
            raise TmemError(f"arena {self.arena.name!r}: this engine is closed")
        return 0

    def pause(self):
        """Wait a little for the lock that was BUSY, nothing being held; runs signal handlers.

        The turn is given up for the handlers, which may use the engine: what was staged may be gone.
        """
        # Signals are held back while the turn is this operation's: posix_ipc would run their handlers in the middle of
        # its wait, and put an error of its own in the place of what they raise.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
        try:
            signal.pthread_sigmask(signal.SIG_BLOCK, _ALL_SIGNALS)
            self.outside()
            wait(cython.address(self.w))
        finally:
            self.busy = False
            try:
                signal.pthread_sigmask(signal.SIG_SETMASK, before)      # runs handlers
                PyErr_CheckSignals()
            finally:
                self.enter()
        return 0

    def breathe(self):
        """Run signal handlers in the middle of long work, nothing being held; they may use the engine."""
        self.outside()
        self.busy = False
        try:
            PyErr_CheckSignals()
        finally:
            self.enter()
        return 0

    def recover_quick(self):
        """Recover the dead from inside enter and leave. How many there were."""
        n: cython.int
        with cython.nogil:
            n = rescue(cython.address(self.w))
        return n if n > 0 else 0

    def recover(self):
        """Recover every dead worker now. How many there were."""
        self.enter()
        n: cython.int
        try:
            with cython.nogil:
                n = rescue(cython.address(self.w))
        finally:
            self.leave()
        return max(n, 0)

    def _disown(self):
        # In a forked child: the inherited descriptor must go at once, and one that is this process's own come, of the
        # same file even if its name is gone. Nothing of the arena is touched.
        if not self.closed:
            inherited = self.w.fd
            try:
                self.w.fd = arenas.reopen(inherited, self.arena.name)
            except TmemError:
                self.w.fd = -1
            os.close(inherited)
            self.arena.fd = self.w.fd
            self.forked = True
            self.busy = False

    def _reattach(self):
        # The mapping is inherited and stays; slot, journal and semaphores are new.
        if self.w.fd < 0:
            raise TmemError(f"arena {self.arena.name!r}: a forked child could not reopen it: "
                            + ("no file descriptor was left (RLIMIT_NOFILE)" if os.path.exists("/proc/self/fd") else "there is no /proc")
                            + "; attach anew")
        self.semaphores = Semaphores(self.arena.name, self.arena.geometry["mode"], self.arena.geometry["max_workers"])
        self.attach_slot()      # may raise: then the next use tries again
        self.epoch += 1

    def close(self):
        """Return the magazines and the slot. Doing it twice is doing it once."""
        status: cython.int = BUSY
        if self.closed:
            return
        if self.forked:
            self.closed = True
            if self.w.fd >= 0:
                os.close(self.w.fd)
                self.w.fd = -1
            return
        self.enter()
        try:
            while status == BUSY:
                status = lock_try(cython.address(self.w), cython.address(self.w.slot.own))
                if status == OK:
                    status = drain_all(cython.address(self.w), self.w.slot)
                    unlock(cython.address(self.w), cython.address(self.w.slot.own))
                if status == BUSY:
                    wait(cython.address(self.w))
        finally:
            self.closed = True
            self.outside()      # before the slot may be another's
            if status == OK:
                self.w.slot.state = SLOT_FREE
            byte_release(self.w.fd, self.w.slot_idx)
            os.close(self.w.fd)
            self.w.fd = -1
            self.semaphores.close()
            self.busy = False
        if status == CORRUPT:
            raise ArenaCorrupted(f"arena {self.arena.name!r}: the chunks of worker {self.w.slot_idx} are not its own")

    @property
    def worker_id(self):
        """Index of this worker's slot."""
        return self.w.slot_idx

    def set_kill_point(self, n, stop=False):
        """Die by SIGKILL at the n-th kill point from here, or stop there (SIGSTOP) and go on when let; 0: never. For tests of crash safety."""
        self.w.kill_points = 0
        self.w.kill_at = n
        self.w.kill_stops = stop

    def kill_points(self):
        """Kill points passed since `set_kill_point`."""
        return self.w.kill_points


def blank():
    """An Attachment that is none yet: its __init__ attaches it."""
    return Attachment.__new__(Attachment)


seal(Attachment, "engines")

"""Owns the worker table: taking a slot, living in it, what a call begins and ends with, fork,
leaving.

Who holds a slot's liveness byte owns the slot; no other lock is needed to choose one, so a newcomer
who is stopped holds nobody up. Slots are taken in this order: one that is free, one that was never
used, if there is memory for it, and only then a dead worker's, whose own lock the newcomer adopts
in the name that it is about to have: it settles the transaction, releases the locks, and inherits
the chunks as they lie. A byte of its own (NEWCOMER_BYTE) says meanwhile that who has the slot's is
no worker yet. A newcomer says that it lives, and then looks at the gate (stop.py); who stops the
world closes the gate, and then looks who lives. A full fence each: one of the two sees the other.
Kill at any instruction: until `state` is SLOT_LIVE the slot is free, or still the dead worker's;
from then on it is a dead worker's. Signal handlers run in `pause`, `rest` and `breathe` alone, with
nothing held and the turn given up; whatever they raise, the turn is taken back before the verb goes
on or ends. After a fork, process.py has barred the attachment in the child; the first call takes a
slot of its own, with the turn held. `Kin.keeping` guards what ends out of turn: views may go in any
thread at any moment, and the last of them may take a slot along that has lost its descriptor.
"""
import os
import time

import cython
from cython.cimports.cpython.exc import PyErr_CheckSignals
from cython.cimports.libc.stdlib import calloc, free
from cython.cimports.libc.string import memset
from cython.cimports.posix.unistd import close
from cython.cimports.shm.atomics import (
    add,
    barrier,
    cas,
    claim,
    fence_full,
    glance,
    keep_bits,
    load,
    load_acquire,
    mutex_lock,
    mutex_unlock,
    set,
    set_bits,
    set_release,
    swap,
    this_thread,
)
from cython.cimports.shm.journal import kill_point
from cython.cimports.shm.kernel.groups import find as find_groups
from cython.cimports.shm.kernel.liveness import NEWCOMER_BYTE, byte_held, byte_release, byte_try, let_die, open_alive
from cython.cimports.shm.kernel.process import CLOSED, FORKED, GATED, LOST, UNBACKED, join, part, rejoin
from cython.cimports.shm.kernel.semaphores import Sem, Semaphores, sleep_on
from cython.cimports.shm.layout import (
    BUSY,
    CLIENT_WORDS,
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
    Lock,
    Slot,
    Worker,
    slot_at,
    slots_used,
    u64,
)
from cython.cimports.shm.lock import OWNER_WAITS, lock_try, post, unlock
from cython.cimports.shm.memory import back, is_arena
from cython.cimports.shm.recovery import disown, gate_keeper, may_adopt, rescue, settle_slot
from cython.cimports.shm.seal import seal
from cython.cimports.shm.segments import set_classes
from cython.cimports.shm.slab import drain_all
from cython.cimports.shm.turns import WAITED, pass_turn, take_turn
from cython.cimports.shm.waiting import REST, UNKNOWN, WRONG, consider, note_wait, refuse, stand_aside
from shm.entry import no_memory
from shm.errors import ArenaBusy, ArenaCorrupted, ArenaNotFound, TmemError
from shm.kernel.liveness import SHM_DIR, alive_name

ATTACH_WAIT_S = 30.0
SLICE_NS = cython.declare(u64, 10_000_000)      # longest sleep, and so the price of a lost wake-up
HEIR_WAIT_S = 2.0       # recovering takes milliseconds, if it is not stopped
TAKE_TRIES = 4                                  # a slot that is being given back is nobody's for a moment
SCRATCH_BYTES = 1 << 17
GENERATIONS = cython.declare(u64, (1 << 46) - 1)
_birth_kill_point = cython.declare(u64, 0)
_birth_stops = cython.declare(cython.bint, False)


def kill_newcomers_at(n, stop=False):
    """Let every later attachment of this process die (or stop) at its n-th kill point, attaching
    included; 0: never. For tests."""
    global _birth_kill_point, _birth_stops
    _birth_kill_point = n
    _birth_stops = stop


@cython.cclass
class Attachment:
    """A worker of an arena: one slot, one journal, one set of magazines.

    Threads of a process may share one; they take turns."""

    def begin(self, arena):
        """Attach, once. ArenaBusy when all slots are taken by the living."""
        self.arena = arena
        self.w.live_fd = -1
        self.w.fd = arena.fd
        self.w.scratch = cython.cast(cython.p_char, calloc(1, SCRATCH_BYTES))
        if self.w.scratch == cython.NULL:
            raise MemoryError
        self.kin.w = cython.address(self.w)
        find_groups()
        join(cython.address(self.kin))
        take_turn(cython.address(self.kin.turn), True)
        try:
            self.attach_slot()
            self.pass_gate()
        except BaseException:
            let_die(cython.address(self.w))     # whatever was begun in a slot is a dead worker's now
            set_bits(cython.address(self.kin.barred), CLOSED)
            raise
        finally:
            self.leave()
        return 0

    def __dealloc__(self):
        # No orderly detach here: other objects may be gone, at the end of the interpreter the names
        # of modules too. The kernel tells the others.
        self.close_descriptors()
        part(cython.address(self.kin))
        free(self.w.scratch)

    def close_descriptors(self):
        let_die(cython.address(self.w))
        if self.w.base != cython.NULL and self.w.fd >= 0 and is_arena(cython.address(self.w)):
            close(self.w.fd)
        self.w.fd = -1
        return 0

    # --- a slot -----------------------------------------------------------------------------------

    def attach_slot(self):
        """Fill the Worker and take a slot. The turn is this thread's."""
        w: Worker
        geometry = self.arena.geometry
        memset(cython.address(w), 0, cython.sizeof(w))
        w.scratch = self.w.scratch
        w.live_fd = self.w.live_fd
        w.live_mark = self.w.live_mark
        w.live_page = self.w.live_page
        w.kill_at = _birth_kill_point
        w.kill_stops = _birth_stops
        self.arena.describe(cython.address(w))
        set_classes(cython.address(w))
        w.inherit = cython.cast(cython.p_void, self.inherit)
        w.rank_of = cython.cast(cython.p_void, self.rank_of)
        w.slot_idx = w.max_workers
        self.semaphores = Semaphores(
            self.arena.name,
            geometry["nonce"],
            geometry["mode"],
            self.arena.owner,
            self.arena.group,
            geometry["max_workers"],
        )
        w.semaphores = cython.cast(cython.p_void, cython.address(self.semaphores.table))
        w.keeping = cython.address(self.kin.keeping)
        self.w = w
        open_alive(
            cython.address(self.w),
            f"{SHM_DIR}/{alive_name(self.arena.name, geometry['nonce'])}".encode(),
            self.arena.owner,
        )
        try:
            self.take_slot()
        except BaseException:
            if self.w.slot_idx != self.w.max_workers:
                byte_release(cython.address(self.w), self.w.slot_idx)
            raise
        finally:
            if self.w.slot_idx != self.w.max_workers:
                byte_release(cython.address(self.w), NEWCOMER_BYTE(self.w.slot_idx))
        # Whoever makes another arena of the file says so there first, and then looks who lives.
        if load(cython.address(self.w.header.home)) != cython.cast(u64, geometry["home"]):
            raise ArenaNotFound(f"arena {self.arena.name!r}: its file has become another arena's; attach again")
        return 0

    def take_slot(self):
        """Choose a slot, back it and live in it; the order is in the head of this file."""
        w: cython.pointer(Worker) = cython.address(self.w)
        idx: u64
        i: u64
        high: u64
        contested: cython.bint = False
        poor: cython.bint
        tries: cython.int = 0
        deadline = time.monotonic() + HEIR_WAIT_S
        while tries < TAKE_TRIES or contested:
            tries += 1
            contested = False
            poor = False
            high = slots_used(w)
            for idx in range(high):
                if load(cython.address(slot_at(w, idx).state)) == SLOT_FREE and self.claim(idx):
                    if load_acquire(cython.address(slot_at(w, idx).state)) == SLOT_FREE:
                        return self.live_in(idx)
                    self.disclaim(idx)
            # Of slots that were never used, the first that no other newcomer is about to have: one
            # that is stopped keeps its own alone.
            for idx in range(high, w.max_workers):
                if not self.claim(idx):
                    continue
                for i in range(high, idx + 1):
                    poor = poor or not self.back_slot(i)
                if poor:
                    self.disclaim(idx)
                    if w.lost:
                        self.lose()
                    break
                # Of the one after it as well, if it can be had: where the file system is full by
                # then, one more worker can still come, and make the arena smaller.
                if idx + 1 < w.max_workers:
                    self.back_slot(idx + 1)
                kill_point(w)
                while slots_used(w) <= idx:
                    cas(cython.address(w.depot.slots_high), slots_used(w), idx + 1)
                if load_acquire(cython.address(slot_at(w, idx).state)) == SLOT_FREE:
                    return self.live_in(idx)
                self.disclaim(idx)
            for idx in range(slots_used(w)):
                if load(cython.address(slot_at(w, idx).state)) == SLOT_LIVE and not byte_held(w, idx):
                    if self.claim(idx) and self.take_from_the_dead(idx):
                        return 0
                    contested = True
            if w.lost:
                self.lose()
            if poor and not contested:
                raise no_memory(self.arena.name, "another worker")
            if time.monotonic() > deadline:
                raise ArenaBusy(
                    f"arena {self.arena.name!r}: all worker slots are taken, but of workers that "
                    "are dead, and somebody "
                    f"has been recovering those for {HEIR_WAIT_S:.0f} s; is a process stopped?"
                )
            time.sleep(0.001)
            self.refuse_fork()
        raise ArenaBusy(f"arena {self.arena.name!r}: all {w.max_workers} worker slots are taken")

    def back_slot(self, idx):
        """Give a slot memory, and what belongs to it. False: there is none, or (Worker.lost) the
        descriptor is not the arena's any more."""
        w: cython.pointer(Worker) = cython.address(self.w)
        return (
            back(w, w.slots_off + idx * SLOT_BYTES, SLOT_BYTES) == OK
            and back(w, w.bounces_off + idx * w.bounce_bytes, w.bounce_bytes) == OK
            and back(w, w.journals_off + idx * JOURNAL_BYTES, JOURNAL_BACKED) == OK
        )

    def refuse_fork(self):
        """TmemError in a child that a signal handler has forked in the middle of attaching."""
        if self.bars(FORKED):
            raise TmemError(
                f"arena {self.arena.name!r}: this process was forked while its parent was attaching; attach anew"
            )
        return 0

    def claim(self, idx):
        """Take the bytes of a slot: that of who is about to have it, and its own. True, or False
        with neither held."""
        w: cython.pointer(Worker) = cython.address(self.w)
        if byte_try(w, NEWCOMER_BYTE(idx)) != OK:
            return False
        if byte_try(w, idx) == OK:
            return True
        byte_release(w, NEWCOMER_BYTE(idx))
        return False

    def disclaim(self, idx):
        """Give both back."""
        byte_release(cython.address(self.w), idx)
        byte_release(cython.address(self.w), NEWCOMER_BYTE(idx))
        return 0

    def call_myself(self, idx):
        """Take the next generation of a slot whose byte is held: a name that nobody has had,
        whoever dies with it."""
        w: cython.pointer(Worker) = cython.address(self.w)
        slot: cython.pointer(Slot) = slot_at(w, idx)
        w.slot = slot
        w.slot_idx = idx
        kill_point(w)
        set(cython.address(slot.gen), (slot.gen + 1) & GENERATIONS)
        w.id = slot.gen << 16 | (idx + 1)
        # What the dead one left is put in order by transactions of this worker.
        w.journal = cython.cast(cython.pointer(u64), w.base + w.journals_off + idx * JOURNAL_BYTES)
        w.journal_cap = JOURNAL_BACKED // JOURNAL_ENTRY
        barrier()
        kill_point(w)
        return 0

    def live_in(self, idx):
        """Become the worker of a slot that is free, and whose byte is held."""
        self.call_myself(idx)
        # Its own lock may be that of an heir who died when the slot had just been buried.
        disown(cython.address(self.w), idx)
        return self.live(idx)

    def live(self, idx):
        """Begin to live in a slot, under one's own name."""
        w: cython.pointer(Worker) = cython.address(self.w)
        slot: cython.pointer(Slot) = slot_at(w, idx)
        slot.pid = os.getpid()
        slot.phase = (slot.phase | 1) + 1
        set_bits(cython.address(self.kin.barred), GATED)
        barrier()
        kill_point(w)
        set_release(cython.address(slot.state), SLOT_LIVE)
        fence_full()            # the state first, then the gate: see the head of this file
        kill_point(w)
        return 0

    def take_from_the_dead(self, idx):
        """Become the worker of a dead worker's slot, whose bytes are held. True, or False with
        both given back: somebody else is about it, who may be stopped. There may be other slots,
        and while we had the byte nobody could recover this one."""
        w: cython.pointer(Worker) = cython.address(self.w)
        slot: cython.pointer(Slot) = slot_at(w, idx)
        lock: cython.pointer(Lock) = cython.address(slot.own)
        owner: u64
        # The name first: two heirs who die one after the other must not have the same.
        self.call_myself(idx)
        owner = load(cython.address(lock.owner))
        # Not recorded in `held`, which is the dead worker's: an own lock that names a worker of its
        # slot is known by that.
        if not may_adopt(w, idx, owner) or not cas(cython.address(lock.owner), owner, w.id | (owner & OWNER_WAITS())):
            w.slot_idx = w.max_workers
            self.disclaim(idx)
            return False
        kill_point(w)
        set(cython.address(lock.seq), lock.seq | 1)
        if load_acquire(cython.address(slot.state)) == SLOT_LIVE:
            settle_slot(w, idx)
            if w.inherit != cython.NULL:
                cython.cast(Inherit, w.inherit)(w, slot)
            slot.stat[STAT_RECOVERIES] += 1
        self.live(idx)
        set_release(cython.address(lock.seq), lock.seq + 1)
        kill_point(w)
        if swap(cython.address(lock.owner), 0) & OWNER_WAITS():
            post(w, lock)
        return True

    def pass_gate(self):
        """Wait until nobody has stopped the world, for ATTACH_WAIT_S at most. The turn is this
        thread's."""
        deadline = time.monotonic() + ATTACH_WAIT_S
        while gate_keeper(cython.address(self.w)) != 0:
            if time.monotonic() > deadline:
                raise ArenaBusy(f"arena {self.arena.name!r}: somebody has been checking it for {ATTACH_WAIT_S:.0f} s")
            self.rest(0.0005)
        keep_bits(cython.address(self.kin.barred), ~cython.cast(u64, GATED))
        return 0

    # --- turns ------------------------------------------------------------------------------------

    def enter_slow(self):
        """Wait for this thread's turn; see to what bars the call: a forked child takes a slot of
        its own first."""
        self.refuse_inside()
        take_turn(cython.address(self.kin.turn), True)
        if self.is_barred():
            self.unbar()
        return 0

    def enter_quietly(self):
        """As enter, but no signal handler runs while it waits: for what must not be left undone."""
        self.refuse_inside()
        return self.again()

    def refuse_inside(self):
        """ArenaBusy if the turn is this thread's already."""
        if self.has_turn():
            raise ArenaBusy(f"arena {self.arena.name!r}: called from inside a call of the same engine (a back end?)")
        return 0

    def has_turn(self):
        """True if the turn is this thread's."""
        return glance(cython.address(self.kin.turn.owner)) & ~cython.cast(u64, WAITED) == this_thread()

    def try_enter(self):
        """As `enter`, if nobody has the turn and nothing bars this attachment: True. Else nothing
        happens."""
        if not claim(cython.address(self.kin.turn.owner), this_thread()):
            return False
        if self.is_barred():
            pass_turn(cython.address(self.kin.turn))
            return False
        self.kin.turn.count += 1
        self.w.slot.phase = (self.w.slot.phase + 1) | 1
        barrier()
        return True

    def leave_slow(self):
        """The rest of `leave` where somebody waits. A call that was ended while another thread had
        the turn has none to give away."""
        if self.has_turn():
            self.give_up_turn()

    def unbar(self):
        """See to what bars this attachment. If it cannot be mended, the turn, which is this
        thread's, is given up and the reason raised."""
        try:
            if self.bars(CLOSED):
                raise TmemError(f"arena {self.arena.name!r}: this engine is closed")
            if self.bars(LOST):
                self.lose()
            if self.bars(UNBACKED):
                raise ArenaCorrupted(
                    f"arena {self.arena.name!r}: memory that should be there is not: its file was "
                    "truncated, or it is damaged "
                    "and the file system full; this engine is of no use any more"
                )
            if self.bars(FORKED):
                # The mapping is inherited and stays; slot, journal and semaphores are new.
                if rejoin(cython.address(self.kin)) != 0:
                    raise TmemError(f"arena {self.arena.name!r}: a forked child cannot have its memory; attach anew")
                # A view that goes from here on is the parent's all the same: its worker is nobody.
                mutex_lock(cython.address(self.kin.keeping))
                self.w.id = 0
                keep_bits(cython.address(self.kin.barred), ~cython.cast(u64, FORKED))
                mutex_unlock(cython.address(self.kin.keeping))
                try:
                    self.attach_slot()
                except BaseException:
                    set_bits(cython.address(self.kin.barred), FORKED)       # the next use tries again
                    raise
                self.epoch += 1
                self.kin.keeps = 0
            self.pass_gate()
        except BaseException:
            self.leave()
            raise
        return 0

    def again(self):
        """Take the turn back, whatever comes meanwhile. Raises, without the turn, only what unbar
        does."""
        take_turn(cython.address(self.kin.turn), False)
        if self.bars(~cython.cast(u64, GATED)) != 0:
            self.unbar()
        self.w.slot.phase = (self.w.slot.phase + 1) | 1
        barrier()
        return 0

    def give_up_turn(self):
        self.outside()
        pass_turn(cython.address(self.kin.turn))
        return 0

    def pause(self):
        """Wait a little for the lock that was BUSY, nothing being held; runs signal handlers.

        The turn is given up, also to them: they may use the engine, and what was staged may be gone
        afterwards. A handler may have forked: then this is another process, with another slot
        (`epoch`)."""
        began = time.monotonic_ns()
        slept: cython.bint = self.sleep_once()
        try:
            PyErr_CheckSignals()
        finally:
            self.again()
        if slept:
            note_wait(cython.address(self.w), time.monotonic_ns() - began)
        return 0

    def wait_quietly(self):
        """As pause, but no handler runs: for what is done when a verb has taken effect already."""
        self.sleep_once()
        self.again()
        return 0

    def sleep_once(self):
        """Give up the turn, and sleep on the semaphore of the lock that was BUSY if there is need
        to. True if it slept."""
        w: cython.pointer(Worker) = cython.address(self.w)
        todo: cython.int
        sem: cython.pointer(Sem) = cython.NULL
        if w.aside_of != 0 and w.aside_of == w.blocked_on:
            set(cython.address(w.slot.waits_for), w.blocked_on)
            self.give_up_turn()
            with cython.nogil:
                stand_aside(w)
            set(cython.address(w.slot.waits_for), 0)
            return 1
        with cython.nogil:
            todo = consider(w)
        if todo == WRONG:
            refuse(w)
        if todo == UNKNOWN:
            self.lose()
        if todo == REST:
            sem = self.semaphores.find(w, cython.cast(cython.pointer(Lock), w.base + w.blocked_on))
            if sem != cython.NULL:
                add(cython.address(sem.users), 1)
            set(cython.address(w.slot.waits_for), w.blocked_on)
        self.give_up_turn()
        if todo != REST:
            return 0
        with cython.nogil:
            sleep_on(sem, SLICE_NS)
            set(cython.address(w.slot.waits_for), 0)
        if sem != cython.NULL:
            add(cython.address(sem.users), -1)
        return 1

    def rest(self, seconds):
        """Sleep, nothing being held, with the turn given up; runs signal handlers."""
        return self.rest_at(cython.NULL, seconds)

    def rest_at(self, lock, seconds):
        """The same, until the semaphore of a lock is posted, or of what lies as one (not NULL)."""
        sem: cython.pointer(Sem) = cython.NULL
        if lock != cython.NULL:
            sem = self.semaphores.find(cython.address(self.w), lock)
        if sem != cython.NULL:
            add(cython.address(sem.users), 1)
        self.give_up_turn()
        try:
            with cython.nogil:
                sleep_on(sem, cython.cast(u64, seconds * 1e9))
            if sem != cython.NULL:
                add(cython.address(sem.users), -1)
            PyErr_CheckSignals()
        finally:
            self.again()
        return 0

    def breathe(self):
        """Run signal handlers in the middle of long work, nothing being held, and let other threads
        have their turns, and the GIL."""
        self.give_up_turn()
        try:
            with cython.nogil:
                pass
            PyErr_CheckSignals()
        finally:
            self.again()
        return 0

    def step_aside(self):
        """As breathe, but no handler runs: for what is done when a verb has taken effect
        already."""
        self.give_up_turn()
        with cython.nogil:
            pass
        self.again()
        return 0

    # --- what can go wrong, and the end -----------------------------------------------------------

    def lose(self):
        """Give up the slot, since a descriptor is not the arena's any more; TmemError. Nothing is
        held.

        To the others this worker is dead: they recover what it had. If the layer above keeps
        something that others must not touch, that comes when it has let go (`end_keep`)."""
        mutex_lock(cython.address(self.kin.keeping))
        set_bits(cython.address(self.kin.barred), LOST)
        if self.kin.keeps == 0:
            let_die(cython.address(self.w))
        mutex_unlock(cython.address(self.kin.keeping))
        raise TmemError(
            f"arena {self.arena.name!r}: something in this process has closed the arena's file "
            "descriptors, or uses their numbers for "
            "other files (os.closerange, the start of a daemon); this engine has given up its "
            "place: attach again, after that"
        )

    def keep_one(self):
        """The layer above keeps something that others must not touch."""
        mutex_lock(cython.address(self.kin.keeping))
        self.kin.keeps += 1
        mutex_unlock(cython.address(self.kin.keeping))
        return 0

    def end_keep(self):
        """The layer above has let go of one of the things it kept; the caller has `Kin.keeping`."""
        self.kin.keeps -= 1
        if self.kin.keeps == 0 and self.bars(LOST):
            let_die(cython.address(self.w))
        return 0

    def recover_quick(self):
        """Recover the dead from inside enter and leave. How many there were."""
        n: cython.int
        with cython.nogil:
            n = rescue(cython.address(self.w))
        if self.w.lost:
            self.lose()
        return n

    def close(self, force=False):
        """Return the magazines and the slot. True, or False: its lists are not empty, and it is not
        closed. Doing it twice is doing it once.

        force: also with lists, and chunks that cannot be given back; then the slot is a dead
        worker's. Raises ArenaCorrupted, having closed, if chunks are not this worker's own."""
        status: cython.int = BUSY
        i: u64
        w: cython.pointer(Worker) = cython.address(self.w)
        if self.bars(CLOSED):
            return True
        if self.bars(FORKED | LOST | UNBACKED):
            return self.close_barred()
        self.enter()
        try:
            if self.kin.keeps != 0 and not force:
                return False
            while status == BUSY:
                status = lock_try(w, cython.address(w.slot.own))
                if status == OK:
                    status = drain_all(w, w.slot)
                    for i in range(CLIENT_WORDS):
                        if status == OK and self.roots >> i & 1 and w.slot.client[i] != 0 and not force:
                            unlock(w, cython.address(w.slot.own))
                            return False
                    unlock(w, cython.address(w.slot.own))
                if status == BUSY:
                    self.pause()
            # Nobody but this worker adds to its lists, so they are empty still.
            self.outside()
            self.semaphores.retire_mine(w)
            if status == OK and not force:
                set_release(cython.address(w.slot.state), SLOT_FREE)
                byte_release(w, w.slot_idx)
            self.end()
        finally:
            self.leave()
        if status == CORRUPT:
            w.fault = 0
            raise ArenaCorrupted(f"arena {self.arena.name!r}: the chunks of worker {w.slot_idx} are not its own")
        return True

    def close_barred(self):
        """Close what has no slot to give back. True.

        In this thread's turn, since a call of another may be under way that does not know yet; one
        that is this very thread's will know when it comes back."""
        mine: cython.bint = self.has_turn()
        if not mine:
            take_turn(cython.address(self.kin.turn), True)
        self.end()
        if not mine:
            self.leave()
        return True

    def end(self):
        """Let go of all that the system has given. The turn is this thread's."""
        mutex_lock(cython.address(self.kin.keeping))
        set_bits(cython.address(self.kin.barred), CLOSED)
        self.close_descriptors()
        mutex_unlock(cython.address(self.kin.keeping))
        self.semaphores.close()
        return 0

    @property
    def closed(self):
        """True after close()."""
        return self.bars(CLOSED) != 0

    @property
    def worker_id(self):
        """Index of this worker's slot."""
        return self.w.slot_idx

    def set_kill_point(self, n, stop=False):
        """Die by SIGKILL at the n-th kill point from here, or stop there (SIGSTOP) and go on when
        let; 0: never. For tests of crash safety."""
        self.w.kill_points = 0
        self.w.kill_at = n
        self.w.kill_stops = stop

    def set_clock_ahead(self, seconds):
        """Let the clock by which objects expire run ahead, for this process alone. For tests."""
        self.w.clock_ahead = int(seconds * 1_000_000_000)

    def kill_points(self):
        """Kill points passed since `set_kill_point`."""
        return self.w.kill_points


def blank():
    """An Attachment that is none yet: `begin` attaches it."""
    return Attachment.__new__(Attachment)


seal(Attachment, "engines")

"""Owns stopping the world for a check or a repair, and letting it go on.

Who checks has closed the gate, so nobody begins to work who has just attached, and holds every
worker's own lock, so nobody changes anything and nobody recovers the dead. Nobody is stopped for
longer than an own lock is held as a rule: if one is not to be had within a few slices (its holder
is stopped, or waits for the processor), the world goes on, and the checker waits for that lock
alone, as for any other, before it tries again. A check that gives way lets the world go on as soon
as somebody waits for it, and does not stop it where there is much to look at.
No signal handler runs in a stopped world: it may wait for others, who wait for the world. So
nothing here calls what the interpreter runs.
A checker that dies leaves locks that recovery gives back (recovery.py, settle_slot), and a gate
that whoever looks at it takes for open.
"""
import cython
from cython.cimports.engine.integrity.check import Checker
from cython.cimports.engine.member.member import Member
from cython.cimports.shm.atomics import cas, fence_full, load, load_acquire, set, swap
from cython.cimports.shm.journal import kill_point
from cython.cimports.shm.kernel.liveness import NEWCOMER_BYTE, byte_held
from cython.cimports.shm.kernel.semaphores import sleep_on
from cython.cimports.shm.layout import (
    CLASS_COUNT,
    HELD_MAX,
    OK,
    SLOT_LIVE,
    Slot,
    Worker,
    offset_of,
    slot_at,
    slots_used,
    u64,
)
from cython.cimports.shm.lock import OWNER_WAITS, lock_try, post, unlock
from cython.cimports.shm.recovery import gate_keeper, is_open, rescue
from cython.cimports.shm.waiting import GO_ON, REST, WRONG, consider, refuse
from engine.errors import ArenaCorrupted
from engine.integrity.check import GaveWayError
from engine.integrity.repair import mend
from engine.integrity.report import report_of

TRIES = cython.declare(cython.int, 4)           # slices that everybody may be held up for one who does not come
SLICE_NS = cython.declare(u64, 2_000_000)
CHUNKS_MAX = cython.declare(u64, 1 << 18)       # for which the world is stopped by a check that gives way: 60 ms
GATE_NAP_S = 0.0005
OPEN_S = 0.3  # how long an open transaction that no newcomer is about is waited for: then its word is a stray one


def run(engine: Member, repair: bool, gives_way: bool):
    """Stop the world, check it, repair it if asked to and there is need, let it go on. A Report.

    gives_way: not if that takes long, or as soon as somebody waits for it, unless something is
    wrong. Then None."""
    w: cython.pointer(Worker) = cython.address(engine.att.w)
    checker: Checker
    epoch: cython.int
    repaired: list = []
    lost: list = []
    engine.recover_dead()
    engine.att.enter()
    epoch = engine.att.epoch
    try:
        if gives_way and _is_much(w):
            return None
        stop_all(engine, repair)
        checker = Checker(engine)
        checker.gives_way = gives_way
        checker.walk()
        if repair and checker.problems:
            repaired = checker.problems
            lost = mend(engine)
            checker = Checker(engine)
            checker.walk()
    except GaveWayError:
        return None
    finally:
        if engine.att.is_mine() and engine.att.epoch == epoch:
            resume(w)
            w.fault = 0
        engine.att.leave()
    return report_of(checker.problems, checker.counts, repaired, lost)


@cython.cfunc
@cython.exceptval(check=False)
def _is_much(w: cython.pointer(Worker)) -> cython.bint:
    """True if so many chunks are out that signal handlers would wait for long. By the counts of the
    depot, which may be wrong: a hint."""
    cls: cython.int
    all: u64
    out: u64 = 0
    for cls in range(CLASS_COUNT):
        all = load(cython.address(w.depot.class_segments[cls])) * w.class_chunks[cls]
        out += all - min(load(cython.address(w.depot.class_free[cls])), all)
    return out > CHUNKS_MAX


def stop_all(engine, repair):
    """Close the gate, and take every living worker's own lock. The caller has its turn, and calls
    `resume`, whatever comes."""
    w: cython.pointer(Worker) = cython.address(engine.att.w)
    epoch: cython.int = engine.att.epoch
    absent: u64
    owner: u64
    open: cython.bint
    patience: cython.double = OPEN_S
    while True:
        _close_gate(engine)
        absent = _take_all(w, patience > 0, repair)
        if absent == 0:
            return 0
        resume(w)
        # Nothing is held: wait for that one as for any lock. Signal handlers run.
        while lock_try(w, cython.address(slot_at(w, absent - 1).own)) != OK:
            owner = load(cython.address(slot_at(w, absent - 1).own.owner))
            try:
                engine.att.pause()
            except ArenaCorrupted:
                # It names a worker who does not claim it, which is what a repair is there for; but
                # not in the middle of what the slot's own worker does, who may be stopped.
                if not repair or is_open(w, absent - 1):
                    raise
                cas(cython.address(slot_at(w, absent - 1).own.owner), owner, 0)
            engine.refuse_fork(epoch)
        open = is_open(w, absent - 1)
        unlock(w, cython.address(slot_at(w, absent - 1).own))
        if open:
            rescue(w)
            engine.att.rest(GATE_NAP_S)
            if not byte_held(w, NEWCOMER_BYTE(absent - 1)):
                patience -= GATE_NAP_S
            engine.refuse_fork(epoch)


@cython.cfunc
@cython.exceptval(-1)
def _close_gate(engine: Member) -> cython.int:
    w: cython.pointer(Worker) = cython.address(engine.att.w)
    epoch: cython.int = engine.att.epoch
    owner: u64
    while True:
        owner = load(cython.address(w.depot.gate.owner))
        if gate_keeper(w) == 0:
            # Noted first, as any lock: recovery opens the gate of a dead checker by his note, and a
            # gate that nobody notes is open.
            set(cython.address(w.slot.held[HELD_MAX - 1]), offset_of(w, cython.address(w.depot.gate)))
            if cas(cython.address(w.depot.gate.owner), owner, w.id):
                fence_full()        # the gate first, then who lives: see the head of shm/workers.py
                kill_point(w)
                return 0
            set(cython.address(w.slot.held[HELD_MAX - 1]), 0)
        if w.lost:
            engine.att.lose()
        engine.att.rest(GATE_NAP_S)
        engine.refuse_fork(epoch)


@cython.cfunc
@cython.exceptval(-1)
def _take_all(w: cython.pointer(Worker), patient: cython.bint, repair: cython.bint) -> cython.longlong:
    """Take the own locks in the order of slots. 0, or the slot + 1 of one that could not be had.
    Who waits here holds only such locks; their owners wait for nothing while they hold theirs; and
    there is one checker, who has the gate."""
    idx: u64
    tries: cython.int
    slot: cython.pointer(Slot)
    todo: cython.int
    for idx in range(slots_used(w)):
        slot = slot_at(w, idx)
        tries = 0
        while (
            load_acquire(cython.address(slot.state)) == SLOT_LIVE
            and not cas(cython.address(slot.own.owner), 0, w.id)
        ):
            w.blocked_on = offset_of(w, cython.address(slot.own))
            todo = consider(w)
            if todo == GO_ON:
                continue
            if todo == WRONG and not repair:
                refuse(w)
            tries += 1
            if todo != REST or tries > TRIES:
                return idx + 1
            with cython.nogil:
                sleep_on(cython.NULL, SLICE_NS)
        kill_point(w)
        if patient and idx != w.slot_idx and slot.own.owner & ~OWNER_WAITS() == w.id and is_open(w, idx):
            return idx + 1      # a dead worker's, not settled though its lock was free; an heir may be about to
    return 0


def resume(w):
    """Give all back, the gate last."""
    idx: u64
    slot: cython.pointer(Slot)
    for idx in range(slots_used(w)):
        slot = slot_at(w, idx)
        if slot.own.owner & ~OWNER_WAITS() == w.id and swap(cython.address(slot.own.owner), 0) & OWNER_WAITS():
            kill_point(w)
            post(w, cython.address(slot.own))
        kill_point(w)
    cas(cython.address(w.depot.gate.owner), w.id, 0)
    set(cython.address(w.slot.held[HELD_MAX - 1]), 0)

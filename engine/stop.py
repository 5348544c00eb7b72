"""Owns stopping the world for a check or a repair, and letting it go on.

May call: check, repair, and shm's locks and recovery. Called by session. Who checks holds the rescue byte, so nobody attaches or
recovers, and every worker's own lock, so nobody changes anything.
A checker that dies leaves locks that recovery gives back (recovery.py, settle_slot).
"""
import time

import cython
from cython.cimports.engine.check import Checker
from cython.cimports.engine.session import Engine
from cython.cimports.shm.atomics import cas, swap
from cython.cimports.shm.journal import kill_point
from cython.cimports.shm.layout import OK, SLOT_LIVE, Slot, Worker, offset_of, slot_at, u64
from cython.cimports.shm.liveness import RESCUE_BYTE, byte_release, byte_try
from cython.cimports.shm.lock import OWNER_WAITS, post
from cython.cimports.shm.waiting import wait
from engine.repair import mend


def run(engine: Engine, repair: bool):
    """Stop the world, check it, repair it if asked to and there is need, let it go on. A Report."""
    w: cython.pointer(Worker) = cython.address(engine.att.w)
    checker: Checker
    engine.att.recover()
    engine.att.enter()
    try:
        _take_rescue_byte(w)
        w.keeps_rescue = True
        try:
            _stop(w)
            checker = Checker(engine)
            checker.walk()
            if not repair or checker.report.ok:
                return checker.report
            found = checker.report.problems
            lost = mend(engine)
            checker = Checker(engine)
            checker.walk()
            checker.report.repaired = found
            checker.report.lost = lost
            return checker.report
        finally:
            _resume(w)
            w.keeps_rescue = False
            byte_release(w.fd, RESCUE_BYTE())
    finally:
        w.fault = 0
        engine.att.leave()


@cython.cfunc
@cython.exceptval(-1)
def _take_rescue_byte(w: cython.pointer(Worker)) -> cython.int:
    while byte_try(w.fd, RESCUE_BYTE()) != OK:
        time.sleep(0.0005)
    kill_point(w)
    return 0


@cython.cfunc
@cython.exceptval(-1)
def _stop(w: cython.pointer(Worker)) -> cython.int:
    """Take every living worker's own lock, in the order of slots. Who waits here holds only such locks; their
    owners wait for nothing while they hold theirs. The rescue byte is held throughout: let go for a moment, another
    checker would take it, stop half of the workers, and wait for the other half for ever, as would this one."""
    idx: u64
    slot: cython.pointer(Slot)
    for idx in range(min(w.depot.slots_high, w.max_workers)):
        slot = slot_at(w, idx)
        while slot.state == SLOT_LIVE and not cas(cython.address(slot.own.owner), 0, w.id):
            w.blocked_on = offset_of(w, cython.address(slot.own))
            wait(w)
        kill_point(w)
    return 0


@cython.cfunc
@cython.exceptval(-1)
def _resume(w: cython.pointer(Worker)) -> cython.int:
    idx: u64
    slot: cython.pointer(Slot)
    for idx in range(min(w.depot.slots_high, w.max_workers)):
        slot = slot_at(w, idx)
        if slot.own.owner & ~OWNER_WAITS() == w.id and swap(cython.address(slot.own.owner), 0) & OWNER_WAITS():
            kill_point(w)
            post(w, cython.address(slot.own))
        kill_point(w)
    return 0

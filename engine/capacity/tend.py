"""Owns a round of tending: doing ahead what puts and frees would have to do in their turn.

Optional, and only ever what others do as well, by the same functions: two that tend one arena are
as two workers that are short of memory. Between rounds and between steps nothing is held, so
whoever is killed or stopped there is in nobody's way; in a step it is as any worker that is killed
or stopped.
"""
import cython
from cython.cimports.engine.capacity.giving import give_forgotten, look
from cython.cimports.engine.eviction.merge import merge
from cython.cimports.engine.layout.structs import ROOT_RETIRED
from cython.cimports.engine.member.member import Member
from cython.cimports.engine.member.registry import registry
from cython.cimports.engine.pages.reclaim import take_garbage
from cython.cimports.shm.atomics import load
from cython.cimports.shm.layout import BUSY, CORRUPT, OK, Worker, slot_at, slots_used, u64
from cython.cimports.shm.lock import lock_try, unlock
from cython.cimports.shm.segments import limit_of
from engine.capacity.rounds import Tended

KEPT_FREE = 4                   # segments that are kept free, from so many on:
KEPT_FREE_FROM = 1024
MERGES_MAX = 16                 # segments that a round empties at most


def settle_dead(engine: Member, done):
    """Recover workers that died, and give back what they left."""
    done.dead += engine.recover_dead()


def take_garbage_apart(engine: Member, done):
    """Give back what other workers have retired and left: inherited, or where others were in their
    way."""
    w: cython.pointer(Worker) = cython.address(engine.att.w)
    idx: u64
    status: cython.int
    engine.att.enter()
    try:
        for idx in range(slots_used(w)):
            if idx != w.slot_idx and load(cython.address(slot_at(w, idx).client[ROOT_RETIRED])) != 0:
                status = take_garbage(w, idx)       # BUSY: it is in a call, and about it itself
                if status == CORRUPT:
                    engine.raise_status(status)
                done.inherited += status == OK
        engine.settle()
    finally:
        engine.att.leave()


def bury_dead(engine: Member, done):
    """Take out what is dead in any pool, objects that have expired or were cleared."""
    engine.att.enter()
    try:
        done.buried += engine.sweep()
    finally:
        engine.att.leave()


def merge_ahead(engine: Member, done):
    """Keep some segments free, for whoever needs one of any size next, by the merge that puts
    use."""
    w: cython.pointer(Worker) = cython.address(engine.att.w)
    status: cython.int
    epoch: cython.int
    engine.att.enter()
    try:
        epoch = engine.att.epoch
        w.merge_pause = 0
        for _ in range(MERGES_MAX):
            if load(cython.address(w.depot.seg_used)) + _kept_free(w) <= limit_of(w):
                break
            status = _merge(w)
            if status == CORRUPT:
                engine.raise_status(status)
            engine.settle()
            engine.att.breathe()
            engine.refuse_fork(epoch)
            if status != OK:
                break
            done.merged += 1
    finally:
        engine.att.leave()


@cython.cfunc
@cython.exceptval(check=False)
def _kept_free(w: cython.pointer(Worker)) -> u64:
    return KEPT_FREE if limit_of(w) >= KEPT_FREE_FROM else 1


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _merge(w: cython.pointer(Worker)) -> cython.int:
    status: cython.int
    if lock_try(w, cython.address(w.slot.own)) != OK:
        return BUSY
    status = merge(w, 3, registry.host)
    unlock(w, cython.address(w.slot.own))
    return status


def give_back(engine: Member, done):
    """Give memory that lies free back to the system, by the rule of whoever frees, and that of
    holes whose digger was killed."""
    engine.att.enter()
    try:
        done.given += look(engine, False)
        done.given += give_forgotten(engine)
    finally:
        engine.att.leave()


STEPS = (settle_dead, take_garbage_apart, bury_dead, merge_ahead, give_back)


def one_round(engine: Member):
    """All steps, each once: a Tended."""
    done = Tended(rounds=1)
    for step in STEPS:
        step(engine, done)
    return done

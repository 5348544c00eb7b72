"""Owns a page that is written in place before anybody sees it: its memory is taken, and later it is
made the staged page of a put.

Until then its descriptor hangs on a list of its own of the worker's slot, and its chunk is pinned:
so nothing moves it, and a repair leaves it where it is. What hangs there without a pin is given
back by whoever of the worker comes by (`drop_unwritten` in reclaim.py).
Lock order: own; then what making room takes, or `Kin.keeping`, which is no lock of the arena's.
Kill at any instruction: the list is the worker's, and given back when it is recovered.
"""
import cython
from cython.cimports.engine.layout.call import MISS, has_tail
from cython.cimports.engine.layout.regions import next_gen, page_at, pampd_at, shard_of
from cython.cimports.engine.layout.structs import (
    PAMPD_CLASS,
    PAMPD_SENTINEL,
    PINS_MAX,
    ROOT_STAGED,
    ROOT_WRITTEN,
    Pampd,
)
from cython.cimports.engine.layout.words import noting_tail, page_hash, shape_of
from cython.cimports.engine.pages.pins import charge, pin, prepare, uncharge
from cython.cimports.engine.pages.reclaim import drop_staged, drop_unwritten
from cython.cimports.engine.verbs.put import could_fit, lacking
from cython.cimports.engine.verbs.section import REAP_BUDGET, finish
from cython.cimports.libc.string import memset
from cython.cimports.shm.atomics import mutex_lock, mutex_unlock
from cython.cimports.shm.extent import room_of
from cython.cimports.shm.journal import conclude, rollback, store
from cython.cimports.shm.layout import BUSY, CORRUPT, FAULT_LOOP, NOMEM, OK, Worker, u64
from cython.cimports.shm.lock import lock_try, unlock
from cython.cimports.shm.memory import chunk_at
from cython.cimports.shm.segments import class_of
from cython.cimports.shm.slab import ensure, ensure_for, pop, top


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _take(w: cython.pointer(Worker), c: cython.pointer(Call), cls: cython.int) -> cython.int:
    """Pin what lies ready in the magazines, and put it on the list. OK or CORRUPT, in one
    transaction; FULL: as much is pinned as may be."""
    d: cython.pointer(Pampd)
    length: u64 = c.ask.length
    size: u64 = room_of(w, cls, length)
    chunk: u64 = top(w, cls)
    off: u64
    status: cython.int = OK
    chunk_at(w, chunk + ((length - 1) & ~cython.cast(u64, 63)))
    mutex_lock(w.keeping)
    if w.fault == 0:
        status = charge(w, 1, size)
    if status == OK:
        c.found.pin = pin(w, chunk, cls, length) if w.fault == 0 else 0
        if c.found.pin == 0:
            uncharge(w, 1, size)
            status = CORRUPT
    mutex_unlock(w.keeping)
    if status != OK:
        rollback(w, 0)
        return status
    pop(w, cls)
    off = pop(w, PAMPD_CLASS)
    if w.fault == 0:
        d = page_at(w, off)
        memset(d, 0, cython.sizeof(Pampd))
        d.sentinel = PAMPD_SENTINEL
        d.link = w.slot.client[ROOT_WRITTEN]
        d.index = c.ask.index
        d.data = chunk
        d.shape = shape_of(length, cls, noting_tail(has_tail(c)))
        d.gen = next_gen(w)
        c.found.page = off
        c.found.data = chunk
        c.found.gen = d.gen
        store(w, cython.address(w.slot.client[ROOT_WRITTEN]), off)
    return conclude(w)


def begin(w, p, c, pam, host):
    """Take memory for a page of c.ask.length bytes: c.found says where. OK, NOMEM, FULL, NOSPACE
    (no memory for a note of the pin), BUSY or CORRUPT."""
    cls: cython.int = class_of(w, c.ask.length)
    status: cython.int
    mutex_lock(w.keeping)
    status = prepare(w, 1)
    mutex_unlock(w.keeping)
    if status != OK:
        return status
    if lock_try(w, cython.address(w.slot.own)) != OK:
        return BUSY
    drop_unwritten(w)
    c.did.shard = shard_of(w, page_hash(c.ask.hash, c.ask.index, p.idx))
    if not could_fit(w, p, c):
        status = NOMEM
    while status == OK:
        status = ensure(w, PAMPD_CLASS, 1)
        if status == OK:
            status = ensure_for(w, cls, c.ask.length)
        if status == OK:
            break
        if status == NOMEM:
            status = lacking(w, p, c, c.ask.length, pam, host)
    if status == OK:
        status = _take(w, c, cls)
    if finish(w, REAP_BUDGET, host) == CORRUPT:
        status = CORRUPT
    return status


def publish(w, p, c, pam, host):
    """Make the page that c.found says the staged one of this worker, for a put of it that follows.
    OK, MISS (it is not there any more: a repair has come between), BUSY or CORRUPT."""
    at: cython.pointer(u64) = cython.address(w.slot.client[ROOT_WRITTEN])
    steps: u64 = 0
    d: cython.pointer(Pampd)
    status: cython.int = MISS
    if lock_try(w, cython.address(w.slot.own)) != OK:
        return BUSY
    drop_staged(w)
    while at[0] != 0 and w.fault == 0 and status == MISS:
        d = pampd_at(w, at[0])
        steps += 1
        if steps > PINS_MAX:
            w.fault = FAULT_LOOP
        elif at[0] == c.found.page and d.gen == c.found.gen:
            store(w, at, d.link)
            store(w, cython.address(d.link), 0)
            store(w, cython.address(w.slot.client[ROOT_STAGED]), c.found.page)
            c.did.staged = 1
            status = OK
        else:
            at = cython.address(d.link)
    if conclude(w) != OK:
        status = CORRUPT
    unlock(w, cython.address(w.slot.own))
    return status

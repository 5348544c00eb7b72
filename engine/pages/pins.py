"""Owns pins: which chunks are being looked at in place, by whom, and limbo, where retired pages
wait until nobody looks any more.

A pin is a word of its worker's table, of what it keeps and how large that is; only that worker
writes it, and of its threads the one that has `Kin.keeping`. It is set under the bucket's lock, as
is VIEWED in the page's shape, which stays: whoever wants the chunk for something else sees the
flag, and then asks all workers' tables.
Locks: limbo's, with nothing else but the worker's own.
Kill at any instruction: nothing here is undone. Pins of the dead are dropped with the slot
(`forget`); a flag without a pin costs a look. A pin that goes and a page that comes into limbo: who
lets go clears the pin, then looks whether limbo has anything; who keeps a page makes it known, then
looks for pins again. One of the two sees the other.
"""
import cython
from cython.cimports.engine.layout.call import FULL
from cython.cimports.engine.layout.regions import page_at, pins_at, pins_start
from cython.cimports.engine.layout.structs import (
    GEO_PINNED,
    PAMPD_SENTINEL,
    PINS_BACKED,
    PINS_BYTES,
    PINS_HIGH,
    PINS_MAX,
    PINS_NEXT,
    PINS_USED,
    ROOT_RETIRED,
    ClientPage,
    Pampd,
)
from cython.cimports.engine.pages.pins import PINNED_SHIFT, limbo_of, note_unpinned, pinned_at, pins_high
from cython.cimports.shm.atomics import fence_full, load, set, set_release, swap
from cython.cimports.shm.extent import granules_of
from cython.cimports.shm.journal import commit, conclude, kill_point, rollback, store
from cython.cimports.shm.layout import (
    BUSY,
    CORRUPT,
    EXTENT_CLASS,
    FAULT_LOOP,
    FAULT_SENTINEL,
    NOSPACE,
    OK,
    SLOT_BYTES,
    slot_at,
    slots_used,
    u64,
)
from cython.cimports.shm.lock import lock_try, unlock
from cython.cimports.shm.memory import back

PINS_A_PAGE = cython.declare(u64, 512)


def prepare(w, count):
    """Have memory for so many pins more. OK, FULL (this worker has as many as there can be) or
    NOSPACE. Called with no lock held."""
    own: cython.pointer(u64) = cython.address(w.slot.client[0])
    used: u64 = min(own[PINS_USED], cython.cast(u64, PINS_MAX))
    need: u64 = pins_high(w.slot) + count
    if used + count > PINS_MAX:
        return FULL
    if need > PINS_MAX:
        need = PINS_MAX     # there are gaps among those in use
    need = (need + PINS_A_PAGE - 1) // PINS_A_PAGE * PINS_A_PAGE
    if need > own[PINS_BACKED]:
        if back(w, w.ledgers_off + w.slot_idx * w.ledger_bytes + pins_start(w), need * 8) != OK:
            return NOSPACE
        set(cython.address(own[PINS_BACKED]), need)
    return OK


def charge(w, count, size):
    """Count pins that are about to be set, and the bytes of their chunks. OK, or FULL: all workers
    together would have pinned too much."""
    own: cython.pointer(u64) = cython.address(w.slot.client[0])
    sum: u64 = 0
    i: u64
    # Counted first, then compared: of two who do this at once the later one sees both. A full fence
    # between: an exchange alone lets later loads go before its store on a weakly ordered processor.
    set(cython.address(own[PINS_BYTES]), own[PINS_BYTES] + size)
    fence_full()
    for i in range(slots_used(w)):
        sum += load(cython.address(slot_at(w, i).client[PINS_BYTES]))
    if sum > w.client_geometry[GEO_PINNED]:
        set(cython.address(own[PINS_BYTES]), own[PINS_BYTES] - size)
        return FULL
    set(cython.address(own[PINS_USED]), own[PINS_USED] + count)
    return OK


def uncharge(w, count, size):
    """Take back `charge` for pins that were not set."""
    own: cython.pointer(u64) = cython.address(w.slot.client[0])
    set(cython.address(own[PINS_BYTES]), own[PINS_BYTES] - size if own[PINS_BYTES] >= size else 0)
    set(cython.address(own[PINS_USED]), own[PINS_USED] - count if own[PINS_USED] >= count else 0)


def pin(w, data, cls, length):
    """Pin a chunk, or an extent of so many bytes, which has been prepared and charged for: the
    place of the pin + 1, or 0 (the arena contradicts itself). Under the lock of the bucket that
    links to the page."""
    own: cython.pointer(u64) = cython.address(w.slot.client[0])
    pins: cython.pointer(u64) = pins_at(w, w.slot_idx)
    place: u64 = own[PINS_NEXT]
    word: u64 = data >> 6 << 6 | cython.cast(u64, cls)
    word |= (granules_of(w, length) if cls == EXTENT_CLASS else data >> 4 & 3) << PINNED_SHIFT
    backed: u64 = min(own[PINS_BACKED], cython.cast(u64, PINS_MAX))
    while place < backed and pins[place] != 0:
        place += 1
    if place >= backed:
        w.fault = FAULT_LOOP
        return 0
    # The mark first: whoever sees the pin must look as far.
    if place >= own[PINS_HIGH]:
        set(cython.address(own[PINS_HIGH]), place + 1)
    kill_point(w)
    set(cython.address(pins[place]), word)
    set(cython.address(own[PINS_NEXT]), place + 1)
    kill_point(w)
    return place + 1


def unpin(w, place, size):
    """Let go of the pin at `place` - 1, of so many bytes. True if something waits in limbo: then
    `collect`. No lock is needed, and none must be held that others wait for."""
    own: cython.pointer(u64) = cython.address(w.slot.client[0])
    pins: cython.pointer(u64) = pins_at(w, w.slot_idx)
    high: u64 = pins_high(w.slot)
    kill_point(w)
    set_release(cython.address(pins[place - 1]), 0)     # what was read through the pin was read before
    fence_full()            # the pin first, then limbo: see the head of this file
    kill_point(w)
    uncharge(w, 1, size)
    if place - 1 < own[PINS_NEXT]:
        set(cython.address(own[PINS_NEXT]), place - 1)
    while high > 0 and pins[high - 1] == 0:
        high -= 1
    set(cython.address(own[PINS_HIGH]), high)
    return load(cython.address(limbo_of(w).limbo)) != 0


def is_pinned(w, data):
    """True if some worker has pinned the chunk at `data`."""
    i: u64
    j: u64
    pins: cython.pointer(u64)
    for i in range(slots_used(w)):
        pins = pins_at(w, i)
        for j in range(pins_high(slot_at(w, i))):
            if pinned_at(load(cython.address(pins[j]))) == data:
                return True
    return False


def keep(w, off):
    """Move the page that heads the retired list, and is in no queue, into limbo, since its chunk is
    pinned. OK, BUSY or CORRUPT."""
    limbo: cython.pointer(ClientPage) = limbo_of(w)
    d: cython.pointer(Pampd) = page_at(w, off)
    data: u64 = d.data
    status: cython.int
    if lock_try(w, cython.address(limbo.limbo_lock)) != OK:
        return BUSY
    store(w, cython.address(w.slot.client[ROOT_RETIRED]), d.obj)
    store(w, cython.address(d.obj), limbo.limbo)
    store(w, cython.address(limbo.limbo), off)
    status = conclude(w)
    unlock(w, cython.address(limbo.limbo_lock))
    fence_full()            # the page first, then the pins. Whoever let go before it saw no page here.
    if status == OK and not is_pinned(w, data):
        status = collect(w, data)
        if status == BUSY:
            note_unpinned(w)
            status = OK
    return status


def collect(w, data):
    """Put pages of limbo that nobody looks at any more on this worker's retired list: those of one
    chunk, or all, if `data` is 0. OK, BUSY or CORRUPT. Called with the own lock alone."""
    limbo: cython.pointer(ClientPage) = limbo_of(w)
    at: cython.pointer(u64) = cython.address(limbo.limbo)
    off: u64
    steps: u64 = 0
    d: cython.pointer(Pampd)
    status: cython.int = OK
    if load(at) == 0:
        return OK
    if lock_try(w, cython.address(limbo.limbo_lock)) != OK:
        return BUSY
    if data == 0:
        swap(cython.address(limbo.unpinned), 0)     # before looking: who lets go meanwhile says so again
    kill_point(w)
    while at[0] != 0 and status == OK:
        off = at[0]
        d = page_at(w, off)
        steps += 1
        if w.fault == 0 and d.sentinel != ~cython.cast(u64, PAMPD_SENTINEL):
            w.fault = FAULT_SENTINEL
        if w.fault == 0 and steps > w.max_workers * PINS_MAX:
            w.fault = FAULT_LOOP
        if w.fault != 0:
            # What cannot be read cannot be given back. The list is cut here; check() finds what it
            # lost.
            rollback(w, 0)
            w.fault = 0
            store(w, at, 0)
            commit(w)
            w.fault = FAULT_SENTINEL
            status = CORRUPT
        elif (data == 0 or d.data == data) and not is_pinned(w, d.data):
            store(w, at, d.obj)
            store(w, cython.address(d.obj), w.slot.client[ROOT_RETIRED])
            store(w, cython.address(w.slot.client[ROOT_RETIRED]), off)
            status = conclude(w)
        else:
            at = cython.address(d.obj)
    unlock(w, cython.address(limbo.limbo_lock))
    return status


def forget(w, slot):
    """Drop the pins of a worker that is dead. Done twice it is done once."""
    i: u64
    pins: cython.pointer(u64) = pins_at(
        w, (cython.cast(u64, cython.cast(cython.p_char, slot) - w.base) - w.slots_off) // SLOT_BYTES
    )
    high: u64 = pins_high(slot)
    backed: u64 = load(cython.address(slot.client[PINS_BACKED]))
    for i in range(high if high <= backed else backed):
        set(cython.address(pins[i]), 0)
        kill_point(w)
    # Also without a pin: it may have died between letting go of its last one and looking through
    # limbo.
    if high != 0 or load(cython.address(limbo_of(w).limbo)) != 0:
        note_unpinned(w)
    kill_point(w)
    set(cython.address(slot.client[PINS_BYTES]), 0)
    set(cython.address(slot.client[PINS_USED]), 0)
    set(cython.address(slot.client[PINS_NEXT]), 0)
    kill_point(w)
    set(cython.address(slot.client[PINS_HIGH]), 0)

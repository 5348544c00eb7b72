"""Owns what ends: how a pool begins to die, and when what a worker has retired, staged or not
queued yet is worked off.

No lock is held by who calls.
Kill at any instruction: each step is a transaction; who is killed between the two words of a pool's
death has destroyed it all the same.
"""
import cython
from cython.cimports.engine.eviction.admit import hold_caps, is_over, settle_pending
from cython.cimports.engine.eviction.sweep import Swept, sweep_range
from cython.cimports.engine.eviction.window import close_window
from cython.cimports.engine.layout.call import AGAIN, DESTROYED
from cython.cimports.engine.layout.structs import (
    POOL_DYING,
    POOL_SENTINEL,
    ROOT_PENDING,
    ROOT_RETIRED,
    ROOT_STAGED,
    ROOT_WRITTEN,
    ClientPage,
)
from cython.cimports.engine.pages.reclaim import drop_staged, drop_unwritten, retire
from cython.cimports.engine.verbs.section import REAP_BUDGET, alive, finish
from cython.cimports.libc.string import memset
from cython.cimports.shm.atomics import load, set_release
from cython.cimports.shm.journal import conclude, kill_point, store
from cython.cimports.shm.layout import BUSY, CORRUPT, OK, offset_of, u64
from cython.cimports.shm.lock import lock_both, lock_try, unlock, unlock_both

EPOCHS = cython.declare(u64, 65536)         # an obj has 16 bits of its pool's epoch
SWEEP_COST = cython.declare(u64, 65536)     # of a step of a whole sweep, in looks at a bucket,
SWEEP_OBJS = cython.declare(u64, 256)       # or the objs it buries


def begin_destroy(w, p, c, pam, host):
    """Make a pool die: the record goes on the retired list, and then the state says so. OK, BUSY,
    DESTROYED or CORRUPT.

    From here on every verb on it answers DESTROYED; `finish` takes it apart. The state is no part
    of the transaction: nobody may be told of a death that a rollback takes back. Who is killed
    between the two has destroyed it all the same."""
    table: cython.pointer(ClientPage) = cython.cast(cython.pointer(ClientPage), w.base + w.client_off)
    status: cython.int = OK
    if lock_both(w, cython.address(table.lock)) != OK:
        return BUSY
    if not alive(p) or p.record.sentinel == ~cython.cast(u64, POOL_SENTINEL):
        status = DESTROYED
    else:
        store(w, cython.address(p.record.cursor), 0)
        retire(w, offset_of(w, p.record))
    if conclude(w) != OK:
        status = CORRUPT
    elif status == OK:
        kill_point(w)
        set_release(cython.address(p.record.state), POOL_DYING)
    unlock_both(w, cython.address(table.lock))
    return status


def clear(w, p, c, pam, host):
    """Let all objects that a pool has be dead, by another epoch. OK, AGAIN (what was cleared 65,535
    epochs ago has to be swept first: an epoch comes again), BUSY or DESTROYED.

    The store of the epoch is the moment of it. A verb that had the epoch before from the record
    comes before the clear: a put that links under the lock of its bucket what nobody will find, a
    get that has found what was there. Whoever begins later has the new one: it is loaded behind
    the bucket's sequence word, or under its lock, and those were written by whoever put with the
    new epoch."""
    table: cython.pointer(ClientPage) = cython.cast(cython.pointer(ClientPage), w.base + w.client_off)
    status: cython.int = OK
    epoch: u64
    if lock_both(w, cython.address(table.lock)) != OK:
        return BUSY
    epoch = p.record.epoch + 1
    if not alive(p):
        status = DESTROYED
    elif epoch - load(cython.address(p.record.swept)) >= EPOCHS:
        status = AGAIN
    else:
        kill_point(w)
        set_release(cython.address(p.record.epoch), epoch)
        kill_point(w)
    unlock_both(w, cython.address(table.lock))
    return status


def sweep_step(w, idx, bucket, end, buried, busy):
    """Bury some of what is dead in a pool: as sweep_range, and BUSY if it could not begin. Adds to
    `buried`; `busy`: not all was looked at. With no lock held. Made to run with the GIL released,
    as `stage` is: no lock but the own one is held when another is given back."""
    s: Swept
    status: cython.int
    memset(cython.address(s), 0, cython.sizeof(Swept))
    if lock_try(w, cython.address(w.slot.own)) != OK:
        return BUSY
    status = sweep_range(w, idx, bucket, end, SWEEP_COST, SWEEP_OBJS, cython.address(s))
    unlock(w, cython.address(w.slot.own))
    buried[0] += s.buried
    busy[0] = busy[0] or s.busy
    return status


def work_off(w, host):
    """Take this worker's lists apart, a budget at a time, what is staged too: nobody is in the
    middle of a put. OK, AGAIN, BUSY or CORRUPT."""
    if (w.slot.client[ROOT_RETIRED] | w.slot.client[ROOT_PENDING] | w.slot.client[ROOT_STAGED]
            | w.slot.client[ROOT_WRITTEN]) == 0:
        return OK
    if lock_try(w, cython.address(w.slot.own)) != OK:
        return BUSY
    drop_staged(w)
    drop_unwritten(w)
    if w.fault != 0:
        unlock(w, cython.address(w.slot.own))
        return CORRUPT
    return finish(w, REAP_BUDGET, host)


def keep_caps(w, p, c, pam, host):
    """After a put: have its pages queued, and its pool and its client no larger than they may be.
    OK, BUSY (call again) or CORRUPT."""
    status: cython.int
    if w.slot.client[ROOT_PENDING] == 0 and not is_over(w, p.idx):
        return OK
    if lock_try(w, cython.address(w.slot.own)) != OK:
        return BUSY
    status = settle_pending(w, host)
    if status == OK:
        status = hold_caps(w, p.idx, 0, host)
    if finish(w, REAP_BUDGET, host) == CORRUPT:
        status = CORRUPT
    return status


def give_up(w):
    """A put that waited is not gone on with: what it was emptying for a long page stays. If a lock
    is in the way, the next time that this worker makes room."""
    if w.window_count != 0 and lock_try(w, cython.address(w.slot.own)) == OK:
        close_window(w)
        w.fault = 0
        unlock(w, cython.address(w.slot.own))

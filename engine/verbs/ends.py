"""Owns what ends: how a pool begins to die, and when what a worker has retired, staged or not
queued yet is worked off.

No lock is held by who calls.
Kill at any instruction: each step is a transaction; who is killed between the two words of a pool's
death has destroyed it all the same.
"""
import cython
from cython.cimports.engine.eviction.admit import hold_caps, is_over, settle_pending
from cython.cimports.engine.eviction.window import close_window
from cython.cimports.engine.layout.call import DESTROYED
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
from cython.cimports.shm.atomics import set_release
from cython.cimports.shm.journal import conclude, kill_point, store
from cython.cimports.shm.layout import BUSY, CORRUPT, OK, offset_of, u64
from cython.cimports.shm.lock import lock_both, lock_try, unlock, unlock_both


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

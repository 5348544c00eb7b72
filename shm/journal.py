"""Owns what the undo journal does off the hot path: rolling back, growing, settling a dead one.

The promise, the order of stores and the inline `store` and `commit` are in journal.pxd.

Kill at any instruction: `rollback` and `settle` write old values back and shorten the journal last,
so whoever comes next starts over and ends in the same place.
"""
import cython
from cython.cimports.libc.signal import SIGKILL, raise_
from cython.cimports.libc.string import memmove
from cython.cimports.posix.unistd import getpid
from cython.cimports.shm.atomics import barrier
from cython.cimports.shm.journal import kill_point
from cython.cimports.shm.kernel.system import SIGSTOP, kill
from cython.cimports.shm.layout import (
    CORRUPT,
    JOURNAL_BACKED,
    JOURNAL_BYTES,
    JOURNAL_ENTRY,
    NOSPACE,
    OK,
    SYS_PAGE,
    u64,
)
from cython.cimports.shm.memory import back, punch


def die_here(w):
    """Count a kill point; at the chosen one, die as a worker killed there would, or stop until
    somebody lets the process go on."""
    w.kill_points += 1
    if w.kill_points == w.kill_at:
        if w.kill_stops:
            kill(getpid(), SIGSTOP)
        else:
            raise_(SIGKILL)


def rollback(w, to):
    """Undo every store after savepoint `to`, newest first. Clears no fault."""
    n: u64 = w.slot.journal_len
    if n > w.journal_cap:
        n = to          # not what this worker wrote: nothing of it can be trusted
    while n > to:
        n -= 1
        if w.journal[2 * n] & 7 or w.journal[2 * n] < SYS_PAGE or w.journal[2 * n] > w.map_bytes - 8:
            continue
        cython.cast(cython.pointer(u64), w.base + w.journal[2 * n])[0] = w.journal[2 * n + 1]
        barrier()
        kill_point(w)
    w.slot.journal_len = to
    barrier()
    kill_point(w)


def reserve(w, entries):
    """Back the journal for a transaction of `entries` stores. OK or NOSPACE; called with no lock
    held."""
    if entries <= w.journal_cap:
        return OK
    total: u64 = (entries * JOURNAL_ENTRY + SYS_PAGE - 1) & ~cython.cast(u64, SYS_PAGE - 1)
    if total > JOURNAL_BYTES:
        return NOSPACE
    if back(w, w.journals_off + w.slot_idx * JOURNAL_BYTES, total) != OK:
        return NOSPACE
    w.journal_cap = total // JOURNAL_ENTRY
    return OK


def shrink(w):
    """Give back what `reserve` backed beyond the standing part. Called with an empty journal."""
    standing: u64 = JOURNAL_BACKED // JOURNAL_ENTRY
    if w.journal_cap > standing and w.slot.journal_len == 0:
        extra: u64 = w.journal_cap * JOURNAL_ENTRY - JOURNAL_BACKED
        w.journal_cap = standing
        punch(w, w.journals_off + w.slot_idx * JOURNAL_BYTES + JOURNAL_BACKED, extra)


def redo_copy(w, src, dst, length):
    """The last step of a transaction: copy `length` bytes inside the arena; recovery finishes
    it."""
    w.slot.redo_src = src
    w.slot.redo_dst = dst
    barrier()
    w.slot.redo_len = length
    barrier()
    kill_point(w)
    memmove(w.base + dst, w.base + src, length)
    kill_point(w)


def settle(w, dead, idx, journal):
    """Finish or undo the transaction of a dead worker, whose locks are still its own.

    OK, or CORRUPT when its journal cannot be true; then nothing more is written back.
    """
    n: u64 = dead.journal_len
    offset: u64
    length: u64
    src: u64
    dst: u64
    if dead.redo_len != 0:
        length = dead.redo_len
        src = dead.redo_src
        dst = dead.redo_dst
        # From its own bounce page into a segment: nothing else can be true.
        if (
            length <= w.bounce_bytes
            and src == w.bounces_off + idx * w.bounce_bytes
            and dst - w.seg_lo < w.seg_total << w.seg_shift
            and length <= (w.seg_total << w.seg_shift) - (dst - w.seg_lo)
        ):
            memmove(w.base + dst, w.base + src, length)
        barrier()
        kill_point(w)
        dead.journal_len = 0
        barrier()
        kill_point(w)
        dead.redo_len = 0
        barrier()
        kill_point(w)
        return OK
    if n > JOURNAL_BYTES // JOURNAL_ENTRY:
        dead.journal_len = 0
        return CORRUPT
    while n > 0:
        n -= 1
        offset = journal[2 * n]
        if offset & 7 or offset < SYS_PAGE or offset > w.map_bytes - 8:
            dead.journal_len = 0
            return CORRUPT
        cython.cast(cython.pointer(u64), w.base + offset)[0] = journal[2 * n + 1]
        barrier()
        kill_point(w)
    dead.journal_len = 0
    barrier()
    kill_point(w)
    return OK

"""Owns the two passes of the spiller over the pages of a batch: copying them out of the arena, and
letting each be far that is still the same.

Without the GIL, and with no Python object made or looked at: what a batch costs the others is what
these two cost. Copied is with nothing held; what becomes far is looked at again, under its locks
(engine/verbs/away.py).
"""
import cython
from cython.cimports.engine.eviction.leaving import Leaving
from cython.cimports.engine.far.batch import BATCH_MAX, Parcel, in_units
from cython.cimports.engine.far.names import SEAL_BYTES
from cython.cimports.engine.layout.call import MISS, REFUSED, Call
from cython.cimports.engine.layout.regions import keeps_far
from cython.cimports.engine.layout.words import copied_of, pool_mark
from cython.cimports.engine.member.arguments import aim
from cython.cimports.engine.oid import hash_oid
from cython.cimports.engine.verbs.away import become_far, copy_out
from cython.cimports.shm.clock import now
from cython.cimports.shm.journal import kill_point
from cython.cimports.shm.layout import OK, u64

A_MS = cython.declare(u64, 1000000)     # nanoseconds


@cython.cfunc
@cython.nogil
@cython.inline
@cython.exceptval(check=False)
def _aim(c: cython.pointer(Call), page: cython.pointer(Leaving)) -> cython.void:
    aim(c, page.oid, hash_oid(page.oid[0], page.oid[1], page.oid[2]), page.index)
    c.ask.gen = page.gen
    c.ask.token = page.token
    c.did.shard = page.shard


@cython.cfunc
@cython.nogil
@cython.inline
@cython.exceptval(check=False)
def _life(expires: u64, time: u64) -> u64:
    """Milliseconds that a page has to live, at least 1; 0: for ever."""
    if expires == 0:
        return 0
    return (expires - time + A_MS - 1) // A_MS if expires > time else 1


def copy_leavers(w, p, table, count, longest, most, batch, gone):
    """Copy what was chosen into an empty batch, as far as it is still there and until it does not
    fit: pages of at most `longest` bytes, `most` together, and no part of a value without the rest,
    unless that is longer than a batch. How many were looked at; gone[0]: how many of these were not
    there."""
    c: Call
    i: cython.int
    parcel: cython.pointer(Parcel)
    length: u64
    expires: u64
    time: u64 = now(w)
    kept: cython.bint = keeps_far(p.record)
    value: cython.int = 0           # where the one begins that is looked at, in the table and in the batch
    value_count: cython.int = 0
    value_end: u64 = 0
    value_gone: u64 = 0
    gone[0] = 0
    for i in range(count):
        if not table[i].goes_on:
            value, value_count, value_end, value_gone = i, batch.count, batch.end, gone[0]
        length = copied_of(table[i].shape) + SEAL_BYTES
        if length > longest:
            continue
        if batch.count == BATCH_MAX or batch.end + in_units(length) > most:
            if value == 0:
                return i
            batch.count, batch.end, gone[0] = value_count, value_end, value_gone
            return value
        _aim(cython.address(c), table + i)
        c.did.out = batch.values_at + batch.end
        c.did.have = length - SEAL_BYTES
        if copy_out(w, p, cython.address(c), cython.address(expires)) != OK:
            gone[0] += 1
            continue
        parcel = cython.address(batch.parcels[batch.count])
        parcel.head[0] = w.header.nonce
        parcel.head[1] = table[i].name
        parcel.head[2] = pool_mark(p.idx, p.gen)
        parcel.head[3] = table[i].oid[0]
        parcel.head[4] = table[i].oid[1]
        parcel.head[5] = table[i].oid[2]
        parcel.head[6] = table[i].index
        parcel.at = batch.end
        parcel.length = length
        # What is kept goes when it is flushed, or has expired, here: a touch lets it live longer.
        parcel.ttl = 0 if kept else _life(expires, time)
        parcel.place = i
        batch.end += in_units(length)
        batch.count += 1
    return count


def let_go(w, p, table, batch, at, pam, host):
    """Let the pages of a batch be far that have a token, from at[0] on, or note that they
    are stale. OK: all are done; else the status of the one that at[0] says, which is to be tried
    again after BUSY."""
    c: Call
    page: cython.pointer(Leaving)
    status: cython.int
    while at[0] < batch.count:
        page = table + batch.parcels[at[0]].place
        if page.token != 0:
            _aim(cython.address(c), page)
            c.found.shape = page.shape
            c.found.gen = page.name
            status = become_far(w, p, cython.address(c), pam, host)
            if status == MISS or status == REFUSED:
                page.stale = True
            elif status != OK:
                return status
            kill_point(w)
        at[0] += 1
    return OK

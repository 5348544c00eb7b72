"""Owns what a batch of pages that leave is made of: each copied out of the arena and sealed.

Pages are copied with nothing held; who is to become far is looked at again, under the lock, when
the tier has it (engine/verbs/away.py).
"""
import cython
from cython.cimports.cpython.bytes import PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cython.cimports.engine.far.batch import Batch
from cython.cimports.engine.layout.call import Call
from cython.cimports.engine.layout.words import copied_of, pool_mark
from cython.cimports.engine.member.arguments import aim
from cython.cimports.engine.oid import hash_oid
from cython.cimports.engine.verbs.away import copy_out
from cython.cimports.shm.atomics import add
from cython.cimports.shm.clock import now
from cython.cimports.shm.layout import OK, Worker, u64
from engine.far.names import SEAL_BYTES, handle_of, name_of, sealed

A_MS = cython.declare(u64, 1000000)     # nanoseconds


def aim_at(c, page):
    """Let a call be about a page that was chosen."""
    aim(c, page.oid, hash_oid(page.oid[0], page.oid[1], page.oid[2]), page.index)
    c.ask.gen = page.gen
    c.ask.token = page.token
    c.did.shard = page.shard
    return 0


@cython.cfunc
def _life(expires: u64, time: u64) -> u64:
    """Milliseconds that a page has to live, at least 1; 0: for ever."""
    if expires == 0:
        return 0
    return (expires - time + A_MS - 1) // A_MS if expires > time else 1


def packed(pool, table, count):
    """Copy what was chosen, as far as it is still there and fits into one batch of the tier."""
    w: cython.pointer(Worker) = cython.address(pool.engine.att.w)
    c: Call
    i: cython.int
    size: u64 = 0
    expires: u64 = 0
    time: u64 = now(w)
    data: bytes
    made: Batch = Batch()
    for i in range(count):
        length: u64 = copied_of(table[i].shape)
        if length + SEAL_BYTES > pool.tier.longest or size + length + 2 * SEAL_BYTES > pool.tier.batch_bytes:
            continue
        aim_at(cython.address(c), table + i)
        data = PyBytes_FromStringAndSize(cython.NULL, length)
        c.did.out = PyBytes_AS_STRING(data)
        c.did.have = length
        if copy_out(w, cython.address(pool.ref), cython.address(c), cython.address(expires)) != OK:
            add(cython.address(pool.far_record().stale), 1)
            continue
        size += length + 2 * SEAL_BYTES
        name = name_of(w.header.nonce, table[i].gen)
        handle = handle_of(pool_mark(pool.ref.idx, pool.ref.gen),
                           (table[i].oid[0], table[i].oid[1], table[i].oid[2]), table[i].index)
        made.names.append(name)
        made.values.append(sealed(name, handle, data))
        made.ttls.append(_life(expires, time))
        made.places.append(i)
    return made

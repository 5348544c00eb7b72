"""Owns which persistent pools the spiller passes over, and how many of their pages may yet leave.

A persistent pool whose pages leave for a tier that keeps them takes part in the choice of who
leaves next, as every other. Where none of its pages can leave in this round, others have their
turn: its tier cannot be had in this process, or has taken nothing of a batch, or as many are far as
may be. Of an ephemeral pool nothing of the kind is noted: what cannot leave goes.
"""
import cython
from cython.cimports.engine.layout.regions import keeps_far, pool_at, queue_at
from cython.cimports.engine.layout.structs import GEO_POOLS, GEO_SHARDS, Queue
from cython.cimports.engine.layout.words import CAP_BYTES, copied_of
from cython.cimports.shm.atomics import load
from cython.cimports.shm.layout import Worker, u64


def fitting(pool, table, count):
    """How many of these pages of a pool, the first ones, may become far until there is as much as
    may be; of one that is ephemeral all: the first that became far go."""
    w: cython.pointer(Worker) = cython.address(pool.engine.att.w)
    q: cython.pointer(Queue)
    most: u64 = load(cython.address(pool.far_record().most))
    in_bytes: cython.bint = most & CAP_BYTES() != 0
    total: u64 = 0
    shard: u64
    i: cython.int
    if not pool.keeps_far:
        return count
    for shard in range(w.client_geometry[GEO_SHARDS]):
        q = queue_at(w, pool.ref.idx, shard)
        total += load(cython.address(q.far_bytes)) if in_bytes else load(cython.address(q.far_count))
    for i in range(count):
        total += copied_of(table[i].shape) if in_bytes else 1
        if total > most & ~CAP_BYTES():
            return i
    return count


def passed_over(engine, pools):
    """A byte for each place of a pool: 1 if it is passed over in this round. `pools`: those whose
    tier is open here, by index and generation."""
    w: cython.pointer(Worker) = cython.address(engine.att.w)
    passed: bytearray = bytearray(w.client_geometry[GEO_POOLS])
    engine.att.enter()
    try:
        for idx, gen, _ in engine.live_slots():
            if keeps_far(pool_at(w, idx)) and (idx, gen) not in pools:
                passed[idx] = 1
    finally:
        engine.att.leave()
    return passed

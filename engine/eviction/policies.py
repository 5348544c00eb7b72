"""Owns the policies: which page of a pool goes next, a function each, and the table of them.

A policy is its functions and its row of the table at the end; nothing else in the source knows one
from another. What `new_pool` takes, what the documents say and what the property tests compare
with a plain model is read from there. S3-FIFO: Yang, Zhang, Qiu, Yue, Vinayak, "FIFO queues are
all you need for cache eviction", SOSP 2023. SIEVE: Zhang et al., NSDI 2024. CLOCK: Corbato 1968.

A hit is a mark beside the descriptor, set by readers without a lock. The worker's own lock is held
here, and the shard's.
Kill at any instruction: each page that is spared is one transaction; what SIEVE stores of its hand
when it has found a page is part of the one that evicts it, or passes it over.
"""
import collections

import cython
from cython.cimports.engine.eviction.policies import ROWS_MAX, Enter, Pass, Policy, Victim
from cython.cimports.engine.layout.regions import index_in, page_at, shard_at
from cython.cimports.engine.layout.structs import HITS_MAX, Obj, Pampd, Queue
from cython.cimports.engine.layout.words import (
    QUEUE_MAIN,
    QUEUE_NONE,
    QUEUE_SMALL,
    page_hash,
    pool_in,
    prev_in,
    shard_in,
    state_in,
)
from cython.cimports.engine.oid import hash_oid
from cython.cimports.engine.pages.queues import hits_of, recall_ghost, renew
from cython.cimports.shm.atomics import load
from cython.cimports.shm.journal import conclude, store
from cython.cimports.shm.layout import OK, Worker, mark_of, set_mark, u64
from cython.cimports.shm.memory import chunk_at

# --- what several have in common ------------------------------------------------------------------


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _enter_main(w: cython.pointer(Worker), q: cython.pointer(Queue), off: u64) -> u64:
    return QUEUE_MAIN


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _pass_behind(w: cython.pointer(Worker), q: cython.pointer(Queue), off: u64) -> cython.int:
    """The page becomes the newest of its queue, with the hits that it has."""
    small: cython.bint = state_in(page_at(w, off).queue) == QUEUE_SMALL
    return renew(w, q, QUEUE_SMALL if small else QUEUE_MAIN, off, mark_of(w, off))


# --- FIFO -----------------------------------------------------------------------------------------


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _fifo(w: cython.pointer(Worker), q: cython.pointer(Queue), of: u64, steps: cython.pointer(u64)) -> u64:
    """The oldest page."""
    steps[0] -= 1
    return q.tail[1]


# --- CLOCK ----------------------------------------------------------------------------------------


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _clock(w: cython.pointer(Worker), q: cython.pointer(Queue), of: u64, steps: cython.pointer(u64)) -> u64:
    """The oldest page without a hit; those before it become the newest."""
    off: u64
    while steps[0] > 0:
        steps[0] -= 1
        off = q.tail[1]
        if off == 0 or hits_of(w, off) == 0:
            return off
        if renew(w, q, QUEUE_MAIN, off, 0) != OK:
            break
    return 0


# --- SIEVE ----------------------------------------------------------------------------------------


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _sieve(w: cython.pointer(Worker), q: cython.pointer(Queue), of: u64, steps: cython.pointer(u64)) -> u64:
    """The first page without a hit from the hand on; those before it stay where they are."""
    off: u64
    hits: u64
    while steps[0] > 0:
        steps[0] -= 1
        off = q.hand if q.hand != 0 else q.tail[1]
        if off == 0:
            break
        hits = hits_of(w, off)
        store(w, cython.address(q.hand), off)       # the hand goes on with the page, also when it leaves
        if hits == 0:
            return off
        set_mark(w, off, 0)
        if _sieve_on(w, q, off) != OK:
            break
    return 0


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _sieve_on(w: cython.pointer(Worker), q: cython.pointer(Queue), off: u64) -> cython.int:
    """The hand goes on to the next newer page."""
    store(w, cython.address(q.hand), prev_in(page_at(w, off).queue))
    return conclude(w)


# --- S3-FIFO --------------------------------------------------------------------------------------


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _enter_s3fifo(w: cython.pointer(Worker), q: cython.pointer(Queue), off: u64) -> u64:
    """The main queue for a page that was evicted of late, the small one for all others. The ghost
    of a value is that of its first page, which comes last."""
    d: cython.pointer(Pampd) = page_at(w, off)
    o: cython.pointer(Obj) = cython.cast(cython.pointer(Obj), chunk_at(w, load(cython.address(d.obj))))
    w.fault = 0  # a page that is retired at this moment has another word there; then the answer does not matter
    behind: u64 = prev_in(d.queue) >> 6
    hash: u64 = page_hash(hash_oid(o.oid[0], o.oid[1], o.oid[2]), index_in(o, d) - behind, pool_in(d.queue))
    age: u64 = shard_at(w, shard_in(d.queue)).pages * 9 // 10 + 1
    known: cython.bint = recall_ghost(w, shard_in(d.queue), hash, age, behind == 0)
    return QUEUE_MAIN if known else QUEUE_SMALL


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _s3fifo(w: cython.pointer(Worker), q: cython.pointer(Queue), of: u64, steps: cython.pointer(u64)) -> u64:
    """The oldest page of the small queue, if that has a tenth of all, else of the main one. Who was
    hit in the older half of the small queue goes on to the main one; there, each hit is one more
    round."""
    off: u64
    hits: u64
    small: cython.bint
    while steps[0] > 0:
        steps[0] -= 1
        small = of == QUEUE_SMALL or (
            of == QUEUE_NONE
            and q.count[0] != 0
            and (q.count[1] == 0 or q.count[0] * 10 >= q.count[0] + q.count[1])
        )
        off = q.tail[0 if small else 1]
        hits = hits_of(w, off) if off != 0 else 0
        if hits == 0:
            return off
        if renew(w, q, QUEUE_MAIN, off, 0 if small else hits - 1) != OK:
            break
    return 0


# --- the table ------------------------------------------------------------------------------------

# By name, for Python: a policy's number in the record of a pool, and how many hits of a page are
# worth counting.
POLICIES = {}
Row = collections.namedtuple("Row", "number hits")


@cython.cfunc
def _row(
    name: cython.p_const_char, number: u64, hits: u64, tries: cython.bint, enter: Enter, victim: Victim, pass_over: Pass
) -> object:
    """Add a policy to the table."""
    global count
    assert count < ROWS_MAX and hits <= HITS_MAX
    rows[count] = Policy(
        name=name, number=number, hits=hits, tries=tries, enter=enter, victim=victim, pass_over=pass_over
    )
    count += 1
    POLICIES[name.decode()] = Row(number, hits)


# name, number, what a hit is worth, is there a small queue, where a page begins, which goes next,
# what if that cannot go now
_row(b"s3fifo", 3, HITS_MAX, True, _enter_s3fifo, _s3fifo, _pass_behind)
_row(b"sieve", 2, 1, False, _enter_main, _sieve, _sieve_on)
_row(b"clock", 1, 1, False, _enter_main, _clock, _pass_behind)
_row(b"fifo", 0, 0, False, _enter_main, _fifo, _pass_behind)


def policy_of(number):
    """The row of a policy by its number; NULL: there is none."""
    i: cython.int
    for i in range(count):
        if rows[i].number == number:
            return cython.address(rows[i])
    return cython.NULL

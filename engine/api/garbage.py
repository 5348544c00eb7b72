"""Owns looking for garbage in far tiers: names of this arena's that no page has.

What a tier was given and no descriptor came to name, or whose token was forgotten, is never read
and never in the way; it takes room there until its time is up. Names are listed first. Then nobody
spills until they are looked at, so that none of them can become a page's meanwhile: it was one
before, and is one still, or it is garbage.
"""
import array
import bisect
import time

import cython
from cython.cimports.engine.api.walks import walk_oids
from cython.cimports.engine.capacity.electing import elected, step_down
from cython.cimports.engine.capacity.spill import tiered
from cython.cimports.engine.far.names import name_of
from cython.cimports.engine.layout.call import Call
from cython.cimports.engine.member.arguments import aim
from cython.cimports.engine.member.bound import Bound
from cython.cimports.engine.member.member import Member
from cython.cimports.engine.oid import hash_oid, oid_words
from cython.cimports.engine.verbs.walk import read_indexes
from cython.cimports.shm.layout import BUSY, OK, Worker, u64
from engine.api.pool import open_pool
from engine.errors import ArenaBusy, PoolDestroyed
from engine.far.garbage import Garbage

AT_ONCE = cython.declare(cython.int, 256)
PATIENCE_S = 10.0               # for whoever spills


@cython.cfunc
def _gens_of(pool: Bound, oid, into):
    """Add the generations of an object's far pages."""
    c: Call
    w: cython.pointer(Worker)
    words: u64[3]
    found: u64[256]
    gens: u64[256]
    next: u64 = 0
    count: cython.int = AT_ONCE
    i: cython.int
    status: cython.int
    oid_words(oid, words)
    while count == AT_ONCE:
        pool.enter()
        try:
            w = cython.address(pool.engine.att.w)
            aim(cython.address(c), words, hash_oid(words[0], words[1], words[2]), 0)
            while True:
                with cython.nogil:
                    status = read_indexes(w, cython.address(pool.ref), cython.address(c), next,
                                          cython.address(found[0]), cython.address(gens[0]), AT_ONCE,
                                          cython.address(count))
                if status != BUSY:
                    break
                pool.pause()
            if status != OK:
                pool.fail(status)
        finally:
            pool.leave()
        into.extend([gens[i] for i in range(count) if gens[i] != 0])
        if count != 0:
            next = found[count - 1] + 1
            if next == 0:
                break
    return None


def _tiered(engine: Member):
    """The pools with a far tier, whether it can be had here or not. AccessDenied: one is not for
    the client that the engine acts for, and its pages would look like garbage."""
    found = []
    for idx, gen in tiered(engine):
        try:
            found.append(open_pool(engine, idx, gen))
        except PoolDestroyed:
            continue
    return found


def _await_turn(engine: Member):
    """Be the one who may change what far tiers have. ArenaBusy."""
    end = time.monotonic() + PATIENCE_S
    while True:
        me = elected(engine)
        if me != 0:
            return me
        if time.monotonic() > end:
            raise ArenaBusy(f"arena {engine.name!r}: another process has been spilling for {PATIENCE_S:g} s; "
                            "if it is stopped, let it go on or end it")
        time.sleep(0.01)


def collect(engine: Member):
    """Engine.far_gc."""
    pool: Bound
    done = Garbage()
    listed: dict = {}
    silent: set = set()
    nonce: u64 = engine.att.w.header.nonce
    for pool in _tiered(engine):
        if pool.tier is not None and hasattr(pool.tier, "listed"):
            there = array.array("Q", pool.tier.listed(nonce, silent))
            listed[pool] = array.array("Q", sorted(set(there)))
    me = _await_turn(engine)
    try:
        living = array.array("Q")
        for pool in _tiered(engine):        # of all: several may have names on the same servers
            try:
                for oid in walk_oids(pool):
                    _gens_of(pool, oid, living)
            except PoolDestroyed:
                continue
        living = array.array("Q", sorted(living))
        for pool, there in listed.items():
            dead = []
            for gen in there:
                at = bisect.bisect_left(living, gen)
                if at == len(living) or living[at] != gen:
                    dead.append(name_of(nonce, gen))
            for first in range(0, len(dead), AT_ONCE):
                pool.tier.delete_many(dead[first:first + AT_ONCE], [1] * len(dead[first:first + AT_ONCE]))
            done.names += len(there)
            done.dropped += len(dead)
    finally:
        step_down(engine, me)
    done.silent = tuple(sorted(silent))
    return done

"""Owns the order of locks: the rank of every lock of an arena. Who takes a lock holds only such of
lower rank.

Where TMEM_CHECK_LOCKS is in the environment, as in the tests, `check_rank` of shm asks for the rank
of each lock that is taken, and the first one out of order ends the process. Else nobody asks, and
taking a lock costs one branch more. docs/locking.md says why the order is this one.
"""
import os

import cython
from cython.cimports.engine.layout.regions import (
    buckets_offset,
    queues_offset,
    records_offset,
    shards_offset,
    twins_offset,
)
from cython.cimports.engine.layout.structs import ClientPage
from cython.cimports.engine.member.ranks import CAP, LAST, OTHERS, OWN, SHARD
from cython.cimports.engine.pages.pins import limbo_of
from cython.cimports.shm.layout import SYS_PAGE, offset_of, u64

_turned = cython.declare(cython.bint, False)


def order_checked():
    """True if the engines attached from now on shall check the order of locks."""
    return bool(os.environ.get("TMEM_CHECK_LOCKS"))


def turn_over_for_tests():
    """Let every rank be its opposite from now on, in this process: then the right order is
    wrong."""
    global _turned
    _turned = True


def rank_of(w, offset):
    """0 the worker's own lock, 1 another worker's or a cap's, 2 a shard, 3 a bucket, the pool
    table, limbo, the depot or a twin bucket; -1: no lock is there."""
    rank: cython.int = -1
    table: cython.pointer(ClientPage) = cython.cast(cython.pointer(ClientPage), w.base + w.client_off)
    limbo_lock: u64 = offset_of(w, cython.address(limbo_of(w).limbo_lock))
    if w.slots_off <= offset < w.bounces_off:
        rank = OWN if offset == offset_of(w, cython.address(w.slot.own)) else OTHERS
    elif offset == offset_of(
        w, cython.address(table.cap_lock)
    ) or records_offset(w) <= offset < buckets_offset(w):
        rank = CAP
    elif (
        offset == SYS_PAGE
        or offset == w.client_off
        or offset == limbo_lock
        or buckets_offset(w) <= offset < queues_offset(w)
    ):
        rank = LAST
    elif twins_offset(w) <= offset < w.journals_off:
        rank = LAST
    elif shards_offset(w) <= offset < w.journals_off:
        rank = SHARD
    return -rank if _turned else rank

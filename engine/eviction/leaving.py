"""Owns which pages leave for a far tier: those that the policy would let go next.

Nothing marks them in the arena. There is one spiller, and what it has chosen stands in its own
memory, by handle and generation: so it dies with him, and a put over a page, or a hit, is seen when
the page is to become far (`engine/verbs/away.py`). They stay in their queues until then.
Each gets a new generation when it is far, which is drawn here: its name in the tier. So a name is
given once, to one try: what a tier is told to drop, of a page that came home or was wanted after
all, is never the name of what it has of that page since.
Locks: the worker's own, and the shard's; no bucket.
Kill at any instruction: the policy moves on as it does for an eviction, a transaction a page.
"""
import cython
from cython.cimports.engine.eviction.evict import looks
from cython.cimports.engine.eviction.policies import Policy, policy_of
from cython.cimports.engine.eviction.shares import ANY_SEAT, choose, pages_in
from cython.cimports.engine.layout.call import FAULT_POLICY, Choice
from cython.cimports.engine.layout.regions import (
    has_far,
    index_in,
    is_obj,
    next_gen,
    page_at,
    pool_at,
    queue_at,
    shard_at,
)
from cython.cimports.engine.layout.structs import (
    FAR_STORED_MIN,
    PAMPD_SENTINEL,
    Obj,
    Pampd,
    Queue,
)
from cython.cimports.engine.layout.words import QUEUE_MAIN, copied_of, has_chunk, may_go, prev_in
from cython.cimports.engine.pages.queues import hits_of
from cython.cimports.shm.atomics import load
from cython.cimports.shm.journal import conclude
from cython.cimports.shm.layout import BUSY, FAULT_LOOP, OK, Worker, u64
from cython.cimports.shm.lock import lock_try, unlock
from cython.cimports.shm.memory import chunk_at

STEPS_A_PAGE = cython.declare(u64, 4)       # pages that are looked at for each that is wanted


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _may_leave(w: cython.pointer(Worker), d: cython.pointer(Pampd), off: u64) -> cython.bint:
    """True if a queued page has a chunk of its own that is worth it, and nobody has asked for it of
    late. Where its obj lies is a guess until its bucket is locked."""
    return (
        d.sentinel == PAMPD_SENTINEL
        and has_chunk(d)
        and copied_of(d.shape) >= FAR_STORED_MIN
        and hits_of(w, off) == 0
    )


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _behind(w: cython.pointer(Worker), q: cython.pointer(Queue), of: u64, off: u64, skip: u64) -> u64:
    """The page that goes `skip` pages after one, but none of the newer half of its queue."""
    i: u64
    skip = min(skip, q.count[1 if of == QUEUE_MAIN else 0] // 2)
    for i in range(skip):
        if off != 0 and w.fault == 0:
            off = prev_in(page_at(w, off).queue)
    return off


def choose_leaving(w, shard, out, most, skip, pool, count):
    """Up to `most` pages of the pool whose turn it is to let one go in a shard, into `out`, in the
    order in which they would, but for the next `skip`: count[0] of them, none if that pool has no
    far tier, and pool[0]. OK, BUSY or CORRUPT. Called with the own lock alone."""
    choice: Choice
    q: cython.pointer(Queue)
    policy: cython.pointer(Policy)
    d: cython.pointer(Pampd)
    o: cython.pointer(Obj)
    off: u64
    i: u64
    steps: u64
    status: cython.int = OK
    count[0] = 0
    if pages_in(w, shard) == 0:
        return OK
    if lock_try(w, cython.address(shard_at(w, shard).lock)) != OK:
        return BUSY
    choose(w, shard, ANY_SEAT, cython.address(choice))
    if choice.pool != 0 and has_far(pool_at(w, choice.pool - 1)):
        pool[0] = choice.pool - 1
        q = queue_at(w, pool[0], shard)
        policy = policy_of(pool_at(w, pool[0]).policy)
        if policy == cython.NULL:
            w.fault = FAULT_POLICY
        else:
            # As before an eviction: pages with hits get their other chance.
            steps = min(looks(w, pages_in(w, shard)), most * STEPS_A_PAGE)
            off = policy.victim(w, q, choice.of, cython.address(steps))
            status = conclude(w)
            if status == OK:
                off = _behind(w, q, choice.of, off, skip)
            steps = most * STEPS_A_PAGE
            while off != 0 and status == OK and count[0] < most and steps > 0:
                steps -= 1
                d = page_at(w, off)
                if w.fault == 0 and not may_go(d.queue):
                    w.fault = FAULT_LOOP
                if w.fault != 0:
                    break
                o = cython.cast(cython.pointer(Obj), chunk_at(w, load(cython.address(d.obj))))
                w.fault = 0
                if is_obj(o.sentinel) and _may_leave(w, d, off):
                    for i in range(3):
                        out[count[0]].oid[i] = load(cython.address(o.oid[i]))
                    out[count[0]].index = index_in(o, d)
                    out[count[0]].gen = load(cython.address(d.gen))
                    out[count[0]].name = next_gen(w)
                    out[count[0]].shape = load(cython.address(d.shape))
                    out[count[0]].shard = shard
                    out[count[0]].token = 0
                    out[count[0]].stale = False
                    count[0] += 1
                off = prev_in(d.queue)
    if w.fault != 0:
        status = conclude(w)
    unlock(w, cython.address(shard_at(w, shard).lock))
    return status

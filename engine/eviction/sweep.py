"""Owns finding what is dead in place, objects that have expired or were cleared with their pool,
and burying it: before any living page goes.

No verb finds what is dead, but it takes memory until somebody takes it out: who puts under the same
oid, who lacks memory or finds a cap reached (here), a put that would be refused, a round of tending
and a resize (Member.sweep). A pool that never had an expiry and was not cleared costs two looks at
its record; else each bucket says when the first of its objs expires, and up to which epoch it has
been swept. A bucket that may have something dead is looked through a few objs at a time, each few
under its lock; every obj is buried by a transaction of its own, in constant time, and given back by
whoever works off the retired list.
What a bucket says may be too early, never too late. So a sweep writes its number into the bucket
first, and that no obj has an expiry: those that are dated from then on say so as ever. At the end
it adds what it has seen, if its number still stands there. As long as a number stands there,
whoever comes by sweeps the bucket anew: who was killed in a sweep has left no more than that.
What finds little for what it costs is not tried again for ten times as long.
The worker's own lock is held, and one bucket at a time.
Kill at any instruction: as above; each burial is one transaction.
Rejected: a queue of objs by expiry (two more words an obj, and another lock at every put); to let
dead pages age and be evicted as others are: living ones would go for them.
"""
import cython
from cython.cimports.engine.eviction.sweep import Swept
from cython.cimports.engine.layout.call import AGAIN, MISS
from cython.cimports.engine.layout.regions import (
    buckets_at,
    expiry_of,
    obj_at,
    pool_at,
    pools_high,
    sweep_in,
    swept_to,
)
from cython.cimports.engine.layout.structs import GEO_BUCKETS, POOL_LIVE, Bucket, Obj, PoolRecord
from cython.cimports.engine.pages.reclaim import has_ledger
from cython.cimports.engine.tree.lookaside import is_dead
from cython.cimports.engine.tree.unlink import bury_dead
from cython.cimports.engine.tree.walk import objs_after
from cython.cimports.libc.string import memset
from cython.cimports.shm.atomics import load, load_acquire, set
from cython.cimports.shm.clock import now
from cython.cimports.shm.journal import conclude, kill_point
from cython.cimports.shm.layout import BUSY, CORRUPT, NOMEM, OK, Worker, u64
from cython.cimports.shm.lock import lock_try, unlock

PIECE = cython.declare(cython.int, 32)          # objs that are looked at while a bucket is held
OBJ_COST = cython.declare(u64, 8)               # looks at a bucket that a look at an obj takes as long as
MOST = cython.declare(u64, 65536)               # what who lacks memory spends at once, in looks at a bucket
ENOUGH = cython.declare(u64, 32)                # objs after which he sees whether that was enough
POOR = cython.declare(u64, 512)                 # a sweep has found little if it cost so much for each obj,
PAUSE_NS = cython.declare(u64, 100)             # and then there is none for so long for each look it took


def may_be_dead(w, idx):
    """False if nothing in a pool can be dead: no obj of it ever had an expiry, and all that was
    cleared is gone."""
    p: cython.pointer(PoolRecord) = pool_at(w, idx)
    return load(cython.address(p.state)) == POOL_LIVE and (
        load(cython.address(p.dated)) != 0 or load(cython.address(p.swept)) != load_acquire(cython.address(p.epoch))
    )


@cython.cfunc
@cython.nogil
@cython.inline
@cython.exceptval(check=False)
def _is_due(b: cython.pointer(Bucket), epoch: u64, time: u64) -> cython.bint:
    """True if something in a bucket may be dead. Without its lock: an answer of a moment. An empty
    one, too, has to be swept after a clear: somebody may be about to link an obj of the old
    epoch."""
    earliest: u64 = load(cython.address(b.earliest))
    return (
        load(cython.address(b.swept)) != cython.cast(cython.uint, epoch) or (earliest != 0 and earliest <= time)
    )


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _bury_piece(w: cython.pointer(Worker), p: cython.pointer(PoolRecord), b: cython.pointer(Bucket),
                after: cython.pointer(u64), first: cython.bint, earliest: cython.pointer(u64),
                s: cython.pointer(Swept)) -> cython.int:
    """Look at the next objs of a bucket that is held, behind the oid `after` (`first`: the first
    ones), which becomes the last one's, and bury those that are dead; `earliest`: when the first of
    the others expires. OK: there are no more; AGAIN or CORRUPT."""
    offs: u64[32]
    o: cython.pointer(Obj)
    expires: u64
    i: cython.int
    count: cython.int = objs_after(w, b, cython.NULL if first else after, offs, PIECE)
    for i in range(count):
        o = obj_at(w, offs[i])
        if w.fault != 0:
            break
        s.cost += OBJ_COST
        after[0] = o.oid[0]
        after[1] = o.oid[1]
        after[2] = o.oid[2]
        if is_dead(w, p, o, 0):
            bury_dead(w, p, b, offs[i])
            if conclude(w) != OK:
                return CORRUPT
            s.buried += 1
        else:
            expires = load(expiry_of(w, o))
            if expires != 0 and (earliest[0] == 0 or expires < earliest[0]):
                earliest[0] = expires
    if w.fault != 0:
        conclude(w)
        return CORRUPT
    return AGAIN if count == PIECE else OK


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _sweep_bucket(w: cython.pointer(Worker), p: cython.pointer(PoolRecord), b: cython.pointer(Bucket),
                  s: cython.pointer(Swept)) -> cython.int:
    """Bury what is dead in a bucket. OK, BUSY or CORRUPT. With the own lock alone; between pieces
    the bucket is free."""
    after: u64[3]
    number: u64 = 0
    epoch: u64 = 0
    earliest: u64 = 0
    status: cython.int = AGAIN
    while status == AGAIN:
        if lock_try(w, cython.address(b.lock)) != OK:
            return BUSY
        if load(cython.address(p.state)) != POOL_LIVE:
            status = OK         # who destroys it takes all of it
        elif number != 0 and sweep_in(b) != number:
            status = BUSY       # another has begun anew
        else:
            if number == 0:
                epoch = load_acquire(cython.address(p.epoch))
                w.sweep_number += 1
                number = (w.slot_idx + 1) << 16 | (w.sweep_number & 0xFFFF)
                set(cython.address(b.swept), number << 32 | swept_to(b))
                kill_point(w)
                set(cython.address(b.earliest), 0)
                kill_point(w)
                status = _bury_piece(w, p, b, after, True, cython.address(earliest), s)
            else:
                status = _bury_piece(w, p, b, after, False, cython.address(earliest), s)
            if status == OK:
                if earliest != 0 and (b.earliest == 0 or earliest < b.earliest):
                    set(cython.address(b.earliest), earliest)
                kill_point(w)
                set(cython.address(b.swept), cython.cast(cython.uint, epoch))
                kill_point(w)
        unlock(w, cython.address(b.lock))
    return status


def sweep_range(w, idx, bucket, end, most, enough, s):
    """Bury what is dead in the buckets of a pool from bucket[0] on, below `end`: to the end (OK),
    or until it has cost `most`, or `enough` objs have gone (AGAIN: bucket[0] is the next); or
    CORRUPT. Called with the own lock alone."""
    p: cython.pointer(PoolRecord) = pool_at(w, idx)
    b: cython.pointer(Bucket)
    epoch: u64 = load_acquire(cython.address(p.epoch))
    time: u64 = now(w)
    status: cython.int
    if not has_ledger(w, idx):
        s.busy = True       # what cannot be counted is not done
        return OK
    while bucket[0] < end:
        if s.cost >= most or s.buried >= enough:
            return AGAIN
        b = buckets_at(w, idx) + bucket[0]
        s.cost += 1
        if _is_due(b, epoch, time):
            status = _sweep_bucket(w, p, b, s)
            if status == CORRUPT:
                return CORRUPT
            s.busy = s.busy or status == BUSY
        bucket[0] += 1
    return OK


def note_swept(p, epoch):
    """All buckets of a pool have been swept since its epoch was this."""
    set(cython.address(p.swept), epoch)


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _go_round(w: cython.pointer(Worker), idx: u64, most: u64, enough: u64, s: cython.pointer(Swept)) -> cython.int:
    """Bury what is dead in a pool, from the bucket on where the last look ended. OK or CORRUPT."""
    p: cython.pointer(PoolRecord) = pool_at(w, idx)
    epoch: u64 = load_acquire(cython.address(p.epoch))
    start: u64 = w.sweep_from & (w.client_geometry[GEO_BUCKETS] - 1)
    bucket: u64 = start
    status: cython.int = sweep_range(w, idx, cython.address(bucket), w.client_geometry[GEO_BUCKETS], most, enough, s)
    if status == OK:
        bucket = 0
        status = sweep_range(w, idx, cython.address(bucket), start, most, enough, s)
    w.sweep_from = bucket
    if status == OK and not s.busy:
        note_swept(p, epoch)
    return CORRUPT if status == CORRUPT else OK


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _sweep_one(w: cython.pointer(Worker), idx: u64, s: cython.pointer(Swept)) -> cython.int:
    """_go_round within the bounds of who lacks memory, if the pool can have something dead."""
    if s.paused or s.cost >= MOST or s.buried >= ENOUGH or not may_be_dead(w, idx):
        return OK
    if s.cost == 0 and now(w) < w.sweep_pause:
        s.paused = True
        return OK
    s.busy = False
    return _go_round(w, idx, MOST, ENOUGH, s)


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _judge(w: cython.pointer(Worker), s: cython.pointer(Swept), status: cython.int, none: cython.int) -> cython.int:
    """The answer of a bounded sweep, and whether there is to be another soon."""
    if status == OK and s.cost > POOR * s.buried:
        w.sweep_pause = now(w) + s.cost * PAUSE_NS
    return CORRUPT if status == CORRUPT else OK if s.buried != 0 else none


def sweep_some(w):
    """Memory is short: bury some of what is dead in any pool. OK if something was, NOMEM: nothing
    that could be found for what it is worth; or CORRUPT. Called with the own lock alone; what was
    buried is on the retired list."""
    s: Swept
    idx: u64
    status: cython.int = OK
    memset(cython.address(s), 0, cython.sizeof(Swept))
    for idx in range(pools_high(w)):
        if status == OK:
            status = _sweep_one(w, idx, cython.address(s))
    return _judge(w, cython.address(s), status, NOMEM)


def sweep_owned(w, pool, seat):
    """A cap is reached: the same in one pool, or with a seat in all of its client. OK, MISS or
    CORRUPT."""
    s: Swept
    idx: u64
    status: cython.int = OK
    memset(cython.address(s), 0, cython.sizeof(Swept))
    for idx in range(pools_high(w)):
        if status == OK and (load(cython.address(pool_at(w, idx).seat)) == seat if seat != 0 else idx == pool):
            status = _sweep_one(w, idx, cython.address(s))
    return _judge(w, cython.address(s), status, MISS)

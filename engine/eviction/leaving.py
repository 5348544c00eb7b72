"""Owns which pages leave for a far tier: those that the policy would let go next.

Nothing marks them in the arena. There is one spiller, and what it has chosen stands in its own
memory, by handle and generation: so it dies with him, and a put over a page, or a hit, is seen when
the page is to become far (`engine/verbs/away.py`). They stay in their queues until then.
Each gets a new generation when it is far, which is drawn here: its name in the tier. So a name is
given once, to one try: what a tier is told to drop, of a page that came home or was wanted after
all, is never the name of what it has of that page since.
Where values are whole, a page leaves with all that is left of its value, in one batch (leavers.py);
of a value that is longer than a batch as many as that takes, and the rest in the next. A hit of one
of its pages keeps them all.
Locks: the worker's own, and the shard's; the bucket of a page of a value is tried.
Kill at any instruction: the policy moves on as it does for an eviction, a transaction a page.
"""
import cython
from cython.cimports.engine.eviction.evict import Guess, Value, lock_obj, looks, page_of, share_hits, value_of
from cython.cimports.engine.eviction.leaving import Leaving, Room
from cython.cimports.engine.eviction.policies import Policy, policy_of
from cython.cimports.engine.eviction.shares import ANY_SEAT, choose_among, pages_in
from cython.cimports.engine.layout.call import AGAIN, FAULT_POLICY, MISS, Choice
from cython.cimports.engine.layout.regions import (
    has_far,
    index_in,
    is_obj,
    may_lose,
    next_gen,
    page_at,
    pool_at,
    queue_at,
    shard_at,
)
from cython.cimports.engine.layout.structs import (
    FAR_STORED_MIN,
    PAMPD_SENTINEL,
    POOL_WHOLE,
    Obj,
    Pampd,
    Queue,
)
from cython.cimports.engine.layout.words import QUEUE_MAIN, copied_of, has_chunk, may_go, pool_in, prev_in, shard_in
from cython.cimports.engine.pages.queues import hits_of
from cython.cimports.libc.stdlib import qsort
from cython.cimports.shm.atomics import load
from cython.cimports.shm.journal import conclude
from cython.cimports.shm.layout import BUSY, FAULT_LOOP, OK, Worker, u64
from cython.cimports.shm.lock import lock_try, unlock
from cython.cimports.shm.memory import chunk_at

WALK_MAX = cython.declare(u64, 4096)        # pages that are walked over, those of one value as well
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


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _note(w: cython.pointer(Worker), o: cython.pointer(Obj), index: u64, d: cython.pointer(Pampd), shard: u64,
          out: cython.pointer(Leaving)) -> cython.void:
    i: u64
    for i in range(3):
        out.oid[i] = load(cython.address(o.oid[i]))
    out.index = index
    out.gen = load(cython.address(d.gen))
    out.name = next_gen(w)
    out.shape = load(cython.address(d.shape))
    out.shard = shard
    out.token = 0
    out.goes_on = False
    out.stale = False


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _leaves_with(page: cython.pointer(Pampd), pool: u64, shard: u64, value: cython.pointer(Value)) -> cython.bint:
    """True if a page of a value can leave with it: from a queue of the shard that is held, and of
    several pages also one that is short."""
    word: u64 = load(cython.address(page.queue))
    return (
        may_go(word)
        and shard_in(word) == shard
        and pool_in(word) == pool
        and has_chunk(page)
        and (value.pages > 1 or copied_of(page.shape) >= FAR_STORED_MIN)
    )


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _take_value(w: cython.pointer(Worker), o: cython.pointer(Obj), pool: u64, shard: u64, value: cython.pointer(Value),
                out: cython.pointer(Leaving), room: cython.pointer(Room), count: cython.pointer(u64)) -> cython.int:
    """Note the pages of a value, all of them, or as many as there is room for where there are no
    others. OK, or AGAIN: there is no room for them behind others. Its bucket is held."""
    page: cython.pointer(Pampd)
    i: u64
    pages: u64 = 0
    bytes: u64 = 0
    before: u64 = count[0]
    for i in range(value.pages):
        page = page_of(w, o, value.first + i)
        if page != cython.NULL and w.fault == 0 and _leaves_with(page, pool, shard, value):
            pages += 1
            bytes += copied_of(page.shape)
    if room.begun and (pages > room.pages or (pages > 1 and bytes > room.bytes)):
        return AGAIN
    for i in range(value.pages):
        page = page_of(w, o, value.first + i)
        if page == cython.NULL or w.fault != 0 or not _leaves_with(page, pool, shard, value):
            continue
        if room.pages == 0 or (value.pages > 1 and copied_of(page.shape) > room.bytes):
            break           # the rest is still in front of the queue when the next choice begins
        _note(w, o, value.first + i, page, shard, out + count[0])
        out[count[0]].goes_on = count[0] != before
        count[0] += 1
        room.pages -= 1
        room.bytes -= min(room.bytes, copied_of(page.shape))
        room.lack -= min(room.lack, copied_of(page.shape))
        room.begun = True
    return OK


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _take_whole(w: cython.pointer(Worker), d: cython.pointer(Pampd), pool: u64, shard: u64, last: cython.pointer(Value),
                out: cython.pointer(Leaving), room: cython.pointer(Room), count: cython.pointer(u64)) -> cython.int:
    """Note a page of a pool of whole values, and what goes with it; not if its bucket is taken.
    `last`: the value that was looked at last. OK, or AGAIN: there is no room for them behind
    others."""
    guess: Guess
    status: cython.int = lock_obj(w, d, pool, cython.address(guess))
    if status == BUSY:
        return OK
    if status == OK:
        value_of(w, guess.o, d, last)
        if w.fault != 0 or last.stays:
            pass
        elif last.hits != 0:
            share_hits(w, guess.o, d.queue, last)        # they get their other chance together
        else:
            status = _take_value(w, guess.o, pool, shard, last, out, room, count)
    unlock(w, cython.address(guess.b.lock))
    return AGAIN if status == AGAIN else OK


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _take(w: cython.pointer(Worker), off: u64, pool: u64, shard: u64, most: u64, out: cython.pointer(Leaving),
          room: cython.pointer(Room), count: cython.pointer(u64)) -> cython.int:
    """Note pages from one on, towards the newest of its queue, until there are so many. OK, AGAIN
    as _take_value, MISS (none, and some were passed over), or CORRUPT.

    What cannot leave, since it is short or has no chunk of its own, goes where memory is short; of
    a persistent pool it stays, and would be all that is ever looked at: others have their turn."""
    d: cython.pointer(Pampd)
    o: cython.pointer(Obj)
    last: Value
    newer: u64
    stays: cython.bint = not may_lose(pool_at(w, pool))
    spared: cython.bint = False
    whole: cython.bint = pool_at(w, pool).flags & POOL_WHOLE != 0
    steps: u64 = most * STEPS_A_PAGE
    walked: u64 = 0
    status: cython.int = OK
    last.pages = 0
    while (
        off != 0 and status == OK and count[0] < most and room.pages > 0 and room.lack > 0 and steps > 0
        and walked < WALK_MAX
    ):
        walked += 1
        d = page_at(w, off)
        if w.fault == 0 and not may_go(d.queue):
            w.fault = FAULT_LOOP
        if w.fault != 0:
            break
        o = cython.cast(cython.pointer(Obj), chunk_at(w, load(cython.address(d.obj))))
        w.fault = 0
        if whole and last.pages != 0 and d.obj == last.obj_off and index_in(o, d) - last.first < last.pages:
            off = prev_in(d.queue)
            continue                # of the value that was looked at
        steps -= 1
        newer = prev_in(d.queue)
        if is_obj(o.sentinel) and _may_leave(w, d, off):
            if whole:
                status = _take_whole(w, d, pool, shard, cython.address(last), out, room, count)
            else:
                _note(w, o, index_in(o, d), d, shard, out + count[0])
                room.lack -= min(room.lack, copied_of(out[count[0]].shape))
                count[0] += 1
                room.pages -= 1
                room.begun = True
        elif stays and d.sentinel == PAMPD_SENTINEL and hits_of(w, off) == 0:
            status = policy_of(pool_at(w, pool).policy).pass_over(w, queue_at(w, pool, shard), off)
            spared = True
        off = newer
    if w.fault != 0:
        return conclude(w)
    return MISS if status == OK and spared and count[0] == 0 else status


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _compare(one: cython.p_const_void, two: cython.p_const_void) -> cython.int:
    a: cython.pointer(Leaving) = cython.cast(cython.pointer(Leaving), one)
    b: cython.pointer(Leaving) = cython.cast(cython.pointer(Leaving), two)
    i: cython.int
    for i in range(3):
        if a.oid[i] != b.oid[i]:
            return -1 if a.oid[i] < b.oid[i] else 1
    return -1 if a.index < b.index else a.index > b.index


def sort_leaving(table, count):
    """Let pages of an object lie together, in the order of their indexes: who gets several of them
    from a disk has them with one read."""
    qsort(table, count, cython.sizeof(Leaving), _compare)


def choose_leaving(w, shard, out, most, room, skip, passed, pool, count):
    """Up to `most` pages of the pool whose turn it is to let one go in a shard, into `out`, in the
    order in which they would, but for the next `skip`: count[0] of them, none if that pool has no
    far tier, and pool[0]. Where values are whole, it may be more, as far as there is room. Pools of
    which a byte of `passed` is not 0 have no turn. OK, AGAIN (the value that comes next has no room
    behind those that are chosen), MISS (what was looked at has hits yet), BUSY or CORRUPT. Called
    with the own lock alone."""
    choice: Choice
    q: cython.pointer(Queue)
    policy: cython.pointer(Policy)
    off: u64
    steps: u64
    status: cython.int = OK
    count[0] = 0
    if pages_in(w, shard) == 0:
        return OK
    if lock_try(w, cython.address(shard_at(w, shard).lock)) != OK:
        return BUSY
    choose_among(w, shard, ANY_SEAT, passed, cython.address(choice))
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
            if status == OK and off == 0 and steps == 0:
                status = MISS
            elif status == OK:
                # Nothing of a persistent pool goes, however fast the puts are.
                off = _behind(w, q, choice.of, off, skip if may_lose(pool_at(w, pool[0])) else 0)
                status = _take(w, off, pool[0], shard, most, out, room, count)
    if w.fault != 0:
        status = conclude(w)
    unlock(w, cython.address(shard_at(w, shard).lock))
    return status

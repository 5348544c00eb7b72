"""Owns the queues of evictable pages: linking and unlinking a page, and the ghosts of pages evicted
of late.

A queue is a doubly linked list of page descriptors, newest first, three (small, main, far) a pool
and shard; of the policies only S3-FIFO uses the small one, whose younger half ends at a hand. The
far one is of pages whose bytes are in a far tier: those are no pages of the shard, whose count is
what goes for want of memory. Each page carries when it came to its place, in pages that came into
the shard. All links are journalled, under the shard's lock; ghosts are hints, written plainly.
Ghosts: an open-addressed table a shard of fingerprint << 32 | clock. An entry counts while fewer
than so many ghosts have been remembered after it, so it needs no queue of its own, and an old entry
is as good as a free place.
"""
import cython
from cython.cimports.engine.layout.regions import ghosts_offset, page_at, queue_at, shard_at
from cython.cimports.engine.layout.structs import (
    GEO_GHOSTS,
    GEO_POOLS,
    GEO_SHARDS,
    PAMPD_SENTINEL,
    ROOT_RETIRED,
    Pampd,
    Queue,
    Shard,
)
from cython.cimports.engine.layout.words import (
    QUEUE_FAR,
    QUEUE_LEFT,
    QUEUE_NONE,
    QUEUE_ORPHAN,
    QUEUE_PENDING,
    QUEUE_SMALL,
    SEASONED,
    age_link,
    copied_of,
    is_queued,
    older_in,
    pool_in,
    prev_in,
    shard_in,
    state_in,
    with_prev,
    with_state,
)
from cython.cimports.shm.atomics import load
from cython.cimports.shm.journal import conclude, store
from cython.cimports.shm.layout import BUSY, CORRUPT, FAULT_LOOP, OK, Worker, mark_of, set_mark, u64
from cython.cimports.shm.lock import lock_try, seq_begin, seq_same, unlock
from cython.cimports.shm.memory import back

PROBES = cython.declare(cython.int, 24)     # places a ghost may be in: three cache lines
SEASONED_MAX = cython.declare(cython.int, 2)        # pages that one push lets become older: each is journalled


@cython.cfunc
@cython.nogil
@cython.inline
@cython.exceptval(check=False)
def _head(q: cython.pointer(Queue), state: u64) -> cython.pointer(u64):
    """The word that names the newest page of a queue."""
    return cython.address(q.far_head) if state == QUEUE_FAR else cython.address(q.head[state - QUEUE_SMALL])


@cython.cfunc
@cython.nogil
@cython.inline
@cython.exceptval(check=False)
def _tail(q: cython.pointer(Queue), state: u64) -> cython.pointer(u64):
    """The word that names the oldest."""
    return cython.address(q.far_tail) if state == QUEUE_FAR else cython.address(q.tail[state - QUEUE_SMALL])


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _count(w: cython.pointer(Worker), q: cython.pointer(Queue), s: cython.pointer(Shard), state: u64,
           d: cython.pointer(Pampd), more: u64) -> cython.void:
    """A page has come into a queue, `more` is 1, or has left it: -1."""
    if state == QUEUE_FAR:
        store(w, cython.address(q.far_count), q.far_count + more)
        store(w, cython.address(q.far_bytes), q.far_bytes + more * copied_of(d.shape))
    else:
        store(w, cython.address(q.count[state - QUEUE_SMALL]), q.count[state - QUEUE_SMALL] + more)
        store(w, cython.address(s.pages), s.pages + more)


def push_newest(w, q, state, off):
    """Link a page as the newest of a queue: QUEUE_SMALL, QUEUE_MAIN or QUEUE_FAR."""
    d: cython.pointer(Pampd) = page_at(w, off)
    s: cython.pointer(Shard) = shard_at(w, shard_in(d.queue))
    newest: u64 = _head(q, state)[0]
    if newest != 0:
        store(w, cython.address(page_at(w, newest).queue), with_prev(page_at(w, newest).queue, off))
    else:
        store(w, _tail(q, state), off)
    store(w, cython.address(d.link), age_link(newest, s.turn))
    store(w, cython.address(d.queue), with_state(d.queue, 0, state))
    store(w, _head(q, state), off)
    _count(w, q, s, state, d, 1)
    if state == QUEUE_SMALL:
        _season(w, q, s, off)


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _season(w: cython.pointer(Worker), q: cython.pointer(Queue), s: cython.pointer(Shard), off: u64) -> cython.void:
    """A page has come into the small queue: let others become older than half of what that is to
    be, which is a twentieth of the shard. What hits a page had before tell nothing: who asks for a
    page once asks for it again at once."""
    old: cython.pointer(Pampd)
    young: u64 = q.young + 1
    hand: u64 = q.hand if q.hand != 0 else off
    i: cython.int
    for i in range(SEASONED_MAX):
        if young <= s.pages // 20 + 1 or hand == 0:
            break
        old = page_at(w, hand)
        if w.fault != 0:
            break
        set_mark(w, hand, 0)        # a hint: it may stay so where this is undone
        store(w, cython.address(old.queue), old.queue | SEASONED())
        hand = prev_in(old.queue)
        young -= 1
    store(w, cython.address(q.young), young)
    store(w, cython.address(q.hand), hand)


def dequeue(w, off):
    """Take a page out of the queue it is in; its state is QUEUE_LEFT afterwards."""
    d: cython.pointer(Pampd) = page_at(w, off)
    word: u64 = d.queue
    state: u64 = state_in(word)
    newer: u64 = prev_in(word)
    older: u64 = older_in(d.link)
    q: cython.pointer(Queue)
    s: cython.pointer(Shard)
    if (
        w.fault != 0
        or not is_queued(word)
        or shard_in(word) >= w.client_geometry[GEO_SHARDS]
        or pool_in(word) >= w.client_geometry[GEO_POOLS]
    ):
        w.fault = w.fault if w.fault else FAULT_LOOP
        return
    q = queue_at(w, pool_in(word), shard_in(word))
    s = shard_at(w, shard_in(word))
    if newer != 0:
        _point_at(w, newer, older)
    else:
        store(w, _head(q, state), older)
    if older != 0:
        store(w, cython.address(page_at(w, older).queue), with_prev(page_at(w, older).queue, newer))
    else:
        store(w, _tail(q, state), newer)
    if q.hand == off:
        store(w, cython.address(q.hand), newer)
    if state == QUEUE_SMALL and word & SEASONED() == 0:
        store(w, cython.address(q.young), q.young - 1)
    store(w, cython.address(d.queue), with_state(word, 0, QUEUE_LEFT))
    _count(w, q, s, state, d, -1)


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _point_at(w: cython.pointer(Worker), off: u64, older: u64) -> cython.void:
    """A queued page has another next older one; it is as old as it was."""
    d: cython.pointer(Pampd) = page_at(w, off)
    store(w, cython.address(d.link), age_link(older, d.link >> 37))


def hits_of(w, off):
    """Hits of a page in a queue; 0 of one that was retired, or lies nowhere, which sets the
    fault."""
    d: cython.pointer(Pampd) = page_at(w, off)
    return mark_of(w, off) if w.fault == 0 and d.sentinel == PAMPD_SENTINEL else 0


def renew(w, q, state, off, hits):
    """Make a page the newest of a queue, with so many hits left. One transaction."""
    dequeue(w, off)
    push_newest(w, q, state, off)
    if w.fault == 0:
        set_mark(w, off, hits)      # a hint: a reader's hit at this moment may be lost, and nothing is undone
    return conclude(w)


def rename(w, off, new):
    """A queued page's descriptor moves to another offset, where a copy of it is already: let its
    queue name that one."""
    d: cython.pointer(Pampd) = page_at(w, off)
    word: u64 = d.queue
    q: cython.pointer(Queue) = queue_at(w, pool_in(word), shard_in(word))
    newer: u64 = prev_in(word)
    older: cython.pointer(Pampd)
    if newer != 0:
        _point_at(w, newer, new)
    else:
        store(w, _head(q, state_in(word)), new)
    if older_in(d.link) != 0:
        older = page_at(w, older_in(d.link))
        store(w, cython.address(older.queue), with_prev(older.queue, new))
    else:
        store(w, _tail(q, state_in(word)), new)
    if q.hand == off:
        store(w, cython.address(q.hand), new)


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _has_left(d: cython.pointer(Pampd), s: cython.pointer(Shard)) -> cython.bint:
    """True if a page has left its queue for good: that is committed. Whoever has its shard may be
    about to put it back, as the newest or since his transaction is undone."""
    seen: u64 = seq_begin(cython.address(s.lock))
    return (
        seen & 1 == 0
        and state_in(load(cython.address(d.queue))) == QUEUE_LEFT
        and seq_same(cython.address(s.lock), seen)
    )


def leave_queue(w, off, orphaned):
    """A retired page is about to be given back: take it out of its queue, in a transaction of its
    own. OK, BUSY or CORRUPT.

    `orphaned`: it is on another worker's pending list, who gives it back; it is no longer the
    caller's."""
    d: cython.pointer(Pampd) = page_at(w, off)
    word: u64 = load(cython.address(d.queue))
    s: cython.pointer(Shard)
    status: cython.int
    orphaned[0] = False
    if state_in(word) == QUEUE_NONE:
        return OK
    if shard_in(word) >= w.client_geometry[GEO_SHARDS]:
        w.fault = FAULT_LOOP
        return CORRUPT
    s = shard_at(w, shard_in(word))
    if state_in(word) == QUEUE_LEFT and _has_left(d, s):
        return OK
    if lock_try(w, cython.address(s.lock)) != OK:
        return BUSY
    word = d.queue
    if state_in(word) == QUEUE_PENDING:
        store(w, cython.address(d.queue), with_state(word, 0, QUEUE_ORPHAN))
        store(w, cython.address(w.slot.client[ROOT_RETIRED]), d.obj)        # it headed the list
        orphaned[0] = True
    elif is_queued(word):
        dequeue(w, off)
    status = conclude(w)
    unlock(w, cython.address(s.lock))
    return status


# --- ghosts ---------------------------------------------------------------------------------------


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _ghosts(w: cython.pointer(Worker), shard: u64) -> cython.pointer(u64):
    """The ghosts of a shard, given memory at their first use; NULL if there is none to be had."""
    s: cython.pointer(Shard) = shard_at(w, shard)
    if s.ghosts == 0:
        if back(w, ghosts_offset(w, shard), w.client_geometry[GEO_GHOSTS] * 8) != OK:
            return cython.NULL
        s.ghosts = 1
    return cython.cast(cython.pointer(u64), w.base + ghosts_offset(w, shard))


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _age(s: cython.pointer(Shard), entry: u64) -> u64:
    """How many ghosts were remembered since this one; more than there can be, if it is none."""
    if entry == 0:
        return cython.cast(u64, 1) << 40
    return (s.clock - cython.cast(cython.uint, entry)) & 0x7FFFFFFF


def remember_ghost(w, shard, hash, pages):
    """A page of this hash, or a value of so many pages, was evicted from a small queue. What does
    not fit is forgotten, the oldest first."""
    table: cython.pointer(u64) = _ghosts(w, shard)
    s: cython.pointer(Shard) = shard_at(w, shard)
    room: u64 = w.client_geometry[GEO_GHOSTS]
    mark: u64 = hash << 32
    at: u64
    best: u64 = 0
    age: u64
    oldest: u64 = 0
    i: cython.int
    if table == cython.NULL:
        return
    s.clock = (s.clock + pages) & 0x7FFFFFFF
    for i in range(PROBES):
        at = ((hash >> 26) + i) & (room - 1)
        age = _age(s, table[at])
        if age > oldest:
            oldest = age
            best = at
            if age > room // 2:
                break
    table[best] = mark | s.clock


def recall_ghost(w, shard, hash, age, forget):
    """True if a page of this hash is among the ghosts of the last `age` pages of the shard; it is
    forgotten then, if that is asked for."""
    table: cython.pointer(u64)
    s: cython.pointer(Shard) = shard_at(w, shard)
    room: u64 = w.client_geometry[GEO_GHOSTS]
    at: u64
    i: cython.int
    if s.ghosts == 0:
        return False
    table = _ghosts(w, shard)
    for i in range(PROBES):
        at = ((hash >> 26) + i) & (room - 1)
        if table[at] >> 32 == cython.cast(cython.uint, hash) and _age(s, table[at]) < age:
            if forget:
                table[at] = 0
            return True
    return False

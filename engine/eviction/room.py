"""Owns getting chunks when there is no memory: what is tried in which order, and clearing a segment
for another class.

It happens before the locked section of a verb: the worker's own lock is held, and no other.
"""
import cython
from cython.cimports.engine.eviction.admit import settle_pending
from cython.cimports.engine.eviction.evict import evict_found
from cython.cimports.engine.eviction.merge import call_in, merge
from cython.cimports.engine.eviction.relieve import relieve
from cython.cimports.engine.eviction.shares import ANY_SEAT, choose, pages_in
from cython.cimports.engine.eviction.sweep import sweep_some
from cython.cimports.engine.eviction.window import close_window
from cython.cimports.engine.layout.call import AGAIN, Choice
from cython.cimports.engine.layout.regions import has_twins, page_at
from cython.cimports.engine.layout.structs import (
    GEO_SHARDS,
    OBJ_CLASS,
    OBJNODE_CLASS,
    PAMPD_CLASS,
    PAMPD_SENTINEL,
    ROOT_WRITTEN,
    Pampd,
    Twin,
)
from cython.cimports.engine.layout.words import is_same, is_twin
from cython.cimports.engine.pages.pins import collect, limbo_of
from cython.cimports.engine.pages.reclaim import drop_unwritten, reap
from cython.cimports.engine.tree.hostops import HostOps
from cython.cimports.shm.atomics import load
from cython.cimports.shm.layout import (
    BUSY,
    CLASS_COUNT,
    CORRUPT,
    EXTENT_CLASS,
    NOMEM,
    OK,
    Segment,
    Worker,
    offset_of,
    slot_at,
    slots_used,
    u64,
)
from cython.cimports.shm.memory import chunk_at, widen
from cython.cimports.shm.segments import chunk_start, limit_of, segment_of, slack
from cython.cimports.shm.slab import drain, ensure

EVICT_BATCH = cython.declare(u64, 8)          # pages that go at once when memory is short
# Turns in which pages go by their policy and their owners' shares, before a whole segment is
# cleared, whosever its pages are.
FAIR_TURNS = cython.declare(cython.int, 4)
PLAIN_TURNS = cython.declare(cython.int, 8)
REAP_STEPS = cython.declare(cython.int, 64)
# Where so much of the capacity lies free in other classes (a sixteenth), it is moved together
# first.
SLACK_SHIFT = cython.declare(u64, 4)


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _emptiest(w: cython.pointer(Worker)) -> u64:
    """Number + 1 of the segment of page chunks that has most free, if that is half of it or more;
    else 0."""
    number: u64
    cls: u64
    free: u64
    best: u64 = 0
    most: u64 = 0
    widen(w, 0)
    for number in range(w.seg_span >> w.seg_shift):
        # Read without the depot's lock, each word once: a hint. What is in use is found by who
        # clears the segment.
        cls = load(cython.address((w.segtable + number).cls)) - 1
        if cls < EXTENT_CLASS and cls != PAMPD_CLASS and cls != OBJ_CLASS:
            free = load(cython.address((w.segtable + number).free_count))
            if free * 2 >= w.class_chunks[cls] and free * w.class_bytes[cls] > most:
                most = free * w.class_bytes[cls]
                best = number + 1
    return best


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _bytes_at(w: cython.pointer(Worker), d: cython.pointer(Pampd)) -> u64:
    """Where the bytes of a page lie, without a lock: a hint. Its twin may be gone meanwhile, and be
    any other struct."""
    off: u64 = load(cython.address(d.data))
    if is_twin(load(cython.address(d.shape))):
        off = load(cython.address(cython.cast(cython.pointer(Twin), chunk_at(w, off)).data))
        w.fault = 0
    return off


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _oldest(w: cython.pointer(Worker), shard: u64, near: cython.pointer(u64)) -> u64:
    """Number + 1 of the segment that has the page of a shard which is worth least; 0: none. `near`
    gets the number of that with its descriptor."""
    off: u64
    choice: Choice
    if pages_in(w, shard) == 0:
        return 0
    choose(w, shard, ANY_SEAT, cython.address(choice))
    if choice.pool == 0:
        return 0
    off = _bytes_at(w, page_at(w, choice.off))
    chunk_at(w, off)
    if w.fault != 0:
        w.fault = 0
        return 0
    near[0] = segment_of(w, choice.off)
    return segment_of(w, off) + 1


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _clear(w: cython.pointer(Worker), target: u64, near: u64, host: HostOps) -> cython.int:
    """Evict what can be of a segment. Where its pages hang is not written in it: the descriptors of
    the arena are looked through, which is why pages go one segment at a time here and not one by
    one. Those of pages that came together lie together as a rule: `near` is where to begin."""
    number: u64
    i: u64
    n: u64
    segments: u64
    used: u64
    s: cython.pointer(Segment) = w.segtable + target
    at: cython.p_char
    d: cython.pointer(Pampd)
    gone: u64 = 0
    busy: cython.bint = False
    status: cython.int
    widen(w, 0)     # of segments, too, in which this process has touched nothing yet
    segments = w.seg_span >> w.seg_shift
    used = w.class_chunks[(load(cython.address(s.cls)) - 1) % CLASS_COUNT] - load(cython.address(s.free_count))
    for n in range(segments):
        number = (near + n) % segments
        if gone >= used:
            break
        if load(cython.address((w.segtable + number).cls)) != PAMPD_CLASS + 1:
            continue
        at = w.base + chunk_start(w, number, PAMPD_CLASS, 0)
        for i in range(w.class_chunks[PAMPD_CLASS]):
            d = cython.cast(cython.pointer(Pampd), at + i * w.class_bytes[PAMPD_CLASS])
            if (
                d.sentinel != PAMPD_SENTINEL
                or is_same(d.shape)
                or segment_of(w, _bytes_at(w, d)) != target
            ):
                continue
            status = evict_found(w, offset_of(w, d), host)
            if status == CORRUPT:
                return CORRUPT
            gone += status == OK
            busy = busy or status == BUSY
    if gone != 0:
        return OK
    return BUSY if busy else NOMEM


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _clear_segment(w: cython.pointer(Worker), first: u64, host: HostOps) -> cython.int:
    """Let all pages of one segment go, so that it can change its class: of one that is nearly
    empty, else of one with an old page. OK if a page went, NOMEM, BUSY or CORRUPT. Called with the
    own lock alone; what went is on the retired list."""
    shards: u64 = w.client_geometry[GEO_SHARDS]
    target: u64
    near: u64 = 0
    i: u64
    busy: cython.bint = False
    status: cython.int
    widen(w, 0)
    for i in range(shards + 1):
        # What is out of the emptiest one may lie in magazines, and then nothing of it can go.
        target = _emptiest(w) if i == 0 else _oldest(w, (first + i) & (shards - 1), cython.address(near))
        if target != 0:
            status = _clear(w, target - 1, near, host)
            if status == OK or status == CORRUPT:
                return status
            busy = busy or status == BUSY
    return BUSY if busy else NOMEM


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _skim(w: cython.pointer(Worker), begin: cython.int, end: cython.int) -> cython.int:
    """Have the next of the other workers, in turn, keep no more than a batch of each class from
    `begin` on, below `end`: who has had nothing to do for a while keeps what was a batch when there
    was more memory, or fewer workers. OK, NOMEM (it has no more than it may), BUSY or CORRUPT.
    Called with the own lock alone."""
    cls: cython.int
    status: cython.int = NOMEM
    w.skimmed = w.skimmed + 1 if w.skimmed + 1 < slots_used(w) else 0
    if w.skimmed == w.slot_idx:
        return NOMEM
    for cls in range(begin, end):
        if load(cython.address(slot_at(w, w.skimmed).mags[cls].count)) > 2 * w.class_batch[cls]:
            status = call_in(w, w.skimmed, cls, w.class_batch[cls])
            if status != OK:
                break
    return status


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _give_back(w: cython.pointer(Worker), cls: cython.int, want: u64) -> cython.int:
    """Give back what has gone until the worker has `want` chunks of a class; what is left of a
    large object that was dead, later calls give back. OK, NOMEM (that was all), BUSY or CORRUPT."""
    status: cython.int = AGAIN
    while status == AGAIN:
        status = reap(w, REAP_STEPS)
        if status == AGAIN and ensure(w, cls, want) == OK:
            return OK
    return ensure(w, cls, want) if status == OK else status


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _drain_others(w: cython.pointer(Worker), cls: cython.int, structs: cython.bint) -> cython.int:
    """Give the depot what this worker has at hand of classes other than this one, but for
    descriptors, which a put needs at once; and the other structs only if that is said. OK, BUSY or
    CORRUPT."""
    other: cython.int
    status: cython.int = OK
    for other in range(CLASS_COUNT):
        if other == cls or other == PAMPD_CLASS or not structs and (other == OBJ_CLASS or other == OBJNODE_CLASS):
            continue
        if status == OK:
            status = drain(w, cython.address(w.slot.mags[other]), other, 0)
    return status


def make_room(w, first, cls, want, host):
    """Let pages go until the worker has `want` chunks of a class, and some pages more: a full arena
    must not evict at every put.

    first: the shard to begin with. OK, NOMEM (there is nothing left that may go), BUSY or CORRUPT.
    Called with the own lock alone."""
    turn: cython.int = 0
    # Pages that go one by one leave no chunk while others have the same content.
    plain: cython.int = PLAIN_TURNS if has_twins(w) else FAIR_TURNS
    plenty: cython.bint
    status: cython.int = settle_pending(w, host)
    if status == OK and w.window_count != 0:
        status = close_window(w)        # of a put of a long page that an exception ended
    if status == OK:
        status = _skim(w, cls, cls + 1)
        if status == OK:
            status = ensure(w, cls, want)
        if status == OK or status == CORRUPT:
            return status
        status = OK
    if status == OK and (w.slot.client[ROOT_WRITTEN] != 0 or load(cython.address(limbo_of(w).unpinned)) != 0):
        # Before any page goes: what others have had a view on, and what was given up half written.
        drop_unwritten(w)
        status = collect(w, 0) if w.fault == 0 else CORRUPT
        if status == OK:
            status = _give_back(w, cls, want)
            if status != NOMEM:
                return status
            status = OK
    while status == OK:
        # First a segment that is nearly empty, or has a quarter to spare where much lies free. Then
        # what is dead. Then pages that go one by one leave chunks of their own class. If that is
        # not what is missing, a segment has to change its class: one that has a quarter to spare
        # (were it taken first, classes would take their slack from each other), else one whose
        # pages go, and what may not go is moved at the next turn. The oldest pages may have no
        # chunk to tell which (same-filled ones), or be on their way out: then more go.
        plenty = slack(w, cls) >= limit_of(w) << w.seg_shift >> SLACK_SHIFT
        status = merge(w, 1 if turn == 0 and not plenty else 3, host)
        if status == NOMEM:
            status = sweep_some(w)
            turn -= status == OK            # no page went that lives
        if status == NOMEM and turn >= plain:
            status = _clear_segment(w, first, host)
        if status == NOMEM:
            status = relieve(w, first, want if want > EVICT_BATCH else EVICT_BATCH, host)
        if status == NOMEM:
            status = merge(w, 4, host)       # nothing may go
        if status == NOMEM:
            # Not even a page is there any more, perhaps: what lies at hand may be all that keeps
            # the segments of other classes. Not objs and nodes: a put asks for both, and one would
            # go for the other for ever.
            status = _drain_others(w, cls, False)
            return ensure(w, cls, want) if status == OK else status
        if status != OK:
            return status
        status = _give_back(w, cls, want)
        if status != NOMEM:
            return status
        status = OK
        # It was the wrong class: what went is given back, for others to be moved there.
        if _skim(w, 0, CLASS_COUNT) == CORRUPT:
            status = CORRUPT
        if status == OK:
            status = _drain_others(w, cls, True)
        if status == OK:
            status = ensure(w, cls, want)
            if status != NOMEM:
                return status
            status = OK
        turn += 1
    return status

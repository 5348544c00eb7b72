"""Owns changing the capacity of a live arena: how much has to go, which segments are emptied for
it, in which order, and when to give up.

One at a time: who resizes holds the resize byte, which the kernel drops with the process. No lock
is held between the steps, and all of them may be killed: see shrink.py.
"""
import time

import cython
from cython.cimports.engine.capacity.compact import move_aside, sweep_segment, take_over
from cython.cimports.engine.capacity.giving import dug_as, is_hole_with_memory, relist
from cython.cimports.engine.eviction.move import Sweep
from cython.cimports.engine.eviction.relieve import relieve
from cython.cimports.engine.eviction.shares import unit_bytes
from cython.cimports.engine.layout.regions import pins_at
from cython.cimports.engine.layout.structs import (
    GEO_SHARDS,
    OBJ_CLASS,
    OBJNODE_CLASS,
    PAMPD_CLASS,
)
from cython.cimports.engine.member.member import Member
from cython.cimports.engine.member.registry import registry
from cython.cimports.engine.pages.pins import collect, pinned_at, pinned_bytes, pins_high
from cython.cimports.libc.stdlib import calloc, free
from cython.cimports.libc.string import memset
from cython.cimports.shm.atomics import load
from cython.cimports.shm.journal import kill_point
from cython.cimports.shm.kernel.grace import announce, note_phases, still_inside
from cython.cimports.shm.kernel.liveness import RESIZE_BYTE, byte_release, byte_try
from cython.cimports.shm.layout import (
    BUSY,
    CLASS_COUNT,
    CORRUPT,
    NOMEM,
    OK,
    SEG_LEAVING,
    SEG_PUNCHING,
    SEG_STAYS,
    Segment,
    Worker,
    slot_at,
    slots_used,
    u64,
)
from cython.cimports.shm.lock import lock_try, unlock
from cython.cimports.shm.segments import limit_of, segment_of
from cython.cimports.shm.shrink import begin_punch, dig_one, end_punch, set_leaving, set_limit, too_many
from engine.errors import ArenaBusy, TmemError
from engine.member.stats import fixed_bytes

PATIENCE_S = 30.0       # without any progress
EVICT_MOST = cython.declare(u64, 256)       # pages that go before other threads and signal handlers have their turns
CENSUS_MOST = cython.declare(u64, 4096)     # segments that are looked at, likewise
GATHERED_MAX = 8        # rounds without any progress, before holes may lie anywhere
REFUSALS_MAX = 50       # times in a row that nothing could go
# The system may keep a part of a huge page that is in use just then, and only zero it: it is
# punched again, for so long without any progress.
PUNCH_S = 1.0
PUNCH_PAUSE_S = 0.0005
PUNCH_PAUSE_MAX_S = 0.1


def run(engine: Member, segments):
    """Let so many segments have memory. See Engine.resize."""
    w: cython.pointer(Worker) = cython.address(engine.att.w)
    deadline = time.monotonic() + PATIENCE_S
    me: u64
    engine.recover_dead()
    engine.att.enter()
    me = w.id           # a forked child has another, and neither the byte nor a resize of its own
    try:
        if engine.resizing == me:
            raise ArenaBusy(f"arena {engine.name!r} is being resized by this very engine")
        engine.resizing = me
        try:
            while byte_try(w, RESIZE_BYTE()) != OK:
                if w.lost:
                    engine.att.lose()
                if time.monotonic() > deadline:
                    raise ArenaBusy(f"arena {engine.name!r}: somebody else has been resizing it for {PATIENCE_S:.0f} s")
                _rest(engine, 0.001)
            _resize(engine, segments)
        finally:
            if engine.att.is_mine() and w.id == me:
                byte_release(w, RESIZE_BYTE())
                engine.resizing = 0
    finally:
        engine.att.leave()


def _rest(engine: Member, seconds):
    """Sleep a little with nothing held. TmemError in a child that a signal handler has forked
    meanwhile."""
    epoch: cython.int = engine.att.epoch
    engine.att.rest(seconds)
    engine.refuse_fork(epoch)


def _breathe(engine: Member):
    epoch: cython.int = engine.att.epoch
    engine.att.breathe()
    engine.refuse_fork(epoch)


def _resize(engine: Member, segments):
    w: cython.pointer(Worker) = cython.address(engine.att.w)
    before: u64 = limit_of(w)
    # Of a resize that was killed.
    _let_stay(engine)
    if segments < before or too_many(w) != 0:
        _refuse_less_than_needed(engine, segments)
    _until_free(engine, lambda: set_limit(w, segments))
    kill_point(w)
    me: u64 = w.id
    try:
        _empty(engine)
    except BaseException:
        if engine.att.is_mine() and w.id == me:
            _let_stay(engine)
            _until_free(engine, lambda: set_limit(w, max(segments, before)))
        raise
    _give_up_holes(engine, "its capacity has changed")


def _until_free(engine: Member, step):
    """Run a step again while a lock is in its way. Its status, OK or NOMEM; raises for any
    other."""
    status: cython.int
    epoch: cython.int = engine.att.epoch
    while True:
        status = step()
        if status == OK or status == NOMEM:
            return status
        if status != BUSY:
            engine.raise_status(status)
        engine.att.pause()
        engine.refuse_fork(epoch)


def _segment_bytes(engine: Member):
    return 1 << engine.att.w.seg_shift


def _refuse_less_than_needed(engine: Member, segments):
    """TmemError if pages that may not go take more than so many segments."""
    w: cython.pointer(Worker) = cython.address(engine.att.w)
    need = fixed_bytes(engine)
    if need > segments << w.seg_shift:
        raise TmemError(f"capacity: persistent pages of arena {engine.name!r} need {need} bytes, "
                        f"and {segments << w.seg_shift} would be left")


# --- emptying segments ----------------------------------------------------------------------------


def _empty(engine: Member):
    """Bring the number of segments with memory down to the limit."""
    w: cython.pointer(Worker) = cython.address(engine.att.w)
    fewest = too_many(w)
    shortest = 1 << 62
    refusals = 0
    rounds = 0              # without any progress
    deadline = time.monotonic() + PATIENCE_S
    while True:
        _collect(engine)
        _dig(engine, limit_of(w) if rounds < GATHERED_MAX else 0)
        now = too_many(w)
        if now == 0:
            return
        rounds += 1
        if now < fewest:
            fewest = now
            rounds = 0
            deadline = time.monotonic() + PATIENCE_S
        if time.monotonic() > deadline:
            raise ArenaBusy(
                f"arena {engine.name!r}: {now} segments could not be emptied in {PATIENCE_S:.0f} s: "
                "somebody has views of what is in them, or is stopped in a call, or an object is too large to be moved"
            )
        short = _choose(engine, now, False)
        if short >= shortest:
            # Others put as fast as pages go: what is to be emptied must be closed to them first.
            short = _choose(engine, now, True)
        shortest = short or shortest
        if (_evict(engine, min(short, w.seg_total)) if short else _sweep(engine)) == OK:
            refusals = 0
        else:
            # Others may have taken the chunks that were counted on, or have pages on their way into
            # a queue: choose anew.
            refusals += 1
            if refusals > REFUSALS_MAX:
                raise TmemError(
                    f"capacity: pages of arena {engine.name!r} that may not go, or are viewed, "
                    "leave no room for so little"
                )
            _let_stay(engine)
            _rest(engine, 0.001)
        _breathe(engine)


def _dig(engine: Member, lowest: u64):
    """Make free segments holes while too many have memory, the last first, down to a place of the
    table."""
    w: cython.pointer(Worker) = cython.address(engine.att.w)
    s: cython.pointer(Segment)
    number: u64
    for number in range(min(w.depot.seg_high, w.seg_total), lowest, -1):
        s = w.segtable + (number - 1)
        if too_many(w) == 0:
            break
        if load(cython.address(s.cls)) == 0 and load(cython.address(s.state)) == SEG_STAYS:
            _until_free(engine, lambda number=number: dig_one(w, number))
            _breathe(engine)


def _collect(engine: Member):
    """Bring home what workers keep in magazines and lists, as far as they are not in the middle of
    something."""
    w: cython.pointer(Worker) = cython.address(engine.att.w)
    idx: u64
    status: cython.int
    engine.att.recover_quick()
    for idx in range(slots_used(w)):
        if idx != w.slot_idx:
            status = take_over(w, idx)
            if status == CORRUPT:
                engine.raise_status(status)
    _until_free(engine, lambda: _collect_limbo(engine))
    engine.settle()
    _until_free(engine, lambda: take_over(w, w.slot_idx))


def _collect_limbo(engine: Member):
    w: cython.pointer(Worker) = cython.address(engine.att.w)
    status: cython.int
    if lock_try(w, cython.address(w.slot.own)) != OK:
        return BUSY
    status = collect(w, 0)
    unlock(w, cython.address(w.slot.own))
    return status


def _census(engine: Member):
    """Of every class its segments, as (stays if it can, chunks in use, -number, leaves); and how
    many segments are free, of those that may keep their memory.

    Those in front stay if they can: holes that lie apart would be in the way of every long page."""
    w: cython.pointer(Worker) = cython.address(engine.att.w)
    s: cython.pointer(Segment)
    number: u64
    cls: u64
    used: u64
    free = 0
    out = {}
    for number in range(min(w.depot.seg_high, w.seg_total)):
        if number % CENSUS_MOST == CENSUS_MOST - 1:
            _breathe(engine)
        s = w.segtable + number
        cls = load(cython.address(s.cls)) - 1
        if cls < CLASS_COUNT:
            used = w.class_chunks[cls] - load(cython.address(s.free_count))
            place: cython.longlong = number
            leaves: cython.bint = load(cython.address(s.state)) == SEG_LEAVING
            out.setdefault(cls, []).append((number < limit_of(w), used, -place, leaves))
        elif cls + 1 == 0 and load(cython.address(s.state)) == SEG_STAYS:
            free += number < limit_of(w)
    return out, free


def _choose(engine: Member, count, force):
    """Let segments leave until `count` do: the last ones, and of these those with least in them, of
    classes that can spare one, or find a free one. 0, or how many segments' worth of pages would
    have to be evicted first. With `force` that many leave too, of those with pages in them."""
    w: cython.pointer(Worker) = cython.address(engine.att.w)
    viewed = _viewed_segments(engine)
    candidates = []
    others = []
    classes, free = _census(engine)
    for cls, segments in classes.items():
        used = sum(n for _, n, _, _ in segments)
        leaving = sum(leaves for _, _, _, leaves in segments)
        count -= leaving
        spare = max(len(segments) - leaving - -(-used // w.class_chunks[cls]), 0)
        staying = sorted(entry for entry in segments if not entry[3] and -entry[2] not in viewed)
        weighed = [(front, n * w.class_bytes[cls], number) for front, n, number, _ in staying]
        candidates += weighed[:spare]
        if cls not in (PAMPD_CLASS, OBJ_CLASS, OBJNODE_CLASS):
            others += weighed[spare:]
    candidates = sorted(candidates) + (sorted(others) if force else sorted(others)[:free])
    if count > len(candidates):
        return count - len(candidates)
    for _, _, number in candidates[:max(count, 0)]:
        _until_free(engine, lambda number=-number + 1: set_leaving(w, number, True))
    return 0


def _viewed_segments(engine: Member):
    """Numbers of the segments that have pinned chunks: they cannot be emptied. Any that is to be
    stays for now."""
    w: cython.pointer(Worker) = cython.address(engine.att.w)
    i: u64
    j: u64
    segment: u64
    last: u64
    word: u64
    found = set()
    for i in range(slots_used(w)):
        for j in range(pins_high(slot_at(w, i))):
            word = load(cython.address(pins_at(w, i)[j]))
            if word == 0:
                continue
            last = segment_of(w, pinned_at(word) + pinned_bytes(w, word) - 1)
            for segment in range(segment_of(w, pinned_at(word)), min(last, w.seg_total - 1) + 1):
                found.add(segment)
    for number in found:
        _until_free(engine, lambda number=number: set_leaving(w, number + 1, False))
    return found


def _let_stay(engine: Member):
    """Undo what was begun with segments and not ended."""
    w: cython.pointer(Worker) = cython.address(engine.att.w)
    number: u64
    punched: list = []
    for number in range(min(w.depot.seg_high, w.seg_total)):
        if load(cython.address((w.segtable + number).state)) == SEG_LEAVING:
            _until_free(engine, lambda number=number + 1: set_leaving(w, number, False))
        elif load(cython.address((w.segtable + number).state)) == SEG_PUNCHING:
            punched.append(number)
    relist(engine, punched)


def _evict(engine: Member, segments):
    """Let about so many segments' worth of pages go, the same from every shard. OK, or NOMEM: none
    can."""
    w: cython.pointer(Worker) = cython.address(engine.att.w)
    shards: u64 = w.client_geometry[GEO_SHARDS]
    shard: u64
    # No shorter than the arena's: pages that share a chunk with others leave nothing, and all would
    # go.
    length: u64 = max(unit_bytes(w), cython.cast(u64, engine.page_size))
    pages: u64 = max(1, segments * _segment_bytes(engine) // length // shards)
    left: u64
    if engine.sweep() != 0:
        return OK           # what is dead, before any page that lives
    gone = False
    for shard in range(shards):
        left = pages
        while left != 0:
            most = min(left, EVICT_MOST)
            if _until_free(engine, lambda shard=shard, most=most: _evict_some(engine, shard, most)) != OK:
                break
            left -= most
            gone = True
            engine.settle()
            _breathe(engine)
    return OK if gone else NOMEM


def _evict_some(engine: Member, shard: u64, pages: u64):
    w: cython.pointer(Worker) = cython.address(engine.att.w)
    status: cython.int
    if lock_try(w, cython.address(w.slot.own)) != OK:
        return BUSY
    status = relieve(w, shard, pages, registry.host)
    unlock(w, cython.address(w.slot.own))
    return status


def _sweep(engine: Member):
    """Move what can be moved out of segments that leave. OK or NOMEM."""
    w: cython.pointer(Worker) = cython.address(engine.att.w)
    number: u64
    result: Sweep
    memset(cython.address(result), 0, cython.sizeof(Sweep))
    for number in range(min(w.depot.seg_high, w.seg_total)):
        if _until_free(engine, lambda n=number: sweep_segment(w, n, cython.address(result), registry.host)) == NOMEM:
            return NOMEM
        engine.settle()
        _breathe(engine)
    if result.moved == 0 and result.homeless != 0:
        off: u64 = result.homeless
        length: u64 = result.homeless_bytes
        return _until_free(engine, lambda: move_aside(w, off, length, registry.host))
    if result.moved == 0 and result.poor != 0:
        # A full file system has no memory for a journal as long as an object: unless it comes from
        # here.
        _give_up_holes(engine, "it is being changed")
    if result.moved == 0 and result.busy != 0:
        _rest(engine, 0.001)    # all that is left is in use by others
    return OK


# --- giving memory back ---------------------------------------------------------------------------


def _give_up_holes(engine: Member, state):
    """Give the memory of all holes back to the system, once nobody can be reading there any more.
    `state`: what an error says of the arena."""
    w: cython.pointer(Worker) = cython.address(engine.att.w)
    phases: cython.pointer(u64)
    inside: u64
    n: u64
    # Before the grace period: what becomes a hole meanwhile may still be read.
    holes = [(n, dug_as(w, n)) for n in range(min(w.depot.seg_high, w.seg_total)) if is_hole_with_memory(w, n)]
    if not holes:
        return
    if announce() != OK:
        raise TmemError(f"arena {engine.name!r}: {state}, but memory cannot be given back: no membarrier here")
    phases = cython.cast(cython.pointer(u64), calloc(w.max_workers, 8))
    if phases == cython.NULL:
        raise MemoryError
    try:
        deadline = time.monotonic() + PATIENCE_S
        note_phases(w, phases)
        while True:
            inside = still_inside(w, phases)
            if inside == 0:
                break
            if time.monotonic() > deadline:
                raise ArenaBusy(
                    f"arena {engine.name!r}: {state}, but memory cannot be given back: process "
                    f"{slot_at(w, inside - 1).pid} has been in one call for {PATIENCE_S:.0f} s"
                )
            _rest(engine, 0.0005)
    finally:
        free(phases)
    _punch(engine, holes)


def _punch(engine: Member, left):
    """Punch these holes, pairs of the number and how often it has become one. Those that keep
    memory are punched again after a pause, twice as long each time: others may be mapping other
    parts of the same huge page, and the system cannot take it apart as long as they do."""
    w: cython.pointer(Worker) = cython.address(engine.att.w)
    pause = PUNCH_PAUSE_S
    deadline = time.monotonic() + PUNCH_S
    while left:
        for n, dug in left:
            _until_free(engine, lambda number=n + 1, dug=dug: begin_punch(w, number, dug))
            kill_point(w)
            _until_free(engine, lambda number=n + 1: end_punch(w, number))
            _breathe(engine)
        before = len(left)
        left = [(n, dug) for n, dug in left if is_hole_with_memory(w, n)]
        if len(left) < before:
            deadline = time.monotonic() + PUNCH_S
        if left:
            if time.monotonic() > deadline:
                return
            _rest(engine, pause)
            pause = min(2 * pause, PUNCH_PAUSE_MAX_S)

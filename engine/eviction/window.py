"""Owns making room for an extent when there is no place for it: a window of neighbouring segments
is emptied.

First pages go by their policy and their owners' shares, until as many bytes are free as the extent
takes; then the window with least in it is chosen, and what is left in it is moved to where those
pages were. So what goes is what is worth least, wherever it lies, and not whatever lies in the
window. From the choice on the window is this worker's: what becomes empty of it is nobody else's.
The worker's own lock is held, and no other. Lock order: own, another worker's own, which is only
tried, the depot's; then what a move takes (move.py).
Kill at any instruction: segments that are wanted by a dead worker stay again when it is recovered.
Rejected: to evict whatever lies in the window (a window of a cache that works is as good as its
average page); to move without evicting first (there is nowhere to move to).
"""
import cython
from cython.cimports.engine.eviction.admit import settle_pending
from cython.cimports.engine.eviction.merge import call_all_in, merge, others_inside
from cython.cimports.engine.eviction.move import SPARING, Sweep, give_back_leaving, rehouse, sweep
from cython.cimports.engine.eviction.relieve import relieve
from cython.cimports.engine.eviction.sweep import sweep_some
from cython.cimports.engine.eviction.window import FAILED_MAX, Tried
from cython.cimports.engine.layout.call import AGAIN
from cython.cimports.engine.layout.regions import pins_at
from cython.cimports.engine.layout.structs import OBJ_CLASS, OBJNODE_CLASS, PAMPD_CLASS
from cython.cimports.engine.pages.pins import collect, limbo_of, pinned_at, pinned_bytes, pins_high
from cython.cimports.engine.pages.reclaim import drop_unwritten, reap
from cython.cimports.engine.tree.hostops import HostOps
from cython.cimports.libc.stdlib import calloc, free
from cython.cimports.libc.string import memset
from cython.cimports.shm.atomics import load
from cython.cimports.shm.extent import ensure_extent, granule_bits, granules_of
from cython.cimports.shm.layout import (
    BUSY,
    CLASS_COUNT,
    CORRUPT,
    EXTENT_CLASS,
    GRANULE_SHIFT,
    NOMEM,
    OK,
    SEG_LEAVING,
    SEG_STAYS,
    Segment,
    Worker,
    slot_at,
    slots_used,
    u64,
)
from cython.cimports.shm.memory import widen
from cython.cimports.shm.segments import has_memory, limit_of, segment_of, spare, warm
from cython.cimports.shm.shrink import unwant, want

# Bytes of page that a byte of a struct counts as: it is slower to move, and much more so where
# there is no place for it.
STRUCT_COST = cython.declare(u64, 4)
NO_PLACE_COST = cython.declare(u64, 64)
INFINITE = cython.declare(u64, 1 << 60)
WAITS_MAX = cython.declare(u64, 20)     # for others in a row, before a put is refused
WAITS_MORE = cython.declare(u64, 4)     # after that, by each of the next puts: who is stopped holds up none for long
SWEEPS_MAX = cython.declare(cython.int, 3)      # through one window, as what is in use just then is left
HOMELESS_MAX = cython.declare(cython.int, 32)   # sweeps, if long pages that may not go are moved aside in between
REAP_STEPS = cython.declare(cython.int, 64)
ROUNDS_MAX = cython.declare(cython.int, 4096)   # in which pages go, for one extent
PAGES_MAX = cython.declare(u64, 1024)           # that go in one round
FEW = cython.declare(u64, 8)            # that go in a round, before it is looked whether one has left a place
# Pages that go in a round are guessed to be so long, 1 << it, at first and at least.
GUESS_FIRST = cython.declare(u64, 16)
GUESS_LEAST = cython.declare(u64, 12)
# A part more than the extent takes is made free: what is moved does not fit as closely elsewhere.
MARGIN_SHIFT = cython.declare(u64, 4)


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _free_bytes(w: cython.pointer(Worker)) -> u64:
    """Bytes that are free, in whatever pieces, or may get memory. Without the depot's lock, each
    word read once: a hint."""
    used: u64 = load(cython.address(w.depot.seg_used))
    sum: u64 = (limit_of(w) - used) << w.seg_shift if used < limit_of(w) else 0
    cls: cython.int
    for cls in range(CLASS_COUNT):
        sum += load(cython.address(w.depot.class_free[cls])) * w.class_bytes[cls]
    return sum


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _reap_all(w: cython.pointer(Worker)) -> cython.int:
    status: cython.int = AGAIN
    while status == AGAIN:
        status = reap(w, REAP_STEPS)
    return status


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _let_go(w: cython.pointer(Worker), first: u64, length: u64, windows: u64, host: HostOps) -> cython.int:
    """Let pages go until as much is free as the extent takes, and more the more windows could not
    be emptied: what lay there found no place. OK with the extent, if one of those that went has
    left a place; NOMEM (a window is to be emptied), BUSY or CORRUPT."""
    goal: u64 = granules_of(w, length) << granule_bits(w)
    guess: u64 = GUESS_FIRST
    round: cython.int
    pages: u64
    left: u64
    now: u64
    status: cython.int = NOMEM
    goal += (goal >> MARGIN_SHIFT) + windows // 2 * (goal >> 1)
    for round in range(ROUNDS_MAX):
        now = _free_bytes(w)
        if now >= goal:
            break
        left = goal - now
        pages = (left >> guess) + 1
        status = relieve(w, first + round, pages if pages < PAGES_MAX else PAGES_MAX, host)
        if status == OK:
            status = _reap_all(w)
        if status != OK:
            break           # nothing more may go, or something is in the way
        status = NOMEM
        if pages <= FEW or guess == GUESS_FIRST:
            # So they may be long ones.
            status = ensure_extent(w, length)
            if status != NOMEM:
                break
        if _free_bytes(w) < now + (left >> 3) and guess > GUESS_LEAST:
            guess -= 1
    return status


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _note_stuck(w: cython.pointer(Worker), tried: cython.pointer(Tried), number: u64) -> cython.void:
    """Remember that a segment cannot be emptied. Without memory for the note it is tried again."""
    if tried.stuck == cython.NULL:
        tried.stuck = cython.cast(cython.pointer(cython.uchar), calloc(w.seg_total, 1))
    if tried.stuck != cython.NULL:
        tried.stuck[number] = 1


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _note_pinned(w: cython.pointer(Worker), tried: cython.pointer(Tried)) -> cython.void:
    """Which segments have something that somebody looks at."""
    i: u64
    j: u64
    word: u64
    number: u64
    last: u64
    for i in range(slots_used(w)):
        for j in range(pins_high(slot_at(w, i))):
            word = load(cython.address(pins_at(w, i)[j]))
            if word == 0:
                continue
            last = segment_of(w, pinned_at(word) + pinned_bytes(w, word) - 1)
            for number in range(segment_of(w, pinned_at(word)), (last if last < w.seg_total else w.seg_total - 1) + 1):
                _note_stuck(w, tried, number)


@cython.cfunc
@cython.nogil
@cython.inline
@cython.exceptval(check=False)
def _is_struct(cls: u64) -> cython.bint:
    return cls == PAMPD_CLASS or cls == OBJ_CLASS or cls == OBJNODE_CLASS


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _has_place(w: cython.pointer(Worker), cls: u64, used: u64, free: u64) -> cython.bint:
    """True if so many bytes of structs fit into what is free of their class elsewhere. `free`:
    chunks of the segment itself."""
    return used <= (load(cython.address(w.depot.class_free[cls])) - free) * w.class_bytes[cls]


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _make_place(w: cython.pointer(Worker), host: HostOps) -> cython.int:
    """Have a free segment for the structs of the window, if they do not fit elsewhere: pages that
    go leave few of them free. OK (also if there is none to be had), BUSY or CORRUPT."""
    s: cython.pointer(Segment)
    number: u64
    cls: u64
    free: u64
    status: cython.int
    for number in range(w.window_first, w.window_first + w.window_count):
        s = w.segtable + number
        cls = load(cython.address(s.cls)) - 1
        free = load(cython.address(s.free_count))
        if (_is_struct(cls) and load(cython.address(w.depot.free_head)) == 0
                and not _has_place(w, cls, (w.class_chunks[cls] - free) * w.class_bytes[cls], free)):
            status = merge(w, 4, host)
            return OK if status == NOMEM else status
    return OK


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _cost(w: cython.pointer(Worker), number: u64, tried: cython.pointer(Tried)) -> u64:
    """What it costs to empty a segment, about in bytes that are to be moved. A struct costs more
    than its bytes, and so does an extent, of which other parts lie elsewhere."""
    s: cython.pointer(Segment) = w.segtable + number
    cls: u64 = load(cython.address(s.cls)) - 1
    state: u64 = load(cython.address(s.state))
    free: u64 = load(cython.address(s.free_count))
    used: u64
    if tried.stuck != cython.NULL and tried.stuck[number] != 0:
        return INFINITE
    if not has_memory(w, number):
        return 0
    if state == SEG_LEAVING and not tried.inner and load(cython.address(s.wanted)) == w.slot_idx + 1:
        return 0
    if state != SEG_STAYS:
        return INFINITE
    if cls >= CLASS_COUNT:
        return 0
    used = (w.class_chunks[cls] - free) * w.class_bytes[cls] if free <= w.class_chunks[cls] else 0
    if _is_struct(cls):
        return STRUCT_COST * used if _has_place(w, cls, used, free) else NO_PLACE_COST * used
    return 2 * used if cls == EXTENT_CLASS else used


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _choose(w: cython.pointer(Worker), count: u64, tried: cython.pointer(Tried)) -> u64:
    """The first of so many segments that follow one another and have least in them; INFINITE: there
    are none. A hint, as in merge.py."""
    left: u64 = spare(w)    # segments that may get memory
    number: u64
    begin: u64 = 0
    sum: u64 = 0
    bare: u64 = 0
    cost: u64
    best: u64 = INFINITE
    least: u64 = INFINITE
    for number in range(w.seg_total):
        cost = _cost(w, number, tried)
        bare += not has_memory(w, number)
        sum += cost
        if cost == INFINITE:
            begin = number + 1
            sum = bare = 0
            continue
        if number + 1 - begin > count or bare > left:
            sum -= _cost(w, begin, tried)
            bare -= not has_memory(w, begin)
            begin += 1
        if number + 1 - begin == count and sum < least and bare <= left:
            least = sum
            best = begin
        if number >= load(cython.address(w.depot.seg_high)) + count:
            break
    return best


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _sweep(w: cython.pointer(Worker), result: cython.pointer(Sweep), host: HostOps) -> cython.int:
    """Move what lies in the window, as far as it can be moved now: its structs, then the bytes of
    pages, which their descriptors name wherever those are. OK, BUSY or CORRUPT."""
    number: u64
    end: u64 = w.window_first + w.window_count
    cls: u64
    seen: u64 = 0               # classes of the window
    i: cython.int
    status: cython.int = OK
    memset(result, 0, cython.sizeof(Sweep))
    for number in range(w.window_first, end):
        cls = load(cython.address((w.segtable + number).cls)) - 1
        if cls < CLASS_COUNT:
            seen |= cython.cast(u64, 1) << cls
    for i in range(CLASS_COUNT):
        if seen >> i & 1 and status == OK:
            status = call_all_in(w, i)
    if status == OK:
        status = _make_place(w, host)
    for number in range(w.window_first, end):
        if status == OK:
            status = sweep(w, number, SPARING, result, host)
            status = OK if status == NOMEM else status
    widen(w, 0)
    for number in range(w.seg_span >> w.seg_shift):
        if (status == OK and load(cython.address((w.segtable + number).cls)) == PAMPD_CLASS + 1
                and number - w.window_first >= w.window_count):
            status = sweep(w, number, SPARING, result, host)
            status = OK if status == NOMEM else status
    for i in range(CLASS_COUNT):
        if seen >> i & 1 and status == OK:
            status = give_back_leaving(w, i)
    return _reap_all(w) if status == OK else status


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _is_empty(w: cython.pointer(Worker)) -> cython.bint:
    number: u64
    for number in range(w.window_first, w.window_first + w.window_count):
        if number < load(cython.address(w.depot.seg_high)) and load(cython.address((w.segtable + number).cls)) != 0:
            return False
    return True


def close_window(w):
    """Let all that this worker wants stay. OK, BUSY or CORRUPT. Called with the own lock."""
    status: cython.int = OK
    if w.window_count != 0:
        status = unwant(w, 0, load(cython.address(w.depot.seg_high)))
        if status == OK:
            w.window_count = 0
    return status


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _clear_the_way(w: cython.pointer(Worker), result: cython.pointer(Sweep), tried: cython.pointer(Tried),
                   host: HostOps) -> cython.int:
    """Find another place for a long page that may not go, and is in the way of the window: a window
    of its own is emptied for it. OK, NOMEM, BUSY or CORRUPT."""
    first: u64 = w.window_first
    count: u64 = w.window_count
    other: Sweep
    inner: Tried
    status: cython.int = NOMEM
    memset(cython.address(inner), 0, cython.sizeof(Tried))
    inner.stuck = tried.stuck
    inner.inner = True
    w.window_count = (granules_of(w, result.homeless_bytes) + 63) >> GRANULE_SHIFT
    w.window_first = _choose(w, w.window_count, cython.address(inner))
    if w.window_first != INFINITE:
        warm(w, w.window_first, w.window_first + w.window_count)
        status = want(w, w.window_first, w.window_count)
        if status == OK:
            status = _sweep(w, cython.address(other), host)
        if status == OK:
            w.extent_hint = w.window_first
            w.window_ready = _is_empty(w)
            status = ensure_extent(w, result.homeless_bytes)
            w.window_ready = False
        if status == OK:
            status = rehouse(w, result.homeless)
    w.window_first = first
    w.window_count = count
    return status


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _sweep_out(w: cython.pointer(Worker), tried: cython.pointer(Tried), host: HostOps) -> cython.int:
    """Empty the window, as far as it can be. OK, BUSY or CORRUPT."""
    result: Sweep
    turn: cython.int = 0
    status: cython.int = OK
    while status == OK and turn < SWEEPS_MAX and not _is_empty(w):
        status = _sweep(w, cython.address(result), host)
        turn += 1
        while status == OK and result.homeless != 0 and turn < HOMELESS_MAX:
            # One at a time: another sweep finds the next.
            status = _clear_the_way(w, cython.address(result), tried, host)
            if status != OK:
                break
            status = _sweep(w, cython.address(result), host)
            turn += 1
        status = OK if status == NOMEM else status
    return status


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _may_wait(w: cython.pointer(Worker)) -> cython.bint:
    """True if somebody else is in a call: what he has in his hands just now, or in his magazines,
    can be had when it ends. Not for ever."""
    if w.window_waited >= WAITS_MAX or not others_inside(w):
        return False
    w.window_waited += 1
    return True


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _empty(w: cython.pointer(Worker), length: u64, tried: cython.pointer(Tried), host: HostOps) -> cython.int:
    """Choose a window, or go on with this worker's, and empty it. OK with the extent, NOMEM (this
    window cannot be emptied; or `tried.windows` is FAILED_MAX: there is none), BUSY or CORRUPT."""
    number: u64
    status: cython.int = OK
    count: u64 = (granules_of(w, length) + 63) >> GRANULE_SHIFT
    if w.window_count == 0:
        w.window_first = _choose(w, count, tried)
        if w.window_first == INFINITE:
            tried.windows = FAILED_MAX
            return NOMEM
        w.window_count = count
        warm(w, w.window_first, w.window_first + count)
    # Also of one that is gone on with: the depot may have been taken when it was begun, and who
    # recovers the dead lets all segments stay.
    status = want(w, w.window_first, w.window_count)
    if status == OK:
        status = _sweep_out(w, tried, host)
    if status == OK and not _is_empty(w) and _may_wait(w):
        status = BUSY
    if status != OK:
        return status
    w.extent_hint = w.window_first
    w.window_ready = True
    status = ensure_extent(w, length)
    w.window_ready = False
    if status == NOMEM:
        for number in range(w.window_first, w.window_first + w.window_count):
            if load(cython.address((w.segtable + number).cls)) != 0:
                _note_stuck(w, tried, number)
        tried.windows += 1
        status = close_window(w)
        status = NOMEM if status == OK else status
    return status


def make_window(w, first, length, host):
    """Make room for an extent of so many bytes, and have it in the magazine.

    first: the shard to begin with. OK, NOMEM (what may go and what may be moved leave no place as
    long), BUSY (call again) or CORRUPT. Called with the own lock alone."""
    tried: Tried
    ended: cython.int
    status: cython.int = settle_pending(w, host)
    memset(cython.address(tried), 0, cython.sizeof(Tried))
    if status == OK and load(cython.address(limbo_of(w).unpinned)) != 0:
        # Before any page goes: what others have had a view on.
        status = collect(w, 0)
    if status == OK:
        drop_unwritten(w)           # and what was given up half written
        status = OK if w.fault == 0 else CORRUPT
    if status == OK:
        status = _reap_all(w)
    if status == OK:
        status = call_all_in(w, EXTENT_CLASS)
    if status == OK:
        status = ensure_extent(w, length)
    while status == NOMEM:
        status = sweep_some(w)          # what is dead, before any page that lives
        if status != OK:
            break
        status = _reap_all(w)
        if status == OK:
            status = ensure_extent(w, length)
    if status == NOMEM:
        _note_pinned(w, cython.address(tried))
    while status == NOMEM and tried.windows < FAILED_MAX:
        if w.window_count == 0:
            status = _let_go(w, first, length, tried.windows, host)
        if status == NOMEM:
            status = _empty(w, length, cython.address(tried), host)
    free(tried.stuck)
    if status == NOMEM and _may_wait(w):
        status = BUSY
    elif status == NOMEM and w.window_waited >= WAITS_MAX:
        w.window_waited = WAITS_MAX - WAITS_MORE
    elif status == OK:
        w.window_waited = 0
    if status != BUSY and status != CORRUPT:
        ended = close_window(w)
        if ended == CORRUPT:
            status = CORRUPT        # after BUSY it is closed when this worker next makes room, or gives up waiting
    return status

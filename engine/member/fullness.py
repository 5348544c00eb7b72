"""Owns the gauges that say how full an arena is: what of its capacity is whose, and what may still
be put without a page going.

Takes no lock: each word is read once, as it is at that moment. The depot counts the chunks of each
class, magazines know how many they have, and pools how many bytes; nothing here looks at segments,
pages or buckets, so it takes the same time whatever the capacity is.
"""
import cython
from cython.cimports.engine.layout.regions import is_evictable, pool_at
from cython.cimports.engine.layout.structs import (
    GAUGE_BYTES_USED,
    GAUGE_OBJNODES,
    GAUGE_PAGES,
    OBJNODE_CLASS,
    PAMPD_CLASS,
)
from cython.cimports.engine.member.fullness import AllClasses, Census
from cython.cimports.shm.atomics import load
from cython.cimports.shm.layout import CLASS_COUNT, Worker, slot_at, slots_used, u64
from cython.cimports.shm.segments import class_of, limit_of


def keep_pool(w, idx, words, objects, kept):
    """Add what a pool has, of which `objects` bytes are objs."""
    used: u64 = words[GAUGE_BYTES_USED]
    pages: u64 = words[GAUGE_PAGES]
    nodes: u64 = words[GAUGE_OBJNODES]
    if is_evictable(pool_at(w, idx)):
        kept.evictable += used
    else:
        kept.persistent += used
    kept.structs += pages * w.class_bytes[PAMPD_CLASS] + objects + nodes * w.class_bytes[OBJNODE_CLASS]


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _fit(
    w: cython.pointer(Worker), census: cython.pointer(Census), cls: cython.int, pages: u64, moves: cython.bint
) -> cython.bint:
    """True if so many more pages of a class, each with a lean object of its own, need no more
    segments than there may be. `moves`: what is in a class may be moved together until no segment
    is to spare."""
    i: cython.int
    need: u64
    segments: u64 = 0
    for i in range(CLASS_COUNT):
        need = census[i].out + (i == cls) * pages + (i == PAMPD_CLASS) * 2 * pages
        if need != 0 and w.class_chunks[i] == 0:
            return False            # longer than a segment
        need = (need + w.class_chunks[i] - 1) // w.class_chunks[i] if need != 0 else 0
        segments += need if moves or need > census[i].segments else census[i].segments
    return segments <= limit_of(w)


def fullness(engine, kept):
    """The gauges that say how full the arena is; their sum is the capacity, if nobody works. See
    docs/gauges.md."""
    w: cython.pointer(Worker) = cython.address(engine.att.w)
    census: AllClasses
    segment: u64 = cython.cast(u64, 1) << w.seg_shift
    segments: u64 = load(cython.address(w.depot.seg_used))
    limit: u64 = limit_of(w)
    free: u64 = (limit - segments if segments < limit else 0) << w.seg_shift
    out: u64 = 0
    rest: u64 = 0
    away: u64
    mine: u64
    low: u64 = 0
    high: u64
    count: u64
    short: cython.int = load(cython.address(w.depot.short_class)) - 1
    moves: cython.bint = kept.evictable == 0
    cls: cython.int
    i: u64
    if not 0 <= short < OBJNODE_CLASS:
        short = class_of(w, engine.page_size)
    for cls in range(CLASS_COUNT):
        count = load(cython.address(w.depot.class_segments[cls]))
        mine = load(cython.address(w.slot.mags[cls].count))
        away = 0
        for i in range(slots_used(w)):
            if i != w.slot_idx:
                away += load(cython.address(slot_at(w, i).mags[cls].count))
        census[cls].segments = count
        census[cls].free = load(cython.address(w.depot.class_free[cls])) + mine + away
        # What others have at hand is called in when nothing may go; else pages go before.
        census[cls].out = count * w.class_chunks[cls] - census[cls].free + (0 if moves else away)
        free += census[cls].free * w.class_bytes[cls]
        out += (count * w.class_chunks[cls] - census[cls].free) * w.class_bytes[cls]
        rest += count * (segment - w.class_chunks[cls] * w.class_bytes[cls])
    high = (limit << w.seg_shift) // w.class_bytes[short]
    while low < high:
        count = (low + high + 1) // 2
        if _fit(w, census, short, count, moves):
            low = count
        else:
            high = count - 1
    count = low * (w.class_bytes[short] + 2 * w.class_bytes[PAMPD_CLASS])
    count = count if count < free else free
    known: u64 = kept.evictable + kept.persistent + kept.structs
    return {
        "bytes_free": count,
        "bytes_stuck": free - count,
        "bytes_evictable": kept.evictable,
        "bytes_persistent": kept.persistent,
        "bytes_overhead": kept.structs + rest,
        "bytes_leaving": out - known if known < out else 0,
    }

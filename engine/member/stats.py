"""Owns the statistics a caller sees: per-worker ledgers summed, what the arena file takes, and how
full it is.

Readers sum; nobody shares a hot word. Nothing here takes longer the more memory or pages there are:
workers count what they do, and the depot counts each class.
"""

import cython
from cython.cimports.engine.layout.regions import (
    buckets_offset,
    far_at,
    has_far,
    is_evictable,
    is_live,
    keeps_far,
    ledger_at,
    obj_class,
    pool_at,
    queue_at,
    queues_offset,
)
from cython.cimports.engine.layout.structs import (
    EVICTED,
    EXPIRED,
    FLUSHES,
    GAUGE_BYTES_ASKED,
    GAUGE_BYTES_STORED,
    GAUGE_BYTES_USED,
    GAUGE_OBJECTS,
    GAUGE_OBJNODES,
    GAUGE_PAGES,
    GEO_PINNED,
    GEO_POOLS,
    GEO_SHARDS,
    GETS_HIT,
    GETS_MISS,
    LEAN_SHIFT,
    LEDGER_BYTES,
    LEDGER_WORDS,
    OBJNODE_CLASS,
    PAMPD_CLASS,
    PINS_BYTES,
    PUTS_DUPLICATE,
    PUTS_OK,
    PUTS_REFUSED,
    TWIN_BYTES,
    TWINS_MADE,
    FarRecord,
)
from cython.cimports.engine.member.fullness import Kept, fullness, keep_pool
from cython.cimports.engine.member.member import Member
from cython.cimports.engine.member.ranks import CAP, SHARD, rank_of
from cython.cimports.libc.string import memset
from cython.cimports.shm.atomics import load
from cython.cimports.shm.kernel.liveness import byte_held
from cython.cimports.shm.layout import (
    HELD_MAX,
    SLOT_LIVE,
    STAT_LOCK_WAIT_NS,
    STAT_LOCK_WAIT_NS_MAX,
    STAT_LOCK_WAITS,
    STAT_RECOVERIES,
    Slot,
    Worker,
    offset_of,
    slot_at,
    slots_used,
    u64,
)
from cython.cimports.shm.memory import backed_bytes
from cython.cimports.shm.segments import limit_of

NAMES = {
    "puts_ok": PUTS_OK, "puts_refused": PUTS_REFUSED, "puts_duplicate": PUTS_DUPLICATE, "gets_hit": GETS_HIT,
    "gets_miss": GETS_MISS, "flushes": FLUSHES, "objects": GAUGE_OBJECTS, "objnodes": GAUGE_OBJNODES,
    "pages": GAUGE_PAGES, "bytes_asked": GAUGE_BYTES_ASKED, "bytes_used": GAUGE_BYTES_USED,
    "bytes_stored": GAUGE_BYTES_STORED,
    "evicted": EVICTED, "expired": EXPIRED,
}


def pool_counters(engine: Member, idx: u64):
    """The counters of a pool summed over all workers, as a list by ledger word; see
    engine/layout/structs.pxd. Behind them, how many of the objects are lean."""
    w: cython.pointer(Worker) = cython.address(engine.att.w)
    sums: u64[16]
    i: u64
    slot: u64
    high: u64 = slots_used(w)
    if idx >= w.client_geometry[GEO_POOLS]:
        raise ValueError(f"idx: a pool's, from 0 to {w.client_geometry[GEO_POOLS] - 1}, not {idx}")
    for i in range(LEDGER_WORDS):
        sums[i] = -pool_at(w, idx).base[i]
    for slot in range(high):
        if slot_at(w, slot).ledger_backed >= (idx + 1) * LEDGER_BYTES:
            for i in range(LEDGER_WORDS):
                sums[i] += ledger_at(w, slot, idx)[i]
    lean: cython.int = cython.cast(cython.int, sums[GAUGE_OBJECTS] >> LEAN_SHIFT)
    objects: cython.int = cython.cast(cython.int, sums[GAUGE_OBJECTS])
    sums[GAUGE_OBJECTS] = max(objects, 0)
    # A worker caught between two words can make a difference dip below zero for a moment.
    return [*(0 if sums[i] >> 63 else sums[i] for i in range(LEDGER_WORDS)), max(lean, 0)]


def object_bytes(engine: Member, words):
    """Bytes that the objs of a pool with these counters take."""
    w: cython.pointer(Worker) = cython.address(engine.att.w)
    return words[GAUGE_OBJECTS] * w.class_bytes[obj_class(False)] - words[LEDGER_WORDS] * (
        w.class_bytes[obj_class(False)] - w.class_bytes[obj_class(True)]
    )


FAR_NAMES = (
    "far_pages", "far_bytes", "far_skipped", "spilled", "far_hits", "far_misses_gone", "far_lost", "checksum_bad",
    "far_stale_swaps", "far_failed", "garbage_dropped", "localified",
)


@cython.cfunc
def _far_counters(w: cython.pointer(Worker), idx: u64):
    """What is said of a pool's far tier, in the order of FAR_NAMES; zeroes if it has none."""
    record: cython.pointer(FarRecord)
    shard: u64
    pages: u64 = 0
    bytes: u64 = 0
    skipped: u64 = 0
    home: u64 = 0
    if not has_far(pool_at(w, idx)):
        return (0,) * len(FAR_NAMES)
    record = far_at(w, idx)
    for shard in range(w.client_geometry[GEO_SHARDS]):
        pages += load(cython.address(queue_at(w, idx, shard).far_count))
        bytes += load(cython.address(queue_at(w, idx, shard).far_bytes))
        skipped += load(cython.address(queue_at(w, idx, shard).far_skipped))
        home += load(cython.address(queue_at(w, idx, shard).far_home))
    kept: cython.bint = keeps_far(pool_at(w, idx))
    return (pages, bytes, skipped, record.spilled, record.hits, 0 if kept else record.gone, record.gone if kept else 0,
            record.bad, record.stale, record.failed, record.garbage, home)


def fixed_bytes(engine: Member):
    """Bytes that pages which may not go take, with their descriptors, nodes and objs."""
    w: cython.pointer(Worker) = cython.address(engine.att.w)
    sum = 0
    for idx, _, _ in engine.live_slots():
        if not is_evictable(pool_at(w, idx)):
            words = pool_counters(engine, idx)
            sum += (
                words[GAUGE_BYTES_USED]
                + words[GAUGE_PAGES] * w.class_bytes[PAMPD_CLASS]
                + object_bytes(engine, words)
                + words[GAUGE_OBJNODES] * w.class_bytes[OBJNODE_CLASS]
            )
    return sum


@cython.cfunc
def _lock_name(w: cython.pointer(Worker), slot: cython.pointer(Slot), offset: u64):
    """What a lock is of, for people; None: it is the worker's own, which each has in every call."""
    if offset == offset_of(w, cython.address(slot.own)):
        return None
    if offset == offset_of(w, cython.address(w.depot.gate)):
        return "world"
    if offset == offset_of(w, cython.address(w.depot.lock)):
        return "depot"
    if offset == w.client_off:
        return "pools"
    if buckets_offset(w) <= offset < queues_offset(w):
        return "bucket"
    if w.slots_off <= offset < w.bounces_off:
        return "worker"
    return {CAP: "cap", SHARD: "queue"}.get(rank_of(w, offset), "other")


@cython.cfunc
def _worker(w: cython.pointer(Worker), idx: u64):
    """What a living worker counts, and which locks it says it has and waits for."""
    slot: cython.pointer(Slot) = slot_at(w, idx)
    i: cython.int
    offset: u64
    waits_for: u64 = load(cython.address(slot.waits_for))
    holds = []
    for i in range(HELD_MAX):
        offset = load(cython.address(slot.held[i]))
        name = _lock_name(w, slot, offset) if offset != 0 else None
        if name is not None:
            holds.append(name)
    return {
        "worker": idx,
        "pid": slot.pid,
        "in_call": bool(load(cython.address(slot.phase)) & 1) and idx != w.slot_idx,
        "holds": holds,
        "waits_for": None if waits_for == 0 else _lock_name(w, slot, waits_for) or "worker",
        "lock_waits": slot.stat[STAT_LOCK_WAITS],
        "lock_wait_ns": slot.stat[STAT_LOCK_WAIT_NS],
        "lock_wait_ns_max": slot.stat[STAT_LOCK_WAIT_NS_MAX],
        "recoveries": slot.stat[STAT_RECOVERIES],
        "pinned_bytes": slot.client[PINS_BYTES],
    }


def collect(engine: Member):
    """The dict of Engine.stats."""
    w: cython.pointer(Worker) = cython.address(engine.att.w)
    slot: cython.pointer(Slot)
    i: u64
    kept: Kept
    memset(cython.address(kept), 0, cython.sizeof(Kept))
    pools = {}
    total = dict.fromkeys((*NAMES, *FAR_NAMES), 0)
    live = engine.live()
    engine.att.enter()
    try:
        for idx, gen, name in live:
            words = pool_counters(engine, idx)
            if not is_live(pool_at(w, idx), gen):
                continue        # another pool has its counters now, or none
            keep_pool(w, idx, words, object_bytes(engine, words), cython.address(kept))
            pools[name] = {key: words[at] for key, at in NAMES.items()}
            pools[name].update(zip(FAR_NAMES, _far_counters(w, idx), strict=True))
            for key, value in pools[name].items():
                total[key] += value
        total.update(lock_waits=0, lock_wait_ns=0, lock_wait_ns_max=0, recoveries=0)
        workers = []
        for i in range(slots_used(w)):
            slot = slot_at(w, i)
            # The state of one that was killed is LIVE until it is recovered; its liveness byte is
            # not held any more.
            if load(cython.address(slot.state)) == SLOT_LIVE and (i == w.slot_idx or byte_held(w, i)):
                workers.append(_worker(w, i))
            total["lock_waits"] += slot.stat[STAT_LOCK_WAITS]
            total["lock_wait_ns"] += slot.stat[STAT_LOCK_WAIT_NS]
            total["lock_wait_ns_max"] = max(total["lock_wait_ns_max"], slot.stat[STAT_LOCK_WAIT_NS_MAX])
            total["recoveries"] += slot.stat[STAT_RECOVERIES]
        twins: u64 = 0
        twin_bytes: u64 = 0
        pinned: u64 = 0
        for i in range(slots_used(w)):
            slot = slot_at(w, i)
            pinned += slot.client[PINS_BYTES]
            twins += slot.client[TWINS_MADE]
            twin_bytes += slot.client[TWIN_BYTES]
        kept.evictable += twin_bytes
        kept.structs += twins * w.class_bytes[PAMPD_CLASS]
        segment = 1 << w.seg_shift
        arena = {
            "name": engine.name,
            "capacity": limit_of(w) << w.seg_shift,
            "capacity_max": engine.max_capacity,
            "page_size": engine.page_size,
            "buckets": engine.buckets,
            "workers": len(workers),
            "segments_used": w.depot.seg_used,
            "segments_total": w.seg_total,
            "segment_bytes": segment,
            "bytes_in_segments": w.depot.seg_used * segment,
            "bytes_backed": backed_bytes(w),
            **fullness(engine, cython.address(kept)),
            "twins": twins,
            "twin_bytes": twin_bytes,
            "pinned_bytes": pinned,
            "pinned_max": w.client_geometry[GEO_PINNED],
        }
    finally:
        engine.att.leave()
    return {"total": total, "pools": pools, "arena": arena, "workers": workers}

"""Owns putting a damaged arena right: what is sound (judge.py) is the truth, all else is made anew
from it.

A sound obj gets its place in its bucket's red-black tree. Segments, bitmaps, lists, gauges, queues,
journals and lock words are rebuilt; magazines, staged and retired lists are emptied, and limbo
holds what pins keep. Plain stores: a kill leaves an arena that has to be repaired again, with the
same result.
"""

from xxhash import xxh3_128_intdigest

import cython
import cython.cimports.engine.tree.rbtree as rbtree
from cython.cimports.engine.eviction.policies import policy_of
from cython.cimports.engine.integrity.ballot import Ballot
from cython.cimports.engine.integrity.claims import has_bit
from cython.cimports.engine.integrity.judge import Judge
from cython.cimports.engine.integrity.leases import mend_leases
from cython.cimports.engine.layout.regions import (
    allow_count,
    buckets_at,
    dead_ring,
    has_far,
    has_queues,
    height_of,
    is_lean,
    ledger_at,
    obj_at,
    objnode_at,
    pampd_at,
    pins_at,
    pins_start,
    pool_at,
    pools_high,
    queue_at,
    queues_bytes,
    root_of,
    shard_at,
    shard_of,
    twin_bucket,
    twins_offset,
)
from cython.cimports.engine.layout.structs import (
    DEAD_MAX,
    GAUGE_BYTES_ASKED,
    GAUGE_BYTES_STORED,
    GAUGE_BYTES_USED,
    GAUGE_OBJECTS,
    GAUGE_OBJNODES,
    GAUGE_PAGES,
    GEO_SHARDS,
    GEO_TWINS,
    LEAN_SHIFT,
    LEDGER_BYTES,
    MAP_SIZE,
    OBJNODE_CLASS,
    PAGE_MIN,
    PAMPD_CLASS,
    PAMPD_SENTINEL,
    PINS_BACKED,
    PINS_HIGH,
    PINS_MAX,
    POOL_FAR,
    POOL_FREE,
    POOL_LIVE,
    POOL_NAME_BYTES,
    POOL_SENTINEL,
    POOL_WHOLE,
    ROOT_PENDING,
    ROOT_RETIRED,
    ROOT_STAGED,
    ROOT_WRITTEN,
    TWIN_BUCKET_BYTES,
    TWIN_BYTES,
    TWINS_MADE,
    Bucket,
    ClientPage,
    DeadRing,
    Obj,
    Pampd,
    PoolRecord,
    Twin,
    TwinBucket,
)
from cython.cimports.engine.layout.words import (
    QUEUE_FAR,
    QUEUE_MAIN,
    QUEUE_NONE,
    VIEWED,
    WITH_PRIOR,
    copied_of,
    is_far,
    page_hash,
    queue_word,
    shape_of,
    shard_in,
    size_class,
    target_of,
)
from cython.cimports.engine.member.far_target import target_of as far_target_of
from cython.cimports.engine.member.member import Member
from cython.cimports.engine.member.seats import seat_of
from cython.cimports.engine.oid import hash_oid
from cython.cimports.engine.pages.dead import has_ring
from cython.cimports.engine.pages.pins import forget, limbo_of, pinned_at, pinned_bytes, pinned_class, pins_high
from cython.cimports.engine.pages.queues import push_newest
from cython.cimports.libc.string import memset
from cython.cimports.shm.extent import room_of
from cython.cimports.shm.journal import commit, reserve, rollback, shrink, store
from cython.cimports.shm.layout import (
    CLASS_COUNT,
    EXTENT_CLASS,
    EXTENT_MAX,
    HELD_MAX,
    OK,
    SEG_HOLE,
    SLOT_FREE,
    SLOT_LIVE,
    ClassWords,
    Lock,
    Segment,
    Slot,
    Worker,
    slot_at,
    slots_used,
    u64,
)
from cython.cimports.shm.lock import lock_try, unlock
from cython.cimports.shm.memory import back
from cython.cimports.shm.segments import bitmap_of, chunk_start
from engine.errors import TmemError
from engine.eviction.policies import POLICIES
from engine.member.stats import pool_counters

INSERT_STORES = cython.declare(cython.int, 40)    # more than linking an obj stores, on average


def mend(engine: Member):
    """Repair a stopped arena. The lost handles: (pool name, oid, index) tuples, index None for
    pages nobody can name."""
    mender: Mender = Mender(engine)
    mender.run()
    return mender.lost


@cython.cfunc
@cython.exceptval(check=False)
def _free_lock(lock: cython.pointer(Lock)) -> cython.void:
    lock.owner = 0
    lock.seq = (lock.seq + 1) & ~cython.cast(u64, 1)


@cython.cclass
class Mender(Judge):
    """One repair of a stopped arena."""

    def mend_twins(self):
        """All twin buckets from the twins that are kept. TmemError if the table has no memory and
        can have none."""
        w: cython.pointer(Worker) = self.w
        table: cython.pointer(ClientPage) = cython.cast(cython.pointer(ClientPage), w.base + w.client_off)
        b: cython.pointer(TwinBucket)
        t: cython.pointer(Twin)
        i: u64
        at: u64
        data: u64
        for i in range(slots_used(w)):
            slot_at(w, i).client[TWINS_MADE] = slot_at(w, i).client[TWIN_BYTES] = 0
        if table.twins == 0 and not self.twins:
            return 0
        if back(w, twins_offset(w), w.client_geometry[GEO_TWINS] * TWIN_BUCKET_BYTES) != OK:
            raise TmemError(f"arena {self.engine.name!r}: no memory left for the table of equal pages")
        table.twins = 1
        for i in range(w.client_geometry[GEO_TWINS]):
            b = twin_bucket(w, i)
            _free_lock(cython.address(b.lock))
            b.head = b.count = 0
        for off, (refs, mark, where, shape) in self.twins.items():
            at = off
            data = where
            i = shape
            number = xxh3_128_intdigest((w.base + data)[:copied_of(i)], w.header.secret)
            t = cython.cast(cython.pointer(Twin), w.base + at)
            t.digest[0] = number & 0xFFFFFFFFFFFFFFFF
            t.digest[1] = number >> 64
            t.data = data
            t.shape = i
            t.refs = refs
            t.pool = mark
            b = twin_bucket(w, t.digest[0])
            t.link = b.head
            b.head = at
            b.count += 1
            w.slot.client[TWINS_MADE] += 1
            w.slot.client[TWIN_BYTES] += room_of(w, size_class(i), copied_of(i))
        return 0

    def requeue(self, off, level, oid_hash, lean):
        """The pages of a sound obj as the newest of their queues: nothing says how old they are."""
        d: cython.pointer(Pampd)
        i: u64
        shard: u64
        if level != 0:
            for i in range(MAP_SIZE):
                if objnode_at(self.w, off).slots[i] != 0:
                    self.requeue(target_of(objnode_at(self.w, off).slots[i]), level - 1, oid_hash, lean)
            return 0
        d = pampd_at(self.w, off)
        # A page of a value stays with the others, if its word can be true.
        shard = shard_in(d.queue)
        if shard >= self.w.client_geometry[GEO_SHARDS] or not pool_at(self.w, self.pool_idx).flags & POOL_WHOLE:
            shard = shard_of(self.w, page_hash(oid_hash, 0 if lean else d.index, self.pool_idx))
        d.queue = queue_word(0, shard, QUEUE_NONE, self.pool_idx) | d.queue & WITH_PRIOR()
        push_newest(
            self.w, queue_at(self.w, self.pool_idx, shard), QUEUE_FAR if is_far(d.shape) else QUEUE_MAIN, off)
        commit(self.w)
        return 0

    def mend_bucket(self, idx, number):
        """Make the bucket's tree anew from its sound objs."""
        w: cython.pointer(Worker) = self.w
        b: cython.pointer(Bucket) = buckets_at(w, idx) + number
        p: cython.pointer(PoolRecord) = pool_at(w, idx)
        o: cython.pointer(Obj)
        off: u64
        root: u64 = b.root
        with cython.nogil:
            pass        # other threads of this process have the interpreter, after each bucket
        b.unlinked += 1
        b.earliest = 0
        b.swept = ~cython.cast(u64, 0)      # as in the middle of a sweep: the next one looks through all of it
        if p.state != POOL_LIVE or root == 0:
            b.root = 0
            return 0
        good: list = self.find_sound(root, number)
        self.plant(b, good)
        for off in good:
            o = obj_at(w, off)
            if self.queued:
                self.requeue(
                    target_of(root_of(o)[0]), height_of(o), hash_oid(o.oid[0], o.oid[1], o.oid[2]), is_lean(o)
                )
        return 0

    def plant(self, b, good):
        """Make the tree of a bucket of these objs. One transaction a bucket: a repair that is
        killed must leave the next one as many objects to find. What the journal cannot hold (more
        objects than a bucket ever should have) is done one by one."""
        w: cython.pointer(Worker) = self.w
        o: cython.pointer(Obj)
        off: u64
        whole: cython.bint = reserve(w, 64 + len(good) * INSERT_STORES) == OK
        while True:
            store(w, cython.address(b.root), 0)
            for off in good:
                # Written plainly by `insert`, which is for objs that nothing links to; here an old
                # tree may have to be put back.
                o = obj_at(w, off)
                store(w, cython.address(o.left), 0)
                store(w, cython.address(o.right), 0)
                store(w, cython.address(o.parent), 0)
                rbtree.insert(w, b, off)
                if not whole:
                    commit(w)
            if w.fault == 0 or not whole:
                break
            rollback(w, 0)
            w.fault = 0
            whole = False
        commit(w)
        shrink(w)
        return 0

    def mend_pool(self, idx):
        """One pool slot: a living pool keeps its sound objects, any other becomes free."""
        p: cython.pointer(PoolRecord) = pool_at(self.w, idx)
        number: u64
        lock: cython.pointer(Lock)
        self.pool_idx = idx
        self.pool_name = p.name[:POOL_NAME_BYTES].rstrip(b"\0").decode("utf-8", "replace")
        before = pool_counters(self.engine, idx)[GAUGE_OBJECTS]
        losses = len(self.lost)
        self.objects = 0
        self.leans = 0
        self.nodes = 0
        self.pages = 0
        self.asked = 0
        self.used = 0
        self.stored = 0
        if p.state == POOL_LIVE:
            p.sentinel = POOL_SENTINEL
            p.link = 0
            p.seat = seat_of(self.w, p.client, False)
            if not PAGE_MIN <= p.page_size <= EXTENT_MAX:
                p.page_size = EXTENT_MAX        # nothing of it is too long then
            p.allow_count = allow_count(p)
            p.dated = 1
            p.swept = p.epoch - 65535       # what was cleared may be of any epoch: all is swept before the next clear
            if policy_of(p.policy) == cython.NULL:
                p.policy = POLICIES["s3fifo"].number        # as of a pool of which nothing was said
            if has_far(p) and far_target_of(self.w, idx) is None:
                p.flags &= ~cython.cast(u64, POOL_FAR)      # where its far pages are, nobody knows
        else:
            p.state = POOL_FREE
        self.queued = p.state == POOL_LIVE and has_queues(p)
        memset(queue_at(self.w, idx, 0), 0, queues_bytes(self.w))
        _free_lock(cython.address(p.cap_lock))
        for number in range(cython.cast(u64, self.engine.buckets)):
            lock = cython.address((buckets_at(self.w, idx) + number).lock)
            _free_lock(lock)
            # The world stands still, but for those who read without a lock: the sequence word must
            # tell them.
            held = lock_try(self.w, lock) == OK
            try:
                self.mend_bucket(idx, number)
            finally:
                if held:
                    unlock(self.w, lock)
        if p.state == POOL_LIVE and self.objects < before and len(self.lost) == losses:
            # Fewer objects than were counted, and none of them was seen to go: their names are gone
            # with the tree.
            self.lost.append((self.pool_name, None, None))
        self.set_gauges(idx)
        return 0

    def set_gauges(self, idx):
        """Let this worker's ledger tell the truth, and all others nothing."""
        w: cython.pointer(Worker) = self.w
        slot: u64
        need: u64 = (idx + 1) * LEDGER_BYTES
        truth = ((GAUGE_OBJECTS, self.objects + (self.leans << LEAN_SHIFT)),
                 (GAUGE_OBJNODES, self.nodes), (GAUGE_PAGES, self.pages),
                 (GAUGE_BYTES_ASKED, self.asked), (GAUGE_BYTES_USED, self.used), (GAUGE_BYTES_STORED, self.stored))
        for which, value in truth:
            for slot in range(slots_used(w)):
                if slot_at(w, slot).ledger_backed >= need:
                    ledger_at(w, slot, idx)[which] = 0
            # The counter's start moves the other way, so that the sum is right even where no ledger
            # has room.
            pool_at(w, idx).base[which] = -cython.cast(u64, value)
        return 0

    def mend_slots(self):
        """Workers keep nothing that is not linked: journals, lists and magazines are emptied."""
        w: cython.pointer(Worker) = self.w
        slot: cython.pointer(Slot)
        idx: u64
        i: cython.int
        for idx in range(slots_used(w)):
            slot = slot_at(w, idx)
            slot.journal_len = 0
            slot.redo_len = 0
            for i in range(HELD_MAX):
                slot.held[i] = 0
            slot.client[ROOT_STAGED] = 0
            slot.client[ROOT_RETIRED] = 0
            slot.client[ROOT_PENDING] = 0
            slot.client[ROOT_WRITTEN] = 0
            for i in range(CLASS_COUNT):
                slot.mags[i].count = 0
            if slot.state not in (SLOT_FREE, SLOT_LIVE):
                slot.state = SLOT_FREE
            if slot.ledger_backed > pins_start(w):
                slot.ledger_backed = 0
            if (
                slot.state == SLOT_FREE
                or slot.client[PINS_HIGH] > PINS_MAX
                or slot.client[PINS_HIGH] > slot.client[PINS_BACKED]
            ):
                slot.client[PINS_BACKED] = min(slot.client[PINS_BACKED], cython.cast(u64, PINS_MAX))
                forget(w, slot)
        return 0

    def mend_limbo(self):
        """Limbo from the pins alone: a descriptor for each chunk that somebody looks at and no
        sound object has. A pin that cannot be true, or for which there is no descriptor left, keeps
        nothing."""
        w: cython.pointer(Worker) = self.w
        limbo: cython.pointer(ClientPage) = limbo_of(w)
        d: cython.pointer(Pampd)
        idx: u64
        j: u64
        at: u64
        cls: cython.int
        length: u64
        pinned = set()
        _free_lock(cython.address(limbo.limbo_lock))
        limbo.limbo = 0
        for idx in range(slots_used(w)):
            for j in range(pins_high(slot_at(w, idx))):
                pinned.add(pins_at(w, idx)[j])
        self.claims = []
        for word in sorted(pinned):
            cls = pinned_class(word)
            length = pinned_bytes(w, word) if cls == EXTENT_CLASS else 1
            if cls >= OBJNODE_CLASS or not self.claim_bytes(pinned_at(word), cls, length, True):
                continue        # some page's, as nearly all are; or none's
            at = self.free_descriptor()
            if at == 0:
                continue
            d = cython.cast(cython.pointer(Pampd), w.base + at)
            memset(d, 0, cython.sizeof(Pampd))
            d.sentinel = ~cython.cast(u64, PAMPD_SENTINEL)
            d.obj = limbo.limbo
            d.data = pinned_at(word)
            d.shape = shape_of(length, cls, VIEWED)
            limbo.limbo = at
        limbo.unpinned = 1
        return 0

    def free_descriptor(self):
        """Claim a chunk of the class of descriptors; 0: there is none, nor a segment that could
        have one."""
        w: cython.pointer(Worker) = self.w
        i: u64
        for number in range(self.span >> w.seg_shift):
            if self.classes.get(number, PAMPD_CLASS) == PAMPD_CLASS:
                for i in range(w.class_chunks[PAMPD_CLASS]):
                    at = chunk_start(w, number, PAMPD_CLASS, i)
                    if self.claim(at, PAMPD_CLASS, True):
                        return at
        return 0

    def mend_depot(self):
        """Segments, bitmaps and lists from the chunks that are kept."""
        w: cython.pointer(Worker) = self.w
        s: cython.pointer(Segment)
        # Local copies throughout: whoever damaged the arena may still be writing, and what is used
        # must be what was set.
        heads: ClassWords
        high: u64 = self.span >> w.seg_shift
        seg_used: u64 = 0
        holes: u64 = 0
        number: u64
        index: u64
        words: cython.pointer(u64)
        used: u64
        cls: cython.int
        _free_lock(cython.address(w.depot.lock))
        for cls in range(CLASS_COUNT + 1):
            heads[cls] = 0
        memset(w.depot.class_segments, 0, CLASS_COUNT * 8)
        memset(w.depot.class_free, 0, CLASS_COUNT * 8)
        for number in range(high, 0, -1):
            s = w.segtable + (number - 1)
            memset(s, 0, cython.sizeof(Segment))
            used = 0
            cls = self.classes.get(number - 1, -1)
            if cls >= 0:
                words = bitmap_of(w, s, cls)
                memset(words, 0, w.class_start[cls] if w.class_start[cls] else 8)
                for index in range(w.class_chunks[cls]):
                    if has_bit(self.seen, chunk_start(w, number - 1, cls, index) - w.seg_lo):
                        words[index >> 6] |= cython.cast(u64, 1) << (index & 63)
                        used += 1
            if used == 0:
                # It may have memory or not: who takes a hole gives it some.
                s.bitmap = 0
                s.state = SEG_HOLE
                holes += 1
                cls = CLASS_COUNT
            else:
                seg_used += 1
                s.cls = cls + 1
                s.free_count = w.class_chunks[cls] - used
                w.depot.class_segments[cls] += 1
                w.depot.class_free[cls] += w.class_chunks[cls] - used
                if used == w.class_chunks[cls]:
                    continue
            if heads[cls] != 0:
                (w.segtable + (heads[cls] - 1)).prev = number
            s.next = heads[cls]
            heads[cls] = number
        w.depot.seg_high = high
        if w.depot.limit > w.seg_total:
            w.depot.limit = 0
        w.depot.holes = holes
        w.depot.hole_head = heads[CLASS_COUNT]
        w.depot.seg_used = seg_used
        w.depot.free_head = 0
        for cls in range(CLASS_COUNT):
            w.depot.class_head[cls] = heads[cls]
        return 0

    def mend_ring(self):
        """Dead tokens, if there can be any: what is not told to a tier is garbage, and no more."""
        ring: cython.pointer(DeadRing) = dead_ring(self.w)
        if has_ring(self.w):
            _free_lock(cython.address(ring.lock))
            if ring.first >= DEAD_MAX or ring.count > DEAD_MAX:
                ring.first = ring.count = 0
        return 0

    def run(self):
        """All of it."""
        w: cython.pointer(Worker) = self.w
        table: cython.pointer(ClientPage) = cython.cast(cython.pointer(ClientPage), w.base + w.client_off)
        idx: u64
        number: u64
        cls: cython.int
        self.mend_slots()
        self.ballot = Ballot(self.engine)
        for number in range(self.span >> w.seg_shift):
            cls = self.ballot.class_of(number)
            if cls >= 0:
                self.classes[number] = cls
        _free_lock(cython.address(table.lock))
        _free_lock(cython.address(table.cap_lock))
        for idx in range(w.client_geometry[GEO_SHARDS]):
            _free_lock(cython.address(shard_at(w, idx).lock))
            shard_at(w, idx).pages = 0
        pools: u64 = pools_high(w)
        table.pools_high = pools
        for idx in range(pools):
            self.mend_pool(idx)
        self.mend_twins()
        self.mend_limbo()
        self.mend_depot()
        mend_leases(w)
        self.mend_ring()
        w.fault = 0

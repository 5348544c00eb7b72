"""Owns the check of a whole arena that stands still: beside all that pools link to, what no bucket
leads to (lists of workers, limbo, pins, twins), and what is counted.
"""

import cython
from cython.cimports.engine.integrity.claims import has_bit
from cython.cimports.engine.integrity.leases import walk_lease_bucket
from cython.cimports.engine.integrity.linked import Linked
from cython.cimports.engine.layout.regions import (
    buckets_at,
    dead_ring,
    has_twins,
    is_lean,
    is_obj,
    obj_at,
    obj_class,
    objnode_at,
    page_at,
    pampd_at,
    pins_at,
    pool_at,
    pools_high,
    record_of,
    shard_at,
    stem_of,
    twin_at,
    twin_bucket,
    was_lean,
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
    HEIGHT_MAX,
    LEASE_BUCKETS,
    LEDGER_WORDS,
    MAP_SIZE,
    OBJNODE_CLASS,
    OBJNODE_SENTINEL,
    PAMPD_CLASS,
    PAMPD_SENTINEL,
    PINS_BACKED,
    PINS_HIGH,
    PINS_MAX,
    POOL_FREE,
    POOL_LIVE,
    POOL_SENTINEL,
    ROOT_PENDING,
    ROOT_RETIRED,
    ROOT_STAGED,
    ROOT_WRITTEN,
    TWIN_BYTES,
    TWINS_MADE,
    Bucket,
    ClientPage,
    DeadRing,
    Head,
    Obj,
    Objnode,
    Pampd,
    PoolRecord,
    Twin,
    TwinBucket,
)
from cython.cimports.engine.layout.words import (
    QUEUE_LEFT,
    QUEUE_NONE,
    QUEUE_ORPHAN,
    QUEUE_PENDING,
    VIEWED,
    copied_of,
    flags_of,
    has_chunk,
    size_class,
    state_in,
    target_of,
)
from cython.cimports.engine.pages.dead import has_ring
from cython.cimports.engine.pages.pins import limbo_of, pinned_at, pinned_class, pins_high
from cython.cimports.engine.pages.reclaim import head_at, retired_link
from cython.cimports.shm.atomics import load
from cython.cimports.shm.extent import granule_bits, room_of
from cython.cimports.shm.journal import kill_point
from cython.cimports.shm.layout import (
    CLASS_COUNT,
    EXTENT_CLASS,
    SLOT_LIVE,
    Magazine,
    Slot,
    Worker,
    offset_of,
    slot_at,
    slots_used,
    u64,
)
from cython.cimports.shm.memory import chunk_at
from cython.cimports.shm.segments import segment_of
from cython.cimports.shm.slab import mag_cap
from engine.integrity.claims import PROBLEMS_MAX
from engine.member.stats import pool_counters


class GaveWayError(Exception):
    """The walk has ended, since it held somebody up."""


@cython.cclass
class Checker(Linked):
    """One walk over a stopped arena."""

    def look_up(self):
        kill_point(self.w)
        if self.gives_way and not self.problems and self.holds_up():
            raise GaveWayError
        return 0

    def holds_up(self):
        """True if somebody waits for the world to go on: a worker for its own lock, one that has
        just attached at the gate, or another thread of this engine."""
        w: cython.pointer(Worker) = self.w
        idx: u64
        slot: cython.pointer(Slot)
        if self.engine.att.kin.turn.first != cython.NULL:
            return True
        for idx in range(slots_used(w)):
            slot = slot_at(w, idx)
            if load(cython.address(slot.state)) == SLOT_LIVE and load(cython.address(slot.own.owner)) != w.id:
                return True
        return False

    def walk_pending(self, off):
        d: cython.pointer(Pampd) = cython.cast(cython.pointer(Pampd), chunk_at(self.w, off))
        if self.fault("pending-offset", off, "a pending page outside the arena"):
            return 0
        if state_in(d.queue) == QUEUE_ORPHAN:
            self.walk_page(off, 0, 0, False)
        elif state_in(d.queue) != QUEUE_PENDING:
            self.note("page-queue", off, f"state {state_in(d.queue)} on a pending list")
        return 0

    def walk_pool(self, idx):
        p: cython.pointer(PoolRecord) = pool_at(self.w, idx)
        b: cython.pointer(Bucket)
        i: u64
        self.begin_pool(idx)
        self.walk_record(idx)
        if p.cap_lock.owner != 0 or p.cap_lock.seq & 1:
            self.note("cap-lock", offset_of(self.w, cython.address(p.cap_lock)), "held in a stopped world")
        for i in range(cython.cast(u64, self.engine.buckets)):
            b = buckets_at(self.w, idx) + i
            self.count_step()
            if b.lock.owner != 0 or b.lock.seq & 1:
                self.note(
                    "bucket-lock", offset_of(self.w, b), f"owner {b.lock.owner:#x}, seq {b.lock.seq} in a stopped world"
                )
            if b.root != 0 and p.state == POOL_FREE:
                self.note("bucket-root", offset_of(self.w, b), "a pool that is free has an object")
            elif b.root != 0 and p.state == POOL_LIVE:
                self.walk_living(b, i)
            elif b.root != 0:
                self.walk_dying(b.root, 0)
        return 0

    def walk_dying(self, off, depth):
        """Objs of a pool that is being taken apart: their tree has lost leaves, so only ownership
        is checked."""
        o: cython.pointer(Obj)
        if off == 0 or depth > 128:
            return 0
        o = obj_at(self.w, off)
        if self.fault("obj-sentinel", off, "no obj here") or not self.own(off, obj_class(is_lean(o)), "obj"):
            return 0
        self.objects += 1
        self.leans += is_lean(o)
        self.walk_obj(off)
        self.walk_dying(o.left, depth + 1)
        self.walk_dying(o.right, depth + 1)
        return 0

    def compare_gauges(self, idx):
        words = pool_counters(self.engine, idx)
        name = f"pool {idx}"
        for which, truth, what in (
            (GAUGE_OBJECTS, self.objects, "objects"), (LEDGER_WORDS, self.leans, "lean objects"),
            (GAUGE_OBJNODES, self.nodes, "objnodes"),
            (GAUGE_PAGES, self.pages, "pages"), (GAUGE_BYTES_ASKED, self.pool_asked, "bytes asked"),
            (GAUGE_BYTES_USED, self.pool_used, "bytes used"), (GAUGE_BYTES_STORED, self.pool_stored, "bytes stored"),
        ):
            if words[which] != truth:
                self.note(
                    "gauge",
                    offset_of(self.w, pool_at(self.w, idx)),
                    f"{name}: {what} counted {words[which]}, {truth} are there",
                )
        return 0

    def walk_retired(self, off):
        """A retired struct, and all below it."""
        h: cython.pointer(Head) = head_at(self.w, off)
        n: cython.pointer(Objnode)
        o: cython.pointer(Obj)
        lean: cython.bint
        i: u64
        kind: u64 = ~h.sentinel
        if self.fault("retired-offset", off, "a retired struct outside the arena"):
            return 0
        if kind == PAMPD_SENTINEL:
            return self.walk_page(off, 0, 0, False)
        if kind == OBJNODE_SENTINEL:
            n = cython.cast(cython.pointer(Objnode), h)
            if self.own(off, OBJNODE_CLASS, "retired objnode") and n.slots_in_use != 0:
                chunk_at(self.w, n.obj)
                if not self.fault("objnode-back", off, "its obj is outside the arena"):
                    for i in range(MAP_SIZE):
                        if n.slots[i] != 0:
                            # The part of the index above this node is not known any more: pages are
                            # not compared with it.
                            self.walk_below(target_of(n.slots[i]), n.level - 1)
        elif is_obj(kind):
            o = cython.cast(cython.pointer(Obj), h)
            lean = was_lean(o)
            if self.own(off, obj_class(lean), "retired obj") and not lean:
                if stem_of(o).root != 0 and stem_of(o).height <= HEIGHT_MAX:
                    self.enter_obj()
                    self.walk_pages(off)
        elif kind == POOL_SENTINEL:
            self.retired_pools.add(record_of(self.w, off))
        else:
            self.note("retired-sentinel", off, "neither a retired struct nor a dying pool")
        return 0

    def walk_below(self, off, level):
        n: cython.pointer(Objnode)
        d: cython.pointer(Pampd)
        i: u64
        if level == 0:
            d = pampd_at(self.w, off)
            if not self.fault("page-sentinel", off, "no page here"):
                self.walk_page(off, d.obj, d.index, True)
            return 0
        n = objnode_at(self.w, off)
        if self.fault("objnode-sentinel", off, "no objnode here") or not self.own(off, OBJNODE_CLASS, "objnode"):
            return 0
        for i in range(MAP_SIZE):
            if n.slots[i] != 0 and level <= HEIGHT_MAX:
                self.walk_below(target_of(n.slots[i]), level - 1)
        return 0

    def walk_slot(self, idx):
        slot: cython.pointer(Slot) = slot_at(self.w, idx)
        mag: cython.pointer(Magazine)
        count: u64
        i: u64
        cls: cython.int
        steps: u64 = 0
        if slot.journal_len != 0 or slot.redo_len != 0:
            self.note("journal", offset_of(self.w, slot), f"worker {idx}: a transaction is open in a stopped world")
        if slot.state != SLOT_LIVE and (
            slot.client[ROOT_STAGED]
            or slot.client[ROOT_RETIRED]
            or slot.client[ROOT_PENDING]
            or slot.client[ROOT_WRITTEN]
        ):
            self.note(
                "slot-lists",
                offset_of(self.w, slot),
                f"slot {idx} is nobody's, and has lists: its worker was buried without an heir",
            )
        steps = self.walk_root(idx, ROOT_STAGED, "staged", steps)
        steps = self.walk_root(idx, ROOT_WRITTEN, "written", steps)
        steps = self.walk_root(idx, ROOT_RETIRED, "retired", steps)
        steps = self.walk_root(idx, ROOT_PENDING, "pending", steps)
        if steps > self.span // 64:
            self.note("list-loop", offset_of(self.w, slot), f"worker {idx}: a list without an end")
        for cls in range(CLASS_COUNT):
            mag = cython.address(slot.mags[cls])
            count = mag.count
            if count > mag_cap(cls):
                self.note("magazine", offset_of(self.w, mag), f"worker {idx}, class {cls}: count {count}")
                continue
            if cls == EXTENT_CLASS and count != 0:
                if count != 1:
                    self.note("magazine", offset_of(self.w, mag), f"worker {idx}: {count} extents")
                self.own_bytes(mag.items[0], cls, mag.items[1] << granule_bits(self.w), f"magazine of worker {idx}")
                continue
            for i in range(count):
                self.own(mag.items[i], cls, f"magazine of worker {idx}")
        return 0

    def walk_root(self, idx, root, name, steps):
        """One of a worker's lists; `steps` with those of this list, of which all have a bound."""
        off: u64 = slot_at(self.w, idx).client[root]
        while off != 0 and steps <= self.span // 64:
            steps += 1
            if root == ROOT_STAGED or root == ROOT_WRITTEN:
                self.walk_staged(off)
            elif root == ROOT_RETIRED:
                self.walk_retired(off)
            else:
                self.walk_pending(off)
            if len(self.problems) >= PROBLEMS_MAX:
                break
            if root == ROOT_RETIRED:
                off = retired_link(head_at(self.w, off))[0]
            else:
                off = cython.cast(cython.pointer(Head), chunk_at(self.w, off)).link
            if self.fault(f"{name}-offset", off, f"worker {idx}: what is {name} leads out of the arena"):
                break
        return steps

    def walk_staged(self, off):
        """A page that is not linked yet: of no object, no pool."""
        d: cython.pointer(Pampd) = cython.cast(cython.pointer(Pampd), chunk_at(self.w, off))
        if self.fault("staged-offset", off, "a staged page outside the arena"):
            return 0
        return self.walk_page(off, 0, d.index, True)

    def walk_ring(self):
        """The dead ring, if it has memory."""
        ring: cython.pointer(DeadRing) = dead_ring(self.w)
        off: u64 = cython.cast(cython.p_char, ring) - self.w.base
        if not has_ring(self.w):
            return 0
        if ring.lock.owner != 0 or ring.lock.seq & 1:
            self.note("ring-lock", off, "held in a stopped world")
        if ring.first >= DEAD_MAX or ring.count > DEAD_MAX:
            self.note("ring-count", off, f"{ring.count} dead tokens from place {ring.first} on")
        return 0

    def walk_limbo(self):
        """Retired pages that somebody has a view on, or had a moment ago."""
        w: cython.pointer(Worker) = self.w
        limbo: cython.pointer(ClientPage) = limbo_of(w)
        off: u64 = limbo.limbo
        steps: u64 = 0
        d: cython.pointer(Pampd)
        if limbo.limbo_lock.owner != 0 or limbo.limbo_lock.seq & 1:
            self.note("limbo-lock", offset_of(w, cython.address(limbo.limbo_lock)), "held in a stopped world")
        while off != 0:
            d = page_at(w, off)
            steps += 1
            if self.fault("limbo-offset", off, "a page of limbo outside the arena"):
                break
            if steps > self.span // 64 or len(self.problems) >= PROBLEMS_MAX:
                self.note("limbo-loop", off, "a list without an end")
                break
            if (
                not has_chunk(d)
                or flags_of(d) & VIEWED == 0
                or (state_in(d.queue) != QUEUE_NONE and state_in(d.queue) != QUEUE_LEFT)
            ):
                self.note("limbo-page", off, f"flags {flags_of(d)}, queue state {state_in(d.queue)}")
            self.walk_page(off, 0, 0, False)
            off = d.obj
        self.counts["limbo"] = steps
        return 0

    def walk_pins(self):
        """All pins, after everything that may own their chunks. Pins may go while this looks; none
        can come."""
        w: cython.pointer(Worker) = self.w
        i: u64
        j: u64
        word: u64
        rel: u64
        pins: u64 = 0
        slot: cython.pointer(Slot)
        for i in range(slots_used(w)):
            slot = slot_at(w, i)
            if slot.client[PINS_HIGH] > PINS_MAX or slot.client[PINS_HIGH] > slot.client[PINS_BACKED]:
                self.note(
                    "pins-high",
                    offset_of(w, slot),
                    f"worker {i}: {slot.client[PINS_HIGH]} pins, {slot.client[PINS_BACKED]} have memory",
                )
                continue
            for j in range(pins_high(slot)):
                word = load(cython.address(pins_at(w, i)[j]))
                if word == 0:
                    continue
                pins += 1
                rel = pinned_at(word) - w.seg_lo
                if slot.state != SLOT_LIVE:
                    self.note("pin-nobody", offset_of(w, slot), f"slot {i} is nobody's, and has pins")
                    break
                if (
                    pinned_class(word) >= OBJNODE_CLASS
                    or rel >= self.span
                    or not has_bit(self.seen, rel)
                    or (w.segtable + segment_of(w, pinned_at(word))).cls != cython.cast(u64, pinned_class(word)) + 1
                ):
                    self.note("pin-lost", word, f"worker {i} has a view on a chunk that is no page's")
        self.counts["pins"] = pins
        return 0

    def walk_twins(self):
        """All twin buckets, after everything that may refer to a twin."""
        w: cython.pointer(Worker) = self.w
        b: cython.pointer(TwinBucket)
        i: u64
        off: u64
        count: u64
        twins: u64 = 0
        size: u64 = 0
        shape: u64
        for i in range(slots_used(w)):
            twins -= slot_at(w, i).client[TWINS_MADE]
            size -= slot_at(w, i).client[TWIN_BYTES]
        for i in range(w.client_geometry[GEO_TWINS] if has_twins(w) else 0):
            b = twin_bucket(w, i)
            self.count_step()
            if b.lock.owner != 0 or b.lock.seq & 1:
                self.note("twin-lock", offset_of(w, b), "held in a stopped world")
            off = b.head
            count = 0
            while off != 0 and count <= self.span // 64 and self.walk_twin(off):
                count += 1
                shape = twin_at(w, off).shape
                size += room_of(w, min(size_class(shape), CLASS_COUNT - 1), copied_of(shape))
                if twin_bucket(w, twin_at(w, off).digest[0]) != b:
                    self.note("twin-place", off, "in a bucket that is not its digest's")
                off = twin_at(w, off).link
            twins += count
            if count != b.count:
                self.note("twin-count", offset_of(w, b), f"{b.count} twins, {count} are there")
        if twins != 0 or size != 0:
            self.note(
                "twin-total",
                offset_of(w, w.slot),
                f"of {cython.cast(cython.longlong, twins)} twins, {cython.cast(cython.longlong, size)} bytes, "
                "the workers' counts know nothing",
            )
        for off in self.twins:
            self.note("twin-lost", off, f"{self.twins[off]} pages refer to it, and it is in no bucket")
        return 0

    def walk_twin(self, off):
        """One twin: its chunks, its references. 0 if the chain cannot be followed beyond it."""
        w: cython.pointer(Worker) = self.w
        t: cython.pointer(Twin) = twin_at(w, off)
        shape: u64 = t.shape        # once: what is used must be what was looked at
        cls: cython.int = size_class(shape)
        data: u64 = t.data
        if self.fault("twin-sentinel", off, "no twin here") or not self.own(off, PAMPD_CLASS, "twin"):
            return 0
        if not self.own_bytes(data, cls, copied_of(shape), "twin's page") or copied_of(shape) == 0:
            self.note("twin-shape", off, f"shape {shape:#x}")
            return 0
        found = self.twins.pop(off, 0)
        if found != t.refs:
            self.note("twin-refs", off, f"{t.refs} references, {found} are there")
        # The digest is not compared with the bytes: a caller that changes its buffer during a put
        # makes them differ, which costs a twin that is not found again, and no more.
        return 1

    def walk(self):
        """Everything. GaveWayError if it ends before."""
        w: cython.pointer(Worker) = self.w
        table: cython.pointer(ClientPage) = cython.cast(cython.pointer(ClientPage), w.base + w.client_off)
        idx: u64
        pools: u64 = pools_high(w)
        workers: u64 = 0
        counts = {"pools": 0, "objects": 0, "objnodes": 0, "pages": 0}
        if table.lock.owner != 0:
            self.note("table-lock", offset_of(w, table), "held in a stopped world")
        if table.cap_lock.owner != 0 or table.cap_lock.seq & 1:
            self.note("cap-lock", offset_of(w, cython.address(table.cap_lock)), "held in a stopped world")
        self.walk_ring()
        shards: u64 = w.client_geometry[GEO_SHARDS]
        shard: u64
        self.look_up()
        self.leave_pools()
        for shard in range(shards):
            if shard_at(w, shard).lock.owner != 0 or shard_at(w, shard).lock.seq & 1:
                self.note("shard-lock", offset_of(w, shard_at(w, shard)), "held in a stopped world")
            self.in_shard = 0
            for idx in range(pools):
                self.walk_queues(idx, shard)
            if self.in_shard != shard_at(w, shard).pages:
                self.note("shard-pages", offset_of(w, shard_at(w, shard)),
                          f"{shard_at(w, shard).pages} pages, {self.in_shard} are in its queues")
        for idx in range(slots_used(w)):
            workers += slot_at(w, idx).state == SLOT_LIVE
            self.walk_slot(idx)
        for idx in range(pools):
            self.walk_pool(idx)
            if pool_at(w, idx).state != POOL_FREE:
                self.compare_gauges(idx)
                counts["pools"] += pool_at(w, idx).state == POOL_LIVE
                counts["objects"] += self.objects
                counts["objnodes"] += self.nodes
                counts["pages"] += self.pages
        self.leave_pools()
        self.walk_limbo()
        self.walk_twins()
        self.walk_pins()
        leases: u64 = 0
        for idx in range(LEASE_BUCKETS):
            leases += walk_lease_bucket(self, idx)
        if w.depot.lock.owner != 0 or w.depot.lock.seq & 1:
            self.note("depot-lock", offset_of(w, w.depot), "held in a stopped world")
        self.walk_depot()
        self.counts.update(counts, workers=workers, leases=leases, far_lost=self.far_lost)

"""Owns the check of what pools link to: records, queues, the trees of buckets, objects and pages,
each invariant with an id.

One part at a time, as it is under its lock: so it serves the check of a stopped world (check.py)
and the one that stops nobody (gentle.py).
"""

import cython
from cython.cimports.engine.eviction.policies import policy_of
from cython.cimports.engine.integrity.claims import Claims, has_bit, map_words
from cython.cimports.engine.layout.regions import (
    buckets_at,
    chunk_bytes,
    codec_of,
    expiry_of,
    has_far,
    has_queues,
    height_of,
    is_lean,
    keeps_far,
    nodes_of,
    obj_at,
    obj_class,
    objnode_at,
    pages_of,
    pool_at,
    pool_of_obj,
    queue_at,
    root_of,
    stem_of,
    sweep_in,
    swept_to,
    twin_at,
)
from cython.cimports.engine.layout.structs import (
    ALLOW_MAX,
    HEIGHT_MAX,
    MAP_SIZE,
    OBJNODE_CLASS,
    PAGE_MIN,
    PAMPD_CLASS,
    PAMPD_SENTINEL,
    POOL_LIVE,
    POOL_SENTINEL,
    Obj,
    Objnode,
    Pampd,
    PoolRecord,
    Queue,
    Stem,
)
from cython.cimports.engine.layout.words import (
    CODECS,
    LOST,
    NOTES,
    QUEUE_FAR,
    QUEUE_LEFT,
    QUEUE_NONE,
    QUEUE_ORPHAN,
    QUEUE_SMALL,
    SEASONED,
    TWIN,
    WITH_PRIOR,
    class_in,
    copied_of,
    fits_codecs,
    flags_of,
    has_chunk,
    hint_of,
    hint_shift,
    is_far,
    is_foreign,
    is_queued,
    is_twin,
    length_of,
    older_in,
    packed_in,
    pool_mark,
    queue_word,
    state_in,
    stored_bytes,
    target_of,
    with_flags,
    without_flags,
)
from cython.cimports.engine.member.far_target import target_of as far_target_of
from cython.cimports.engine.member.member import Member
from cython.cimports.engine.member.seats import seat_of
from cython.cimports.engine.oid import hash_oid
from cython.cimports.engine.tree.lookaside import was_cleared
from cython.cimports.engine.tree.objnode import height_for
from cython.cimports.engine.tree.rbtree import compare
from cython.cimports.libc.stdlib import calloc, free
from cython.cimports.shm.layout import EXTENT_MAX, offset_of, u64
from cython.cimports.shm.memory import chunk_at

NO_POOL = cython.declare(u64, 0xFFFFFFFFFFFFFFFF)
ALL = cython.declare(u64, 0xFFFFFFFFFFFFFFFF)


@cython.cclass
class Linked(Claims):
    """A walk over what pools link to, one part after the other. Who owns which chunk is in
    claims.py."""

    def __cinit__(self, engine: Member, stopped: bool = True):
        self.retired_pools = set()
        self.twins = {}
        self.listed = cython.cast(cython.pointer(u64), calloc(map_words(self.span), 8))
        if self.listed == cython.NULL:
            raise MemoryError

    def __dealloc__(self):
        free(self.listed)

    def enter_pool(self, idx):
        """What is walked from here on is linked by this pool: the living one of the slot, or the
        one that is being destroyed."""
        p: cython.pointer(PoolRecord) = pool_at(self.w, idx)
        self.pool_idx = idx
        self.mark = pool_mark(idx, p.gen)
        self.queued = p.state == POOL_LIVE and has_queues(p)
        self.codecs = codec_of(p)
        self.page_size = p.page_size
        return 0

    def leave_pools(self):
        """What is walked from here on no pool links any more, or not yet. The pool it was of may be
        gone, and another in its slot: nothing a pool says can be expected of it."""
        self.pool_idx = NO_POOL
        self.mark = 0
        self.queued = False
        self.codecs = CODECS
        self.page_size = EXTENT_MAX
        return 0

    def walk_page(self, off, obj_off, index, linked):
        d: cython.pointer(Pampd) = cython.cast(cython.pointer(Pampd), chunk_at(self.w, off))
        length: u64
        mark: u64
        cls: cython.int
        if (
            self.fault("page-offset", off, "a page descriptor outside the arena")
            or not self.own(off, PAMPD_CLASS, "pampd")
        ):
            return 0
        if d.sentinel != (PAMPD_SENTINEL if linked else ~cython.cast(u64, PAMPD_SENTINEL)):
            self.note("page-sentinel", off, "wrong sentinel")
        length = length_of(d)
        cls = class_in(d)
        mark = d.queue      # once: it is an index further down
        if linked and (d.obj != obj_off or d.index != index and not self.lean):
            self.note("page-back", off, f"obj {d.obj:#x}, index {d.index} do not match where it hangs")
        if is_foreign(d.shape):
            if linked and self.mark != 0 and mark != self.mark:
                self.note("page-pool", off, f"a page of pool {self.pool_idx} says {mark:#x}")
        else:
            self.walk_queued(d, off, mark, linked)
        # A value is page 0, and of any length; no bytes lie in no chunk.
        if length > (self.page_size if index != 0 else EXTENT_MAX) or (length == 0 and has_chunk(d)):
            self.note("page-length", off, f"length {length}")
        if is_twin(d.shape) and d.data != 0:
            if self.stopped:
                self.twins[d.data] = self.twins.get(d.data, 0) + 1
            if with_flags(twin_at(self.w, d.data).shape, TWIN) != without_flags(d.shape, NOTES):
                self.note("page-twin", off, f"shape {d.shape:#x}, its twin's is {twin_at(self.w, d.data).shape:#x}")
            self.w.fault = 0  # a twin that is none is in no bucket: see walk_twins
        if has_chunk(d) and d.data != 0:
            self.own_bytes(d.data, cls, copied_of(d.shape), "page")
        # Whether it decompresses is not looked at: the codec's package may not be installed where
        # the check runs.
        if not fits_codecs(d.shape, self.codecs):
            self.note("page-packed", off, f"flags {flags_of(d)}, {packed_in(d.shape)} bytes compressed of {length}")
        self.asked += length
        self.used += chunk_bytes(self.w, d)
        self.stored += stored_bytes(d)
        return 0

    def walk_queued(self, d, off, word, linked):
        """What a page says of its queue, against the queues as they were walked before. A queue has
        a lock of its own: in a world that is not stopped a page may be on its way from one to the
        other."""
        state: u64 = state_in(word)
        rel: u64 = off - self.w.seg_lo
        listed: cython.bint = has_bit(self.listed, rel)
        if state > QUEUE_FAR or self.stopped and is_queued(word) != listed:
            self.note("page-queue", off, f"state {state}, and {'in' if listed else 'in no'} queue")
        if linked and self.stopped and is_far(d.shape) != (state == QUEUE_FAR):
            self.note("page-far", off, f"flags {flags_of(d)}, and the queue state is {state}")
        if linked and is_far(d.shape) and self.pool_idx != NO_POOL:
            if not has_far(pool_at(self.w, self.pool_idx)):
                self.note("page-far", off, f"far, in pool {self.pool_idx}, which has no far tier")
            elif not has_queues(pool_at(self.w, self.pool_idx)):
                self.note("page-far", off, f"far, in pool {self.pool_idx}, whose pages may not leave")
        if linked and is_far(d.shape) and d.data == 0:
            self.note("page-far", off, "far, without a token")
        if state == QUEUE_ORPHAN and linked:
            self.note("page-queue", off, "an orphan that is linked")
        if linked and self.queued and self.stopped and (state == QUEUE_NONE or state == QUEUE_LEFT):
            self.note("page-queue", off, "a page of a pool with queues, in none")
        return 0

    def walk_queues(self, pool, shard):
        """The queues of a pool in a shard: links, states, counts; marks the pages in them."""
        q: cython.pointer(Queue) = queue_at(self.w, pool, shard)
        d: cython.pointer(Pampd)
        which: cython.int
        off: u64
        newer: u64
        rel: u64
        count: u64
        state: u64
        tail: u64
        said: u64
        bytes: u64 = 0
        young: u64 = 0
        free: u64           # bits that may be set or not
        keeps: cython.bint = keeps_far(pool_at(self.w, pool))
        for which in range(3):
            off = q.head[which] if which < 2 else q.far_head
            bytes = 0
            newer = 0
            count = 0
            while off != 0:
                d = cython.cast(cython.pointer(Pampd), chunk_at(self.w, off))
                rel = off - self.w.seg_lo
                if (
                    self.fault("queue-offset", offset_of(self.w, q), "a queued page outside the arena")
                    or rel >= self.span
                ):
                    break
                if has_bit(self.listed, rel):
                    self.note("queue-twice", off, "in two places of the queues")
                    break
                self.set_bit(self.listed, rel)
                young += which == 0 and d.queue & SEASONED() == 0
                free = WITH_PRIOR() | (SEASONED() if which == 0 else LOST() if which == 2 and keeps else 0)
                self.far_lost += which == 2 and keeps and d.queue & LOST() != 0
                state = QUEUE_SMALL + which if which < 2 else QUEUE_FAR
                if d.queue & ~free != queue_word(newer, shard, state, pool):
                    self.note("queue-word", off, f"{d.queue:#x} in queue {which} of pool {pool}, shard {shard}")
                    break
                count += 1
                bytes += copied_of(d.shape)
                self.count_step()
                newer = off
                off = older_in(d.link)
            tail = q.tail[which] if which < 2 else q.far_tail
            said = q.count[which] if which < 2 else q.far_count
            if newer != tail or count != said:
                self.note(
                    "queue-count",
                    offset_of(self.w, q),
                    f"{count} pages, the oldest {newer:#x}; not {said}, {tail:#x}",
                )
            self.in_shard += count if which < 2 else 0
        if bytes != q.far_bytes:
            self.note("queue-far-bytes", offset_of(self.w, q), f"{bytes} bytes of far pages, not {q.far_bytes}")
        if young != q.young:
            self.note("queue-young", offset_of(self.w, q), f"{young} young pages, not {q.young}")
        rel = q.hand - self.w.seg_lo
        if q.hand != 0 and (rel >= self.span or not has_bit(self.listed, rel)):
            self.note("queue-hand", offset_of(self.w, q), f"the hand is at {q.hand:#x}, which is in no queue")
        return 0

    def walk_link(self, link, obj_off, level, prefix):
        off: u64 = target_of(link)
        hint: u64 = hint_of(self.w, link)
        d: cython.pointer(Pampd)
        self.walk_tree(off, obj_off, level, prefix)
        if self.cut:
            return 0
        d = cython.cast(cython.pointer(Pampd), chunk_at(self.w, off))
        if self.w.fault == 0 and hint != (
            0 if level != 0 or not has_chunk(d) else d.data >> hint_shift(self.w) << hint_shift(self.w)
        ):
            self.note("link-hint", off, f"a hint of {hint:#x}")
        self.w.fault = 0
        return 0

    def walk_tree(self, off, obj_off, level, prefix):
        """What hangs here, from index `begin` on, as far as there is room. A node that was entered
        before is on the way to where that is: it is looked at again, and not counted."""
        n: cython.pointer(Objnode)
        i: u64
        used: u64 = 0
        # A node of the highest level has all indexes: a word cannot be shifted as far.
        first: u64 = prefix << 6 * level if level < HEIGHT_MAX else 0
        if self.room == 0:
            self.begin = first
            self.cut = True
            return 0
        if level == 0:
            self.room -= 1
            self.obj_pages += 1
            self.last = prefix
            return self.walk_page(off, obj_off, prefix, True)
        n = objnode_at(self.w, off)
        if self.fault("objnode-sentinel", off, "no objnode here") or not self.own(off, OBJNODE_CLASS, "objnode"):
            return 0
        self.obj_nodes += first >= self.begin
        if n.obj != obj_off or n.level != level:
            self.note("objnode-back", off, f"obj {n.obj:#x}, level {n.level} do not match where it hangs")
        for i in range(MAP_SIZE):
            if n.slots[i] != 0:
                used += 1
                if not self.cut and prefix << 6 | i >= self.begin >> 6 * (level - 1):
                    self.walk_link(n.slots[i], obj_off, level - 1, prefix << 6 | i)
        if used != n.slots_in_use or used == 0:
            self.note("objnode-slots", off, f"slots_in_use {n.slots_in_use}, {used} are")
        return 0

    def enter_obj(self):
        """What is walked from here on is counted anew, as one obj's."""
        self.begin = 0
        self.room = ALL
        self.obj_pages = 0
        self.obj_nodes = 0
        self.last = 0
        self.asked = 0
        self.used = 0
        self.stored = 0
        return 0

    def walk_pages(self, off):
        """The tree of an obj, from `begin` on. True if that was all of it; not if there was no
        room, nor if there is no such tree."""
        o: cython.pointer(Obj) = cython.cast(cython.pointer(Obj), chunk_at(self.w, off))
        height: u64 = height_of(o)
        self.cut = False
        if height > HEIGHT_MAX:
            self.note("obj-height", off, f"height {height}")
            return False
        self.lean = is_lean(o)
        if root_of(o)[0] != 0:
            self.walk_link(root_of(o)[0], off, height, 0)
        self.lean = False
        return not self.cut

    def compare_obj(self, off):
        """What an obj says of itself, against all that was found in its tree."""
        o: cython.pointer(Obj) = cython.cast(cython.pointer(Obj), chunk_at(self.w, off))
        s: cython.pointer(Stem) = stem_of(o)
        if self.obj_pages != pages_of(o) or self.obj_pages == 0:
            self.note("obj-pages", off, f"pampd_count {pages_of(o)}, {self.obj_pages} are there")
        if is_lean(o):
            return 0
        if self.obj_nodes != nodes_of(o):
            self.note("obj-objnodes", off, f"objnode_count {nodes_of(o)}, {self.obj_nodes} are there")
        if self.obj_pages and s.height != height_for(self.last):
            self.note("obj-height", off, f"height {s.height} for a largest index of {self.last}")
        if self.asked != s.asked or self.used != s.used or self.stored != s.stored:
            self.note(
                "obj-bytes",
                off,
                f"{s.asked} bytes asked, {s.used} used, {s.stored} stored; {self.asked}, "
                f"{self.used}, {self.stored} are",
            )
        return 0

    def leave_obj(self):
        self.pages += self.obj_pages
        self.nodes += self.obj_nodes
        self.pool_asked += self.asked
        self.pool_used += self.used
        self.pool_stored += self.stored
        return 0

    def walk_obj(self, off):
        self.enter_obj()
        if self.walk_pages(off):
            self.compare_obj(off)
            self.leave_obj()
        return 0

    def walk_rb(self, off, parent, low, high, depth, bucket):
        """The black height of a subtree; `low` and `high` come back as its outermost objs."""
        o: cython.pointer(Obj)
        left_high: cython.pointer(Obj) = cython.NULL
        right_low: cython.pointer(Obj) = cython.NULL
        left: cython.int = 0
        right: cython.int = 0
        red: cython.bint
        if off == 0:
            return 1
        o = obj_at(self.w, off)
        if self.fault("obj-sentinel", off, "no obj here") or not self.own(off, obj_class(is_lean(o)), "obj"):
            return 1
        self.objects += 1
        self.leans += is_lean(o)
        red = o.parent & 1 != 0
        if o.parent & ~cython.cast(u64, 1) != parent:
            self.note("rb-parent", off, f"parent {o.parent:#x}, not {parent:#x}")
        if (
            pool_of_obj(o) != self.pool_idx
            or hash_oid(o.oid[0], o.oid[1], o.oid[2]) & (cython.cast(u64, self.engine.buckets) - 1) != bucket
        ):
            self.note("obj-place", off, f"of pool {pool_of_obj(o)}, in bucket {bucket} of pool {self.pool_idx}")
        self.walk_death(o, off, bucket)
        if depth > 128:
            self.note("rb-depth", off, "deeper than 128")
            return 1
        low[0] = o
        high[0] = o
        if o.left != 0:
            left = self.walk_rb(o.left, off, low, cython.address(left_high), depth + 1, bucket)
            if left_high != cython.NULL and compare(left_high.oid, o.oid) >= 0:
                self.note("rb-order", off, "an oid to the left is not smaller")
        else:
            left = 1
        if o.right != 0:
            right = self.walk_rb(o.right, off, cython.address(right_low), high, depth + 1, bucket)
            if right_low != cython.NULL and compare(right_low.oid, o.oid) <= 0:
                self.note("rb-order", off, "an oid to the right is not larger")
        else:
            right = 1
        if left != right:
            self.note("rb-black", off, f"{left} black nodes to the left, {right} to the right")
        if red and (self.red(o.left) or self.red(o.right)):
            self.note("rb-red", off, "a red node has a red child")
        self.walk_obj(off)
        return left + (not red)

    def walk_death(self, o, off, bucket):
        """Whether who sweeps will know when an obj is dead."""
        p: cython.pointer(PoolRecord) = pool_at(self.w, self.pool_idx)
        b: cython.pointer(Bucket) = buckets_at(self.w, self.pool_idx) + bucket
        expires: u64 = expiry_of(self.w, o)[0]
        self.w.fault = 0        # a lean obj that leads to no page is noted as such
        if expires != 0 and (p.dated == 0 or sweep_in(b) == 0 and (b.earliest == 0 or b.earliest > expires)):
            self.note("obj-expires", off, f"at {expires}, and its bucket says {b.earliest}, its pool {p.dated}")
        if was_cleared(p, o) and (p.swept == p.epoch or sweep_in(b) == 0 and swept_to(b) == cython.cast(
            cython.uint, p.epoch
        )):
            self.note("obj-cleared", off, f"and epoch {p.epoch}, which says so, has been swept")
        return 0

    def red(self, off):
        answer: cython.bint
        if off == 0:
            return False
        answer = obj_at(self.w, off).parent & 1 != 0
        self.w.fault = 0
        return answer

    def walk_record(self, idx):
        """What the record of a pool says of it."""
        p: cython.pointer(PoolRecord) = pool_at(self.w, idx)
        # A destroyer that is killed when the record is retired, and not yet called dying, has
        # destroyed it.
        if (
            p.state == POOL_LIVE
            and p.sentinel != POOL_SENTINEL
            and not (idx in self.retired_pools and p.sentinel == ~cython.cast(u64, POOL_SENTINEL))
        ):
            self.note("pool-sentinel", offset_of(self.w, p), f"pool {idx}: wrong sentinel")
        if p.state == POOL_LIVE and p.seat != seat_of(self.w, p.client, False):
            self.note("pool-client", offset_of(self.w, p), f"pool {idx}: seat {p.seat}, not that of client {p.client}")
        if p.state == POOL_LIVE and policy_of(p.policy) == cython.NULL:
            self.note("pool-policy", offset_of(self.w, p), f"pool {idx}: policy {p.policy}, which there is not")
        if p.state == POOL_LIVE and not PAGE_MIN <= p.page_size <= EXTENT_MAX:
            self.note("pool-page-size", offset_of(self.w, p), f"pool {idx}: pages of {p.page_size} bytes")
        if p.state == POOL_LIVE and p.allow_count > ALLOW_MAX:
            self.note("pool-allow", offset_of(self.w, p), f"pool {idx}: {p.allow_count} clients, more than it can name")
        if p.state == POOL_LIVE and has_far(p) and far_target_of(self.w, idx) is None:
            self.note("pool-far", offset_of(self.w, p), f"pool {idx}: where its far tier is does not fit its sum")
        return 0

    def walk_living(self, b, bucket):
        """The tree of a bucket, which is not empty, of the living pool under the walk."""
        low: cython.pointer(Obj) = cython.NULL
        high: cython.pointer(Obj) = cython.NULL
        if self.red(b.root):
            self.note("rb-root", offset_of(self.w, b), "the root is red")
        self.walk_rb(b.root, 0, cython.address(low), cython.address(high), 0, bucket)
        return 0

    def begin_pool(self, idx):
        """What is walked from here on is counted anew, as this pool's."""
        self.enter_pool(idx)
        self.objects = 0
        self.leans = 0
        self.pages = 0
        self.nodes = 0
        self.pool_asked = 0
        self.pool_used = 0
        self.pool_stored = 0
        return 0

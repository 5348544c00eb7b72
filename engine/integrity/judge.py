"""Owns the judgement which objects of a damaged arena are sound, and which chunks they keep.

Truth is an obj whose whole tree is sound: sentinels, indexes, lengths, and chunks that no other
sound object has. Its counts and all back pointers are set from that; what else an arena has is made
anew from it in repair.py. An object that is not sound is dropped whole, never guessed; every page
of it that can still be named is reported. Which size of chunk a segment has, most of its chunks say
(ballot.py); what two name is his who another word says it is (a back pointer, a link's hint).
"""

import cython
from cython.cimports.engine.integrity.ballot import objs_below, segment_holding
from cython.cimports.engine.integrity.claims import bit_of, has_bit, map_words, word_of
from cython.cimports.engine.layout.regions import (
    chunk_bytes,
    codec_of,
    epoch_of_obj,
    has_far,
    has_queues,
    height_of,
    is_lean,
    nodes_of,
    obj_at,
    obj_class,
    obj_sentinel,
    objnode_at,
    pages_of,
    pampd_at,
    pool_at,
    root_of,
    stem_of,
    twin_at,
)
from cython.cimports.engine.layout.structs import (
    HEIGHT_MAX,
    MAP_SIZE,
    NODES_SHIFT,
    OBJNODE_CLASS,
    OBJNODE_SENTINEL,
    PAMPD_CLASS,
    PAMPD_SENTINEL,
    Head,
    Obj,
    Objnode,
    Pampd,
    PoolRecord,
    Stem,
    Twin,
)
from cython.cimports.engine.layout.words import (
    NOTES,
    QUEUE_NONE,
    TWIN,
    class_in,
    copied_of,
    fits_codecs,
    flags_of,
    has_chunk,
    is_far,
    is_foreign,
    is_same,
    is_twin,
    length_of,
    link_to,
    link_to_page,
    pool_mark,
    queue_word,
    size_class,
    stored_bytes,
    target_of,
    with_flags,
    without_flags,
)
from cython.cimports.engine.member.member import Member
from cython.cimports.engine.oid import hash_oid
from cython.cimports.libc.stdlib import calloc, free
from cython.cimports.shm.extent import granule_bits, granules_of
from cython.cimports.shm.layout import EXTENT_CLASS, EXTENT_MAX, Worker, u64
from cython.cimports.shm.memory import chunk_at, next_data, next_hole

NAMED_MAX = 100_000      # lost pages named one by one; beyond that only counted


@cython.cclass
class Judge:
    """One look for what is sound in a stopped arena."""

    def __cinit__(self, engine: Member):
        w: cython.pointer(Worker) = cython.address(engine.att.w)
        self.engine = engine
        self.w = w
        self.lost = []
        self.claims = []
        self.twins = {}
        self.classes = {}
        w.fault = 0
        # Every segment that has memory counts, whatever the depot says: its own word may be the
        # damaged one.
        total: u64 = w.seg_total << w.seg_shift
        end: u64 = w.seg_lo
        at = w.seg_lo
        while at < w.seg_lo + total:
            at = next_data(w, at)
            if at < w.seg_lo + total:
                at = next_hole(w, at)
                end = min(at, w.seg_lo + total)
        segment: u64 = cython.cast(u64, 1) << w.seg_shift
        w.seg_span = (end - w.seg_lo + segment - 1) // segment * segment
        self.span = w.seg_span
        self.seen = cython.cast(cython.pointer(u64), calloc(map_words(self.span), 8))
        if self.seen == cython.NULL:
            raise MemoryError

    def __dealloc__(self):
        free(self.seen)

    def claim(self, off, cls, agrees):
        """Keep a chunk for the object under the walk. True if it can be one of that class and
        nobody has it. Where two name it, only if another word `agrees` that it is this one's."""
        rel: u64 = off - self.w.seg_lo
        number: cython.longlong = segment_holding(self.w, self.span, off, cls)
        if number < 0 or self.classes.setdefault(number, cls) != cls or has_bit(self.seen, rel):
            return False
        if not agrees and self.ballot.is_contested(off):
            return False
        self.seen[word_of(rel)] |= bit_of(rel)
        self.claims.append((off, cls))
        return True

    def claim_bytes(self, off, cls, length, agrees):
        """Keep what holds so many bytes, a chunk or all granules of an extent, as `claim`; all or
        nothing."""
        i: u64
        j: u64
        if cls != EXTENT_CLASS:
            return length <= self.w.class_bytes[cls] and self.claim(off, cls, agrees)
        for i in range(granules_of(self.w, length)):
            if not self.claim(off + (i << granule_bits(self.w)), cls, agrees):
                for j in range(i):
                    self.release(off + (j << granule_bits(self.w)))
                    self.claims.pop()
                return False
        return length != 0

    def unclaim(self):
        """Give back what the object under the walk has claimed."""
        for off, cls in self.claims:
            if cls >= 0:
                self.release(off)
            else:
                self.twins[off][0] -= 1
                if self.twins[off][0] == 0:
                    del self.twins[off]
        self.claims = []
        return 0

    def claim_twin(self, off, shape):
        """Keep a twin, and its chunks if nobody has yet, for a page of this shape of the object
        under the walk. True if it is sound."""
        t: cython.pointer(Twin)
        cls: cython.int = size_class(shape)
        mark: u64 = pool_mark(self.pool_idx, pool_at(self.w, self.pool_idx).gen)
        data: u64
        t = twin_at(self.w, off)
        shape = without_flags(shape, NOTES)
        if self.w.fault != 0 or with_flags(t.shape, TWIN) != shape:
            return False
        if off not in self.twins:
            data = t.data
            if (
                cls >= OBJNODE_CLASS
                or not self.claim(off, PAMPD_CLASS, True)
                or not self.claim_bytes(data, cls, copied_of(shape), True)
            ):
                return False
            self.twins[off] = [0, mark, data, without_flags(shape, TWIN)]
        if self.twins[off][1] != mark:
            return False
        self.twins[off][0] += 1
        self.claims.append((off, -1))
        return True

    def release(self, off):
        """Let go of one chunk that was claimed; any other offset is nobody's."""
        rel: u64 = off - self.w.seg_lo
        if rel < self.span:
            self.seen[word_of(rel)] &= ~bit_of(rel)
        return 0

    def sound_tree(self, link, obj_off, level, prefix, pages, nodes):
        """True if the subtree below a link is sound; its counts and back pointers are set."""
        off: u64 = target_of(link)
        n: cython.pointer(Objnode)
        d: cython.pointer(Pampd)
        i: u64
        used: u64 = 0
        cls: cython.int
        foreign: cython.bint
        record: cython.pointer(PoolRecord)
        if level == 0:
            d = pampd_at(self.w, off)
            if (
                self.w.fault != 0
                or d.index != prefix and not self.lean
                or not self.claim(off, PAMPD_CLASS, d.obj == obj_off)
            ):
                return False
            cls = class_in(d)
            foreign = is_foreign(d.shape)
            length: u64 = length_of(d)
            if length > (pool_at(self.w, self.pool_idx).page_size if prefix != 0 else EXTENT_MAX):
                return False
            if length == 0 and has_chunk(d):
                return False
            if is_twin(d.shape):
                if foreign or is_same(d.shape) or not self.claim_twin(d.data, d.shape):
                    return False
            elif is_far(d.shape):
                # By its token alone: whether the tier has it, a get finds.
                record = pool_at(self.w, self.pool_idx)
                if d.data == 0 or not has_far(record) or not has_queues(record):
                    return False
            elif (
                not foreign
                and not is_same(d.shape)
                and (
                    cls >= OBJNODE_CLASS
                    or not self.claim_bytes(d.data, cls, copied_of(d.shape), link == self.link(off, 0))
                )
            ):
                return False
            if not fits_codecs(d.shape, codec_of(pool_at(self.w, self.pool_idx))):
                return False
            d.obj = obj_off
            d.queue = (pool_mark(self.pool_idx, pool_at(self.w, self.pool_idx).gen) if foreign
                       else queue_word(0, 0, QUEUE_NONE, self.pool_idx))
            d.link = 0
            pages[0] += 1
            self.obj_asked += length
            self.obj_used += chunk_bytes(self.w, d)
            self.obj_stored += stored_bytes(d)
            return True
        n = objnode_at(self.w, off)
        if self.w.fault != 0 or n.level != level or not self.claim(off, OBJNODE_CLASS, n.obj == obj_off):
            return False
        for i in range(MAP_SIZE):
            if n.slots[i] != 0:
                used += 1
                if not self.sound_tree(n.slots[i], obj_off, level - 1, prefix << 6 | i, pages, nodes):
                    return False
                n.slots[i] = self.link(target_of(n.slots[i]), level - 1)
        n.slots_in_use = used
        n.obj = obj_off
        n.link = 0
        nodes[0] += 1
        return used != 0

    def link(self, off, level):
        """The link word to a sound struct."""
        if level != 0:
            return link_to(off)
        d: cython.pointer(Pampd) = pampd_at(self.w, off)
        return link_to_page(self.w, off, d.data, flags_of(d))

    def sound_obj(self, off, bucket):
        """True if the obj and its tree are sound; its counts are set."""
        o: cython.pointer(Obj) = obj_at(self.w, off)
        s: cython.pointer(Stem) = stem_of(o)
        n: cython.pointer(Objnode)
        pages: u64 = 0
        nodes: u64 = 0
        height: u64
        kind: u64
        child: u64
        link: u64 = root_of(o)[0]           # once: it may change under our hands
        root: u64 = target_of(link)
        mask: u64 = self.engine.buckets - 1
        self.lean = is_lean(o)
        if (
            hash_oid(o.oid[0], o.oid[1], o.oid[2]) & mask != bucket
            or not self.claim(off, obj_class(self.lean), True)
        ):
            return False
        kind = cython.cast(cython.pointer(Head), chunk_at(self.w, root)).sentinel
        if self.w.fault != 0 or kind not in (PAMPD_SENTINEL, OBJNODE_SENTINEL):
            return False
        height = 0 if kind == PAMPD_SENTINEL else objnode_at(self.w, root).level
        if height > HEIGHT_MAX or (kind == OBJNODE_SENTINEL and (height == 0 or self.lean)):
            return False
        if not self.sound_tree(link, off, height, 0, cython.address(pages), cython.address(nodes)):
            return False
        # Where the pages of the largest indexes are gone, the tree is higher than it needs to be.
        while height > 0:
            n = objnode_at(self.w, root)
            child = target_of(n.slots[0])
            if n.slots_in_use != 1 or child == 0:
                break
            self.release(root)
            root = child
            height -= 1
            nodes -= 1
        if self.w.fault != 0:
            return False
        if pages < pages_of(o):
            self.lost.append((self.pool_name, (o.oid[0], o.oid[1], o.oid[2]), None))
        root_of(o)[0] = self.link(root, height)
        # What was of another epoch may be as dead as before, or not: it is kept.
        o.sentinel = obj_sentinel(self.lean, self.pool_idx, epoch_of_obj(o))
        if not self.lean:
            s.height = height
            s.pampd_count = pages
            s.asked = self.obj_asked
            s.used = self.obj_used
            s.stored = self.obj_stored
            s.nodes = nodes << NODES_SHIFT | s.nodes & 1
            o.link = 0
        return True

    def name_pages(self, off, level, prefix, into, depth):
        """Collect the indexes of pages that can be named below an unsound obj."""
        n: cython.pointer(Objnode)
        i: u64
        if level > HEIGHT_MAX or depth > HEIGHT_MAX or len(into) >= NAMED_MAX:
            return 0
        if (off, level) in self.named:
            return 0        # a sound page or node hangs in one place
        self.named.add((off, level))
        if level == 0:
            pampd_at(self.w, off)
            if self.w.fault == 0:
                into.add(prefix)
            self.w.fault = 0
            return 0
        n = objnode_at(self.w, off)
        if self.w.fault == 0:
            for i in range(MAP_SIZE):
                if n.slots[i] != 0:
                    self.name_pages(target_of(n.slots[i]), level - 1, prefix << 6 | i, into, depth + 1)
        self.w.fault = 0
        return 0

    def find_sound(self, root, number):
        """The sound objs of a bucket, counted; what is lost with the others is noted."""
        w: cython.pointer(Worker) = self.w
        o: cython.pointer(Obj)
        off: u64
        name = self.pool_name
        good = []
        oids = set()
        unreadable: u64 = 0
        offs: list = objs_below(w, root, cython.address(unreadable))
        self.lost.extend([(name, None, None)] * unreadable)
        for off in offs:
            o = obj_at(w, off)
            oid = (o.oid[0], o.oid[1], o.oid[2])
            self.claims = []
            self.obj_asked = 0
            self.obj_used = 0
            self.obj_stored = 0
            if oid not in oids and self.sound_obj(off, number):
                oids.add(oid)
                good.append(off)
                self.objects += 1
                self.leans += self.lean
                self.nodes += nodes_of(o)
                self.pages += pages_of(o)
                self.asked += self.obj_asked
                self.used += self.obj_used
                self.stored += self.obj_stored
                continue
            w.fault = 0
            self.unclaim()
            indexes = set()
            self.named = set()
            self.name_pages(target_of(root_of(o)[0]), height_of(o), 0, indexes, 0)
            self.lost.extend((name, oid, index) for index in sorted(indexes))
            if len(indexes) != pages_of(o):
                self.lost.append((name, oid, None))
        return good

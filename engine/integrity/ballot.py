"""Owns what all the pages of a damaged arena say together of its segments: which size of chunk each
has, and which chunks two things name.

Before anything is put right, all that living pools link to is looked at once, sound or not. A
segment has the class that most of its chunks are named by; where that is no majority, what the
depot says of it decides. So one page that is wrong takes no sound object with it, nor one word of
the depot's. Changes nothing.
"""
import cython
from cython.cimports.engine.integrity.claims import bit_of, has_bit, map_words, word_of
from cython.cimports.engine.layout.regions import (
    buckets_at,
    is_lean,
    obj_at,
    obj_class,
    pins_at,
    pool_at,
    pools_high,
    root_of,
    twin_at,
)
from cython.cimports.engine.layout.structs import (
    HEIGHT_MAX,
    MAP_SIZE,
    OBJNODE_CLASS,
    OBJNODE_SENTINEL,
    PAMPD_CLASS,
    PAMPD_SENTINEL,
    POOL_LIVE,
    Head,
    Obj,
    Objnode,
    Pampd,
    Twin,
)
from cython.cimports.engine.layout.words import class_in, copied_of, has_chunk, is_twin, size_class, target_of
from cython.cimports.engine.member.member import Member
from cython.cimports.engine.pages.pins import pinned_at, pinned_bytes, pinned_class, pins_high
from cython.cimports.libc.stdlib import calloc, free
from cython.cimports.shm.extent import granule_bits, granules_of
from cython.cimports.shm.layout import CLASS_COUNT, EXTENT_CLASS, Worker, slot_at, slots_used, u64
from cython.cimports.shm.memory import chunk_at
from cython.cimports.shm.segments import NO_CHUNK, chunk_index, segment_of


def segment_holding(w, span, off, cls):
    if off < w.seg_lo or off - w.seg_lo >= span or cls < 0 or cls >= CLASS_COUNT:
        return -1
    return -1 if chunk_index(w, cls, off) == NO_CHUNK else segment_of(w, off)


def objs_below(w, root, unreadable):
    o: cython.pointer(Obj)
    off: u64
    found = []
    visited = set()
    todo = [root]
    while todo:
        off = todo.pop()
        if off == 0 or off in visited:
            continue
        visited.add(off)
        o = obj_at(w, off)
        if w.fault != 0:
            w.fault = 0
            unreadable[0] += 1
            continue
        todo.append(o.left)
        todo.append(o.right)
        found.append(off)
    return found


@cython.cclass
class Ballot:
    """One look at a stopped arena."""

    def __cinit__(self, engine: Member):
        w: cython.pointer(Worker) = cython.address(engine.att.w)
        self.w = w
        self.span = w.seg_span
        self.named = cython.cast(cython.pointer(u64), calloc(map_words(self.span), 8))
        self.contested = cython.cast(cython.pointer(u64), calloc(map_words(self.span), 8))
        self.votes = cython.cast(
            cython.pointer(cython.uint),
            calloc(((self.span >> w.seg_shift) + 1) * CLASS_COUNT, cython.sizeof(cython.uint)),
        )
        if self.named == cython.NULL or self.contested == cython.NULL or self.votes == cython.NULL:
            raise MemoryError
        self.walk_pages(engine)

    def __dealloc__(self):
        free(self.named)
        free(self.contested)
        free(self.votes)

    def is_contested(self, off):
        """True if two things name the chunk at an offset."""
        rel: u64 = off - self.w.seg_lo
        return rel < self.span and has_bit(self.contested, rel)

    def class_of(self, number):
        """The class of a segment; -1: nothing names a chunk of it."""
        votes: cython.pointer(cython.uint) = self.votes + number * CLASS_COUNT
        said: u64 = (self.w.segtable + number).cls - 1
        best: cython.int = 0
        cls: cython.int
        for cls in range(CLASS_COUNT):
            if votes[cls] > votes[best] or (votes[cls] == votes[best] and cython.cast(u64, cls) == said):
                best = cls
        return best if votes[best] != 0 else -1

    def count(self, off, cls):
        """Count what is said of a segment. False: no chunk of that class can be there."""
        number: cython.longlong = segment_holding(self.w, self.span, off, cls)
        if number < 0:
            return False
        self.votes[number * CLASS_COUNT + cls] += 1
        return True

    def name(self, off, cls):
        """Something names a chunk. True if one can be there, and nothing has named it before."""
        rel: u64 = off - self.w.seg_lo
        if not self.count(off, cls):
            return False
        if has_bit(self.named, rel):
            self.contested[word_of(rel)] |= bit_of(rel)
            return False
        self.named[word_of(rel)] |= bit_of(rel)
        return True

    def name_bytes(self, off, cls, length):
        """Something names what holds so many bytes: a chunk, or granules."""
        i: u64
        for i in range(granules_of(self.w, length) if cls == EXTENT_CLASS else 1):
            if not self.name(off + (i << granule_bits(self.w)), cls) and cls == EXTENT_CLASS:
                if segment_holding(self.w, self.span, off + (i << granule_bits(self.w)), cls) < 0:
                    break

    def walk_pages(self, engine):
        """All that living pools link to, and all that is viewed."""
        w: cython.pointer(Worker) = self.w
        idx: u64
        i: u64
        at: u64
        word: u64
        for idx in range(pools_high(w)):
            if pool_at(w, idx).state == POOL_LIVE:
                for i in range(cython.cast(u64, engine.buckets)):
                    self.walk_bucket((buckets_at(w, idx) + i).root)
        for idx in range(slots_used(w)):
            for i in range(pins_high(slot_at(w, idx))):
                word = pins_at(w, idx)[i]
                if word == 0:
                    continue
                for at in range(max(1, granules_of(w, pinned_bytes(w, word))) if pinned_class(word) == EXTENT_CLASS
                                else 1):
                    if not self.count(pinned_at(word) + (at << granule_bits(w)), pinned_class(word)):
                        break
        return 0

    def walk_bucket(self, root):
        """The objs of a bucket, in whatever way they hang."""
        off: u64
        o: cython.pointer(Obj)
        unreadable: u64 = 0
        offs: list = objs_below(self.w, root, cython.address(unreadable))
        with cython.nogil:
            pass        # as in a repair
        for off in offs:
            o = obj_at(self.w, off)
            self.name(off, obj_class(is_lean(o)))
            self.walk_below(target_of(root_of(o)[0]), 0)
        return 0

    def walk_below(self, off, depth):
        """What a link leads to, each node and page once."""
        n: cython.pointer(Objnode)
        i: u64
        kind: u64 = cython.cast(cython.pointer(Head), chunk_at(self.w, off)).sentinel
        if self.w.fault != 0:
            self.w.fault = 0
        elif kind == PAMPD_SENTINEL:
            if self.name(off, PAMPD_CLASS):
                self.walk_page(cython.cast(cython.pointer(Pampd), chunk_at(self.w, off)))
        elif kind == OBJNODE_SENTINEL and depth <= HEIGHT_MAX and self.name(off, OBJNODE_CLASS):
            n = cython.cast(cython.pointer(Objnode), chunk_at(self.w, off))
            for i in range(MAP_SIZE):
                if n.slots[i] != 0:
                    self.walk_below(target_of(n.slots[i]), depth + 1)
        return 0

    def walk_page(self, d):
        """The chunk of a page. A twin's is named by the first page that refers to it."""
        t: cython.pointer(Twin)
        rel: u64 = d.data - self.w.seg_lo
        if has_chunk(d):
            self.name_bytes(d.data, class_in(d), copied_of(d.shape))
        elif is_twin(d.shape):
            t = twin_at(self.w, d.data)
            if self.w.fault == 0 and rel < self.span and not has_bit(self.named, rel):
                self.name(d.data, PAMPD_CLASS)
                self.name_bytes(t.data, size_class(t.shape), copied_of(t.shape))
            self.w.fault = 0
        return 0

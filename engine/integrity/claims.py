"""Owns the map of who owns which chunk, while an arena is checked: claims, and the depot's own
account against them.

Other threads of this process get the interpreter now and then meanwhile, not often: in a stopped
world everybody waits as long as they run.
"""
import cython
from cython.cimports.engine.integrity.claims import bit_of, has_bit, map_words, word_of
from cython.cimports.engine.member.member import Member
from cython.cimports.libc.stdlib import calloc, free
from cython.cimports.shm.atomics import popcount
from cython.cimports.shm.extent import granule_bits, granules_of
from cython.cimports.shm.layout import (
    CLASS_COUNT,
    EXTENT_CLASS,
    SEG_HOLE,
    SEG_LEAVING,
    SEG_PUNCHING,
    SEG_STAYS,
    ClassWords,
    Segment,
    Worker,
    offset_of,
    u64,
)
from cython.cimports.shm.memory import widen
from cython.cimports.shm.segments import NO_CHUNK, bitmap_of, chunk_index, chunk_start, segment_of

PROBLEMS_MAX = 1000
YIELD_AFTER = cython.declare(u64, 1 << 14)      # chunks, or pages of a queue: 5 to 10 ms
LOOK_AFTER = cython.declare(u64, 1 << 12)       # of the same: 1 to 3 ms


@cython.cclass
class Claims:
    """Who owns which chunk, in one walk over an arena; what is wrong goes into `problems`, as
    tuples: who made a Problem here would run signal handlers, in a stopped world.

    stopped: the world stands still, so that all there is can be compared with all else; if not,
    what is walked is locked, and no more."""

    def __cinit__(self, engine: Member, stopped: bool = True):
        self.stopped = stopped
        self.engine = engine
        self.w = cython.address(engine.att.w)
        self.problems = []
        self.counts = {}
        self.w.fault = 0
        widen(self.w, 0)
        # Worker.seg_span may grow on the way, as others work, or still write into the depot; the
        # map does not.
        self.span = self.w.seg_span if stopped else self.w.seg_total << self.w.seg_shift
        self.seen = cython.cast(cython.pointer(u64), calloc(map_words(self.span), 8))
        if self.seen == cython.NULL:
            raise MemoryError

    def __dealloc__(self):
        free(self.seen)

    def note(self, id, where, what):
        """Record a problem at an arena offset."""
        if len(self.problems) < PROBLEMS_MAX:
            self.problems.append((id, f"{where:#x}", what))
        return 0

    def fault(self, id, where, what):
        """True, with a problem recorded, if the last access was a bad offset or a missing
        sentinel."""
        if self.w.fault == 0:
            return False
        self.w.fault = 0
        self.note(id, where, what)
        return True

    def count_step(self):
        """Let other threads of this process have the interpreter, after so many steps, and see
        whether the walk goes on."""
        self.steps += 1
        if self.steps % YIELD_AFTER == 0:
            with cython.nogil:
                pass
        if self.steps % LOOK_AFTER == 0:
            self.look_up()
        return 0

    def look_up(self):
        """Now and then in a walk: it may end here, by what is raised."""
        return 0

    def own(self, off, cls, what):
        """Claim a chunk for an owner. True if it is a chunk of that class, out of the depot,
        claimed by nobody else."""
        w: cython.pointer(Worker) = self.w
        rel: u64 = off - w.seg_lo
        s: cython.pointer(Segment)
        index: u64
        words: cython.pointer(u64)
        self.count_step()
        if off < w.seg_lo or rel >= self.span or cls < 0 or cls >= CLASS_COUNT:
            self.note("chunk-outside", off, f"{what}: no such chunk")
            return False
        s = w.segtable + segment_of(w, off)
        index = chunk_index(w, cls, off)
        if s.cls != cython.cast(u64, cls + 1) or index == NO_CHUNK:
            self.note("chunk-class", off, f"{what}: not a chunk of class {cls} ({w.class_bytes[cls]} bytes)")
            return False
        words = bitmap_of(w, s, cls)
        if words[index >> 6] >> (index & 63) & 1 == 0:
            self.note("chunk-free", off, f"{what}: the depot holds this chunk free")
            return False
        if has_bit(self.seen, rel):
            self.note("chunk-twice", off, f"{what}: this chunk has another owner too")
            return False
        self.set_bit(self.seen, rel)
        return True

    def own_bytes(self, off, cls, length, what):
        """Claim what holds so many bytes for an owner: a chunk, or all granules of an extent. True
        as of `own`, and if they fit."""
        i: u64
        if cls != EXTENT_CLASS:
            if not self.own(off, cls, what):
                return False
            if length > self.w.class_bytes[cls]:
                self.note("page-length", off, f"{what}: {length} bytes in a chunk of {self.w.class_bytes[cls]}")
                return False
            return True
        for i in range(granules_of(self.w, length)):
            if not self.own(off + (i << granule_bits(self.w)), cls, what):
                return False
        return length != 0

    def set_bit(self, map, rel):
        """Set the bit of a chunk at an offset into the segments."""
        map[word_of(rel)] |= bit_of(rel)
        return 0

    # --- depot ------------------------------------------------------------------------------------

    def walk_depot(self):
        """Segments, each by itself; the lists of them; and what the depot counts."""
        w: cython.pointer(Worker) = self.w
        s: cython.pointer(Segment)
        number: u64
        owner: u64
        high: u64 = min(w.depot.seg_high, self.span >> w.seg_shift)
        cls: cython.int
        used: u64 = 0
        chunks: u64 = 0
        listed: u64 = 0
        expected: u64 = 0
        holes: u64 = 0
        waits: cython.bint
        segments: ClassWords
        free: ClassWords
        for cls in range(CLASS_COUNT):
            segments[cls] = 0
            free[cls] = 0
        for number in range(high):
            s = w.segtable + number
            owner = s.cls
            if owner > CLASS_COUNT:
                self.note("segment-class", offset_of(w, s), f"class {owner}")
                continue
            waits = s.state == SEG_LEAVING and owner == 0       # for the worker that wants it
            self.look_at_state(s)
            if owner == 0:
                expected += s.state != SEG_PUNCHING and not waits
                holes += s.state >= SEG_HOLE
                continue
            used += 1
            cls = owner - 1
            if s.free_count != 0 and s.state != SEG_LEAVING:
                expected += 1
            segments[cls] += 1
            free[cls] += s.free_count
            chunks += self.count_out(s, cls)
        for cls in range(-2, CLASS_COUNT):
            self.walk_list(cls, cython.address(listed))
        if listed != expected:
            self.note(
                "segment-lists",
                offset_of(w, w.depot),
                f"{listed} segments in lists, {expected} have free chunks or are free",
            )
        if holes != w.depot.holes:
            self.note("segment-holes", offset_of(w, w.depot), f"holes {w.depot.holes}, {holes} are")
        if w.depot.limit > w.seg_total:
            self.note("segment-limit", offset_of(w, w.depot), f"limit {w.depot.limit} of {w.seg_total} segments")
        if used != w.depot.seg_used:
            self.note("segment-used", offset_of(w, w.depot), f"seg_used {w.depot.seg_used}, {used} are")
        for cls in range(CLASS_COUNT):
            if segments[cls] != w.depot.class_segments[cls] or free[cls] != w.depot.class_free[cls]:
                self.note(
                    "class-counts",
                    offset_of(w, w.depot),
                    f"class {cls}: {w.depot.class_segments[cls]} segments, {w.depot.class_free[cls]} free chunks; "
                    f"{segments[cls]}, {free[cls]} are",
                )
        self.counts["segments"] = used
        self.counts["chunks"] = chunks
        return 0

    def look_at_state(self, s):
        """What a segment says of its state, and of who wants it."""
        if (
            s.state > SEG_PUNCHING
            or s.state >= SEG_HOLE and s.cls != 0
            or s.state == SEG_LEAVING and s.cls == 0 and s.wanted == 0
            or s.wanted > self.w.max_workers
            or s.wanted != 0 and s.state != SEG_LEAVING
        ):
            self.note(
                "segment-state",
                offset_of(self.w, s),
                f"state {s.state}, wanted {s.wanted} of a segment of class "
                f"{cython.cast(cython.longlong, s.cls) - 1}",
            )
        return 0

    def count_out(self, s, cls):
        """How many chunks of a segment are out, each of which somebody must have."""
        w: cython.pointer(Worker) = self.w
        words: cython.pointer(u64) = bitmap_of(w, s, cls)
        start: u64 = chunk_start(w, s - w.segtable, cls, 0) - w.seg_lo
        out: u64 = 0
        i: u64
        j: u64
        for i in range((w.class_chunks[cls] + 63) // 64):
            out += popcount(words[i])
            if not self.stopped and i * 64 + 64 <= w.class_chunks[cls]:
                continue        # who has which is not asked in a world that goes on
            for j in range(64):
                if words[i] >> j & 1 and i * 64 + j >= w.class_chunks[cls]:
                    self.note("segment-bitmap", offset_of(w, s), f"bit {i * 64 + j} of {w.class_chunks[cls]} chunks")
                elif words[i] >> j & 1:
                    self.count_step()
                    self.claimed(start + (i * 64 + j) * w.class_bytes[cls], cls)
        if out + s.free_count != w.class_chunks[cls]:
            self.note(
                "segment-count",
                offset_of(w, s),
                f"free_count {s.free_count}, {out} of {w.class_chunks[cls]} are out",
            )
        return out

    def walk_list(self, cls, listed):
        """The list of a class, of free segments (-1), or of holes (-2); adds to `listed` how many
        are in it."""
        w: cython.pointer(Worker) = self.w
        s: cython.pointer(Segment)
        number: u64 = w.depot.hole_head if cls == -2 else w.depot.free_head if cls < 0 else w.depot.class_head[cls]
        state: u64 = SEG_HOLE if cls == -2 else SEG_STAYS
        before: u64 = 0
        steps: u64 = 0
        while number != 0 and steps <= w.seg_total:
            steps += 1
            if number > w.seg_total:
                self.note("segment-list", number, f"class {cls}: no such segment")
                break
            s = w.segtable + (number - 1)
            if (
                s.cls != (cython.cast(u64, cls + 1) if cls >= 0 else 0)
                or (cls >= 0 and s.free_count == 0)
                or s.state != state
            ):
                self.note(
                    "segment-list",
                    offset_of(w, s),
                    f"listed for class {cls}, is of {cython.cast(cython.longlong, s.cls) - 1}",
                )
            if s.prev != before:
                self.note("segment-prev", offset_of(w, s), f"prev {s.prev}, not {before}")
            listed[0] += 1
            before = number
            number = s.next
        if steps > w.seg_total:
            self.note("segment-list", offset_of(w, w.depot), f"class {cls}: a list without an end")
        return 0

    def claimed(self, rel, cls):
        if self.stopped and not has_bit(self.seen, rel):
            self.note(
                "chunk-leaked",
                self.w.seg_lo + rel,
                f"a chunk of {self.w.class_bytes[cls]} bytes is out, and nobody has it",
            )
        return 0

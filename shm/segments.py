"""Owns segments: size classes, the lists of the depot, giving a segment to a class and taking it
back.

A segment is a run of 1 << seg_shift bytes, given to one size class until it is empty again. The
depot knows which chunks of it are out by a bitmap; out means in a magazine, or linked by the layer
above. No more segments have memory than `Depot.limit` says, but for the time it takes to empty
those that are too many (shrink.py): one that leaves becomes a hole when it is empty, unless a
worker wants it for an extent: then it waits for that worker, in no list.

All this happens under the depot's lock, inside the caller's transaction.
Rejected: free lists threaded through the chunks (a list walk touches one cold line a chunk, and a
stray write into a free page breaks the list); one list for all segments (empty ones could not be
told).
"""
import cython
from cython.cimports.libc.string import memset
from cython.cimports.shm.atomics import load
from cython.cimports.shm.journal import store
from cython.cimports.shm.layout import (
    CLASS_COUNT,
    EXTENT_CLASS,
    EXTENT_MAX,
    FAULT_CHUNK,
    FAULT_OFFSET,
    FINE_CLASSES,
    GRANULE_SHIFT,
    HUGE_BYTES,
    MAG_BATCH,
    NOSPACE,
    OK,
    SEG_HOLE,
    SEG_LEAVING,
    SEG_STAYS,
    Segment,
    Worker,
    slots_used,
    u64,
)
from cython.cimports.shm.memory import back, back_segment
from cython.cimports.shm.segments import bitmap_of, has_memory, segment_start

LARGE_SHIFT = cython.declare(u64, 18)   # segments of an arena that is large enough for some classes more
MANY = cython.declare(u64, 4)           # segments of short pages after which they are told apart more finely
WARM_MIN = cython.declare(u64, 4)       # segments without memory that are worth a look before the depot is held
SHARERS = cython.declare(u64, 8)        # workers whose magazines never get smaller because there are others

# Chunk sizes in bytes. Steps of 16 bytes keep what is lost of the shortest pages small beside what
# describes them; from a cache line's multiples on, fine steps up to a page keep the loss of a short
# (or compressed) page under a quarter. The first class and the bulk class, last, are for structs of
# the layer above alone, whose segments are searched for them; so pages of that size have a class
# for themselves. The one before the last is of extents, whose granules are a part of a segment,
# whatever that has: see extent.py.
SIZES = cython.declare(cython.int[40])
SIZES[:] = [
    64, 16, 32, 48, 64, 80, 96, 112, 128, 144, 160, 176, 192, 208, 224, 240, 256, 320, 384, 512, 768, 1024,
    1280, 1536, 1792, 2048, 2304, 2560, 2816, 3072, 3328, 3584, 4096, 6144, 8192, 16384, 32768, 65536, 0, 576,
]


def sizes():
    """Chunk sizes by class, in bytes; 0 of the class of extents, whose granules are a part of a
    segment."""
    return [SIZES[i] for i in range(CLASS_COUNT)]


def set_classes(w):
    """Fill the size tables of a Worker: they follow from the geometry alone."""
    seg_bytes: u64 = cython.cast(u64, 1) << w.seg_shift
    cls: cython.int
    size: u64
    n: u64
    start: u64
    for cls in range(CLASS_COUNT):
        size = SIZES[cls] if cls != EXTENT_CLASS else seg_bytes >> GRANULE_SHIFT
        n = seg_bytes // size
        start = 0
        if n > 64:
            start = ((n + 7) // 8 + 63) & ~cython.cast(u64, 63)
            n = (seg_bytes - start) // size
        w.class_bytes[cls] = size
        w.class_chunks[cls] = n
        w.class_start[cls] = start
    w.batch_for = 0
    set_batches(w, False)


def set_batches(w, tight):
    """How many chunks of each class this worker moves at once. What lies in magazines is nobody
    else's: a batch is at most 1/512 of what may have memory, and where nearly all of that is taken
    (`tight`) more than eight workers share what eight would have."""
    sharers: u64 = slots_used(w) if tight else 0
    segments: u64 = limit_of(w)
    batch: u64
    cls: cython.int
    if sharers < SHARERS:
        sharers = SHARERS
    if w.batch_for == (segments << 16 | sharers):
        return
    w.batch_for = segments << 16 | sharers
    for cls in range(CLASS_COUNT):
        batch = (segments << w.seg_shift) // (512 // SHARERS * sharers * w.class_bytes[cls])
        w.class_batch[cls] = 1 if batch < 1 else MAG_BATCH if batch > MAG_BATCH else batch


def class_of(w, length):
    """The smallest class whose chunks hold `length` bytes, the first and the last class aside,
    which are for structs; that of extents if no chunk does; -1: nothing.

    A class more is a segment less for the others, and in a small arena none for a page of a few
    bytes where all are taken. So the shortest pages lie in chunks of whole cache lines, of two at
    least in a small arena; elsewhere in finer ones once there are many of them. How many is read
    without a lock: a page may come into either class, and both hold it."""
    cls: cython.int = FINE_CLASSES + 1
    fine: cython.int
    if length > cython.cast(u64, SIZES[EXTENT_CLASS - 1]):
        return EXTENT_CLASS if length <= EXTENT_MAX else -1
    if length <= FINE_CLASSES * 16:
        cls = 4 if length <= 64 else (length + 63) // 64 * 4
        if w.seg_shift < LARGE_SHIFT:
            return cls if cls > 8 else 8
        fine = (length + 15) // 16 if length != 0 else 1
        if (
            load(cython.address(w.depot.class_segments[fine])) != 0
            or load(cython.address(w.depot.class_segments[cls])) >= MANY
        ):
            return fine
        return cls
    if length > 2048:
        cls = 26
    while cython.cast(u64, SIZES[cls]) < length:
        cls += 1
    return cls


def segment_at(w, number):
    """Descriptor of segment `number` - 1; a number out of range sets the fault and answers segment
    0."""
    if number == 0 or number > w.seg_total:
        if w.fault == 0:
            w.fault = FAULT_OFFSET
        return w.segtable
    return w.segtable + (number - 1)


def limit_of(w):
    """Segments that may have memory today."""
    limit: u64 = load(cython.address(w.depot.limit))
    return limit if 0 < limit < w.seg_total else w.seg_total


def spare(w):
    """Segments that may be given memory: what the limit leaves. Without the depot's lock a hint."""
    backed: u64 = load(cython.address(w.depot.seg_high)) - load(cython.address(w.depot.holes))
    return limit_of(w) - backed if backed < limit_of(w) else 0


def give_memory(w, idx, huge):
    """Give a segment, by its place in the table, memory: first its marks, since a segment that has
    memory can be given to any class. OK or NOSPACE. huge: as in back_segment."""
    bytes: u64 = cython.cast(u64, 1) << (w.seg_shift - 8)
    if back(w, w.marks_off + idx * bytes, bytes) != OK:
        return NOSPACE
    return back_segment(w, segment_start(w, idx), huge)


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _run_is_free(w: cython.pointer(Worker), s: cython.pointer(Segment)) -> cython.bint:
    """True if a whole huge page may be had from this segment on: nothing but holes, and the limit
    leaves room for all of them. Without the depot's lock a hint."""
    run: u64 = HUGE_BYTES >> w.seg_shift
    first: u64 = cython.cast(u64, s - w.segtable)
    number: u64
    if spare(w) < run or first + run > w.seg_total:
        return False
    for number in range(first, first + run):
        if has_memory(w, number):
            return False
    return True


def warm(w, first, end):
    """Give those of these segments memory that have none, from the place `first` of the table on,
    before the depot is held, as it takes long; if they are more than a few. If somebody else has
    one by then, a hole has memory, as one has that is not punched yet."""
    huge: u64 = HUGE_BYTES >> w.seg_shift
    idx: u64
    bare: u64 = 0
    for idx in range(first, end):
        bare += not has_memory(w, idx)
    if bare < WARM_MIN:
        return
    for idx in range(first, end):
        if not has_memory(w, idx):
            give_memory(w, idx, idx % huge == 0 and (end - idx >= huge or _run_is_free(w, w.segtable + idx)))


def slack(w, cls):
    """Bytes that lie free in segments of other classes than this one. Without the depot's lock: a
    hint."""
    i: cython.int
    bytes: u64 = 0
    for i in range(CLASS_COUNT):
        if i != cls:
            bytes += load(cython.address(w.depot.class_free[i])) * w.class_bytes[i]
    return bytes


def list_push(w, head, s):
    """Make a segment the first of a list, inside the caller's transaction."""
    number: u64 = cython.cast(u64, s - w.segtable) + 1
    if head[0] != 0:
        store(w, cython.address(segment_at(w, head[0]).prev), number)
    store(w, cython.address(s.next), head[0])
    store(w, cython.address(s.prev), 0)
    store(w, head, number)


def list_remove(w, head, s):
    """Take a segment out of the list it is in, inside the caller's transaction."""
    if s.next != 0:
        store(w, cython.address(segment_at(w, s.next).prev), s.prev)
    if s.prev != 0:
        store(w, cython.address(segment_at(w, s.prev).next), s.next)
    else:
        store(w, head, s.next)


def open_segment(w, number, cls, huge):
    """Give a segment without a class memory and a class, inside the caller's transaction: a free
    one, a hole, the first that was never used, or one that waits for this worker. It is in no list
    then. OK, NOSPACE (there is no memory, or no more may have any) or CORRUPT.

    huge: the memory behind it, up to a huge page, is about to be wanted. If nobody has it, it is
    taken along anyway."""
    s: cython.pointer(Segment) = segment_at(w, number)
    fresh: cython.bint = number == w.depot.seg_high + 1
    hole: cython.bint = s.state == SEG_HOLE
    if w.fault != 0 or s.cls != 0 or number > w.depot.seg_high + 1 or s.state not in (SEG_STAYS, SEG_LEAVING, SEG_HOLE):
        w.fault = w.fault if w.fault else FAULT_CHUNK
        return OK
    # A free segment may always be taken: it has memory already, also while there is too much.
    if hole or fresh:
        if spare(w) == 0 or give_memory(w, number - 1, huge or _run_is_free(w, s)) != OK:
            return NOSPACE
    if fresh:
        store(w, cython.address(w.depot.seg_high), number)
    elif hole:
        list_remove(w, cython.address(w.depot.hole_head), s)
        store(w, cython.address(w.depot.holes), w.depot.holes - 1)
    elif s.state == SEG_STAYS:
        list_remove(w, cython.address(w.depot.free_head), s)
    if s.state != SEG_STAYS:
        store(w, cython.address(s.state), SEG_STAYS)
        store(w, cython.address(s.wanted), 0)
    # Chunks of the first class are looked through without knowing which are in use: nothing of a
    # former class may be left there.
    if cls == 0:
        memset(w.base + segment_start(w, number - 1), 0, cython.cast(u64, 1) << w.seg_shift)
    # The map lies where a former class had chunks. Nobody reads it before the class is set.
    memset(bitmap_of(w, s, cls), 0, w.class_start[cls] if w.class_start[cls] else 8)
    store(w, cython.address(s.free_count), w.class_chunks[cls])
    store(w, cython.address(s.cls), cls + 1)
    store(w, cython.address(w.depot.seg_used), w.depot.seg_used + 1)
    if w.depot.seg_used > w.used_most:
        w.used_most = w.depot.seg_used
    store(w, cython.address(w.depot.class_segments[cls]), w.depot.class_segments[cls] + 1)
    store(w, cython.address(w.depot.class_free[cls]), w.depot.class_free[cls] + w.class_chunks[cls])
    return OK


def take_segment(w, cls):
    """Give a free segment to the class and list it; NULL when there is none, or no memory for
    it."""
    number: u64 = w.depot.free_head
    s: cython.pointer(Segment)
    if number == 0:
        number = w.depot.hole_head if w.depot.hole_head != 0 else w.depot.seg_high + 1
        if number > w.seg_total:
            return cython.NULL
    s = segment_at(w, number)
    if (s.state == SEG_HOLE) != (w.depot.free_head == 0 and w.depot.hole_head != 0) or s.state == SEG_LEAVING:
        w.fault = w.fault if w.fault else FAULT_CHUNK
    if open_segment(w, number, cls, False) != OK or w.fault != 0:
        return cython.NULL
    list_push(w, cython.address(w.depot.class_head[cls]), s)
    return s


def list_hole(w, s):
    """Make a segment without a class that is in no list a hole. Inside the caller's transaction."""
    store(w, cython.address(s.state), SEG_HOLE)
    store(w, cython.address(s.dug), s.dug + 1)
    store(w, cython.address(w.depot.holes), w.depot.holes + 1)
    list_push(w, cython.address(w.depot.hole_head), s)


def free_segment(w, s):
    """List a segment without a class that is in no list: as free, or as a hole if more have memory
    than may. Inside the caller's transaction."""
    if w.depot.seg_high - w.depot.holes > limit_of(w):
        list_hole(w, s)
    else:
        if s.state != SEG_STAYS:
            store(w, cython.address(s.state), SEG_STAYS)
        list_push(w, cython.address(w.depot.free_head), s)


def put_back(w, s, cls, count):
    """So many chunks of a segment are not out any more, which its map says already: count and list
    it, and if those were its last take its class, inside the caller's transaction."""
    before: u64 = s.free_count
    if w.fault != 0 or s.cls != cython.cast(u64, cls + 1) or before + count > w.class_chunks[cls]:
        w.fault = w.fault if w.fault else FAULT_CHUNK
        return
    store(w, cython.address(s.free_count), before + count)
    if before == 0 and s.state != SEG_LEAVING:
        list_push(w, cython.address(w.depot.class_head[cls]), s)
    if s.free_count == w.class_chunks[cls]:
        w.emptied += 1
        store(w, cython.address(s.cls), 0)
        store(w, cython.address(w.depot.seg_used), w.depot.seg_used - 1)
        store(w, cython.address(w.depot.class_segments[cls]), w.depot.class_segments[cls] - 1)
        store(w, cython.address(w.depot.class_free[cls]), w.depot.class_free[cls] - w.class_chunks[cls])
        if s.state == SEG_LEAVING:
            if s.wanted == 0:
                free_segment(w, s)
        else:
            # Also while too many have memory: whoever emptied it may need it for another class. Who
            # resizes digs it up, or empties another.
            list_remove(w, cython.address(w.depot.class_head[cls]), s)
            list_push(w, cython.address(w.depot.free_head), s)

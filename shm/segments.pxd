# C-level names of segments.py, and where segments and chunks lie.
from shm.atomics cimport load
from shm.layout cimport SEG_HOLE, Segment, Worker, u64

cdef void set_classes(Worker *w) noexcept nogil
cdef void set_batches(Worker *w, bint tight) noexcept nogil
cdef int class_of(Worker *w, u64 length) noexcept nogil
cdef Segment *segment_at(Worker *w, u64 number) noexcept nogil
cdef u64 limit_of(Worker *w) noexcept nogil
cdef u64 spare(Worker *w) noexcept nogil
cdef int give_memory(Worker *w, u64 idx, bint huge) noexcept nogil
cdef void warm(Worker *w, u64 first, u64 end) noexcept nogil
cdef u64 slack(Worker *w, int cls) noexcept nogil
cdef void list_push(Worker *w, u64 *head, Segment *s) noexcept nogil
cdef void list_remove(Worker *w, u64 *head, Segment *s) noexcept nogil
cdef void list_hole(Worker *w, Segment *s) noexcept nogil
cdef void free_segment(Worker *w, Segment *s) noexcept nogil
cdef int open_segment(Worker *w, u64 number, int cls, bint huge) noexcept nogil
cdef Segment *take_segment(Worker *w, int cls) noexcept nogil
cdef void put_back(Worker *w, Segment *s, int cls, u64 count) noexcept nogil

cdef enum:
    NO_CHUNK = 0xFFFFFFFF

# False of a hole, and of what was never used. Without the depot's lock, each word read once: a hint.
cdef inline bint has_memory(Worker *w, u64 idx) noexcept nogil:
    return idx < load(&w.depot.seg_high) and load(&(w.segtable + idx).state) != SEG_HOLE

# Where a segment begins, by its place in the table.
cdef inline u64 segment_start(Worker *w, u64 idx) noexcept nogil:
    return w.seg_lo + (idx << w.seg_shift)

# Where a chunk begins, by its segment's place in the table and its own in the segment.
cdef inline u64 chunk_start(Worker *w, u64 idx, int cls, u64 index) noexcept nogil:
    return segment_start(w, idx) + w.class_start[cls] + index * w.class_bytes[cls]

# Which segment an offset lies in: its place in the table. Of an offset outside of all, a place
# outside of the table.
cdef inline u64 segment_of(Worker *w, u64 off) noexcept nogil:
    return (off - w.seg_lo) >> w.seg_shift

# Which chunk of a segment of this class begins at an offset; NO_CHUNK: none does.
cdef inline u64 chunk_index(Worker *w, int cls, u64 off) noexcept nogil:
    cdef u64 inside = ((off - w.seg_lo) & ((<u64>1 << w.seg_shift) - 1)) - w.class_start[cls]
    cdef u64 index = inside // w.class_bytes[cls]
    return index if index < w.class_chunks[cls] and index * w.class_bytes[cls] == inside else <u64>NO_CHUNK

# The words that tell which chunks of a segment are out, if it is of this class.
cdef inline u64 *bitmap_of(Worker *w, Segment *s, int cls) noexcept nogil:
    return &s.bitmap if w.class_start[cls] == 0 else <u64 *>(w.base + segment_start(w, s - w.segtable))

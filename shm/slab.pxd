# C-level names of slab.py, and the two steps that verbs take inside their own transactions.
from shm.atomics cimport likely, unlikely
from shm.journal cimport store
from shm.layout cimport (BULK_CAP, BULK_CLASS, CLASS_COUNT, FAULT_CHUNK, MAG_CAP, NOMEM, OK, SLOT_BYTES,
                         Magazine, Segment, Slot, Worker, u64)
from shm.memory cimport chunk_at

cdef void set_classes(Worker *w) noexcept nogil
cdef int class_of(u64 length) noexcept nogil
cdef Segment *segment_at(Worker *w, u64 number) noexcept nogil
cdef u64 limit_of(Worker *w) noexcept nogil
cdef u64 slack(Worker *w, int cls) noexcept nogil
cdef void list_push(Worker *w, u64 *head, Segment *s) noexcept nogil
cdef void list_remove(Worker *w, u64 *head, Segment *s) noexcept nogil
cdef void list_hole(Worker *w, Segment *s) noexcept nogil
cdef void free_segment(Worker *w, Segment *s) noexcept nogil
cdef int refill(Worker *w, int cls, u64 want) noexcept nogil
cdef int drain(Worker *w, Magazine *mag, int cls, u64 keep) noexcept nogil
cdef int drain_all(Worker *w, Slot *slot) noexcept nogil

cdef enum:
    NO_CHUNK = 0xFFFFFFFF

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

cdef inline u64 mag_cap(int cls) noexcept nogil:
    return BULK_CAP if cls == BULK_CLASS else MAG_CAP

cdef inline u64 available(Worker *w, int cls) noexcept nogil:
    return w.slot.mags[cls].count

cdef inline int ensure(Worker *w, int cls, u64 want) noexcept nogil:
    # OK when at least `want` chunks lie in this worker's magazine; BUSY or NOMEM else.
    if likely(w.slot.mags[cls].count >= want):
        return OK
    return refill(w, cls, want)

cdef inline u64 top(Worker *w, int cls) noexcept nogil:
    # The chunk that `pop` will give next, or 0: it may be filled before it is taken.
    cdef Magazine *mag = &w.slot.mags[cls]
    cdef u64 n = mag.count
    if unlikely(n == 0 or n > mag_cap(cls)):
        if n != 0:
            w.fault = FAULT_CHUNK
        return 0
    n = mag.items[n - 1]
    chunk_at(w, n)
    return 0 if unlikely(w.fault != 0) else n

cdef inline u64 pop(Worker *w, int cls) noexcept nogil:
    cdef u64 off = top(w, cls)
    if likely(off != 0):
        store(w, &w.slot.mags[cls].count, w.slot.mags[cls].count - 1)
    return off

cdef inline void push(Worker *w, int cls, u64 off) noexcept nogil:
    # The caller has made room (`drain`, in a transaction of its own); a full magazine is a fault.
    cdef Magazine *mag = &w.slot.mags[cls]
    if unlikely(mag.count >= mag_cap(cls)):
        w.fault = FAULT_CHUNK
        return
    store(w, &mag.items[mag.count], off)
    store(w, &mag.count, mag.count + 1)

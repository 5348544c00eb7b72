# C-level names of slab.py, and the two steps that verbs take inside their own transactions.
from shm.atomics cimport likely, unlikely
from shm.journal cimport store
from shm.extent cimport ensure_extent, granules_of
from shm.layout cimport BULK_CAP, BULK_CLASS, EXTENT_CLASS, FAULT_CHUNK, MAG_CAP, OK, Magazine, Slot, Worker, u64
from shm.memory cimport chunk_at

cdef int refill(Worker *w, int cls, u64 want) noexcept nogil
cdef int drain(Worker *w, Magazine *mag, int cls, u64 keep) noexcept nogil
cdef int drain_all(Worker *w, Slot *slot) noexcept nogil

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

cdef inline void push_for(Worker *w, int cls, u64 off, u64 length) noexcept nogil:
    # What held `length` bytes: a chunk of the class, or an extent, for which the magazine is empty.
    cdef Magazine *mag = &w.slot.mags[cls]
    if likely(cls != EXTENT_CLASS):
        push(w, cls, off)
        return
    if mag.count != 0:
        w.fault = FAULT_CHUNK
        return
    store(w, &mag.items[0], off)
    store(w, &mag.items[1], granules_of(w, length))
    store(w, &mag.count, 1)

cdef inline int ensure_for(Worker *w, int cls, u64 length) noexcept nogil:
    # OK when this worker's magazine has a chunk of the class, or an extent, for `length` bytes.
    return ensure(w, cls, 1) if likely(cls != EXTENT_CLASS) else ensure_extent(w, length)

cdef inline bint has_for(Worker *w, int cls, u64 length) noexcept nogil:
    # True if `ensure_for` has nothing to do.
    cdef Magazine *mag = &w.slot.mags[cls]
    return mag.count != 0 and (cls != EXTENT_CLASS or mag.items[1] == granules_of(w, length))

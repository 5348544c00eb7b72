# C-level names of pins.py.
from engine.layout.regions cimport chunk_of
from engine.layout.structs cimport PINS_HIGH, PINS_MAX, ClientPage, Pampd
from engine.layout.words cimport VIEWED, flags_of
from shm.atomics cimport load, set_release
from shm.extent cimport granule_bits, granules_of
from shm.layout cimport EXTENT_CLASS, Slot, Worker, u64

# A pin: bits 0..5 the class of the chunk; 6..42 its offset / 64; 43..63 granules if it is an extent, else how many
# times 16 bytes its offset is behind that. 0 = none.
cdef enum:
    PINNED_SHIFT = 43

cdef int prepare(Worker *w, u64 count) noexcept nogil
cdef int charge(Worker *w, u64 count, u64 size) noexcept nogil
cdef void uncharge(Worker *w, u64 count, u64 size) noexcept nogil
cdef u64 pin(Worker *w, u64 data, int cls, u64 length) noexcept nogil
cdef bint unpin(Worker *w, u64 place, u64 size) noexcept nogil
cdef bint is_pinned(Worker *w, u64 data) noexcept nogil
cdef int keep(Worker *w, u64 off) noexcept nogil
cdef int collect(Worker *w, u64 data) noexcept nogil
cdef void forget(Worker *w, Slot *slot) noexcept nogil

cdef inline int pinned_class(u64 word) noexcept nogil:
    return <int>(word & 63)

cdef inline u64 pinned_at(u64 word) noexcept nogil:
    # Where the chunk, or the extent, of a pin is.
    cdef u64 at = (word & ((<u64>1 << PINNED_SHIFT) - 1)) >> 6 << 6
    return at if pinned_class(word) == EXTENT_CLASS else at | (word >> PINNED_SHIFT & 3) << 4

cdef inline u64 pinned_bytes(Worker *w, u64 word) noexcept nogil:
    # How much of the arena it keeps where it is.
    if pinned_class(word) == EXTENT_CLASS:
        return word >> PINNED_SHIFT << granule_bits(w)
    return w.class_bytes[pinned_class(word)] if pinned_class(word) < EXTENT_CLASS else 0

cdef inline u64 pins_high(Slot *slot) noexcept nogil:
    # Pins of a worker that are looked at, never more than there are.
    cdef u64 high = load(&slot.client[PINS_HIGH])
    return high if high <= PINS_MAX else PINS_MAX

cdef inline ClientPage *limbo_of(Worker *w) noexcept nogil:
    return <ClientPage *>(w.base + w.client_off)

cdef inline void note_unpinned(Worker *w) noexcept nogil:
    # Whoever lacks memory next looks through all of limbo. Who sees the note sees that the pin is
    # gone.
    set_release(&limbo_of(w).unpinned, 1)

cdef inline bint is_viewed(Worker *w, Pampd *d) noexcept nogil:
    # True if somebody has a view on a page that is not of a foreign back end. Under its bucket's
    # lock, or as a hint.
    return flags_of(d) & VIEWED != 0 and is_pinned(w, chunk_of(w, d.shape, d.data))

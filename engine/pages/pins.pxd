# C-level names of pins.py.
from engine.layout.regions cimport chunk_of
from engine.layout.structs cimport PINS_HIGH, PINS_MAX, ClientPage, Pampd
from engine.layout.words cimport VIEWED, flags_of
from shm.atomics cimport load, set_release
from shm.layout cimport Slot, Worker, u64

cdef int prepare(Worker *w, u64 count) noexcept nogil
cdef int charge(Worker *w, u64 count, u64 size) noexcept nogil
cdef void uncharge(Worker *w, u64 count, u64 size) noexcept nogil
cdef u64 pin(Worker *w, u64 data, int cls) noexcept nogil
cdef bint unpin(Worker *w, u64 place, int cls) noexcept nogil
cdef bint is_pinned(Worker *w, u64 data) noexcept nogil
cdef int keep(Worker *w, u64 off) noexcept nogil
cdef int collect(Worker *w, u64 data) noexcept nogil
cdef void forget(Worker *w, Slot *slot) noexcept nogil

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

# C-level names of liveness.py.
from shm.layout cimport Worker, u64

cdef enum:
    BYTE_TAKEN = 1      # another open file description holds it, or the kernel cannot be asked (Worker.lost)

cdef int byte_try(Worker *w, u64 which) noexcept nogil
cdef void byte_release(Worker *w, u64 which) noexcept nogil
cdef bint byte_held(Worker *w, u64 which) noexcept nogil
cdef int birth_try(int fd) noexcept nogil
cdef bint birth_held(int fd) noexcept nogil
cdef void birth_release(int fd) noexcept nogil
cpdef bint alive_held(object path) except -1
cdef int make_alive(object name, u64 nonce, int mode, int group) except -1
cdef int open_alive(Worker *w, object path, object owner) except -1
cdef void let_die(Worker *w) noexcept

cdef inline u64 RESIZE_BYTE() noexcept nogil:
    return (1 << 20) + 1

cdef inline u64 GIVING_BYTE() noexcept nogil:
    # Held by who gives memory back while the capacity stays.
    return (1 << 20) + 2

cdef inline u64 SPILL_BYTE() noexcept nogil:
    # Held by who spills pages to far tiers.
    return (1 << 20) + 3

cdef inline u64 NEWCOMER_BYTE(u64 idx) noexcept nogil:
    # Held by who is about to have a slot: from before he has the slot's byte until he lives there,
    # or has given it back. Else who asks could not tell him from a worker.
    return (1 << 22) + idx

cdef inline u64 next_mark(u64 seed) noexcept nogil:
    # Where an opening of the liveness file stands: anywhere in 8 TiB, far from where files of
    # people are read.
    return (<u64>1 << 42) | (seed * 6364136223846793005u + 1442695040888963407u) >> 22

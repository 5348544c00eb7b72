# C-level names of shares.py.
from engine.layout.call cimport Choice
from shm.layout cimport Worker, u64

cdef enum:
    ANY_SEAT = 65536        # pools of all clients

cdef u64 pages_in(Worker *w, u64 shard) noexcept nogil
cdef u64 spread(Worker *w, u64 pool, u64 seat, u64 *counts) noexcept nogil
cdef u64 bytes_of(Worker *w, u64 pool, u64 seat) noexcept nogil
cdef void choose(Worker *w, u64 shard, u64 seat, Choice *choice) noexcept nogil
cdef void choose_among(Worker *w, u64 shard, u64 seat, const unsigned char *passed, Choice *choice) noexcept nogil
cdef u64 mean_of(Worker *w, u64 pool) noexcept nogil
cdef u64 unit_bytes(Worker *w) noexcept nogil
cdef u64 units_of(Worker *w, u64 pool) noexcept nogil
cdef void look_at_next(Worker *w, u64 gone) noexcept nogil

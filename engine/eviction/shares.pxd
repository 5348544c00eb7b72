# C-level names of shares.py.
from shm.layout cimport Worker, u64

cdef u64 pages_in(Worker *w, u64 shard) noexcept nogil
cdef u64 spread(Worker *w, u64 pool, u64 seat, u64 *counts) noexcept nogil
cdef u64 largest_pool(Worker *w, u64 shard, u64 seat) noexcept nogil
cdef u64 victim(Worker *w, u64 shard) noexcept nogil

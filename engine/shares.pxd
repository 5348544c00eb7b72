# C-level names of shares.py.
from engine.layout cimport Tally
from shm.layout cimport Worker, u64

cdef u64 pages_in(Worker *w, u64 shard) noexcept nogil
cdef void count_by_client(Worker *w, u64 shard, Tally *tally) noexcept nogil
cdef u64 largest_pool(Worker *w, u64 shard, u64 seat) noexcept nogil
cdef u64 victim(Worker *w, u64 shard) noexcept nogil

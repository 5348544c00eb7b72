# C-level names of leaving.py.
from engine.tree.hostops cimport HostOps
from shm.layout cimport Worker, u64

# A page that is about to leave for its pool's far tier, process-local.
cdef struct Leaving:
    u64 oid[3]
    u64 index
    u64 gen
    u64 name        # the generation that it is to have when it is far, which is its name in the tier
    u64 shard
    u64 shape
    u64 token       # under which the tier has it; 0: it has not
    bint goes_on    # it is of the same value as the one before it, and leaves with that one
    bint stale      # the tier has it, but it is another by now, or somebody has asked for it

cdef enum:
    VALUES_MAX = 2093056        # bytes of values in a batch: with their sums they fit into one of any tier

# What a choice of them has room for.
cdef struct Room:
    u64 pages
    u64 bytes       # of values of several pages: VALUES_MAX a batch
    u64 lack        # bytes that are wanted of a shard: none begins to leave when there are so many
    bint begun      # there are some in it

cdef void sort_leaving(Leaving *table, int count) noexcept nogil
cdef int choose_leaving(
    Worker *w, u64 shard, Leaving *out, u64 most, Room *room, u64 skip,
    const unsigned char *passed, u64 *pool, u64 *count) noexcept nogil

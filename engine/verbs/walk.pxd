# C-level names of walk.py.
from engine.layout.call cimport Call, PoolRef
from engine.pages.pam.base cimport PamOps
from engine.tree.hostops cimport HostOps
from shm.layout cimport Worker, u64

cdef enum:
    SEEN_MAX = 256          # objects, or indexes, that are read at once
    SEEN_BYTES = 32768      # bytes of their keys, at first

# What an object was seen to be.
cdef struct Seen:
    u64 oid[3]
    u64 expires
    u64 length
    u64 word
    u64 gen                 # of page 0; 0: there is none
    u64 hits
    u64 key                 # where its key lies in Walk.keys,
    u64 key_length
    bint has_key
    bint has_word
    bint hidden             # its tail is known to who has its bytes, and is counted in `length`

# A walk over the objects of a pool, process-local.
cdef struct Walk:
    u64 bucket              # that is read next,
    u64 after[3]            # behind this oid,
    bint inside             # if there is one
    int most                # objects that are wanted at once, SEEN_MAX at most
    int count               # that were read,
    Seen *seen
    char *keys
    u64 keys_used
    u64 keys_room           # bytes there is room for; with SIZE, for more
    u64 keys_needed

# Called as verbs are, with the GIL released: nothing here has to do with Python.
cdef int read_objects(Worker *w, PoolRef *p, Walk *walk) noexcept nogil
cdef int read_indexes(Worker *w, PoolRef *p, Call *c, u64 index, u64 *found, u64 *gens, int most,
                      int *count) noexcept nogil

# C-level names of copy.py.
from engine.layout.call cimport Call, PoolRef
from shm.layout cimport Worker, u64

cdef enum:
    STEP_BYTES = 65536      # that are copied between two looks at a bucket
    WISHES_MAX = 256        # that are brought at once
    BROUGHT_MAX = 8192      # places for what was: a block has room for a fourth of it
    KNOWN_STEP = 32768      # pages for which `Copied.known` has room behind those that are there, at least

# Which page was copied.
cdef struct Known:
    u64 index
    u64 gen

# A far page that is wanted, since it is kept: its bytes are had with nothing held, and the copy is
# begun again.
cdef struct Wish:
    u64 oid[3]
    u64 index
    u64 gen
    u64 token
    u64 shape

# What was brought of them, by generation: a place of a table of BROUGHT_MAX. data NULL: it is free.
cdef struct Brought:
    u64 gen
    const char *data
    u64 length

# A copy of objects under way, process-local.
cdef struct Copied:
    # the walk over a pool
    u64 bucket              # that is read next,
    u64 after[3]            # behind this oid,
    bint inside             # if there is one
    bint still              # the world stands still: no lock is taken, and none is needed
    # the block that is filled
    char *out
    u64 room
    u64 used
    u64 heat
    # what was copied so far, all in all
    u64 objects
    u64 pages
    u64 bytes               # lengths as they were put, without tails of which nothing is known here
    u64 ahead               # what is added to a time of the arena's clock to have one of the wall's
    # an object that is larger than a block
    u64 large[3]
    u64 expires
    u64 index               # of the page that is next
    u64 length              # its stored bytes, if it is too long for a block
    u64 gen
    u64 shape
    u64 former              # it came with the page before it
    u64 hits
    # far pages of a pool that keeps them
    Wish *wishes
    u64 wish_count
    Brought *brought
    Known *known            # its pages that were copied
    u64 known_count

cdef inline Brought *brought_place(Brought *table, u64 gen) noexcept nogil:
    # Where the bytes of a page of this generation are, or a free place for them.
    cdef u64 i = (gen * 0x9E3779B97F4A7C15u) >> 51
    while table[i].data != NULL and table[i].gen != gen:
        i = (i + 1) & (BROUGHT_MAX - 1)
    return table + i

# Called as verbs are, with the GIL released.
cdef int copy_objects(Worker *w, PoolRef *p, Copied *k) noexcept nogil
cdef int copy_pages(Worker *w, PoolRef *p, Call *c, Copied *k) noexcept nogil
cdef int copy_piece(Worker *w, PoolRef *p, Call *c, Copied *k, u64 offset, u64 count, char *to) noexcept nogil
cdef int same_pages(Worker *w, PoolRef *p, Call *c, Copied *k) noexcept nogil

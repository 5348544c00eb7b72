# Owns the record of a verb under way, what a process knows of a pool, and the statuses of verbs.
# Nothing here lies in an arena.

from engine.layout.structs cimport CLIENTS_MAX, Bucket, PoolRecord
from engine.layout.words cimport shape_of
from shm.layout cimport u64

cdef enum:
    # Status codes above those of shm.
    MISS = 32           # no such page or object
    REFUSED = 33        # the put was refused; the handle is empty
    DESTROYED = 34      # the pool is gone
    SIZE = 35           # the page's length is not what the caller made room for (Call.length says)
    AGAIN = 36          # more to do: call again
    FAILED = 37         # a back end failed; its exception, if any, is in the adapter
    PINNED = 38         # somebody has a view on the page
    FULL = 39           # as much is pinned as may be

    # Worker.fault, beside those of shm
    FAULT_POLICY = 32   # a pool of a policy that there is not

    RANGE_MAX = 16384       # pages of one range call
    ASIDES_MIN = 64         # entries of a lookaside table, and never fewer than the pool has buckets
    ASIDES_MAX = 262144
    LEAVES_MIN = 1024       # hints of a table of bottom nodes, at first; as many as ASIDES_MAX at most

# How one page of a put is stored, process-local.
cdef struct Packed:
    const char *data
    u64 length              # compressed bytes; 0: as it is
    u64 digest[2]           # of the bytes as they are stored, in a pool that shares equal pages

# One verb under way, process-local.
cdef struct Call:
    u64 oid[3]
    u64 hash                # of the oid
    u64 index
    u64 count               # pages, for a range
    const char *data
    u64 length              # bytes of data; after a get, of the page, or of all pages of a range
    # for each page of a put how it is stored, or NULL: all as they are, and none is looked for
    # elsewhere
    Packed *packs
    u64 stored              # the same, as they are stored: bytes that are copied
    u64 *shapes             # for each page of a range its shape, or NULL: the caller does not need them
    u64 nodes_wanted        # objnodes to have at hand before the lock is taken
    u64 found               # offset of the page a get found
    u64 seq                 # what the bucket's sequence word was
    u64 shape               # of the page found
    u64 staged              # pages of a put that are on the staged list
    u64 created             # pages of a put that a foreign PAM has taken
    u64 obj                 # where the tree has the obj, if the lookaside table did not know
    u64 unlinked            # Bucket.unlinked then
    u64 top                 # what the obj led to then, as in Aside
    u64 room                # bytes that the pages of a get may have, as they were put
    char *into              # where the caller wants them; NULL: in an object of their own
    char *out               # where they go, as they are stored; NULL: there is no place yet
    u64 have                # bytes that place is for
    u64 token               # what a foreign page is to be from now on,
    u64 gen                 # if it is of this generation
    bint remove             # a get takes the pages away
    bint ranged             # a get is of all its pages, at one moment
    u64 shard               # of the first page of a put
    u64 page                # offset of the descriptor a get found
    bint duplicate          # a put replaced a page
    bint refuse             # no memory for a page: empty the handles and refuse
    bint exhausted          # no memory for tree nodes: refuse instead of trying again
    bint salvaged           # what others have retired was looked through: without memory now, it is refused
    bint bounce             # the new page waits in the bounce page

# An entry of a lookaside table: offset of an obj / 64 with the upper 27 bits of its oid's hash, and
# Bucket.unlinked when it was seen to be linked.
cdef struct Aside:
    u64 obj
    u64 unlinked
    # offset of the top objnode, or of the page at height 0, / 64, height << 37, as last seen: only
    # ever prefetched
    u64 top

# Pages in a shard by client: place 0 for those of all clients that found no seat.
cdef struct Tally:
    u64 pages[CLIENTS_MAX + 1]

# A pool as this process sees it. Valid for one epoch of the attachment.
cdef struct PoolRef:
    PoolRecord *record
    Bucket *buckets
    u64 mask
    u64 gen
    u64 idx
    u64 *ledger
    u64 page_size
    u64 hits_max            # hits worth counting: 0 where nothing is evicted, or hits do not matter
    bint evictable          # its pages go into queues
    bint dedup              # equal pages share a chunk
    # of their digests: no content can be prepared whose digests fall into one bucket of every arena
    u64 seed
    u64 codec               # LZ4, ZSTD, or 0: its pages are stored as they are
    u64 packed_max          # bytes that a compressed page has at most; 0 without a codec
    Aside *asides           # lookaside table (lookaside.py)
    u64 aside_mask
    u64 aside_clashes
    # hints: where bottom nodes are, / 64, with the upper 27 bits of a hash; NULL until one is met
    u64 *leaves
    u64 leaf_mask
    u64 leaf_clashes

cdef inline bint is_packed(Call *c, u64 i) noexcept nogil:
    # True if page i of a put is stored compressed.
    return c.packs != NULL and c.packs[i].length != 0

cdef inline u64 put_length(Call *c, u64 i, u64 page_size) noexcept nogil:
    return c.length - i * page_size if i == c.count - 1 else page_size

cdef inline const char *put_bytes(Call *c, u64 i, u64 page_size, u64 *length) noexcept nogil:
    # Page i of a put as it is stored, and how many bytes that is.
    if is_packed(c, i):
        length[0] = c.packs[i].length
        return c.packs[i].data
    length[0] = put_length(c, i, page_size)
    return c.data + i * page_size

cdef inline u64 put_shape(PoolRef *p, Call *c, u64 i, int cls) noexcept nogil:
    # The shape word of page i of a put in a chunk of a class.
    if is_packed(c, i):
        return shape_of(put_length(c, i, p.page_size), cls, <int>p.codec) | c.packs[i].length << 48
    return shape_of(put_length(c, i, p.page_size), cls, 0)

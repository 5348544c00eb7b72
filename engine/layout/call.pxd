# Owns the record of a verb under way, what a process knows of a pool, and the statuses of verbs.
# Nothing here lies in an arena.

from engine.layout.structs cimport CLIENTS_MAX, Bucket, PoolRecord
from engine.layout.words cimport TAIL, codec_and, shape_of, with_packed
from libc.string cimport memcpy
from shm.layout cimport u64

cdef enum:
    # Status codes above those of shm.
    MISS = 32           # no such page or object
    REFUSED = 33        # the put was refused; the handle is empty
    DESTROYED = 34      # the pool is gone
    SIZE = 35           # the page's length is not what the caller made room for (Call.found.length says)
    AGAIN = 36          # more to do: call again
    FAILED = 37         # a back end failed; its exception, if any, is in the adapter
    PINNED = 38         # somebody has a view on the page
    FULL = 39           # as much is pinned as may be
    CONFLICT = 40       # the condition does not hold: nothing has changed
    OVERFLOW = 41       # a count would leave 64 bits: nothing has changed
    TAKEN = 42          # a long page is out of its tree, and still to be copied
    AWAY = 43           # the page is far: Call.found says under which token, and of which generation

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

# A piece of a value that is put.
cdef struct Part:
    const char *data
    u64 length

# What the verbs of an object are asked beside the rest, and what they find; process-local.
cdef struct Value:
    # put
    Part *parts             # the value, and then its tail; NULL: it lies in one piece, at Call.ask.data
    u64 part_count
    u64 tail                # bytes of the tail, which are counted in Call.ask.length; 0: it has none
    # put, touch
    u64 expires             # when it is dead; 0 = never
    # all: what time it is for this verb, or 0: it asks the clock when it needs to know
    u64 time
    # put, incr, flush: do it only if
    bint absent             # there is nothing,
    u64 version             # or, if not 0, what is there is of this version, and it is not yet
    u64 until               # this moment; 0: whenever it is
    # get, incr: another's is a miss, as is one without a key; put if absent: it is nothing. NULL: any
    const char *key
    u64 key_length
    # get: the tail too
    bint with_tail
    # incr
    long long delta
    # found: worth nothing before it is known to have been true
    u64 tail_found          # bytes of the tail
    u64 key_found           # of the key in it
    u64 word                # 0 without
    bint has_word
    bint has_key
    u64 expires_found
    u64 pages               # of the object: a value is one
    bint unhad              # get: page 0, or another page of it, is far, and was not had
    long long count         # incr: what it came to
    bint conflict           # put: the condition did not hold

# One verb under way, process-local: what it is asked, what it did so far, and what it found.

# What a verb is asked. Set by the caller, and by no verb.
cdef struct Asked:
    # all: the handle of a page, or of the first of several
    u64 oid[3]
    u64 hash                # of the oid
    u64 index
    u64 count               # pages: of a range, of views; else 1
    # put
    const char *data        # the pages, one behind the other
    u64 length              # bytes of them
    # for each page how it is stored, or NULL: all as they are, and none is looked for elsewhere
    Packed *packs
    # get: bytes that the pages may have, as they were put; put of several: bytes that they may take,
    # with their descriptors
    u64 room
    char *into              # where they go; NULL: into an object that is made for them. Of a view the
                            # table of its sights; of `describe` five words; of a survey its glimpses
    u64 *shapes             # where the shape of each page of a range goes, or NULL
    # replace, and what makes a page far: what it is to be from now on, in place of
    u64 token
    u64 gen                 # the page of this generation
    # verbs of an object, or NULL
    Value *value
    # get
    bint remove             # the pages leave
    bint ranged             # all pages, at one moment; else the first
    bint batched            # a page that is far is left to who asks, who has it with others: Call.did.away

# What a verb did so far: from here it goes on when it is called again after BUSY or NOMEM.
cdef struct Done:
    # put
    u64 staged              # pages on the staged list, of the last ones first
    u64 created             # pages that a foreign PAM has taken in this section
    u64 shard               # of the first page: where room is made
    u64 nodes_wanted        # objnodes to have at hand before the lock is taken
    # get
    char *out               # place for the pages as they are stored; NULL: there is none yet
    u64 have                # bytes that it is for
    u64 copied              # of a range that leaves: the sequence word when all of it was copied; 0: it was not
    # put
    # (bytes, so that less is to be cleared for every call)
    unsigned char duplicate     # a page was replaced
    unsigned char grew          # by one that takes more memory
    unsigned char refuse        # there is no memory for a page: empty the handles and refuse
    unsigned char exhausted     # there is none for tree nodes: refuse instead of trying again
    unsigned char salvaged      # what others have retired was looked through: without memory now, it is refused
    unsigned char bounce        # the new page waits in the bounce page
    # get
    unsigned char away          # the page is far, as Call.found says, and was not asked for

# What a verb has found, which is worth nothing before it has: this part is never cleared.
cdef struct Found:
    # get
    u64 seq                 # what the bucket's sequence word was when looking began
    u64 shape               # of the page
    u64 data                # offset of its bytes; of a same-filled one, its word
    u64 page                # offset of its descriptor
    u64 length              # of the page, or of all pages of a range, as they were put
    u64 stored              # the same, as they are stored: bytes that are copied
    # of a page that is being written, with `data` and `page`; of a long page that is copied without a lock, and of a
    # value, `gen`
    u64 gen                 # its generation
    u64 pin                 # place of its pin + 1
    # all, for the lookaside table
    u64 obj                 # where the tree has the obj, if the table did not know; else 0
    u64 unlinked            # Bucket.unlinked then
    u64 top                 # what the obj led to then, as in Aside
    u64 dead                # an obj of that oid that was cleared or has expired, or 0

cdef struct Call:
    Asked ask
    Done did
    Found found

# An entry of a lookaside table: offset of an obj / 64 with the upper 27 bits of its oid's hash, and
# Bucket.unlinked when it was seen to be linked.
cdef struct Aside:
    u64 obj
    u64 unlinked
    # offset of the top objnode, or of the page at height 0, / 64, height << 37, as last seen: only
    # ever prefetched
    u64 top

# Which queue has to let a page go.
cdef struct Choice:
    u64 pool                # + 1; 0: none has a page that this worker can let go
    u64 of                  # of which of its queues: QUEUE_SMALL or QUEUE_MAIN
    u64 off                 # the page that is looked at first

# What is in a shard, by client: place 0 is of all clients that found no seat.
cdef struct Tally:
    double bytes[CLIENTS_MAX + 1]
    u64 age[CLIENTS_MAX + 1]            # of the page in front of its queues that is oldest; 0: it has none
    Choice oldest[CLIENTS_MAX + 1]      # where that is
    u64 pages
    u64 units               # pages, long ones as several
    u64 small               # of them in small queues
    double all_bytes
    double all_weights      # of those that have pages there

# A pool as this process sees it. Valid for one epoch of the attachment.
cdef struct PoolRef:
    PoolRecord *record
    Bucket *buckets
    u64 mask
    u64 gen
    u64 idx
    u64 *ledger
    u64 page_size           # bytes that a page which is put by its index may have,
    u64 page_max            # and any page
    u64 hits_max            # hits worth counting: 0 where nothing is evicted, or hits do not matter
    bint evictable          # its pages may go for good
    bint queued             # its pages go into queues
    bint dedup              # equal pages share a chunk
    bint whole              # pages that are put as a range go as one
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

cdef inline bint in_parts(Call *c) noexcept nogil:
    return c.ask.value != NULL and c.ask.value.parts != NULL

cdef inline bint has_tail(Call *c) noexcept nogil:
    return c.ask.value != NULL and c.ask.value.tail != 0

cdef inline bint is_packed(Call *c, u64 i) noexcept nogil:
    # True if page i of a put is stored compressed.
    return c.ask.packs != NULL and c.ask.packs[i].length != 0

cdef inline u64 put_length(Call *c, u64 i, u64 page_size) noexcept nogil:
    return c.ask.length - i * page_size if i == c.ask.count - 1 else page_size

cdef inline const char *put_bytes(Call *c, u64 i, u64 page_size, u64 *length) noexcept nogil:
    # Page i of a put as it is stored, and how many bytes that is.
    if is_packed(c, i):
        length[0] = c.ask.packs[i].length
        return c.ask.packs[i].data
    length[0] = put_length(c, i, page_size)
    return c.ask.data + i * page_size if not in_parts(c) else NULL

cdef inline void put_copy(Call *c, u64 i, u64 page_size, char *to) noexcept nogil:
    # Copy page i of a put, which is stored as it is, to where there is room for it.
    cdef u64 part
    if not in_parts(c):
        memcpy(to, c.ask.data + i * page_size, put_length(c, i, page_size))
        return
    for part in range(c.ask.value.part_count):
        memcpy(to, c.ask.value.parts[part].data, c.ask.value.parts[part].length)
        to += c.ask.value.parts[part].length

cdef inline u64 put_shape(PoolRef *p, Call *c, u64 i, int cls) noexcept nogil:
    # The shape word of page i of a put in a chunk of a class.
    cdef int notes = TAIL if has_tail(c) else 0
    if is_packed(c, i):
        return with_packed(
            shape_of(put_length(c, i, p.page_size), cls, codec_and(p.codec, notes)), c.ask.packs[i].length)
    return shape_of(put_length(c, i, p.page_size), cls, notes)

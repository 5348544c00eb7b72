# Owns the shape of everything `engine` keeps in the arena, and the call record of a verb.
# May call: memory (the bounds check). Called by every compiled module of `engine`.
#
# Four structs live in chunks: obj, objnode, pampd, and they begin alike: a sentinel and a link.
# The sentinel is inverted when the struct is retired, and checked on every visit. The link chains what is
# staged or retired; both lists hang on words of the worker's slot (guard: the worker's own lock).
# Pools and buckets lie in the client region and never move: a lock, once a lock, stays a lock.

from libc.string cimport memcmp, memcpy, strncmp

from shm.atomics cimport clz, fence_acquire, load, load_acquire, prefetch, unlikely
from shm.layout cimport CLASS_COUNT, FAULT_OFFSET, FAULT_SENTINEL, Lock, Slot, Worker, offset_of, slot_at, u64
from shm.memory cimport chunk_at

cdef enum:
    ENGINE_LAYOUT_VERSION = 4

    # Status codes above those of shm.
    MISS = 32           # no such page or object
    REFUSED = 33        # the put was refused; the handle is empty
    DESTROYED = 34      # the pool is gone
    SIZE = 35           # the page's length is not what the caller made room for (Call.length says)
    AGAIN = 36          # more to do: call again
    FAILED = 37         # a back end failed; its exception, if any, is in the adapter
    PINNED = 38         # somebody has a view on the page
    FULL = 39           # as much is pinned as may be

    OBJ_SENTINEL = 0x6F626A31
    OBJNODE_SENTINEL = 0x6E6F6431
    PAMPD_SENTINEL = 0x70616431
    POOL_SENTINEL = 0x706F6F31
    TWIN_SENTINEL = 0x7477696E

    # Size classes (shm/slab.py) of the three structs; asserted against the structs in session.py.
    PAMPD_CLASS = 0
    OBJ_CLASS = 1
    OBJNODE_CLASS = 26

    MAP_SHIFT = 6
    MAP_SIZE = 64
    HEIGHT_MAX = 11         # 6 * 11 >= 64 bits of index
    DEPTH_MAX = 128         # a red-black tree of 2^64 nodes is no deeper
    NODES_MAX = 22          # a put links at most 10 new roots and 11 nodes on the way down

    POOL_FREE = 0
    POOL_LIVE = 1
    POOL_DYING = 2

    POOL_PERSISTENT = 1
    POOL_SHARED = 2
    POOL_DEDUP = 4

    FOREIGN = 1             # Pampd.flags: `data` is a back end's token, not a chunk
    TWIN = 16               # Pampd.flags: `data` is the offset of a twin, which has the chunk; the shape else is the twin's
    SAME = 2                # Pampd.flags: `data` is the word that the page consists of; there is no chunk
    LZ4 = 4                 # Pampd.flags: the chunk holds the page compressed, by this codec
    ZSTD = 8
    VIEWED = 32             # Pampd.flags: the chunk is or was pinned: ask pins.py before it is used for something else

    RANGE_MAX = 16384       # pages of one range call
    ASIDES_MIN = 64         # entries of a lookaside table, and never fewer than the pool has buckets
    ASIDES_MAX = 262144
    LEAVES_MIN = 1024       # hints of a table of bottom nodes, at first; as many as ASIDES_MAX at most
    ASKED_LINES = 12        # cache lines of a page that `ask_for` asks for

    # Header.client, Worker.client_geometry words
    GEO_PAGE_SIZE = 0
    GEO_BUCKETS = 1
    GEO_POOLS = 2
    GEO_SHARDS = 3
    GEO_GHOSTS = 4          # ghosts a shard has room for, a power of two
    GEO_TWINS = 5           # twin buckets, a power of two
    GEO_PINNED = 6          # bytes of chunks that may be pinned

    # Eviction. A page's queue, in Pampd.queue.
    QUEUE_NONE = 0          # it never was in one
    QUEUE_PENDING = 1       # linked, and on the way into a queue: on the list of the worker that put it
    QUEUE_SMALL = 2
    QUEUE_MAIN = 3
    QUEUE_ORPHAN = 4        # pending, and retired meanwhile: the worker that has it on its list gives it back
    QUEUE_LEFT = 5          # it was in one; believed of a page only while nobody has its shard
    SHARDS_MAX = 64
    SHARD_BYTES = 64
    QUEUE_BYTES = 64

    POLICY_FIFO = 0
    POLICY_CLOCK = 1
    POLICY_SIEVE = 2
    POLICY_S3FIFO = 3
    HITS_MAX = 3            # hits of a page that are counted, in its mark

    # Slot.client words
    ROOT_STAGED = 0         # pages copied in, not linked yet
    ROOT_RETIRED = 1        # what was unlinked, not given back yet
    ROOT_GENERATION = 2     # counts pages this slot ever made (not journalled)
    ROOT_PENDING = 3        # pages linked, not in a queue yet
    # On a line of their own, which only views write. Not journalled: pins.py says why.
    PINS_HIGH = 8           # pins from here on are 0
    PINS_BACKED = 9         # pins that have memory
    PINS_USED = 10          # pins that are not 0
    PINS_BYTES = 11         # bytes of their chunks
    PINS_NEXT = 12          # pins below are not 0
    PINS_MAX = 4096         # of a worker

    # Words of a ledger: a worker's counters for one pool. Gauges are journalled with what they count.
    PUTS_OK = 0
    PUTS_REFUSED = 1
    PUTS_DUPLICATE = 2
    GETS_HIT = 3
    GETS_MISS = 4
    FLUSHES = 5
    GAUGE_OBJECTS = 6
    GAUGE_OBJNODES = 7
    GAUGE_PAGES = 8
    GAUGE_BYTES_ASKED = 9
    GAUGE_BYTES_USED = 10
    EVICTED = 11
    GAUGE_BYTES_STORED = 12
    TWIN_BYTES_MIN = 256    # stored; a shorter page would save less than a twin costs
    TWINS_A_BUCKET = 64     # more are not made: a page that would be one gets a chunk of its own
    TWIN_BUCKET_BYTES = 64
    LEDGER_WORDS = 16
    LEDGER_BYTES = 128

    POOL_NAME_BYTES = 64
    PAM_NAME_BYTES = 32
    ALLOW_MAX = 32          # clients that a pool can name
    POOL_BYTES = 512
    BUCKET_BYTES = 64
    CLIENT_PAGE = 4096
    CLIENTS_MAX = 120       # clients that the client page has room for
    WEIGHT_MAX = 1048576

# Client (tenant), 32 bytes. Guard: the pool table lock; read by all.
#   0    id           + 1; 0 = unused
#   8    weight       its share of memory for ephemeral pages is its weight by the sum of all
#   16   cap          ephemeral pages it may have; 0 = as many as there is room for
#   24   frozen       1: its pools take no new pages
cdef struct ClientRecord:
    u64 id
    u64 weight
    u64 cap
    u64 frozen

# Client page, first page of the client region.
#   0    lock         pool table lock: creating, finding by name, beginning to destroy
#   32   pools_high   pool slots ever used: every one below is backed (guard: lock)
#   40   twins        1: the twin buckets have memory (guard: lock)
#   64   clients[]
#   3904 limbo_lock
#   3936 limbo        retired pages whose chunk somebody has a view on (guard: limbo_lock; journalled)
#   3944 unpinned     1: a page in limbo may have been let go by whoever had the view (no guard: a hint)
#   3968 cap_lock     who lets pages go because there are more than some client's cap
cdef struct ClientPage:
    Lock lock
    u64 pools_high
    u64 twins
    u64 spare[2]
    ClientRecord clients[CLIENTS_MAX]
    Lock limbo_lock
    u64 limbo
    u64 unpinned
    u64 spare2[2]
    Lock cap_lock

# Pool, 512 bytes. Guard: the pool table lock; `cursor` belongs to who destroys it.
#   0    sentinel
#   8    link         retired list, while it is being destroyed
#   16   state        POOL_*; written last at creation
#   24   gen          counts the pools that had this slot
#   32   flags        POOL_PERSISTENT | POOL_SHARED
#   40   client
#   48   cursor       bucket the destroyer has come to
#   56   policy       POLICY_*, of an ephemeral pool
#   64   name         utf-8, zero-filled
#   128  pam          name of the back end, zero-filled
#   160  cap          pages it may have; 0 = as many as there is room for
#   168  seat         where the record of its client is in the client page, + 1; 0 = its client found no room there
#   176  allow_count  clients named in `allow`; 0 = a shared pool lets all in
#   184  cap_lock     who lets pages go because there are more than `cap`
#   256  base[16]     sums of all ledgers when the pool was made: counters start there
#   384  allow[16]    ids of the clients that a shared pool lets in beside its own, two a word, the lower half first
cdef struct PoolRecord:
    u64 sentinel
    u64 link
    u64 state
    u64 gen
    u64 flags
    u64 client
    u64 cursor
    u64 policy
    char name[POOL_NAME_BYTES]
    char pam[PAM_NAME_BYTES]
    u64 cap
    u64 seat
    u64 allow_count
    Lock cap_lock
    u64 spare2[5]
    u64 base[LEDGER_WORDS]
    u64 allow[16]

# Bucket, one cache line. Guard: its lock; `root` journalled.
#   0    lock
#   32   root         red-black tree of objs
#   40   unlinked     counts objs unlinked or moved; never goes back, so not journalled
#   48   spare[2]
cdef struct Bucket:
    Lock lock
    u64 root
    u64 unlinked
    u64 spare[2]

# Obj, 128 bytes; the first line is all that a search reads. Guard: the bucket; journalled.
#   0    sentinel
#   8    link
#   16   oid[3]
#   40   left
#   48   right
#   56   parent       offset | colour (1 = red)
#   64   root         link word: to the page itself at height 0, else to the top objnode; 0 = no pages
#   72   height
#   80   pampd_count
#   88   objnode_count
#   96   pool         bits 0..31 index of the pool; bit 32: a back end in Python was told of the obj and wants to hear of its end
#   104  stored       bytes of its pages as they lie in the arena, summed
#   112  asked        lengths of its pages, summed
#   120  used         bytes of their chunks
cdef struct Obj:
    u64 sentinel
    u64 link
    u64 oid[3]
    u64 left
    u64 right
    u64 parent
    u64 root
    u64 height
    u64 pampd_count
    u64 objnode_count
    u64 pool
    u64 stored
    u64 asked
    u64 used

# Objnode, 576 bytes. Guard: the bucket; journalled.
#   0    sentinel
#   8    link
#   16   obj          back pointer
#   24   level        1 = its slots are pages
#   32   slots_in_use
#   40   spare[3]
#   64   slots[64]    link words: to objnodes, or to pages at level 1; 0 = none
cdef struct Objnode:
    u64 sentinel
    u64 link
    u64 obj
    u64 level
    u64 slots_in_use
    u64 spare[3]
    u64 slots[MAP_SIZE]

# A link word says where a struct lies and, if that is a page, about where its bytes lie, so that both can be on their way from
# memory at once:
#   bits 0..36    offset of the struct / 64
#   bits 37..63   hint: offset of the page chunk >> hint_shift; 0 = none. Only ever prefetched, never followed.
# Pampd, one cache line. Guard: the bucket; journalled once linked.
#   0    sentinel
#   8    link         staged, pending, or retired list; while it is in a queue, the next older page (guard: the shard)
#   16   obj          back pointer; retired list or limbo, of a page in the arena (it may still be in a queue then)
#   24   index
#   32   data         offset of the page chunk, or a back end's token, or the word a page is filled with
#   40   shape        length | class << 32 | flags << 40 | compressed bytes << 48, 0 of a page that is not compressed
#   48   gen          never the same for two pages ever put
#   56   queue        queue word (guard: the shard); of a foreign page, once linked: generation << 32 | index + 1 of its pool
#
# A queue word:
#   bits 0..36   offset of the next newer page / 64; 0 = it is the newest
#   bits 37..42  shard
#   bits 43..45  QUEUE_*
#   bits 46..61  index of the pool
#
# The mark of its chunk (shm/layout.pxd) is the hits of a page, at most HITS_MAX: added by readers without a lock, so a hint. It is no part
# of the descriptor: a reader may be late, and the chunk may hold page bytes by then. A hit too many or too few makes another page go.
cdef struct Pampd:
    u64 sentinel
    u64 link
    u64 obj
    u64 index
    u64 data
    u64 shape
    u64 gen
    u64 queue

# Shard of the queues, one cache line. Guard of all words: its lock. Pages are spread over shards by the hash of their handle.
#   0    lock
#   32   clock        ghosts ever remembered (not journalled: to forget a ghost is no harm)
#   40   ghosts       1: its ghosts have memory
#   48   spare[2]
cdef struct Shard:
    Lock lock
    u64 clock
    u64 ghosts
    u64 spare[2]

# Queues of one pool in one shard, one cache line. Guard: the shard's lock; journalled.
#   0    head[2]      newest page of the small and of the main queue
#   16   tail[2]      oldest
#   32   count[2]
#   48   hand         where SIEVE looks next; 0 = at the oldest
#   56   spare
cdef struct Queue:
    u64 head[2]
    u64 tail[2]
    u64 count[2]
    u64 hand
    u64 spare

# Twin: content that several pages of a pool have, 64 bytes, in a chunk of the class of page descriptors. Guard: its bucket's lock; journalled.
# What a reader needs of it (data, shape) never changes while a page refers to it.
#   0    sentinel
#   8    link         next of its bucket
#   16   digest[2]    XXH3, 128 bits, of the bytes as they are stored, seeded with the arena's nonce
#   32   data         offset of the chunk
#   40   shape        as of a page, without TWIN
#   48   refs         pages that refer to it: linked, staged or retired
#   56   pool         generation << 32 | index + 1 of its pool
cdef struct Twin:
    u64 sentinel
    u64 link
    u64 digest[2]
    u64 data
    u64 shape
    u64 refs
    u64 pool

# Twin bucket, one cache line. Guard: its lock; journalled.
#   0    lock
#   32   head         first twin
#   40   count        twins in it
#   48   bytes        of their chunks
cdef struct TwinBucket:
    Lock lock
    u64 head
    u64 count
    u64 bytes
    u64 spare

# What the three structs have in common.
cdef struct Head:
    u64 sentinel
    u64 link

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
    u64 length              # bytes of data; after a get, of the page
    Packed *packs           # for each page of a put how it is stored, or NULL: all as they are, and none is looked for elsewhere
    u64 stored              # of the page a get found: bytes that are copied
    u64 *shapes             # for each page of a range its shape, or NULL: the caller does not need them
    u64 nodes_wanted        # objnodes to have at hand before the lock is taken
    u64 found               # offset of the page a get found
    u64 seq                 # what the bucket's sequence word was
    u64 shape               # of the page found
    u64 total               # bytes a range walk has seen, as stored
    u64 asked               # the same, as put
    u64 staged              # pages of a put that are on the staged list
    u64 created             # pages of a put that a foreign PAM has taken
    u64 obj                 # where the tree has the obj, if the lookaside table did not know
    u64 unlinked            # Bucket.unlinked then
    u64 top                 # what the obj led to then, as in Aside
    u64 room                # bytes the caller has room for; 0: as many as it takes
    u64 shard               # of the first page of a put
    u64 page                # offset of the descriptor a get found
    bint duplicate          # a put replaced a page
    bint refuse             # no memory for a page: empty the handles and refuse
    bint exhausted          # no memory for tree nodes: refuse instead of trying again
    bint salvaged           # what others have retired was looked through: without memory now, it is refused
    bint bounce             # the new page waits in the bounce page

# An entry of a lookaside table: offset of an obj / 64 with the upper 27 bits of its oid's hash, and Bucket.unlinked when it was
# seen to be linked.
cdef struct Aside:
    u64 obj
    u64 unlinked
    u64 top                 # offset of the top objnode, or of the page at height 0, / 64, height << 37, as last seen: only ever prefetched

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
    u64 seed                # of their digests: no content can be prepared whose digests fall into one bucket of every arena
    u64 codec               # LZ4, ZSTD, or 0: its pages are stored as they are
    u64 packed_max          # bytes that a compressed page has at most; 0 without a codec
    Aside *asides           # lookaside table (lookaside.py)
    u64 aside_mask
    u64 aside_clashes
    u64 *leaves             # hints: where bottom nodes are, / 64, with the upper 27 bits of a hash; NULL until one is met
    u64 leaf_mask
    u64 leaf_clashes

cdef inline Obj *obj_at(Worker *w, u64 off) noexcept nogil:
    cdef Obj *o = <Obj *>chunk_at(w, off)
    if unlikely(o.sentinel != OBJ_SENTINEL):
        if w.fault == 0:
            w.fault = FAULT_SENTINEL
        return <Obj *>w.scratch
    return o

cdef inline Objnode *objnode_at(Worker *w, u64 off) noexcept nogil:
    cdef Objnode *n = <Objnode *>chunk_at(w, off)
    if unlikely(n.sentinel != OBJNODE_SENTINEL):
        if w.fault == 0:
            w.fault = FAULT_SENTINEL
        return <Objnode *>w.scratch
    return n

cdef inline Pampd *pampd_at(Worker *w, u64 off) noexcept nogil:
    cdef Pampd *d = <Pampd *>chunk_at(w, off)
    if unlikely(d.sentinel != PAMPD_SENTINEL):
        if w.fault == 0:
            w.fault = FAULT_SENTINEL
        return <Pampd *>w.scratch
    return d

cdef inline int hint_shift(Worker *w) noexcept nogil:
    # As fine as 27 bits can be for a file of this size, and no finer than a cache line.
    cdef int shift = 64 - clz(w.map_bytes) - 27
    return shift if shift > 6 else 6

cdef inline u64 link_to(u64 off) noexcept nogil:
    return off >> 6

cdef inline u64 link_to_page(Worker *w, u64 off, u64 data, int flags) noexcept nogil:
    # A back end's token is no place in the arena: no hint. Nor for a twin, whose chunk another page has moved or will move.
    return off >> 6 if flags & (FOREIGN | SAME | TWIN) else off >> 6 | data >> hint_shift(w) << 37

cdef inline u64 target_of(u64 link) noexcept nogil:
    return (link & (((<u64>1) << 37) - 1)) << 6

cdef inline u64 hint_of(Worker *w, u64 link) noexcept nogil:
    return link >> 37 << hint_shift(w)

cdef inline void ask_for(Worker *w, u64 link) noexcept nogil:
    # The first bytes of a page set out at once with its descriptor; the processor sees to the others.
    cdef char *at = w.base + hint_of(w, link)
    cdef int line
    for line in range(ASKED_LINES):
        prefetch(at + line * 64)

cdef inline Pampd *page_at(Worker *w, u64 off) noexcept nogil:
    # A page that may be live or retired: lists and queues have both.
    return <Pampd *>chunk_at(w, off)

cdef inline u64 shape_of(u64 length, int cls, int flags) noexcept nogil:
    return length | <u64>cls << 32 | <u64>flags << 40

cdef inline u64 length_of(Pampd *d) noexcept nogil:
    return <unsigned int>d.shape

cdef inline int class_in(Pampd *d) noexcept nogil:
    return <unsigned char>(d.shape >> 32)

cdef inline u64 flags_in(u64 shape) noexcept nogil:
    return <unsigned char>(shape >> 40)

cdef inline int flags_of(Pampd *d) noexcept nogil:
    return <int>flags_in(d.shape)

cdef inline bint has_chunk(Pampd *d) noexcept nogil:
    # True if `data` is the offset of a chunk that is this page's alone.
    return flags_of(d) & (FOREIGN | SAME | TWIN) == 0

cdef inline u64 chunk_bytes(Worker *w, Pampd *d) noexcept nogil:
    # Bytes of arena that the page takes for itself, its descriptor aside.
    return 0 if not has_chunk(d) or class_in(d) >= CLASS_COUNT else w.class_bytes[class_in(d)]

cdef inline u64 packed_in(u64 shape) noexcept nogil:
    # Bytes of the page compressed; 0: it is not.
    return shape >> 48

cdef inline u64 copied_of(u64 shape) noexcept nogil:
    # What is copied of a page, whatever the shape says: all of it, or its compressed bytes.
    return packed_in(shape) if packed_in(shape) != 0 else <unsigned int>shape

cdef inline bint fits_codecs(u64 shape, u64 codecs) noexcept nogil:
    # True if what a shape says of compression can be in a pool with one of these codecs.
    cdef u64 flags = flags_in(shape) & ~<u64>(TWIN | VIEWED)
    if packed_in(shape) == 0:
        return flags <= (FOREIGN | SAME)
    return flags != 0 and flags & codecs == flags and flags & (flags - 1) == 0 and packed_in(shape) < <unsigned int>shape

cdef inline bint is_twin(u64 shape) noexcept nogil:
    return flags_in(shape) & TWIN != 0

cdef inline Twin *twin_at(Worker *w, u64 off) noexcept nogil:
    cdef Twin *t = <Twin *>chunk_at(w, off)
    if unlikely(t.sentinel != TWIN_SENTINEL):
        if w.fault == 0:
            w.fault = FAULT_SENTINEL
        return <Twin *>w.scratch
    return t

cdef inline u64 chunk_of(Worker *w, u64 shape, u64 data) noexcept nogil:
    # Where the bytes of a page lie, by its shape and data words, each read once.
    return load(&twin_at(w, data).data) if unlikely(is_twin(shape)) else data

cdef inline bint is_same(u64 shape) noexcept nogil:
    return flags_in(shape) & SAME != 0

cdef inline bint same_filled(const char *data, u64 length) noexcept nogil:
    # True if the page is one word over and over: then it is the same as itself a word further on.
    return length >= 16 and memcmp(data, data + 8, 8) == 0 and memcmp(data, data + 8, length - 8) == 0

cdef inline void copy_page(Worker *w, char *out, u64 shape, u64 data, u64 length) noexcept nogil:
    # The bytes of a page whose shape and data word have been checked, each read once; the length is copied_of(shape).
    cdef u64 done = 8 if length >= 8 else length
    if not is_same(shape):
        memcpy(out, w.base + data, length)
        return
    memcpy(out, &data, done)
    while done < length:            # twice as much each time
        memcpy(out + done, out, done if length - done >= done else length - done)
        done *= 2

cdef inline u64 stored_bytes(Pampd *d) noexcept nogil:
    # Bytes that are really stored of a page: of one that lies elsewhere none, of a same-filled one its word, of a twin where that is.
    return 0 if flags_of(d) & FOREIGN else 8 if flags_of(d) & (SAME | TWIN) else copied_of(d.shape)

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

cdef inline u64 pool_mark(u64 idx, u64 gen) noexcept nogil:
    return gen << 32 | (idx + 1)

cdef inline u64 pool_of(u64 mark) noexcept nogil:
    return <u64><unsigned int>mark - 1

cdef inline ClientRecord *client_at(Worker *w, u64 seat) noexcept nogil:
    # The record of a pool's client by its word `seat`, or NULL. Its words are read as they are: a wrong one makes another page go, and no more.
    return &(<ClientPage *>(w.base + w.client_off)).clients[seat - 1] if 0 < seat <= CLIENTS_MAX else NULL

cdef inline bint is_frozen(Worker *w, PoolRecord *p) noexcept nogil:
    cdef ClientRecord *client = client_at(w, load(&p.seat))
    return client != NULL and client.frozen != 0

cdef inline u64 pool_of_obj(Obj *o) noexcept nogil:
    return <unsigned int>o.pool

cdef inline u64 codec_of(PoolRecord *p) noexcept nogil:
    # The flag of a pool's codec; 0: it has none.
    return LZ4 if strncmp(p.pam, b"lz4", PAM_NAME_BYTES) == 0 else ZSTD if strncmp(p.pam, b"zstd", PAM_NAME_BYTES) == 0 else 0

cdef inline bint is_live(PoolRecord *p, u64 gen) noexcept nogil:
    # True if what the caller has read of the record so far is of the living pool of that generation. A record is written under the pool
    # table lock, whose taking ends in a release fence, while the state says something else; and the state goes live by a release store
    # after the generation. So who has read a word of a later pool sees, after this fence, that its own is gone.
    fence_acquire()
    return load_acquire(&p.state) == POOL_LIVE and load(&p.gen) == gen

cdef inline u64 pools_high(Worker *w) noexcept nogil:
    # Pool slots below were used at some time and have memory; never more than there are.
    cdef u64 high = load_acquire(&(<ClientPage *>(w.base + w.client_off)).pools_high)
    return high if high <= w.client_geometry[GEO_POOLS] else w.client_geometry[GEO_POOLS]

cdef inline u64 allow_count(PoolRecord *p) noexcept nogil:
    # Read once, and no more than there is room for.
    cdef u64 count = load(&p.allow_count)
    return count if count <= ALLOW_MAX else ALLOW_MAX

cdef inline u64 allow_id(PoolRecord *p, u64 i) noexcept nogil:
    return <unsigned int>(p.allow[i >> 1] >> (i & 1) * 32)

cdef inline bint is_evictable(PoolRecord *p) noexcept nogil:
    # True if pages of the pool go into queues: it is ephemeral, and its pages lie in the arena.
    return p.flags & POOL_PERSISTENT == 0 and (codec_of(p) != 0 or strncmp(p.pam, b"raw", PAM_NAME_BYTES) == 0)

cdef inline u64 hits_worth(PoolRecord *p) noexcept nogil:
    # How many hits of a page are worth counting for the pool's policy.
    if not is_evictable(p) or p.policy == POLICY_FIFO:
        return 0
    return HITS_MAX if p.policy == POLICY_S3FIFO else 1

cdef inline u64 next_gen(Worker *w) noexcept nogil:
    w.slot.client[ROOT_GENERATION] += 1
    return (w.slot_idx + 1) << 48 | w.slot.client[ROOT_GENERATION] & ((<u64>1 << 48) - 1)

cdef inline u64 queue_word(u64 prev, u64 shard, u64 state, u64 pool) noexcept nogil:
    return prev >> 6 | shard << 37 | state << 43 | pool << 46

cdef inline u64 prev_in(u64 queue) noexcept nogil:
    return (queue & (((<u64>1) << 37) - 1)) << 6

cdef inline u64 shard_in(u64 queue) noexcept nogil:
    return queue >> 37 & (SHARDS_MAX - 1)

cdef inline u64 state_in(u64 queue) noexcept nogil:
    return queue >> 43 & 7

cdef inline bint is_queued(u64 queue) noexcept nogil:
    # True if a page with this queue word is in a queue. Not asked of a foreign page, whose word is another.
    return state_in(queue) == QUEUE_SMALL or state_in(queue) == QUEUE_MAIN

cdef inline u64 pool_in(u64 queue) noexcept nogil:
    return queue >> 46 & 0xFFFF

cdef inline PoolRecord *pool_at(Worker *w, u64 idx) noexcept nogil:
    return <PoolRecord *>(w.base + w.client_off + CLIENT_PAGE + idx * POOL_BYTES)

cdef inline bint is_of_now(Worker *w, u64 mark) noexcept nogil:
    # True if a page with this mark (Pampd.pool, read once) is of the pool that has the slot now.
    return (mark != 0 and pool_of(mark) < w.client_geometry[GEO_POOLS]
            and mark >> 32 == <unsigned int>load(&pool_at(w, pool_of(mark)).gen))

cdef inline u64 buckets_offset(Worker *w) noexcept nogil:
    # The bucket arrays lie behind the pool records, one a pool slot.
    return (w.client_off + CLIENT_PAGE + w.client_geometry[GEO_POOLS] * POOL_BYTES + CLIENT_PAGE - 1) & ~<u64>(CLIENT_PAGE - 1)

cdef inline Bucket *buckets_at(Worker *w, u64 idx) noexcept nogil:
    return <Bucket *>(w.base + buckets_offset(w) + idx * w.client_geometry[GEO_BUCKETS] * BUCKET_BYTES)

cdef inline u64 queues_offset(Worker *w) noexcept nogil:
    # Behind the bucket arrays: the queues of every pool slot, then the shards, then their ghosts, each from a page boundary.
    return buckets_offset(w) + w.client_geometry[GEO_POOLS] * w.client_geometry[GEO_BUCKETS] * BUCKET_BYTES

cdef inline u64 queues_bytes(Worker *w) noexcept nogil:
    return w.client_geometry[GEO_SHARDS] * QUEUE_BYTES

cdef inline u64 shards_offset(Worker *w) noexcept nogil:
    return (queues_offset(w) + w.client_geometry[GEO_POOLS] * queues_bytes(w) + CLIENT_PAGE - 1) & ~<u64>(CLIENT_PAGE - 1)

cdef inline u64 ghosts_offset(Worker *w, u64 shard) noexcept nogil:
    return shards_offset(w) + CLIENT_PAGE + shard * w.client_geometry[GEO_GHOSTS] * 8

cdef inline u64 twins_offset(Worker *w) noexcept nogil:
    # Behind the ghosts.
    return (ghosts_offset(w, w.client_geometry[GEO_SHARDS]) + CLIENT_PAGE - 1) & ~<u64>(CLIENT_PAGE - 1)

cdef inline TwinBucket *twin_bucket(Worker *w, u64 digest) noexcept nogil:
    return <TwinBucket *>(w.base + twins_offset(w)) + (digest & (w.client_geometry[GEO_TWINS] - 1))

cdef inline bint has_twins(Worker *w) noexcept nogil:
    return load(&(<ClientPage *>(w.base + w.client_off)).twins) != 0

cdef inline Queue *queue_at(Worker *w, u64 pool, u64 shard) noexcept nogil:
    return <Queue *>(w.base + queues_offset(w) + pool * queues_bytes(w)) + shard

cdef inline Shard *shard_at(Worker *w, u64 shard) noexcept nogil:
    return <Shard *>(w.base + shards_offset(w)) + shard

cdef inline u64 page_hash(u64 oid_hash, u64 index, u64 pool) noexcept nogil:
    # Upper bits: the shard; lower 32: the fingerprint of a ghost. Mixing as in MurmurHash3's finalizer (Appleby).
    cdef u64 h = oid_hash ^ (index * 0x9E3779B97F4A7C15u + pool)
    h = (h ^ h >> 33) * 0xFF51AFD7ED558CCDu
    h = (h ^ h >> 33) * 0xC4CEB9FE1A85EC53u
    return h ^ h >> 33

cdef inline u64 shard_of(Worker *w, u64 hash) noexcept nogil:
    return hash >> 58 & (w.client_geometry[GEO_SHARDS] - 1)

cdef inline u64 pins_start(Worker *w) noexcept nogil:
    # Behind the ledgers in a worker's part of them.
    return (w.client_geometry[GEO_POOLS] * LEDGER_BYTES + CLIENT_PAGE - 1) & ~<u64>(CLIENT_PAGE - 1)

cdef inline u64 *pins_at(Worker *w, u64 slot_idx) noexcept nogil:
    return <u64 *>(w.base + w.ledgers_off + slot_idx * w.ledger_bytes + pins_start(w))

cdef inline u64 *ledger_at(Worker *w, u64 slot_idx, u64 idx) noexcept nogil:
    return <u64 *>(w.base + w.ledgers_off + slot_idx * w.ledger_bytes + idx * LEDGER_BYTES)

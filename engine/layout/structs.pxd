# Owns the structs that the engine keeps in an arena, their constants, and what their words mean.
#
# Four structs live in chunks: obj, objnode, pampd, twin, and they begin alike: a sentinel and a
# link. The sentinel is inverted when the struct is retired, and checked on every visit. The link
# chains what is staged or retired; both lists hang on words of the worker's slot (guard: the
# worker's own lock). Pools and buckets lie in the client region and never move: a lock, once a
# lock, stays a lock.

from shm.layout cimport Lock, u64

cdef enum:
    ENGINE_LAYOUT_VERSION = 12

    OBJ_SENTINEL = 0x6F626A31
    LEAN_SENTINEL = 0x6C65616E
    OBJNODE_SENTINEL = 0x6E6F6431
    PAMPD_SENTINEL = 0x70616431
    POOL_SENTINEL = 0x706F6F31
    TWIN_SENTINEL = 0x7477696E

    # Size classes (shm/segments.py) of these structs; compared with the structs in geometry.py.
    PAMPD_CLASS = 0
    OBJ_CLASS = 8
    OBJNODE_CLASS = 39

    MAP_SHIFT = 6
    MAP_SIZE = 64
    HEIGHT_MAX = 11         # 6 * 11 >= 64 bits of index
    DEPTH_MAX = 128         # a red-black tree of 2^64 nodes is no deeper
    NODES_SHIFT = 1         # of the count of objnodes in Stem.nodes
    LEAN_SHIFT = 32         # of the count of lean objs in GAUGE_OBJECTS
    NODES_MAX = 22          # a put links at most 10 new roots and 11 nodes on the way down

    PAGE_MIN = 512          # a pool's pages may have so many bytes at least, and EXTENT_MAX at most

    POOL_FREE = 0
    POOL_LIVE = 1
    POOL_DYING = 2

    POOL_PERSISTENT = 1
    POOL_SHARED = 2
    POOL_DEDUP = 4
    POOL_WHOLE = 8          # pages that were put as one range go as one
    POOL_FAR = 16           # it has a far tier: its far record says which
    POOL_FAR_PERSISTENT = 32        # beside POOL_FAR and POOL_PERSISTENT: pages leave for the tier, which is durable

    # Header.client, Worker.client_geometry words. The first is the size of a page.
    GEO_PAGE_SIZE = 0
    GEO_BUCKETS = 1
    GEO_POOLS = 2
    GEO_SHARDS = 3
    GEO_GHOSTS = 4          # ghosts a shard has room for, a power of two
    GEO_TWINS = 5           # twin buckets, a power of two
    GEO_PINNED = 6          # bytes of chunks that may be pinned
    GEO_FILLED = 7          # 1: all segments had memory from the start, and none goes back by itself

    SHARDS_MAX = 64
    SHARD_BYTES = 64
    QUEUE_BYTES = 128

    HITS_MAX = 3            # hits of a page that are counted, in its mark

    # Slot.client words
    ROOT_STAGED = 0         # pages copied in, not linked yet
    ROOT_RETIRED = 1        # what was unlinked, not given back yet
    ROOT_GENERATION = 2     # counts pages this slot ever made (not journalled)
    ROOT_PENDING = 3        # pages linked, not in a queue yet
    TWINS_MADE = 4          # twins this slot's workers made, less those they took apart: may be below zero
    TWIN_BYTES = 5          # bytes of their chunks, likewise
    ROOT_WRITTEN = 6        # pages that are being written in place
    # On a line of their own, which only views write. Not journalled: pins.py says why.
    PINS_HIGH = 8           # pins from here on are 0
    PINS_BACKED = 9         # pins that have memory
    PINS_USED = 10          # pins that are not 0
    PINS_BYTES = 11         # bytes of their chunks
    PINS_NEXT = 12          # pins below are not 0
    PINS_MAX = 4096         # of a worker

    # Words of a ledger: a worker's counters for one pool. Gauges are journalled with what they
    # count.
    PUTS_OK = 0
    PUTS_REFUSED = 1
    PUTS_DUPLICATE = 2
    GETS_HIT = 3
    GETS_MISS = 4
    FLUSHES = 5
    GAUGE_OBJECTS = 6       # bits 0..31 objs, 32..63 how many of them are lean
    GAUGE_OBJNODES = 7
    GAUGE_PAGES = 8
    GAUGE_BYTES_ASKED = 9
    GAUGE_BYTES_USED = 10
    EVICTED = 11
    GAUGE_BYTES_STORED = 12
    EXPIRED = 13            # objects that had expired, and were taken out
    TWIN_BYTES_MIN = 256    # stored; a shorter page would save less than a twin costs
    TWINS_A_BUCKET = 64     # more are not made: a page that would be one gets a chunk of its own
    TWIN_BUCKET_BYTES = 64
    LEDGER_WORDS = 14       # the others are spare
    LEDGER_BYTES = 128

    POOL_NAME_BYTES = 64
    PAM_NAME_BYTES = 32
    ALLOW_MAX = 32          # clients that a pool can name
    POOL_BYTES = 512
    BUCKET_BYTES = 64
    CLIENT_PAGE = 4096
    CLIENTS_MAX = 120       # clients that the client page has room for
    WEIGHT_MAX = 1048576

    LEASE_BUCKETS = 256     # a page of them for each bit of ClientPage.leases
    LEASES_A_BUCKET = 15
    LEASE_BYTES = 64
    LEASE_BUCKET_BYTES = 1024

    FAR_BYTES = 16384
    FAR_NODE_BYTES = 256
    FAR_NODES = 60
    FAR_ADDRESS_BYTES = 64
    FAR_TIMES = 14
    FAR_TARGET_BYTES = 896
    DEAD_MAX = 1022
    DEAD_BYTES = 32
    DEAD_RING_BYTES = 32768
    FAR_STORED_MIN = 512    # bytes as stored; a shorter page would save less than its descriptor costs

# Client (tenant), 32 bytes. Guard: the pool table lock; read by all.
#   0    id           + 1; 0 = unused
#   8    weight       its share of memory for ephemeral pages is its weight by the sum of all
#   16   cap          what its ephemeral pools may have: a cap word
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
#   3952 leases       a bit for each page of lease buckets that has memory (no guard: bits are only ever set)
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
    u64 leases
    u64 spare2
    Lock cap_lock

# Pool, 512 bytes. Guard: the pool table lock; `cursor` belongs to who destroys it.
#   0    sentinel
#   8    link         retired list, while it is being destroyed
#   16   state        POOL_*; written last at creation
#   24   gen          counts the pools that had this slot
#   32   flags        POOL_PERSISTENT | POOL_SHARED | POOL_DEDUP | POOL_WHOLE | POOL_FAR | POOL_FAR_PERSISTENT
#   40   epoch        counts how often a pool in this slot was cleared: an obj whose epoch is not this modulo 65536 is
#                     dead; read by all
#   48   cursor       bucket the destroyer has come to
#   56   policy       of an ephemeral pool: its number in the table of engine/eviction/policies.py
#   64   name         utf-8, zero-filled
#   128  pam          name of the back end, zero-filled
#   160  cap          what it may have: pages, or with bit 63 bytes of chunks; 0 = as many as there is room for
#   168  seat         where the record of its client is in the client page, + 1; 0 = its client found no room there
#   176  allow_count  clients named in `allow`; 0 = a shared pool lets all in
#   184  cap_lock     who lets pages go because there are more than `cap`
#   216  mean         bytes that a page of it takes with all that describes it, when last counted; 0 = never
#                     (no guard: a hint)
#   224  asked        gets and puts of all workers, when somebody last counted (no guard: a hint)
#   232  quiet        bytes that went, of all pools, since that was another number (no guard: a hint)
#   240  page_size    bytes that a page put by its index has at most; a value that is put as an object is page 0, of
#                     any length
#   248  client
#   256  base[14]     sums of all ledgers when the pool was made: counters start there
#   368  dated        1: some obj of it has, or had, an expiry (no guard: a hint, set before the first has one)
#   376  swept        every obj of an earlier epoch than this is gone; never more than is true (no guard)
#   384  allow[16]    ids of the clients that a shared pool lets in beside its own, two a word, the lower half first
cdef struct PoolRecord:
    u64 sentinel
    u64 link
    u64 state
    u64 gen
    u64 flags
    u64 epoch
    u64 cursor
    u64 policy
    char name[POOL_NAME_BYTES]
    char pam[PAM_NAME_BYTES]
    u64 cap
    u64 seat
    u64 allow_count
    Lock cap_lock
    u64 mean
    u64 asked
    u64 quiet
    u64 page_size
    u64 client
    u64 base[LEDGER_WORDS]
    u64 dated
    u64 swept
    u64 allow[16]

# Bucket, one cache line. Guard: its lock; `root` journalled.
#   0    lock
#   32   root         red-black tree of objs
#   40   unlinked     counts objs unlinked or moved; never goes back, so not journalled
#   48   earliest     no obj in it expires before this; 0 = none has an expiry (not journalled: too early is no harm)
#   56   swept        bits 0..31: every obj in it of an earlier epoch than this is gone; bits 32..63: number of the
#                     sweep that looks through it now, or was given up: `earliest` says nothing of what that has seen;
#                     0 = none (not journalled)
cdef struct Bucket:
    Lock lock
    u64 root
    u64 unlinked
    u64 earliest
    u64 swept

# Obj, one cache line, which is all that a search reads; and behind it, in the same chunk, its stem.
# A lean obj has no stem, and lies in a chunk of the class of page descriptors: its only page is page
# 0, its `link` leads to that while it is in its bucket, and its expiry is the page's `index`. What a
# stem says is asked by functions (regions.pxd), which know both forms. An obj begins lean if page 0
# is all that it is made for, and gets a stem with the first page beside that (tree/stem.py).
# Guard: the bucket; journalled.
#   0    sentinel     bits 0..31 OBJ_SENTINEL or LEAN_SENTINEL; 32..47 index of the pool; 48..63 the pool's epoch when
#                     it was made. All of it is inverted when the obj is retired
#   8    link         of a lean obj that is linked: link word to page 0; 0 = it has none
#   16   oid[3]
#   40   left
#   48   right
#   56   parent       offset | colour (1 = red)
cdef struct Obj:
    u64 sentinel
    u64 link
    u64 oid[3]
    u64 left
    u64 right
    u64 parent

# Stem of an obj, one cache line: bytes 64..127 of its chunk. Guard: the bucket; journalled.
#   0    root         link word: to the page itself at height 0, else to the top objnode; 0 = no pages
#   8    height
#   16   pampd_count
#   24   expires      when it is dead, in nanoseconds of the machine's CLOCK_BOOTTIME; 0 = never
#   32   nodes        bit 0: a back end in Python was told of the obj and wants to hear of its end; 1..63 objnodes
#   40   stored       bytes of its pages as they lie in the arena, summed
#   48   asked        lengths of its pages, summed
#   56   used         bytes of their chunks
cdef struct Stem:
    u64 root
    u64 height
    u64 pampd_count
    u64 expires
    u64 nodes
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

# A link word says where a struct lies and, if that is a page, about where its bytes lie, so that
# both can be on their way from memory at once:
#   bits 0..36    offset of the struct / 64
#   bits 37..63   hint: offset of the page chunk >> hint_shift; 0 = none. Only ever prefetched, never followed.
# Pampd, one cache line. Guard: the bucket; journalled once linked.
#   0    sentinel
#   8    link         staged, pending, or retired list; while it is in a queue, the next older page / 64 (bits
#                     0..36) and what the shard's `turn` was when it came there (bits 37..63; guard: the shard)
#   16   obj          back pointer; retired list or limbo, of a page in the arena (it may still be in a queue then)
#   24   index        of the page of a lean obj, whose index is 0: when the obj is dead, as Stem.expires
#   32   data         offset of the page chunk, or a back end's token, or a far tier's, or the word a page is filled
#                     with
#   40   shape        how long it is and how it is kept: a shape word (words.pxd)
#   48   gen          never the same for two pages ever put
#   56   queue        queue word (guard: the shard); of a foreign page, once linked:
#                     generation << 32 | index + 1 of its pool
#
# A queue word:
#   bits 0..36   offset of the next newer page / 64; 0 = it is the newest; of a pending page, how far behind the
#                first of its value it is
#   bits 37..42  shard
#   bits 43..45  QUEUE_*
#   bits 46..61  index of the pool
#   bit  62      it is in the older half of the small queue: it counts hits, which it did not before. Of a far page of a
#                persistent pool: its tier has said that it is lost
#   bit  63      it came as one value with the page of the index before it, and goes with it
#
# The mark of its chunk (shm/layout.pxd) is the hits of a page, at most HITS_MAX: added by readers
# without a lock, so a hint. It is no part of the descriptor: a reader may be late, and the chunk
# may hold page bytes by then. A hit too many or too few makes another page go.
cdef struct Pampd:
    u64 sentinel
    u64 link
    u64 obj
    u64 index
    u64 data
    u64 shape
    u64 gen
    u64 queue

# Shard of the queues, one cache line. Guard of all words: its lock. Pages are spread over shards by
# the hash of their handle.
#   0    lock
#   32   clock        ghosts ever remembered (not journalled: to forget a ghost is no harm)
#   40   ghosts       1: its ghosts have memory
#   48   pages        in its queues, of all pools (journalled)
#   56   turn         pages that ever came into its queues anew, by which the age of a page is told (not journalled)
cdef struct Shard:
    Lock lock
    u64 clock
    u64 ghosts
    u64 pages
    u64 turn

# Queues of one pool in one shard, two cache lines; the second is of far pages alone. Guard: the
# shard's lock; journalled.
#   0    head[2]      newest page of the small and of the main queue
#   16   tail[2]      oldest
#   32   count[2]
#   48   hand         where SIEVE looks next, 0 = at the oldest; of S3-FIFO, the oldest of the young, 0 = there is none
#   56   young        pages of the small queue that are not in its older half
#   64   far_head     the page that became far last
#   72   far_tail     first
#   80   far_count
#   88   far_bytes    of them, as they are stored
#   96   far_skipped  pages that went for want of memory, and were not far before (not journalled: a count)
#   104  far_home     pages that came home (not journalled: a count)
#   112  spare[2]
cdef struct Queue:
    u64 head[2]
    u64 tail[2]
    u64 count[2]
    u64 hand
    u64 young
    u64 far_head
    u64 far_tail
    u64 far_count
    u64 far_bytes
    u64 far_skipped
    u64 far_home
    u64 spare[2]

# Node of a far tier's cluster, 256 bytes, in the pool's far record: what all processes know of it.
# Guard: none; each word is a hint, changed by whoever has asked the node, `hash` and `until` by
# compare-and-swap. Nothing but how soon a node is asked depends on them.
#   0    hash         XXH3, 64 bits, of the address; 0: nobody has this place
#   8    until        0: it is asked; else the clock's time until which it is not (the breaker is open)
#   16   backoff      nanoseconds that the breaker was opened for last
#   24   asked        from here on counters: batches that were sent
#   32   pages        that they asked for
#   40   failed       batches with no answer: a connection that was refused or broke
#   48   late         batches whose answer did not come in time
#   56   opened       times that the breaker was opened
#   64   moved        pages that it sent elsewhere (MOVED, ASK)
#   72   refused      pages that it would not take (OOM, LOADING, too few replicas)
#   80   address      host:port, zero-filled: a label
#   144  times[14]    answers that took less than 64 << i us, and not less than half of that; the last: longer, too
cdef struct FarNode:
    u64 hash
    u64 until
    u64 backoff
    u64 asked
    u64 pages
    u64 failed
    u64 late
    u64 opened
    u64 moved
    u64 refused
    char address[FAR_ADDRESS_BYTES]
    u64 times[FAR_TIMES]

# Far record of a pool, 16384 bytes; it counts if the pool has POOL_FAR. Guard: written by who makes
# the pool, before it lives, unless said otherwise; read by all.
#   0    most         what may be far: a cap word
#   8    hash         XXH3, 64 bits, of `target`
#   16   length       bytes of `target`
#   24   words[4]     the tier's own; of a file: 0 regions that were ever begun (the spiller, who only raises it),
#                     1 st_dev, 2 st_ino
#   56   spilled      from here on counters, added to by whoever it happens to
#   64   hits         gets that were answered by the far tier
#   72   gone         that found it had the page no more; of a persistent pool these are lost
#   80   bad          whose bytes had a wrong sum: counted in `gone` too
#   88   stale        pages that were copied, and were not the same, or were wanted, when they were to become far
#   96   failed       gets that it gave no answer
#   104  garbage      dead tokens that were forgotten, since the dead ring was full
#   112  deletes      1: the tier wants to hear of tokens that are dead
#   120  stays        1: pages that are far stay so, whatever is asked for
#   128  target       where it is: the text that was given, zero-filled
#   1024 nodes[60]    of a tier that has several: guarded as said there
cdef struct FarRecord:
    u64 most
    u64 hash
    u64 length
    u64 words[4]
    u64 spilled
    u64 hits
    u64 gone
    u64 bad
    u64 stale
    u64 failed
    u64 garbage
    u64 deletes
    u64 stays
    char target[FAR_TARGET_BYTES]
    FarNode nodes[FAR_NODES]

# Dead token: what a far tier may drop, 32 bytes.
#   0    pool         mark of the pool, as in a foreign page
#   8    gen          generation of the page: its name in the tier
#   16   token
#   24   spare
cdef struct Dead:
    u64 pool
    u64 gen
    u64 token
    u64 spare

# Dead ring, 32768 bytes, one an arena: tokens of far pages that have gone, oldest first. Guard: its lock; journalled.
#   0    lock
#   32   first        where the oldest is
#   40   count
#   48   ready        1: it has memory (guard: the pool table lock; only ever set)
#   56   spare
#   64   dead[1022]
cdef struct DeadRing:
    Lock lock
    u64 first
    u64 count
    u64 ready
    u64 spare
    Dead dead[DEAD_MAX]

# Twin: content that several pages of a pool have, 64 bytes, in a chunk of the class of page
# descriptors. Guard: its bucket's lock; journalled. What a reader needs of it (data, shape) never
# changes while a page refers to it.
#   0    sentinel
#   8    link         next of its bucket
#   16   digest[2]    XXH3, 128 bits, of the bytes as they are stored, seeded with the arena's secret
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
#   48   spare[2]
cdef struct TwinBucket:
    Lock lock
    u64 head
    u64 count
    u64 spare[2]

# What the four structs have in common.
cdef struct Head:
    u64 sentinel
    u64 link

# Lease: who has a name, one cache line. Guard: its bucket's lock; but a holder gives it back without
# one. `holder` is written last, by one store, so nothing is journalled. Its first three words lie as
# in a Lock, by which those who wait sleep on a semaphore of its own; it is none: verbs/lease.py.
#   0    holder       id of the worker, perhaps with OWNER_WAITS, as an owner word; 0 = it is free
#   8    seal         a hash of holder, thread and oid: tells what the holder has not written
#   16   sem          as of a Lock
#   24   thread       which thread of that worker
#   32   oid[3]       the name; that of a free one is whose it was last
#   56   spare
cdef struct Lease:
    u64 holder
    u64 seal
    u64 sem
    u64 thread
    u64 oid[3]
    u64 spare

# Lease bucket, 1024 bytes: the leases whose name has a hash. Guard: its lock.
#   0    lock
#   32   spare[4]
#   64   leases[15]
cdef struct LeaseBucket:
    Lock lock
    u64 spare[4]
    Lease leases[LEASES_A_BUCKET]

# Owns where things lie in an arena: an offset, or an index, to a pointer, bounds and sentinels
# checked; and what a record says of itself.

from libc.string cimport memcpy, strncmp
from engine.layout.structs cimport (
    ALLOW_MAX, BUCKET_BYTES, CLIENTS_MAX, CLIENT_PAGE, FAR_BYTES, GEO_BUCKETS, GEO_GHOSTS, GEO_POOLS, GEO_SHARDS,
    GEO_TWINS, LEAN_SENTINEL, LEAN_SHIFT, LEASE_BUCKETS, LEASE_BUCKET_BYTES, LEDGER_BYTES, NODES_SHIFT,
    OBJNODE_SENTINEL, OBJ_CLASS, OBJ_SENTINEL, PAMPD_CLASS, PAMPD_SENTINEL, PAM_NAME_BYTES, POOL_BYTES, POOL_FAR,
    POOL_FAR_PERSISTENT, POOL_LIVE, POOL_PERSISTENT, QUEUE_BYTES, ROOT_GENERATION, TWIN_BUCKET_BYTES, TWIN_SENTINEL,
    Bucket, ClientPage, ClientRecord, DeadRing, FarRecord, Head, LeaseBucket, Obj, Objnode, Pampd, PoolRecord, Queue,
    Shard, Stem, Twin, TwinBucket,
)
from engine.layout.words cimport LZ4, ZSTD, class_in, copied_of, has_chunk, is_same, is_twin, pool_of, target_of
from shm.atomics cimport fence_acquire, likely, load, load_acquire, unlikely
from shm.extent cimport room_of
from shm.layout cimport CLASS_COUNT, FAULT_SENTINEL, Worker, u64
from shm.memory cimport chunk_at

cdef inline Head *struct_at(Worker *w, u64 off, u64 sentinel) noexcept nogil:
    # The struct of a chunk; if it is not of this kind, Worker.fault, and zeroes.
    cdef Head *h = <Head *>chunk_at(w, off)
    if unlikely(h.sentinel != sentinel):
        if w.fault == 0:
            w.fault = FAULT_SENTINEL
        return <Head *>w.scratch
    return h

cdef inline bint is_obj(u64 sentinel) noexcept nogil:
    # True of the sentinel of an obj that is not retired.
    return likely(<unsigned int>sentinel == OBJ_SENTINEL) or <unsigned int>sentinel == LEAN_SENTINEL

cdef inline bint was_obj(u64 sentinel) noexcept nogil:
    # True of that of a retired one.
    return is_obj(~sentinel)

cdef inline Obj *obj_at(Worker *w, u64 off) noexcept nogil:
    cdef Head *h = <Head *>chunk_at(w, off)
    if unlikely(not is_obj(h.sentinel)):
        if w.fault == 0:
            w.fault = FAULT_SENTINEL
        return <Obj *>w.scratch
    return <Obj *>h

cdef inline Objnode *objnode_at(Worker *w, u64 off) noexcept nogil:
    return <Objnode *>struct_at(w, off, OBJNODE_SENTINEL)

cdef inline Pampd *pampd_at(Worker *w, u64 off) noexcept nogil:
    return <Pampd *>struct_at(w, off, PAMPD_SENTINEL)

cdef inline Twin *twin_at(Worker *w, u64 off) noexcept nogil:
    return <Twin *>struct_at(w, off, TWIN_SENTINEL)

cdef inline Pampd *page_at(Worker *w, u64 off) noexcept nogil:
    # A page that may be live or retired: lists and queues have both.
    return <Pampd *>chunk_at(w, off)

cdef inline u64 chunk_bytes(Worker *w, Pampd *d) noexcept nogil:
    # Bytes of arena that the page takes for itself, its descriptor aside.
    return 0 if not has_chunk(d) or class_in(d) >= CLASS_COUNT else room_of(w, class_in(d), copied_of(d.shape))

cdef inline u64 chunk_of(Worker *w, u64 shape, u64 data) noexcept nogil:
    # Where the bytes of a page lie, by its shape and data words, each read once.
    return load(&twin_at(w, data).data) if unlikely(is_twin(shape)) else data

cdef inline void copy_page(Worker *w, char *out, u64 shape, u64 data, u64 length) noexcept nogil:
    # The bytes of a page whose shape and data word have been checked, each read once; the length is
    # copied_of(shape).
    cdef u64 done = 8 if length >= 8 else length
    if not is_same(shape):
        memcpy(out, w.base + data, length)
        return
    memcpy(out, &data, done)
    while done < length:            # twice as much each time
        memcpy(out + done, out, done if length - done >= done else length - done)
        done *= 2

cdef inline ClientRecord *client_at(Worker *w, u64 seat) noexcept nogil:
    # The record of a pool's client by its word `seat`, or NULL. Its words are read as they are: a
    # wrong one makes another page go, and no more.
    return &(<ClientPage *>(w.base + w.client_off)).clients[seat - 1] if 0 < seat <= CLIENTS_MAX else NULL

cdef inline bint is_frozen(Worker *w, PoolRecord *p) noexcept nogil:
    cdef ClientRecord *client = client_at(w, load(&p.seat))
    return client != NULL and client.frozen != 0

cdef inline u64 pool_of_obj(Obj *o) noexcept nogil:
    return <unsigned short>(load(&o.sentinel) >> 32)

cdef inline u64 pool_it_was_of(Obj *o) noexcept nogil:
    # The same of an obj that may be retired.
    cdef u64 sentinel = load(&o.sentinel)
    return <unsigned short>((~sentinel if was_obj(sentinel) else sentinel) >> 32)

cdef inline u64 epoch_of_obj(Obj *o) noexcept nogil:
    return load(&o.sentinel) >> 48

cdef inline u64 obj_sentinel(bint lean, u64 pool, u64 epoch) noexcept nogil:
    return (<u64>LEAN_SENTINEL if lean else <u64>OBJ_SENTINEL) | pool << 32 | epoch << 48

cdef inline bint is_lean(Obj *o) noexcept nogil:
    return <unsigned int>load(&o.sentinel) == LEAN_SENTINEL

cdef inline bint was_lean(Obj *o) noexcept nogil:
    # The same of a retired one.
    return <unsigned int>~load(&o.sentinel) == LEAN_SENTINEL

cdef inline int obj_class(bint lean) noexcept nogil:
    return PAMPD_CLASS if lean else OBJ_CLASS

cdef inline u64 obj_count(bint lean) noexcept nogil:
    # What an obj adds to GAUGE_OBJECTS.
    return 1 + (<u64>lean << LEAN_SHIFT)

cdef inline Stem *stem_of(Obj *o) noexcept nogil:
    # Of one that is not lean.
    return <Stem *>(o + 1)

cdef inline u64 *root_of(Obj *o) noexcept nogil:
    # Where the link word lies that leads to all its pages.
    return &o.link if is_lean(o) else &stem_of(o).root

cdef inline u64 height_of(Obj *o) noexcept nogil:
    return 0 if is_lean(o) else load(&stem_of(o).height)

cdef inline u64 pages_of(Obj *o) noexcept nogil:
    return load(&o.link) != 0 if is_lean(o) else load(&stem_of(o).pampd_count)

cdef inline u64 *expiry_of(Worker *w, Obj *o) noexcept nogil:
    # Where it says when the obj is dead. A lean one without its page is dead at no time: zeroes.
    if is_lean(o):
        return &pampd_at(w, target_of(load(&o.link))).index if load(&o.link) != 0 else <u64 *>w.scratch
    return &stem_of(o).expires

cdef inline u64 index_in(Obj *o, Pampd *d) noexcept nogil:
    # The index of a page that an obj links to.
    return 0 if is_lean(o) else load(&d.index)

cdef inline bint is_told(Obj *o) noexcept nogil:
    # True if a back end in Python wants to hear of the obj's end; it may be retired.
    return not is_lean(o) and not was_lean(o) and stem_of(o).nodes & 1 != 0

cdef inline u64 nodes_of(Obj *o) noexcept nogil:
    return 0 if is_lean(o) else load(&stem_of(o).nodes) >> NODES_SHIFT

cdef inline u64 epoch_of(PoolRecord *p) noexcept nogil:
    return <unsigned short>load_acquire(&p.epoch)

cdef inline u64 swept_to(Bucket *b) noexcept nogil:
    # The epoch, modulo 2^32, before which every obj of a bucket is gone.
    return <unsigned int>load(&b.swept)

cdef inline u64 sweep_in(Bucket *b) noexcept nogil:
    # The number of the sweep that is looking through a bucket, or was given up there; 0: none.
    return load(&b.swept) >> 32

cdef inline u64 codec_of(PoolRecord *p) noexcept nogil:
    # The flag of a pool's codec; 0: it has none.
    if strncmp(p.pam, b"lz4", PAM_NAME_BYTES) == 0:
        return LZ4
    return ZSTD if strncmp(p.pam, b"zstd", PAM_NAME_BYTES) == 0 else 0

cdef inline bint is_live(PoolRecord *p, u64 gen) noexcept nogil:
    # True if what the caller has read of the record so far is of the living pool of that
    # generation. A record is written under the pool table lock, whose taking ends in a release
    # fence, while the state says something else; and the state goes live by a release store after
    # the generation. So who has read a word of a later pool sees, after this fence, that its own is
    # gone.
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

cdef inline bint in_arena(PoolRecord *p) noexcept nogil:
    # True if pages of the pool lie in the arena, and not with a back end in Python.
    return codec_of(p) != 0 or strncmp(p.pam, b"raw", PAM_NAME_BYTES) == 0

cdef inline bint may_lose(PoolRecord *p) noexcept nogil:
    # True if pages of the pool may go for good. Asked wherever one is about to: a page of a
    # persistent pool may be in a queue, too.
    return load(&p.flags) & POOL_PERSISTENT == 0

cdef inline bint is_evictable(PoolRecord *p) noexcept nogil:
    # True if pages of the pool go into queues, and from there for good.
    return may_lose(p) and in_arena(p)

cdef inline bint keeps_far(PoolRecord *p) noexcept nogil:
    # True if it is persistent, and its pages may leave for its far tier, which keeps them.
    cdef u64 all = POOL_FAR | POOL_FAR_PERSISTENT | POOL_PERSISTENT
    return load(&p.flags) & all == all and in_arena(p)

cdef inline bint has_queues(PoolRecord *p) noexcept nogil:
    # True if pages of the pool go into queues, whether they may go for good or only become far.
    return is_evictable(p) or keeps_far(p)

cdef inline u64 next_gen(Worker *w) noexcept nogil:
    w.slot.client[ROOT_GENERATION] += 1
    return (w.slot_idx + 1) << 48 | w.slot.client[ROOT_GENERATION] & ((<u64>1 << 48) - 1)

cdef inline u64 records_offset(Worker *w) noexcept nogil:
    # The pool records lie behind the client page.
    return w.client_off + CLIENT_PAGE

cdef inline PoolRecord *pool_at(Worker *w, u64 idx) noexcept nogil:
    return <PoolRecord *>(w.base + records_offset(w) + idx * POOL_BYTES)

cdef inline u64 record_of(Worker *w, u64 off) noexcept nogil:
    # Which pool record lies at an offset.
    return (off - records_offset(w)) // POOL_BYTES

cdef inline bint is_of_now(Worker *w, u64 mark) noexcept nogil:
    # True if a page with this mark (Pampd.pool, read once) is of the pool that has the slot now.
    return (mark != 0 and pool_of(mark) < w.client_geometry[GEO_POOLS]
            and mark >> 32 == <unsigned int>load(&pool_at(w, pool_of(mark)).gen))

cdef inline u64 whole_pages(u64 bytes) noexcept nogil:
    # Rounded up to pages of the client region.
    return (bytes + CLIENT_PAGE - 1) & ~<u64>(CLIENT_PAGE - 1)

cdef inline u64 buckets_offset(Worker *w) noexcept nogil:
    # The bucket arrays lie behind the pool records, one a pool slot.
    return whole_pages(records_offset(w) + w.client_geometry[GEO_POOLS] * POOL_BYTES)

cdef inline Bucket *buckets_at(Worker *w, u64 idx) noexcept nogil:
    return <Bucket *>(w.base + buckets_offset(w) + idx * w.client_geometry[GEO_BUCKETS] * BUCKET_BYTES)

cdef inline Bucket *bucket_at(Worker *w, u64 idx, u64 oid_hash) noexcept nogil:
    # The bucket of an object of a pool.
    return buckets_at(w, idx) + (oid_hash & (w.client_geometry[GEO_BUCKETS] - 1))

cdef inline u64 queues_offset(Worker *w) noexcept nogil:
    # Behind the bucket arrays: the queues of every pool slot, then the shards, then their ghosts,
    # each from a page boundary.
    return buckets_offset(w) + w.client_geometry[GEO_POOLS] * w.client_geometry[GEO_BUCKETS] * BUCKET_BYTES

cdef inline u64 queues_bytes(Worker *w) noexcept nogil:
    return w.client_geometry[GEO_SHARDS] * QUEUE_BYTES

cdef inline u64 shards_offset(Worker *w) noexcept nogil:
    return whole_pages(queues_offset(w) + w.client_geometry[GEO_POOLS] * queues_bytes(w))

cdef inline u64 ghosts_offset(Worker *w, u64 shard) noexcept nogil:
    return shards_offset(w) + CLIENT_PAGE + shard * w.client_geometry[GEO_GHOSTS] * 8

cdef inline u64 twins_offset(Worker *w) noexcept nogil:
    # Behind the ghosts.
    return whole_pages(ghosts_offset(w, w.client_geometry[GEO_SHARDS]))

cdef inline TwinBucket *twin_bucket(Worker *w, u64 digest) noexcept nogil:
    return <TwinBucket *>(w.base + twins_offset(w)) + (digest & (w.client_geometry[GEO_TWINS] - 1))

cdef inline bint has_twins(Worker *w) noexcept nogil:
    return load(&(<ClientPage *>(w.base + w.client_off)).twins) != 0

cdef inline Queue *queue_at(Worker *w, u64 pool, u64 shard) noexcept nogil:
    return <Queue *>(w.base + queues_offset(w) + pool * queues_bytes(w)) + shard

cdef inline Shard *shard_at(Worker *w, u64 shard) noexcept nogil:
    return <Shard *>(w.base + shards_offset(w)) + shard

cdef inline u64 shard_of(Worker *w, u64 hash) noexcept nogil:
    return hash >> 58 & (w.client_geometry[GEO_SHARDS] - 1)

cdef inline u64 pins_start(Worker *w) noexcept nogil:
    # Behind the ledgers in a worker's part of them.
    return whole_pages(w.client_geometry[GEO_POOLS] * LEDGER_BYTES)

cdef inline u64 *pins_at(Worker *w, u64 slot_idx) noexcept nogil:
    return <u64 *>(w.base + w.ledgers_off + slot_idx * w.ledger_bytes + pins_start(w))

cdef inline u64 *ledger_at(Worker *w, u64 slot_idx, u64 idx) noexcept nogil:
    return <u64 *>(w.base + w.ledgers_off + slot_idx * w.ledger_bytes + idx * LEDGER_BYTES)

cdef inline u64 leases_offset(Worker *w) noexcept nogil:
    # Behind the twin buckets.
    return whole_pages(twins_offset(w) + w.client_geometry[GEO_TWINS] * TWIN_BUCKET_BYTES)

cdef inline LeaseBucket *lease_bucket(Worker *w, u64 oid_hash) noexcept nogil:
    # Where the lease of a name is, if it is anywhere.
    return <LeaseBucket *>(w.base + leases_offset(w)) + (oid_hash & (LEASE_BUCKETS - 1))

cdef inline u64 lease_page(u64 oid_hash) noexcept nogil:
    # The bit of ClientPage.leases for the page that this bucket lies in.
    return <u64>1 << (oid_hash & (LEASE_BUCKETS - 1)) * LEASE_BUCKET_BYTES // CLIENT_PAGE

cdef inline bint has_leases(Worker *w, u64 oid_hash) noexcept nogil:
    # True if that page has memory.
    return load_acquire(&(<ClientPage *>(w.base + w.client_off)).leases) & lease_page(oid_hash) != 0

cdef inline u64 far_offset(Worker *w) noexcept nogil:
    # The far records lie behind the lease buckets, one a pool slot.
    return leases_offset(w) + LEASE_BUCKETS * LEASE_BUCKET_BYTES

cdef inline FarRecord *far_at(Worker *w, u64 idx) noexcept nogil:
    return <FarRecord *>(w.base + far_offset(w) + idx * FAR_BYTES)

cdef inline bint has_far(PoolRecord *p) noexcept nogil:
    return load(&p.flags) & POOL_FAR != 0

cdef inline DeadRing *dead_ring(Worker *w) noexcept nogil:
    # Behind the far records. It has memory if some pool with a tier that wants to hear of dead
    # tokens was ever made: not to be touched without.
    return <DeadRing *>(w.base + whole_pages(far_offset(w) + w.client_geometry[GEO_POOLS] * FAR_BYTES))

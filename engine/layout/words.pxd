# Owns the words that are made of several things: link words, the shape of a page and its flags,
# queue words, marks of pools.

from libc.string cimport memcmp
from engine.layout.structs cimport SHARDS_MAX, Pampd
from shm.atomics cimport clz, prefetch
from shm.layout cimport EXTENT_CLASS, Worker, u64

# The flags of a page. Each is of one of the three kinds below, and whoever asks for more than one of
# them asks by kind, or by a function here: so a new flag is known everywhere once its kind is. A flag
# without one is damage to the check, to a repair and to the codecs (tests/contract/test_flags.py).
cdef enum:
    FOREIGN = 1             # `data` is a back end's token, not a chunk
    SAME = 2                # `data` is the word that the page consists of; there is no chunk
    LZ4 = 4                 # the chunk holds the page compressed, by this codec
    ZSTD = 8
    TWIN = 16               # `data` is the offset of a twin, which has the chunk; the shape else is the twin's
    VIEWED = 32             # the chunk is or was pinned: ask pins.py before it is used for something else
    TAIL = 64               # behind the bytes of the value are its key and word: value.pxd says how
    FAR = 128               # `data` is the token under which the pool's far tier has the page; there is no chunk

    ELSEWHERE = FOREIGN | SAME | TWIN | FAR     # `data` is no chunk of the page's own
    CODECS = LZ4 | ZSTD                     # the bytes are not the page's: one of a pool's, or none
    NOTES = VIEWED | TAIL                   # beside any other; they say nothing of how a page is stored

# A shape word: bits 0..31 the length, 32..37 the class of the chunk, 38..45 the flags, 46..63 what the page takes
# compressed: bytes, or of one in an extent PACKED_UNIT of them each; 0 of a page that is not compressed.
cdef enum:
    CLASS_SHIFT = 32
    FLAGS_SHIFT = 38
    PACKED_SHIFT = 46
    PACKED_UNIT_SHIFT = 12

cdef enum:
    ASKED_LINES = 12        # cache lines of a page that `ask_for` asks for

    # Eviction. A page's queue, in Pampd.queue.
    QUEUE_NONE = 0          # it never was in one
    QUEUE_PENDING = 1       # linked, and on the way into a queue: on the list of the worker that put it
    QUEUE_SMALL = 2
    QUEUE_MAIN = 3
    QUEUE_ORPHAN = 4        # pending, and retired meanwhile: the worker that has it on its list gives it back
    QUEUE_LEFT = 5          # it was in one; believed of a page only while nobody has its shard
    QUEUE_FAR = 6           # it is far, and in the queue of those

cdef inline int hint_shift(Worker *w) noexcept nogil:
    # As fine as 27 bits can be for a file of this size, and no finer than a cache line.
    cdef int shift = 64 - clz(w.map_bytes) - 27
    return shift if shift > 6 else 6

cdef inline u64 link_to(u64 off) noexcept nogil:
    return off >> 6

cdef inline u64 link_to_page(Worker *w, u64 off, u64 data, int flags) noexcept nogil:
    # A back end's token is no place in the arena: no hint. Nor for a twin, whose chunk another page
    # has moved or will move.
    return off >> 6 if flags & ELSEWHERE else off >> 6 | data >> hint_shift(w) << 37

cdef inline u64 target_of(u64 link) noexcept nogil:
    return (link & (((<u64>1) << 37) - 1)) << 6

cdef inline u64 hint_of(Worker *w, u64 link) noexcept nogil:
    return link >> 37 << hint_shift(w)

cdef inline void ask_for(Worker *w, u64 link) noexcept nogil:
    # The first bytes of a page set out at once with its descriptor; the processor sees to the
    # others.
    cdef char *at = w.base + hint_of(w, link)
    cdef int line
    for line in range(ASKED_LINES):
        prefetch(at + line * 64)

cdef inline u64 shape_of(u64 length, int cls, int flags) noexcept nogil:
    return length | <u64>cls << CLASS_SHIFT | <u64>flags << FLAGS_SHIFT

cdef inline u64 length_of(Pampd *d) noexcept nogil:
    return <unsigned int>d.shape

cdef inline int size_class(u64 shape) noexcept nogil:
    return <int>(shape >> CLASS_SHIFT & 63)

cdef inline int class_in(Pampd *d) noexcept nogil:
    return size_class(d.shape)

cdef inline u64 flags_in(u64 shape) noexcept nogil:
    return <unsigned char>(shape >> FLAGS_SHIFT)

cdef inline int flags_of(Pampd *d) noexcept nogil:
    return <int>flags_in(d.shape)

cdef inline u64 with_flags(u64 shape, int flags) noexcept nogil:
    return shape | <u64>flags << FLAGS_SHIFT

cdef inline u64 without_flags(u64 shape, int flags) noexcept nogil:
    return shape & ~(<u64>flags << FLAGS_SHIFT)

cdef inline u64 codec_in(u64 shape) noexcept nogil:
    # The flag of the codec of a compressed page. Anything else is damage.
    return flags_in(shape) & ~<u64>(TWIN | FAR | NOTES)

cdef inline int codec_and(u64 codec, int notes) noexcept nogil:
    return <int>codec | notes

cdef inline bint in_chunk(u64 shape) noexcept nogil:
    return flags_in(shape) & ELSEWHERE == 0

cdef inline bint has_chunk(Pampd *d) noexcept nogil:
    # True if `data` is the offset of a chunk that is this page's alone.
    return in_chunk(d.shape)

cdef inline u64 packed_in(u64 shape) noexcept nogil:
    # Bytes of the page compressed; 0: it is not.
    return shape >> PACKED_SHIFT if size_class(shape) != EXTENT_CLASS else shape >> PACKED_SHIFT << PACKED_UNIT_SHIFT

cdef inline u64 with_packed(u64 shape, u64 packed) noexcept nogil:
    # The shape of a page that takes so many bytes compressed.
    return shape | (packed if size_class(shape) != EXTENT_CLASS else packed >> PACKED_UNIT_SHIFT) << PACKED_SHIFT

cdef inline u64 copied_of(u64 shape) noexcept nogil:
    # What is copied of a page, whatever the shape says: all of it, or its compressed bytes.
    return packed_in(shape) if packed_in(shape) != 0 else <unsigned int>shape

cdef inline bint fits_codecs(u64 shape, u64 codecs) noexcept nogil:
    # True if what a shape says of compression can be in a pool with one of these codecs.
    cdef u64 flags = codec_in(shape)
    if packed_in(shape) == 0:
        return flags & ~<u64>ELSEWHERE == 0
    return (flags != 0 and flags & codecs == flags and flags & (flags - 1) == 0
            and packed_in(shape) < <unsigned int>shape)

cdef inline bint is_foreign(u64 shape) noexcept nogil:
    return flags_in(shape) & FOREIGN != 0

cdef inline bint is_far(u64 shape) noexcept nogil:
    return flags_in(shape) & FAR != 0

cdef inline u64 far_shape(u64 shape) noexcept nogil:
    # The shape of a page that has become far. Nobody has a view on it, and its chunk is another's.
    return with_flags(without_flags(shape, VIEWED), FAR)

cdef inline bint has_open_tail(u64 shape) noexcept nogil:
    # True if the page of a shape ends in a tail that can be read as it lies;
    return flags_in(shape) & (TAIL | FOREIGN | FAR) == TAIL and shape >> PACKED_SHIFT == 0

cdef inline bint has_hidden_tail(u64 shape) noexcept nogil:
    # or in one that only who has its bytes can see.
    return flags_in(shape) & TAIL != 0 and not has_open_tail(shape)

cdef inline bint has_any_tail(u64 shape) noexcept nogil:
    return flags_in(shape) & TAIL != 0

cdef inline int noting_tail(bint tail) noexcept nogil:
    # The flags of a page that is to be written in place, and is pinned meanwhile.
    return VIEWED | TAIL if tail else VIEWED

cdef inline bint is_wrapped(u64 shape) noexcept nogil:
    # True if the bytes of a page, as they are stored, are not yet the page: they are compressed, or
    # are a back end's or a far tier's and end in a tail.
    return shape >> PACKED_SHIFT != 0 or (flags_in(shape) & TAIL != 0 and flags_in(shape) & (FOREIGN | FAR) != 0)

cdef inline bint is_twin(u64 shape) noexcept nogil:
    return flags_in(shape) & TWIN != 0

cdef inline bint is_same(u64 shape) noexcept nogil:
    return flags_in(shape) & SAME != 0

cdef inline bint same_filled(const char *data, u64 length) noexcept nogil:
    # True if the page is one word over and over: then it is the same as itself a word further on.
    return length >= 16 and memcmp(data, data + 8, 8) == 0 and memcmp(data, data + 8, length - 8) == 0

cdef inline u64 stored_bytes(Pampd *d) noexcept nogil:
    # Bytes that are really stored of a page: of one that lies elsewhere none, of a same-filled one
    # its word, of a twin where that is.
    return 0 if flags_of(d) & (FOREIGN | FAR) else 8 if flags_of(d) & (SAME | TWIN) else copied_of(d.shape)

cdef inline u64 pool_mark(u64 idx, u64 gen) noexcept nogil:
    return gen << 32 | (idx + 1)

cdef inline u64 pool_of(u64 mark) noexcept nogil:
    return <u64><unsigned int>mark - 1

cdef inline u64 queue_word(u64 prev, u64 shard, u64 state, u64 pool) noexcept nogil:
    return prev >> 6 | shard << 37 | state << 43 | pool << 46

cdef inline u64 prev_in(u64 queue) noexcept nogil:
    return (queue & (((<u64>1) << 37) - 1)) << 6

cdef inline u64 shard_in(u64 queue) noexcept nogil:
    return queue >> 37 & (SHARDS_MAX - 1)

cdef inline u64 state_in(u64 queue) noexcept nogil:
    return queue >> 43 & 7

cdef inline u64 CAP_BYTES() noexcept nogil:
    # Bit of a cap word: it is of bytes, and else of pages.
    return <u64>1 << 63

cdef inline bint is_queued(u64 queue) noexcept nogil:
    # True if a page with this queue word is in a queue. Not asked of a foreign page, whose word is
    # another.
    return state_in(queue) == QUEUE_SMALL or state_in(queue) == QUEUE_MAIN or state_in(queue) == QUEUE_FAR

cdef inline bint may_go(u64 queue) noexcept nogil:
    # True if it is in a queue of those whose bytes are here, from which pages go for want of
    # memory: for good, or, if their pool is persistent, to its far tier.
    return state_in(queue) == QUEUE_SMALL or state_in(queue) == QUEUE_MAIN

cdef inline u64 SEASONED() noexcept nogil:
    # Bit of a queue word: the page has seen half of the small queue's length.
    return <u64>1 << 62

cdef inline u64 LOST() noexcept nogil:
    # The same bit, of a far page of a pool that keeps its pages there: the tier has said that it
    # has it no more. A note for people; who gets it asks the tier again.
    return SEASONED()

cdef inline u64 WITH_PRIOR() noexcept nogil:
    # Bit of a queue word: the page came as one value with the page of the index before it.
    return <u64>1 << 63

cdef inline u64 with_prev(u64 queue, u64 prev) noexcept nogil:
    # The queue word with another next newer page.
    return queue & ~((<u64>1 << 37) - 1) | prev >> 6

cdef inline u64 with_state(u64 queue, u64 prev, u64 state) noexcept nogil:
    # The queue word of a page that comes into another state; whatever it is by then, it is young again.
    return with_prev(queue, prev) & ~(<u64>7 << 43 | SEASONED()) | state << 43

cdef inline u64 age_link(u64 older, u64 turn) noexcept nogil:
    # The link of a page in a queue: the next older one, and when it came there itself.
    return older >> 6 | turn << 37

cdef inline u64 older_in(u64 link) noexcept nogil:
    return (link & ((<u64>1 << 37) - 1)) << 6

cdef inline u64 age_in(u64 link, u64 turn) noexcept nogil:
    # How many pages came into the shard since this one did.
    return turn - (link >> 37) & ((<u64>1 << 27) - 1)

cdef inline u64 pool_in(u64 queue) noexcept nogil:
    return queue >> 46 & 0xFFFF

cdef inline u64 page_hash(u64 oid_hash, u64 index, u64 pool) noexcept nogil:
    # Upper bits: the shard; lower 32: the fingerprint of a ghost. Mixing as in MurmurHash3's
    # finalizer (Appleby).
    cdef u64 h = oid_hash ^ (index * 0x9E3779B97F4A7C15u + pool)
    h = (h ^ h >> 33) * 0xFF51AFD7ED558CCDu
    h = (h ^ h >> 33) * 0xC4CEB9FE1A85EC53u
    return h ^ h >> 33

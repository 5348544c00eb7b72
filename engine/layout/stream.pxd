# Owns how objects and pages lie in the stream of a snapshot, and what a block of it begins with.
#
# All words are little-endian. A stream is a head (engine/snapshots/head.py), then blocks one behind
# the other, the last of which is the trailer. docs/snapshots.md has the tables for people.

from shm.layout cimport u64

cdef enum:
    BLOCK_BYTES = 1048576       # what is in a block, at most

    # Block.kind
    BLOCK_OBJECTS = 1           # objects of one pool
    BLOCK_GONE = 2              # nothing: the pool was destroyed while it was saved, and what came of it is void
    BLOCK_TRAILER = 3           # a text of counts; nothing follows

    # SavedObject.notes
    FIRST = 1                   # the object begins: what came of it before is void
    LAST = 2                    # it is complete

    # SavedPage.how
    AS_IT_IS = 0
    ONE_WORD = 1                # the page is one word over and over, and that follows, in 8 bytes
    PACKED_LZ4 = 2
    PACKED_ZSTD = 3

    # SavedPage.notes
    WITH_TAIL = 1               # its last bytes are a key and a word: layout/tail.pxd
    WITH_FORMER = 2             # it was put as one range with the page of the index before

cdef extern from *:
    """
    #define BLOCK_MAGIC 0x6B6C62706D657489u
    """
    u64 BLOCK_MAGIC             # "\x89tempblk"

# Block, 48 bytes, and then `length` bytes.
#   0    magic     by which the next block is found behind a damaged one
#   8    sum       XXH3, 64 bits, of all behind it in the block, seeded with the head's id
#   16   number    counts the blocks of the stream, from 0
#   24   kind      BLOCK_*
#   28   length    bytes behind this
#   32   pool      its place in the head's list
#   36   heat      most hits of a page in the block
#   40   spare
cdef struct Block:
    u64 magic
    u64 sum
    u64 number
    unsigned int kind
    unsigned int length
    unsigned int pool
    unsigned int heat
    u64 spare

# Object, 40 bytes, and then its pages.
#   0    oid[3]
#   24   expires   when it is dead, in nanoseconds since 1970; 0 = never
#   32   pages     how many follow here
#   36   notes     FIRST | LAST
cdef struct SavedObject:
    u64 oid[3]
    u64 expires
    unsigned int pages
    unsigned int notes

# Page, 40 bytes, and then `piece` bytes, and as many as make that a multiple of 8.
#   0    index
#   8    version   as it was; never given to another page of that arena
#   16   length    as it was put, with its tail
#   20   stored    bytes as it lay in the arena, all pieces together
#   24   offset    of these bytes in those; 0 = the page begins
#   28   piece     bytes that follow
#   32   how       AS_IT_IS, ONE_WORD, PACKED_*
#   33   notes     WITH_TAIL | WITH_FORMER
#   34   hits      as far as they were counted
#   35   spare[5]
cdef struct SavedPage:
    u64 index
    u64 version
    unsigned int length
    unsigned int stored
    unsigned int offset
    unsigned int piece
    unsigned char how
    unsigned char notes
    unsigned char hits
    unsigned char spare[5]

cdef inline u64 padded(u64 bytes) noexcept nogil:
    return (bytes + 7) & ~<u64>7

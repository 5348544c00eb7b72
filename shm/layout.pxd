# Owns the shape of everything `shm` keeps in the arena, and of the process-local view of it.
#
# Regions of the arena file, in this order, each starting on a 4 KiB boundary:
#
#   header      Header, one page; Depot, one page
#   workers     max_workers * SLOT_BYTES      worker table
#   bounces     max_workers * bounce_bytes    one bounce page a worker
#   ledgers     max_workers * ledger_bytes    per-worker area of the layer above
#   client      client_bytes                  shared area of the layer above
#   journals    max_workers * JOURNAL_BYTES   undo journals
#   segtable    seg_total * 64                Segment descriptors
#   marks       seg_total << (seg_shift - 8)  for the layer above: two bits for each chunk of the first class
#   segments    seg_total << seg_shift        all chunks
#   tail        one page, so that a struct at the very end may be read whole
#
# The file is sparse: a region is given memory (posix_fallocate) before it is first touched, so a
# full file system is an error code, never a SIGBUS. All offsets are relative to the start of the
# file; 0 means none. All shared words are 8 bytes, aligned, and read and written whole.
#
# The number that tells layouts apart has the sizes of all structs in it. A change that leaves the
# sizes as they are must raise LAYOUT_VERSION here, or ENGINE_LAYOUT_VERSION in the layer above.

from libc.stdint cimport uint64_t
from shm.atomics cimport Mutex, load, load_acquire, load_byte, set_byte

ctypedef uint64_t u64

cdef enum:
    LAYOUT_VERSION = 7
    SYS_PAGE = 4096
    HUGE_BYTES = 2097152    # a huge page, where the machine has them of this size

    # Status codes. Everything compiled returns one of these (the layer above adds its own from 32).
    OK = 0
    BUSY = 1            # a lock is taken: wait on Worker.blocked_on with nothing held, then again
    NOMEM = 2           # no chunk to be had
    CORRUPT = 3         # the arena contradicts itself (Worker.fault says how)
    NOSPACE = 4         # the file system gave no memory
    # a descriptor of the arena is no longer the arena's: somebody in this process closed it
    # (Worker.lost)
    GONE = 5

    # Worker.fault
    FAULT_OFFSET = 1    # an offset outside the backed segments, or not aligned
    FAULT_SENTINEL = 2  # a struct without its sentinel
    FAULT_JOURNAL = 3   # a journal longer than itself
    FAULT_CHUNK = 4     # a chunk freed twice, or into a segment of another class
    FAULT_LOOP = 5      # a walk longer than any legal one
    FAULT_LOCK = 6      # a lock word that its holder did not write

    # Size classes. The last one is the bulk class: its magazine is ten times as long. The one before is
    # of extents (extent.py), made of granules, of which a segment has 1 << GRANULE_SHIFT.
    CLASS_COUNT = 40
    BULK_CLASS = 39
    EXTENT_CLASS = 38
    FINE_CLASSES = 16       # classes 1 to 16 have chunks of 16 bytes times their number
    EXTENT_MAX = 1073741824
    GRANULE_SHIFT = 6
    STUCK_MAX = 8
    MAG_CAP = 64
    BULK_CAP = 640
    MAG_BATCH = 32

    CLIENT_WORDS = 16
    HELD_MAX = 4
    STAT_WORDS = 16

    SLOT_BYTES = 28672
    JOURNAL_BYTES = 8388608
    JOURNAL_BACKED = 65536
    JOURNAL_ENTRY = 16

    SLOT_FREE = 0
    SLOT_LIVE = 1

    # Slot.stat
    STAT_LOCK_WAITS = 0
    STAT_LOCK_WAIT_NS = 1
    STAT_LOCK_WAIT_NS_MAX = 2
    STAT_RECOVERIES = 3

    # Segment.state
    SEG_STAYS = 0       # it has memory; and chunks, if it has a class
    # nobody takes chunks of it any more: it is to be emptied. It has a class; or none, and waits for the worker that
    # wants it
    SEG_LEAVING = 1
    SEG_HOLE = 2        # it has no class, and is to have no memory
    SEG_PUNCHING = 3    # a hole whose memory is being given back: in no list, and nobody may take it

# Lock, 32 bytes. State table of `owner` in shm/lock.pxd.
#   offset field   journalled  guard
#   0      owner   no          itself (compare-and-swap)
#   8      seq     no          the holder; odd while held
#   16     sem     no          bit 63: the semaphore exists; rest: its generation
#   24     spare
cdef struct Lock:
    u64 owner
    u64 seq
    u64 sem
    u64 spare

# Header, one page. Written once by the creator, magic last; checked whole at attach.
#   0   magic            8 bytes of text; another text while the arena is being made (entry.py)
#   8   layout_id        a mark, the versions of both layers, and a hash of their sizes and constants
#   16  checksum         hash of all words from `capacity` to the end of `client`
#   24  capacity         bytes in segments
#   32  seg_shift        log2 of the segment size
#   40  seg_total        segments
#   48  max_workers
#   56  bounce_bytes     per worker
#   64  ledger_bytes     per worker
#   72  client_bytes
#   80  mode             permission bits, for the semaphores
#   88  huge             1: ask the system for huge pages
#   96  secret           random: what hashes in the arena begin with. A copy of the file has the same
#   104 client[16]       geometry of the layer above
#   232 nonce            random, and no part of the checksum: no two arenas have the same, whatever their names. A copy
#                        of the file gets another before anybody attaches to it (copies.py)
#   240 home             of which file this is the header, as copies.py says; 0 = it is being made another arena's. Not
#                        in the checksum; written after `nonce`
cdef struct Header:
    u64 magic
    u64 layout_id
    u64 checksum
    u64 capacity
    u64 seg_shift
    u64 seg_total
    u64 max_workers
    u64 bounce_bytes
    u64 ledger_bytes
    u64 client_bytes
    u64 mode
    u64 huge
    u64 secret
    u64 client[CLIENT_WORDS]
    u64 nonce
    u64 home

# Depot, the second page. Guard of all words: its lock; all but the lock journalled.
#   0    lock
#   32   free_head      first free segment, index + 1
#   40   seg_high       segments ever taken: every one below has memory, or is a hole
#   48   seg_used       segments that belong to a class now
#   56   slots_high     worker slots ever used: every one below is backed (guard: itself, only ever
#                       raised, by compare-and-swap)
#   64   limit          segments that may have memory: the capacity of today; 0 = all
#   72   holes          segments below seg_high that are holes, or are being punched
#   80   hole_head      first of them, index + 1
#   88   class_head[]   first segment of the class with a free chunk, index + 1
#   408  gate           a lock whose owner has stopped the world, or is about to; noted in the last place of his `held`
#   440  class_segments[]  segments of the class
#   760  class_free[]      free chunks in all of them, magazines aside
#   1080 short_class    class + 1 of the page that there was no memory for last; 0 = never (no guard, not journalled: a
#                       hint)
cdef struct Depot:
    Lock lock
    u64 free_head
    u64 seg_high
    u64 seg_used
    u64 slots_high
    u64 limit
    u64 holes
    u64 hole_head
    u64 class_head[CLASS_COUNT]
    Lock gate
    u64 class_segments[CLASS_COUNT]
    u64 class_free[CLASS_COUNT]
    u64 short_class

# A word for each class, and one more. Not in the arena.
ctypedef u64 ClassWords[CLASS_COUNT + 1]

# Segment descriptor, 64 bytes. Guard: the depot lock; journalled.
#   0   cls     class + 1; 0 = free
#   8   free_count
#   16  bitmap  chunks in use, when the segment has at most 64; else the map is at the segment's start
#   24  next    24/32: list of its class (with free chunks), of free segments, or of holes, index + 1
#   32  prev
#   40  state   SEG_*; one that leaves or is punched is in no list
#   48  dug     how often it has become a hole: who waits before punching one knows whether it is the same still
#   56  wanted  slot + 1 of the worker that empties it for an extent: it is his when it is empty; 0 = nobody's
cdef struct Segment:
    u64 cls
    u64 free_count
    u64 bitmap
    u64 next
    u64 prev
    u64 state
    u64 dug
    u64 wanted

# Magazine: a worker's private stack of free chunks of one class. Guard: the worker's own lock.
# `count` is journalled; an item above `count` is nobody's. That of extents has one at most: its
# offset, and as the second item its granules.
cdef struct Magazine:
    u64 count
    u64 items[MAG_CAP]

# Worker slot, SLOT_BYTES. Guard: the worker's own lock, unless said otherwise. Who is not the
# slot's living worker holds that lock, in his own name, whatever he touches here: the rule of
# docs/locking.md.
#   0    state          the liveness byte of the slot; journalled never
#   8    gen            as state; counts the workers that had the slot
#   16   pid            for people
#   24   journal_len    the worker; entries in its journal
#   32   redo_src       32..55: a copy that a recoverer must finish, armed when redo_len != 0
#   40   redo_dst
#   48   redo_len
#   56   ledger_backed  the worker; bytes of its ledger that have memory
#   64   own            the worker's own lock: who holds it may change anything of this worker's
#   96   held[4]        the worker; locks taken or about to be taken
#   128  client[16]     journalled; roots of the layer above
#   256  stat[16]       the worker; plain counters, read by all
#   384  phase          the worker; odd while it is in a call: never the same twice (grace.py)
#   392  waits_for      the worker; offset of the lock that it sleeps for, 0 = none; a hint
#   400  spare2[14]
#   512  mags
cdef struct Slot:
    u64 state
    u64 gen
    u64 pid
    u64 journal_len
    u64 redo_src
    u64 redo_dst
    u64 redo_len
    u64 ledger_backed
    Lock own
    u64 held[HELD_MAX]
    u64 client[CLIENT_WORDS]
    u64 stat[STAT_WORDS]
    u64 phase
    u64 waits_for
    u64 spare2[14]
    Magazine mags[CLASS_COUNT]

# The process-local view of an attached worker: pointers, and a private copy of every size, so that
# nothing an arena says later can move them.
cdef struct Worker:
    char *base
    u64 map_bytes
    u64 id                  # what this worker writes into owner words
    u64 fault               # sticky: stores are refused until it is cleared
    u64 blocked_on          # offset of the lock that was BUSY
    u64 waited_on           # offset of the lock this worker last slept on
    u64 kill_at             # 0, or: die by SIGKILL, or stop, at this kill point (tests)
    u64 kill_points         # counted while kill_at is set
    u64 seg_lo              # first segment
    u64 seg_span            # backed bytes of segments, as far as known here
    u64 seg_shift
    u64 seg_total
    u64 huge                # Header.huge as it was checked at attach, where the system has huge pages of HUGE_BYTES
    u64 huge_skip           # requests for a huge page to leave out, after huge_failures in a row
    u64 huge_failures
    u64 journal_cap         # entries that are backed
    u64 *journal
    Slot *slot
    Depot *depot
    Header *header
    Segment *segtable
    char *scratch           # zeroes, what a faulty offset reads instead
    u64 held                # locks recorded in slot.held
    # at kill_at, stop (SIGSTOP, of the whole process) instead of dying; here, where it moves no hot
    # word
    bint kill_stops
    u64 slot_idx
    u64 max_workers
    u64 slots_off
    u64 bounces_off
    u64 bounce_bytes
    u64 ledgers_off
    u64 ledger_bytes
    u64 client_off
    u64 client_bytes
    u64 journals_off
    u64 segtable_off
    u64 client_geometry[CLIENT_WORDS]   # Header.client as it was checked at attach
    u64 class_bytes[CLASS_COUNT]
    u64 class_chunks[CLASS_COUNT]   # chunks a segment
    u64 class_start[CLASS_COUNT]    # offset of chunk 0 in the segment
    u64 class_batch[CLASS_COUNT]    # chunks moved between magazine and depot at once
    int fd                  # of the arena's file. The number may be another file's by now: memory.is_arena
    u64 dev                 # of the arena's file, as it was mapped
    u64 ino
    int live_fd             # of the liveness file, in an opening of this worker's own; see liveness.py
    u64 live_mark           # where that opening stands: nobody else's stands there
    char *live_page         # keeps that opening alive, whatever is closed
    bint lost               # one of the two descriptors is not what it was
    bint unbacked           # memory of the mapping was not there when it was touched: see process.py
    void *inherit           # `Inherit` of the layer above, or NULL
    void *rank_of           # `RankOf` of the layer above, or NULL: the order of locks is not checked
    void *semaphores        # borrowed: the SemTable of the attachment
    u64 marks_off
    u64 strange             # slices in a row in which the holder of a lock did not claim it
    u64 batch_for           # what class_batch was computed from: segments that may have memory, and who shares it
    u64 skimmed             # slot of the worker whose magazines were looked into last, by who lacked memory
    u64 weighed             # pool whose pages were weighed last, by who lacked memory
    # Who lacks memory empties segments by moving what is in them (engine/eviction/merge.py):
    u64 stuck[STUCK_MAX]    # numbers + 1 of those that could not be emptied of late, a ring
    u64 stuck_next          # where the next of them goes
    u64 merge_pause         # calls left that do not look for one
    u64 merge_next          # calls that the next look in vain costs
    u64 merge_waited        # looks in a row that found others emptying one
    u64 merge_from          # segment of descriptors that had the first of the last segment's pages
    u64 merging             # number + 1 of the one that this worker has let leave, until it is free or stays
    # Who lacks memory for an extent empties neighbouring segments (engine/eviction/window.py):
    u64 window_first        # number of the first of those that this worker wants
    u64 window_count        # how many; 0 = none
    bint window_ready       # they may be taken for an extent: not while others are moved out of them
    u64 window_waited       # looks in a row that found others inside a call
    u64 extent_hint         # segment from which a place for an extent is looked for
    # Who lacks memory takes out first what is dead (engine/eviction/sweep.py):
    u64 sweep_from          # bucket of each pool with which the next look begins
    u64 sweep_pause         # time before which there is none, since the last one cost much and found little
    u64 sweep_number        # counts the sweeps of buckets that this process began
    # For giving memory back (engine/capacity/giving.py):
    u64 emptied             # segments that this worker's frees have emptied since it looked last
    u64 used_most           # most segments in use that it has seen since then
    Mutex *keeping          # borrowed: Kin.keeping of the attachment
    # Who has fought long for a lock that many want stands aside for a while (shm/lock.py):
    u64 fought_for          # offset of the lock that it found taken last
    u64 fights_left         # how often it may still find it so
    u64 fought_since        # that lock's seq when it began to count,
    u64 worked_since        # and its own lock's
    u64 aside_of            # offset of the lock that it stands aside of when it waits next; 0 = none
    u64 clock_ahead         # nanoseconds that this process's clock is ahead (tests)

# The rank of the lock at an offset, or -1 if no lock lies there. Who takes a lock holds only such
# of lower rank.
ctypedef int (*RankOf)(Worker *w, u64 offset) noexcept nogil

# Moves what a dead worker's `client` words lead to into this worker's own: OK, BUSY or CORRUPT.
# `dead` may be the slot that this worker has just taken: then the words are its own already, and no
# lock is held.
ctypedef int (*Inherit)(Worker *w, Slot *dead) noexcept nogil

cdef inline Slot *slot_at(Worker *w, u64 idx) noexcept nogil:
    return <Slot *>(w.base + w.slots_off + idx * SLOT_BYTES)

cdef inline u64 slots_used(Worker *w) noexcept nogil:
    # Slots below were used at some time and have memory; read once, since it may grow meanwhile.
    # Acquire: what the slots hold is as new.
    cdef u64 high = load_acquire(&w.depot.slots_high)
    return high if high <= w.max_workers else w.max_workers

# The mark of a chunk of the first class, 0 to 3, by an offset that has been checked against
# seg_span. Wherever a segment has memory its marks have some, and keep it when it goes, so that a
# late look at a chunk that has gone leads nowhere else. Marks are hints: four share a byte, read
# and written relaxed, and who sets one may take back what another sets beside it at the same
# moment.
cdef inline unsigned char *mark_at(Worker *w, u64 off) noexcept nogil:
    return <unsigned char *>w.base + w.marks_off + ((off - w.seg_lo) >> 8)

cdef inline u64 mark_of(Worker *w, u64 off) noexcept nogil:
    return load_byte(mark_at(w, off)) >> (off >> 5 & 6) & 3

cdef inline void set_mark(Worker *w, u64 off, u64 value) noexcept nogil:
    cdef unsigned char *at = mark_at(w, off)
    cdef int shift = off >> 5 & 6
    set_byte(at, (load_byte(at) & ~(3 << shift)) | <int>value << shift)

cdef inline u64 offset_of(Worker *w, void *p) noexcept nogil:
    return <u64>(<char *>p - w.base)

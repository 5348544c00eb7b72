"""Owns Engine: attaching to an arena, making and finding pools, the engine's end. How an arena is
made is in opening.py.

The pool table is changed under its lock by plain stores ending in one that publishes (`state`), so
a kill before it has done nothing.
"""
import typing

from xxhash import xxh3_64_intdigest

import cython
import cython.cimports.engine.capacity.giving as giving
from cython.cimports.engine.layout.regions import (
    buckets_offset,
    dead_ring,
    far_at,
    far_offset,
    ledger_at,
    pool_at,
    pools_high,
    queue_at,
    queues_bytes,
    queues_offset,
    records_offset,
    twins_offset,
)
from cython.cimports.engine.layout.structs import (
    BUCKET_BYTES,
    DEAD_RING_BYTES,
    FAR_BYTES,
    GEO_SHARDS,
    GEO_TWINS,
    LEDGER_BYTES,
    LEDGER_WORDS,
    PAGE_MIN,
    PAM_NAME_BYTES,
    POOL_BYTES,
    POOL_DEDUP,
    POOL_FAR,
    POOL_FAR_PERSISTENT,
    POOL_FREE,
    POOL_LIVE,
    POOL_NAME_BYTES,
    POOL_PERSISTENT,
    POOL_SENTINEL,
    POOL_SHARED,
    POOL_WHOLE,
    ROOT_PENDING,
    TWIN_BUCKET_BYTES,
    WEIGHT_MAX,
    ClientPage,
    DeadRing,
    FarRecord,
    PoolRecord,
)
from cython.cimports.engine.member.access import set_allow
from cython.cimports.engine.member.member import Member
from cython.cimports.engine.member.registry import registry
from cython.cimports.engine.member.seats import seat_of
from cython.cimports.engine.pages.reclaim import back_everybodys
from cython.cimports.libc.string import memcpy, memset
from cython.cimports.shm.atomics import barrier, set_release
from cython.cimports.shm.journal import conclude, kill_point, store
from cython.cimports.shm.layout import BUSY, CORRUPT, EXTENT_MAX, NOMEM, NOSPACE, OK, Worker, slot_at, slots_used, u64
from cython.cimports.shm.lock import unlock_both
from cython.cimports.shm.memory import back
from cython.cimports.shm.seal import seal
from cython.cimports.shm.segments import limit_of
from cython.cimports.shm.shrink import fill_next
from engine.api import garbage
from engine.api import spawn as spawning
from engine.api.client import open_client
from engine.api.lease import open_lease
from engine.api.pool import open_pool
from engine.api.users import user_or_none
from engine.capacity import resize as resizing
from engine.capacity import spill as spilling
from engine.capacity import tend as tending
from engine.capacity.rounds import Tended, follow
from engine.errors import (
    AccessDenied,
    ArenaCorrupted,
    PoolDestroyed,
    PoolExists,
    PoolNotFound,
    TmemError,
)
from engine.eviction.policies import POLICIES
from engine.far.tiers import kind_of
from engine.integrity import gentle as checking
from engine.integrity import stop as stopping
from engine.layout.backed import parts
from engine.layout.geometry import CLIENT_LAYOUT
from engine.member import stats as counting
from engine.member.access import allow_argument, client_or_none, host_only, narrowed
from engine.pages.pam.codec import CODECS
from engine.sizes import cap_word, number_in, parse_size, whole
from shm import arena as arenas

SALVAGES = 3
FAR_SHARE = 512                 # bytes of capacity for each page that may be far, if nothing else is said
CLOSE_TRIES = cython.declare(cython.int, 100)
BYTES_A_TWIN_BUCKET = 8192      # of capacity, whatever the size of a page: pages may be shorter


# What the floor above gives engines: {name: function of an engine}.
_given = {}


def give(name, function):
    """Let an engine do what a module does that stands on this one."""
    _given[name] = function


def attach(name, client=None, owner=None):
    """Attach to an arena that is there.

    client: None: the engine is the host's and may do everything. An int from 0 to 2**32-1: it acts
    for that client, and makes pools of it alone; it opens the client's pools, and shared ones that
    let it in; other people's pools it does not destroy, and weights, caps and freezing are the
    host's. So that no worker does by mistake what is not its own: who may write to the arena can
    get round it.
    owner: the user whose arena it must be, by name or number. None: this user's, root's, or one of
    a group that this process is in and that may write to it; root's processes take everybody's. A
    stranger could have prepared any other. Raises ArenaNotFound, ArenaVersionMismatch (of an older
    or newer version of this package), ArenaCorrupted (not an arena, truncated), ArenaBusy (all
    worker slots, or all file descriptors, taken), AccessDenied, TypeError, ValueError."""
    client = client_or_none(client)
    owner = user_or_none(owner)
    return open_engine(arenas.attach(name, CLIENT_LAYOUT, owner, parts), client)


def open_engine(arena, client):
    found: Engine = Engine.__new__(Engine)
    found.begin(arena, client)
    return found


def unlink(name):
    """Remove an arena and its semaphores. Who is attached goes on until it closes. Raises
    ArenaNotFound, ArenaCorrupted (what has the name is no arena, and stays), ArenaBusy (no file
    descriptor left), AccessDenied."""
    arenas.unlink(name)


class _Asked(typing.NamedTuple):
    """What a new pool's record is to say."""

    name: bytes
    flags: int
    client: int
    pam: bytes
    policy: int
    cap: int
    allow: object
    page_size: int
    far: object


class _Far(typing.NamedTuple):
    """What a new pool's far record is to say."""

    target: bytes
    most: int
    deletes: bool
    words: list
    stays: bool


@cython.cclass
class Engine(Member):
    """An attached arena: one worker. Made by engine.create and engine.attach; a context manager
    that closes it.

    Threads may share one, and take turns in it. A forked child may go on using it: it becomes a
    worker of its own.
    """

    @property
    def capacity(self):
        """Bytes for pages and all that describes them, as of now: see resize."""
        w: cython.pointer(Worker) = cython.address(self.att.w)
        self.att.enter()
        try:
            return limit_of(w) << w.seg_shift
        finally:
            self.att.leave()

    @property
    def worker_id(self):
        """Index of this worker's slot in the arena's worker table."""
        return self.att.worker_id

    def _act_for(self, client):
        """Act for this client from now on; what it may not use of the pools opened before raises
        AccessDenied at the next call."""
        self.client_id = client
        self.att.epoch += 1             # every pool binds anew, and asks again

    # --- pools ------------------------------------------------------------------------------------

    def new_pool(
        self,
        name,
        persistent=False,
        shared=True,
        client=None,
        pam="raw",
        policy="s3fifo",
        cap=0,
        allow=None,
        dedup=False,
        whole=True,
        page_size=None,
        far=None,
        far_max=None,
        localify=True,
        far_persistent=False,
    ):
        """Make a pool.

        name: 1 to 63 bytes of utf-8, unique in the arena. persistent: pages stay until they are
        flushed. shared: gets leave the page where it is. client: the tenant, 0 to 2**32-1; None:
        whom the engine acts for, 0 if it is the host's.
        pam: the back end: "raw"; "lz4" or "zstd", which compress and need the extra of that name
        installed; or one of register_pam.
        policy: which page of an ephemeral pool goes when memory is short: "s3fifo", "sieve",
        "clock" or "fifo". cap: pages that an ephemeral pool may hold, as an int, or bytes of
        chunks (bytes_used of its stats), as text such as "64MiB"; 0: as many as there is room for.
        allow: 1 to 32 client ids: of the engines that act for a client, only those of these and of
        the pool's own may open it; for a shared pool; None: all may. dedup: pages of the
        same bytes, of 256 and more, share one chunk; for an ephemeral pool whose pages lie in the
        arena. page_size: bytes that a page of it has at most, 512 to 1 GiB, as an int, or text such
        as "4MiB"; None: the arena's; one that is longer than 64 KiB lies in one piece. whole: pages
        of an ephemeral pool that were put as one range are one value: they are hit, age and go
        together; a page that is put over one of them takes its part, and a page that was there
        before a range stays what it was. False: each page by itself. far: where pages of an
        ephemeral pool go before they would go for good, if somebody spills (`tend`): a file of a
        local disk, as "file:///var/cache/pages?size=50GiB", which is made, and is this pool's
        alone. far_max: what may be there, pages, each of which keeps its descriptor here, or text
        such as "50GiB", bytes as they are stored; None: a page for every 512 bytes of the capacity.
        localify: far pages that are got twice before long come back into the arena, if there is
        memory to spare; False: they stay far. far_persistent: a persistent pool has `far`, too,
        which must be a tier that promises to keep what it has; a get of a page that it does not
        give raises FarUnavailable or FarLost (docs/far.md). Raises PoolExists, AccessDenied (the
        engine acts for another client), TmemError (table full, no memory, unknown pam, package of a
        codec not installed), TypeError, ValueError.
        """
        raw_name = _pool_name(name)
        for argument, value in (
            ("persistent", persistent), ("shared", shared), ("dedup", dedup), ("whole", whole), ("localify", localify),
            ("far_persistent", far_persistent),
        ):
            if not isinstance(value, bool):
                raise TypeError(f"{argument}: True or False, not {type(value).__name__}")
        client = narrowed(self, client) or 0
        if not isinstance(pam, str):
            raise TypeError(f"pam: a str, not {type(pam).__name__}")
        if not isinstance(policy, str):
            raise TypeError(f"policy: one of {', '.join(POLICIES)}, not {type(policy).__name__}")
        if policy not in POLICIES:
            raise ValueError(f"policy: one of {', '.join(POLICIES)}, not {policy!r}")
        cap = cap_word(cap)
        if cap and persistent:
            raise ValueError(
                "cap: only an ephemeral pool can have one, since nothing of a persistent one is ever evicted"
            )
        allow = allow_argument(allow, shared)
        page_size = self.page_size if page_size is None else parse_size("page_size", page_size)
        if not PAGE_MIN <= page_size <= EXTENT_MAX:
            raise ValueError(f"page_size: {PAGE_MIN} to {EXTENT_MAX} bytes (1 GiB), not {page_size}")
        registry.pam(pam)
        tier = _far_argument(self, far, far_max, persistent, far_persistent, pam, localify)
        flags = (
            (POOL_PERSISTENT if persistent else 0)
            | (POOL_SHARED if shared else 0)
            | (POOL_DEDUP if dedup else 0)
            | (POOL_WHOLE if whole and not persistent else 0)
            | (POOL_FAR if tier is not None else 0)
            | (POOL_FAR_PERSISTENT if far_persistent else 0)
        )
        if dedup and (persistent or pam not in ("raw", *CODECS)):
            raise ValueError("dedup: only for an ephemeral pool whose pages lie in the arena")
        self.att.enter()
        try:
            # What the dead left half done in the ledgers must not become part of where the new
            # pool's counters start.
            self.att.recover_quick()
            idx, gen = self._publish(
                _Asked(raw_name, flags, client, pam.encode(), POLICIES[policy].number, cap, allow, page_size, tier)
            )
        finally:
            self.att.leave()
        return open_pool(self, idx, gen)

    def _publish(self, asked):
        """The index and generation of a new pool."""
        found = self._try_to_publish(asked)
        # A destroyed pool keeps its place until it is taken apart, and the worker whose task that
        # is may have other things to do.
        for _ in range(SALVAGES):
            if found is None and self.salvage():
                found = self._try_to_publish(asked)
        if found is None:
            raise TmemError(f"arena {self.name!r}: all {self.max_pools} pools are taken")
        return found

    def _try_to_publish(self, asked):
        w: cython.pointer(Worker) = cython.address(self.att.w)
        table: cython.pointer(ClientPage) = self.lock_table()
        try:
            return self.publish_locked(table, asked)
        finally:
            unlock_both(w, cython.address(table.lock))

    def publish_locked(self, table, asked):
        """Its index and generation; None: all places are taken."""
        w: cython.pointer(Worker) = cython.address(self.att.w)
        p: cython.pointer(PoolRecord)
        idx: u64
        i: u64
        slot: u64
        high: u64 = pools_high(w)
        chosen: u64 = high
        for idx in range(high):
            p = pool_at(w, idx)
            if p.state == POOL_LIVE and p.name[:POOL_NAME_BYTES].rstrip(b"\0") == asked.name:
                raise PoolExists(f"pool {asked.name.decode()!r} is there already")
            if p.state == POOL_FREE and chosen == high:
                chosen = idx
        if chosen == high:
            if high == cython.cast(u64, self.max_pools):
                return None
            for start, size in (
                (records_offset(w) + high * POOL_BYTES, POOL_BYTES),
                (buckets_offset(w) + high * self.buckets * BUCKET_BYTES, self.buckets * BUCKET_BYTES),
                (queues_offset(w) + high * queues_bytes(w), queues_bytes(w)),
            ):
                if back(w, start, size) != OK:
                    self.no_memory("another pool")
            if not back_everybodys(w, high):
                self.no_memory("another pool")
            table.pools_high = high + 1
        if asked.flags & POOL_DEDUP and table.twins == 0:
            if back(w, twins_offset(w), w.client_geometry[GEO_TWINS] * TWIN_BUCKET_BYTES) != OK:
                self.no_memory("the table of equal pages")
            set_release(cython.address(table.twins), 1)
        if asked.far is not None:
            self.note_far(chosen, asked.far)
        p = pool_at(w, chosen)
        p.link = 0
        p.flags = asked.flags
        p.client = asked.client
        p.cursor = 0
        p.mean = p.asked = p.quiet = p.dated = 0      # what was noted of the pool that had the slot before
        p.policy = asked.policy
        p.cap = asked.cap
        p.page_size = asked.page_size
        p.seat = seat_of(w, asked.client, True)
        set_allow(p, asked.allow)
        memset(p.name, 0, POOL_NAME_BYTES)
        memcpy(p.name, cython.cast(cython.p_char, cython.cast(bytes, asked.name)), len(asked.name))
        memset(p.pam, 0, PAM_NAME_BYTES)
        memcpy(p.pam, cython.cast(cython.p_char, cython.cast(bytes, asked.pam)), len(asked.pam))
        for i in range(LEDGER_WORDS):
            p.base[i] = 0
            for slot in range(slots_used(w)):
                if slot_at(w, slot).ledger_backed >= (chosen + 1) * LEDGER_BYTES:
                    p.base[i] += ledger_at(w, slot, chosen)[i]
        set_release(cython.address(p.gen), p.gen + 1)       # after the words that are this pool's
        p.sentinel = POOL_SENTINEL
        barrier()
        kill_point(w)
        set_release(cython.address(p.state), POOL_LIVE)
        return (chosen, p.gen)

    def _name_pool(self, pool, name):
        """Give a pool another name, under which nobody has opened it yet. PoolExists."""
        w: cython.pointer(Worker) = cython.address(self.att.w)
        p: cython.pointer(PoolRecord) = pool_at(w, pool.id)
        words: u64[8]
        i: cython.int
        raw: bytes = _pool_name(name)
        memset(words, 0, POOL_NAME_BYTES)
        memcpy(words, cython.cast(cython.p_char, raw), len(raw))
        self.att.enter()
        try:
            table: cython.pointer(ClientPage) = self.lock_table()
            try:
                if any(name == other for _, _, other in self.live_slots()):
                    raise PoolExists(f"pool {name!r} is there already")
                # One word after the other: who reads it meanwhile finds no pool of either name.
                for i in range(8):
                    store(w, cython.cast(cython.pointer(u64), p.name) + i, words[i])
                status: cython.int = conclude(w)
            finally:
                unlock_both(w, cython.address(table.lock))
            if status != OK:
                self.raise_status(status)
        finally:
            self.att.leave()

    def note_far(self, idx, far):
        """Write the far record of a pool that is about to be; the pool table is held."""
        w: cython.pointer(Worker) = cython.address(self.att.w)
        record: cython.pointer(FarRecord)
        ring: cython.pointer(DeadRing) = dead_ring(w)
        i: u64
        if back(w, far_offset(w) + idx * FAR_BYTES, FAR_BYTES) != OK:
            self.no_memory("the record of a far tier")
        if far.deletes:
            if back(w, cython.cast(cython.p_char, ring) - w.base, DEAD_RING_BYTES) != OK:
                self.no_memory("the ring of dead tokens")
            set_release(cython.address(ring.ready), 1)
        record = far_at(w, idx)
        memset(record, 0, FAR_BYTES)
        record.most = far.most
        record.hash = xxh3_64_intdigest(far.target)
        record.length = len(far.target)
        record.deletes = far.deletes
        record.stays = far.stays
        for i in range(4):
            record.words[i] = far.words[i]
        memcpy(record.target, cython.cast(cython.p_char, cython.cast(bytes, far.target)), record.length)
        for i in range(w.client_geometry[GEO_SHARDS]):
            queue_at(w, idx, i).far_skipped = 0
            queue_at(w, idx, i).far_home = 0
        return 0

    def pool(self, name_or_id, far=None):
        """The pool of this name (str) or id (int). far: the far tier that it must have, as it was
        said to new_pool; None: whichever. Raises PoolNotFound, AccessDenied, TypeError, ValueError
        (it has another tier, or none)."""
        key = name_or_id if isinstance(name_or_id, str) else whole(name_or_id)
        if key is None:
            raise TypeError(f"name_or_id: a pool's name (str) or id (int), not {type(name_or_id).__name__}")
        for idx, gen, name in self.live():
            if key == (name if isinstance(key, str) else idx):
                found = open_pool(self, idx, gen)
                if far is not None and found.far != far:
                    raise ValueError(f"far: pool {found.name!r} was made with {found.far!r}, not with {far!r}")
                return found
        raise PoolNotFound(f"arena {self.name!r} has no pool {name_or_id!r}")

    def cache(
        self,
        name,
        *,
        ttl=None,
        serializer=None,
        persistent=False,
        pam="raw",
        policy="s3fifo",
        cap=0,
        client=None,
        allow=None,
        far=None,
        far_max=None,
        far_persistent=False,
    ):
        """The cache of this name, an engine.Cache; its pool is made if it is not there.

        ttl: of its values when nothing else is said: seconds, a timedelta, or the datetime at which
        they end; None: they stay as long as there is room. serializer: an object with dumps and
        loads, to be used instead of pickle. The rest, as of new_pool, only says how the pool is
        made; one that is there, with another far tier than `far`, is refused. Raises what new_pool
        raises."""
        return _given["cache"](
            self,
            name,
            ttl=ttl,
            serializer=serializer,
            persistent=persistent,
            pam=pam,
            policy=policy,
            cap=cap,
            client=client,
            allow=allow,
            far=far,
            far_max=far_max,
            far_persistent=far_persistent,
        )

    def pools(self):
        """All pools, by id; of an engine that acts for a client, those it may open."""
        found = []
        for idx, gen, _ in self.live():
            try:
                found.append(open_pool(self, idx, gen))
            except (PoolDestroyed, AccessDenied):
                continue        # it went since it was listed, or is not for this engine's client
        return found

    def client(self, id, weight=None, cap=None):
        """A client, by the id that pools are made with; what is given is set, for all workers.

        id: 0 to 2**32-1. weight: 1 to 2**20, at first 1; when memory is short, the client with most
        bytes of ephemeral pages for its weight lets one go. cap: what its ephemeral pools may hold
        together: pages, as an int, or bytes, as text such as "64MiB"; 0: as many as there is room
        for. Raises AccessDenied (only the host sets either),
        TypeError, ValueError, TmemError (the table of clients is full).
        """
        id = number_in("id", id, 0, 2**32 - 1)
        if weight is not None:
            weight = number_in("weight", weight, 1, WEIGHT_MAX)
        if cap is not None:
            cap = cap_word(cap)
        return open_client(self, id, weight, cap)

    def lease(self, oid, timeout=None, any_thread=False):
        """A lock by name: of one thread of all processes on the arena at a time. A Lease; nothing
        is taken yet.

        oid: the name: a triple of ints, or a key that engine.oid takes. Names of leases have
        nothing to do with objects of pools, and are everybody's, whichever client he acts for.
        timeout: how many seconds `with` and acquire wait, until `with` raises LeaseTimeout; None:
        as long as it takes. any_thread: it is held by the process, so that a thread may give back
        what another one has taken. About a thousand leases can be held at the same moment
        (docs/caveats.md). Raises TypeError, ValueError."""
        return open_lease(self, oid, timeout, any_thread)

    def resize(self, capacity):
        """Change the capacity while everybody works. The new one, in bytes: a multiple of the size
        of a segment (64 or 256 KiB).

        capacity: an int, or text such as "1GiB", from 1 MiB to max_capacity. To make it smaller,
        pages of ephemeral pools go by their policy, the others are moved together, and what that
        empties is given back to the system. Raises TmemError when pages that may not go need more
        than that, or the system cannot give memory back; ArenaBusy when somebody else resizes, or a
        stopped process is in the way, for 30 s (the first two leave the capacity as it was);
        AccessDenied for an engine that acts for a client; TypeError, ValueError.
        """
        host_only(self, "change the capacity")
        size = parse_size("capacity", capacity)
        if not arenas.CAPACITY_MIN <= size <= self.max_capacity:
            raise ValueError(
                f"capacity: {arenas.CAPACITY_MIN} to {self.max_capacity} bytes (max_capacity of create), not {size}"
            )
        resizing.run(self, size >> self.att.w.seg_shift)
        return self.capacity

    def fill(self):
        """Give all segments that may have memory theirs, for create. TmemError if there is not as
        much."""
        w: cython.pointer(Worker) = cython.address(self.att.w)
        status: cython.int = OK
        self.att.enter()
        try:
            while status != NOMEM:
                with cython.nogil:
                    status = fill_next(w)
                if status == NOSPACE:
                    self.no_memory("the whole capacity (preallocate)")
                elif status == BUSY:
                    self.att.pause()
                elif status == CORRUPT:
                    self.raise_status(status)
                else:
                    self.att.breathe()
        finally:
            self.att.leave()
        return 0

    def give_back(self, destroyed):
        giving.look(self, destroyed)
        return 0

    def spill(self):
        """Copy pages that would go next to the far tiers of their pools, until a twentieth of the
        capacity is free or it has taken long: how many are far since. `tend` does so, too; one does
        at a time, and who comes second does nothing. Raises what stands in the way of a call."""
        done = Tended()
        spilling.spill(self, open_pool, done)
        return done.spilled

    @property
    def far_nonce(self):
        """What begins the names of this arena's pages in far tiers on servers: 16 hexadecimal
        digits."""
        self.att.enter()
        try:
            return f"{self.att.w.header.nonce:016x}"
        finally:
            self.att.leave()

    def far_gc(self):
        """Drop what far tiers on servers have under names of this arena's that no page has:
        garbage, which a kill leaves, or an outage. A Garbage. Nobody spills meanwhile. Raises
        ArenaBusy (somebody who spills is stopped), AccessDenied (a pool with a far tier is not
        for the client that the engine acts for)."""
        return garbage.collect(self)

    def tend(self, seconds=None):
        """Do ahead what puts would have to: keep a few segments free by moving what is in others,
        settle the dead, take apart what workers have left, give memory that lies free back to the
        system, and spill pages to far tiers. A Tended: what was done.

        seconds: go on for so long, in rounds, with rests between them; None: one round. Nobody
        needs it, several may do it, and who is killed at it is in nobody's way. Raises TypeError,
        ValueError."""
        if seconds is None:
            done = tending.one_round(self)
            spilling.spill(self, open_pool, done)
            return done
        if isinstance(seconds, bool) or not isinstance(seconds, (int, float)):
            raise TypeError(f"seconds: a number or None, not {type(seconds).__name__}")
        if not seconds >= 0:
            raise ValueError(f"seconds: 0 or more, not {seconds}")
        return follow(self, seconds)

    # --- the whole arena --------------------------------------------------------------------------

    def stats(self):
        """Counters and gauges: {"total": {...}, "pools": {name: {...}}, "arena": {...}, "workers":
        [{...}]}; see docs/architecture.md, and docs/gauges.md for what says how full the arena is.

        Gauges (objects, objnodes, pages, bytes_*) are exact when nobody works; counts of calls may
        miss what a killed worker had not counted yet."""
        return self.sound(counting.collect(self))

    def save(self, file, *, pools=None, ephemeral=False, max_age=None, frozen=False):
        """Write a snapshot of persistent pools, which engine.restore makes pools of again, in any
        arena. A Saved: what it has.

        file: a path, whose file is replaced when the new one is whole and on the disk, or an open
        binary file, which is written to. pools: the names of those to save; None: all. ephemeral:
        ephemeral pools too. max_age: seconds after which these are not restored any more; None:
        whenever. frozen: all pools as they are at one moment; writers stand still until all is
        written. Else they do not, and each object is as it was at some moment of the save
        (docs/snapshots.md has the exception). Raises OSError, PoolNotFound, TypeError,
        ValueError."""
        return self.sound(_given["save"](self, file, pools, ephemeral, max_age, frozen))

    def check(self, repair=False, gentle=False, frozen=False):
        """Walk everything, and verify every invariant. A Report: ok, problems, counts.

        Dead workers are recovered first. Writers are stopped meanwhile, as long as none of them has
        to wait for it: then, and where there is much to look at, it goes on as with gentle=True,
        and the report says `gentle`. frozen=True stops them until all is looked at, however long
        that takes. gentle=True stops nobody, and looks at one bucket, one queue at a time: at all
        that is in them, and not at what belongs to nobody, gauges, and what workers have
        (docs/caveats.md, "Checking while others work"). Signal handlers run then; in a stopped
        world they wait. repair=True puts right what objects themselves can tell (counts, trees,
        free lists) in a stopped world, and drops objects that contradict themselves: the report's
        `lost` names their pages. Raises TypeError, ValueError (gentle with one of the others)."""
        for argument, value in (("repair", repair), ("gentle", gentle), ("frozen", frozen)):
            if not isinstance(value, bool):
                raise TypeError(f"{argument}: True or False, not {type(value).__name__}")
        if gentle and (repair or frozen):
            raise ValueError(f"gentle: {'a repair' if repair else 'a frozen check'} stops the world")
        report = None if gentle else stopping.run(self, repair, not (repair or frozen))
        return self.sound(checking.run(self) if report is None else report)

    def recover(self):
        """Recover workers that died, and give back what they left. How many. Happens by itself when
        somebody waits for one, attaches, or lacks memory."""
        return self.recover_dead()

    def spawn(self, n, target, *args, restart=False, method=None, client=None):
        """Run target(*args) in n processes of multiprocessing, released together once all are
        attached. A Crew.

        Engines and pools among the args arrive attached. The processes get SIGTERM when this one
        has ended, however it did. restart: replace a process that ends with an exit code other than
        0, after a pause; Crew says how often. method: "spawn" (None), "fork" or "forkserver".
        client: in these processes this engine, with its pools, acts for that client; None: as it
        does here. Raises AccessDenied (it acts for another client), TypeError, ValueError."""
        return spawning.spawn(self, n, target, args, restart, method, narrowed(self, client))

    @property
    def closed(self):
        """True after close()."""
        return self.att.closed

    def close(self):
        """Leave the arena; it stays. Pools of this engine raise TmemError afterwards. Twice is
        once. Waits for who holds a queue.

        Raises BufferError while a view of its pages is held; then it is not closed."""
        whole: cython.bint = False
        tries: cython.int = 0
        while not whole and not self.att.closed:
            tries += 1
            try:
                if not self.att.is_barred():
                    self.att.enter()
                    try:
                        self.refuse_while_viewed()
                        self.settle()
                        while self.att.w.slot.client[ROOT_PENDING] != 0:
                            # A shard was locked: what is not queued when its worker has gone would
                            # never be evicted.
                            self.att.pause()
                            self.settle()
                        self.give_back(False)
                    finally:
                        self.att.leave()
                # Not whole if a dead worker's lists have become this one's meanwhile. That ends;
                # where it does not, somebody writes into the lists.
                whole = self.att.close(tries > CLOSE_TRIES)
            except ArenaCorrupted:
                self.att.close(True)            # what cannot be given back stays for a repair; the slot does not
                raise

    def __enter__(self):
        return self

    def __exit__(self, kind, value, traceback):
        self.close()

    def __reduce__(self):
        return (attach, (self.name, self.client_id, self.att.arena.owner))

    def __repr__(self):
        who = "" if self.client_id is None else f" for client {self.client_id}"
        return f"<tmem engine on arena {self.name!r}{who}{', closed' if self.att.closed else ''}>"

    def set_kill_point(self, n, stop=False):
        """Die by SIGKILL at the n-th kill point from here, or stop there (SIGSTOP) and go on when
        let; 0: never. For tests of crash safety."""
        self.att.set_kill_point(n, stop)

    def kill_points(self):
        """Kill points passed since set_kill_point."""
        return self.att.kill_points()

    def set_clock_ahead(self, seconds):
        """Let the clock by which objects expire run ahead, for this process alone. For tests."""
        self.att.set_clock_ahead(seconds)


seal(Engine, "engine.create and engine.attach")


def _far_argument(engine: Engine, far, far_max, persistent, kept, pam, localify):
    """The far tier of a new pool, made: a _Far, or None."""
    if far is None:
        if far_max is not None:
            raise ValueError("far_max: only of a pool with a far tier; it has no `far`")
        if kept:
            raise ValueError("far_persistent: only of a pool with a far tier; it has no `far`")
        return None
    kind = kind_of(far)
    if persistent and not kept:
        raise ValueError("far: a far tier may lose what it has, so only an ephemeral pool has one; a persistent pool "
                         "with a tier that promises to keep its pages says far_persistent=True, too")
    if kept and not persistent:
        raise ValueError("far_persistent: only of a persistent pool; say persistent=True, too, or leave it out")
    if pam not in ("raw", *CODECS):
        raise ValueError(f"far: only for a pool whose pages lie in the arena, not for pam {pam!r}")
    most = max(1024, engine.max_capacity // FAR_SHARE) if far_max is None else cap_word(far_max, "far_max")
    if most == 0:
        raise ValueError(f"far_max: at least one page, or one byte, not {far_max!r}")
    if kept and getattr(kind, "durable", None) is False:      # before it makes anything
        raise _not_durable(far)
    tier, words = kind.make(far, engine.att.w.header.nonce, engine.att.w.header.mode)
    if kept and not tier.durable:
        raise _not_durable(far)
    return _Far(far.encode(), most, tier.deletes, words, not localify)


def _not_durable(far):
    return ValueError(f"far_persistent: {far!r} does not promise to keep what it has acknowledged; take servers "
                      "with wait=1 or more, or leave far_persistent out, and the pages stay in the arena")


def _pool_name(name):
    if not isinstance(name, str):
        raise TypeError(f"name: a str, not {type(name).__name__}")
    try:
        raw = name.encode()
    except UnicodeEncodeError:
        raise ValueError(f"name: text that utf-8 can write, without lone surrogates, not {name!r}") from None
    if not 1 <= len(raw) < POOL_NAME_BYTES or b"\0" in raw:
        raise ValueError(f"name: 1 to {POOL_NAME_BYTES - 1} bytes of utf-8 without NUL, not {len(raw)}")
    return raw

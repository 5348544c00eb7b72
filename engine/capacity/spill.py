"""Owns the spiller: who copies pages that would go next to their pool's far tier, ahead of the puts
that would else let them go.

One at a time in an arena, elected by a byte of the liveness file that the kernel drops with him;
who comes second does nothing. He keeps a twentieth of the capacity free, and a whole segment of it.
Pages are chosen, some batches of them, and carried to the tier with nothing held (carrying.py): of
those each that is still the same, and that nobody has asked for, is far. Then whatever is dead
goes: descriptors whose token leads nowhere, the oldest where there are more than
the pool may have, tokens that the tier wants to drop.
Puts never wait for him. Where he is too slow, or there is none, pages go as in any pool.
Kill at any instruction: between two transactions nothing of his is in the arena. What a tier has
taken and no descriptor names is garbage, and never read.
"""
import cython
from cython.cimports.cpython.bytearray import PyByteArray_AS_STRING
from cython.cimports.cpython.bytes import PyBytes_AS_STRING
from cython.cimports.engine.capacity.carrying import Carried, Carrier, delete_names
from cython.cimports.engine.capacity.electing import elected, step_down
from cython.cimports.engine.capacity.kept import fitting, passed_over
from cython.cimports.engine.capacity.spill import CHOSEN_MAX
from cython.cimports.engine.eviction.evict import drop_far
from cython.cimports.engine.eviction.leaving import VALUES_MAX, Leaving, Room, choose_leaving, sort_leaving
from cython.cimports.engine.far.batch import BATCH_MAX
from cython.cimports.engine.far.names import name_of
from cython.cimports.engine.layout.call import AGAIN, MISS
from cython.cimports.engine.layout.regions import has_far, pool_at, queue_at
from cython.cimports.engine.layout.structs import (
    GEO_SHARDS,
    OBJ_CLASS,
    OBJNODE_CLASS,
    PAMPD_CLASS,
    Dead,
    FarRecord,
)
from cython.cimports.engine.layout.words import CAP_BYTES, pool_mark
from cython.cimports.engine.member.bound import Bound
from cython.cimports.engine.member.member import Member
from cython.cimports.engine.member.registry import registry
from cython.cimports.engine.pages.dead import take_dead
from cython.cimports.libc.stdlib import calloc, free
from cython.cimports.libc.string import memset
from cython.cimports.shm.atomics import load
from cython.cimports.shm.layout import BUSY, CORRUPT, OK, Worker, u64
from cython.cimports.shm.lock import lock_try, unlock
from cython.cimports.shm.segments import limit_of
from cython.cimports.shm.slab import drain_all
from engine.capacity.tend import merge_ahead
from engine.errors import AccessDenied, PoolDestroyed

A_SHARD = cython.declare(u64, 16)               # pages of one shard that are chosen at once, or as many as it takes
A_PAGE = cython.declare(u64, 4096)              # bytes of a page, for a guess at how many are to leave
CHOICES = 8                                     # of a round
CHOSEN_MIN = cython.declare(u64, 64)
NEVER = cython.declare(u64, 0xFFFFFFFFFFFFFFFF)
SKIP_MAX = cython.declare(u64, 64)              # each is a look, with the shard held
RESERVE = cython.declare(u64, 20)               # a part of so many of the capacity is kept free
TRIM = cython.declare(u64, 256)                 # pages that go of a shard at once, and tokens of the dead ring


@cython.cclass
class Spiller:
    """What an engine knows as the one who spills."""

    def __cinit__(self):
        self.pools = {}
        self.carrier = Carrier()
        self.chosen = cython.cast(cython.pointer(Leaving), calloc(CHOSEN_MAX, cython.sizeof(Leaving)))
        if self.chosen == cython.NULL:
            raise MemoryError
        self.lost = NEVER

    def __dealloc__(self):
        free(self.chosen)

    def look_ahead(self, w, pools):
        """Note how many pages of a shard went for want of memory since some were last chosen. Where
        the puts are faster than the tier, those that go next are gone before they could be far."""
        lost: u64 = 0
        shards: u64 = w.client_geometry[GEO_SHARDS]
        shard: u64
        for idx, _ in pools:
            for shard in range(shards):
                lost += load(cython.address(queue_at(w, idx, shard).far_skipped))
        self.skip = min(SKIP_MAX, (lost - self.lost) // shards) if self.lost <= lost else 0
        self.lost = lost
        return 0


def tiered(engine):
    """(index, generation) of each living pool with a far tier."""
    w: cython.pointer(Worker) = cython.address(engine.att.w)
    engine.att.enter()
    try:
        return [(idx, gen) for idx, gen, _ in engine.live_slots() if has_far(pool_at(w, idx))]
    finally:
        engine.att.leave()


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _usual_class(w: cython.pointer(Worker)) -> u64:
    """The class that pages are of: of that for which there was no memory last, or as long as there
    was for all, of that which has most segments."""
    cls: u64 = load(cython.address(w.depot.short_class)) - 1
    most: u64 = 0
    i: u64
    if cls < OBJNODE_CLASS:
        return cls
    cls = 0
    for i in range(OBJNODE_CLASS):
        if load(cython.address(w.depot.class_segments[i])) > most:
            most = load(cython.address(w.depot.class_segments[i]))
            cls = i
    return cls


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _shortage(w: cython.pointer(Worker)) -> u64:
    """Bytes that the reserve lacks: whole segments, and chunks of the usual size. One segment is
    not counted: it is for what pages hang on, or those of another size. Read while others work: a
    hint."""
    segment: u64 = cython.cast(u64, 1) << w.seg_shift
    wanted: u64 = limit_of(w) * segment // RESERVE + segment
    used: u64 = load(cython.address(w.depot.seg_used))
    cls: u64 = _usual_class(w)
    whole: u64 = (limit_of(w) - used) * segment if used < limit_of(w) else 0
    chunks: u64 = (load(cython.address(w.depot.class_free[cls])) + w.slot.mags[cls].count) * w.class_bytes[cls]
    if whole == 0:
        chunks = min(chunks, wanted - segment)      # of no use to whom a segment lacks
    return wanted - whole - chunks if whole + chunks < wanted else 0


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _is_crowded(w: cython.pointer(Worker)) -> cython.bint:
    """True if descriptors, and what they hang on, take more than half of the capacity."""
    return 2 * (
        load(cython.address(w.depot.class_segments[PAMPD_CLASS]))
        + load(cython.address(w.depot.class_segments[OBJ_CLASS]))
        + load(cython.address(w.depot.class_segments[OBJNODE_CLASS]))
    ) > limit_of(w)


# --- choosing -------------------------------------------------------------------------------------


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _choose(w: cython.pointer(Worker), state: Spiller, most: u64, lack: u64, pool: cython.pointer(u64),
            count: cython.pointer(cython.int)) -> cython.int:
    """Up to so many pages of one pool that go next, or as many as have so many bytes, but for those
    that state.skip says of each shard. OK (also with none), MISS (none, since all that were looked
    at were spared), BUSY or CORRUPT."""
    shards: u64 = w.client_geometry[GEO_SHARDS]
    each: u64 = max(A_SHARD, (most + shards - 1) // shards)
    share: u64 = max(A_SHARD * A_PAGE, (lack + shards - 1) // shards)
    of: u64 = 0
    found: u64
    i: u64
    status: cython.int
    room: Room
    room.pages = most
    room.bytes = (most + BATCH_MAX - 1) // BATCH_MAX * VALUES_MAX
    room.begun = False
    count[0] = 0
    if lock_try(w, cython.address(w.slot.own)) != OK:
        return BUSY
    status = OK
    spared: cython.bint = False
    for i in range(shards):
        if room.pages == 0 or lack == 0 or status == CORRUPT:
            break
        room.lack = share
        status = choose_leaving(w, state.shard & (shards - 1), state.chosen + count[0], min(each, room.pages),
                                cython.address(room), state.skip, state.passed_at, cython.address(of),
                                cython.address(found))
        if found != 0 and count[0] != 0 and of != pool[0]:
            break                   # of another pool: the next choice begins here
        if found != 0:
            pool[0] = of
        count[0] += found
        lack -= min(lack, share - room.lack)
        if status == AGAIN:
            break                   # a value that wants more room: the next choice begins with it
        spared = spared or status == MISS
        state.shard += 1
    unlock(w, cython.address(w.slot.own))
    sort_leaving(state.chosen, count[0])
    return status if status == CORRUPT else MISS if spared and count[0] == 0 else OK


# --- what is dead ---------------------------------------------------------------------------------


@cython.cfunc
@cython.exceptval(-1)
def _drop(pool: Bound, shard: u64, below: u64, most: u64) -> cython.int:
    """drop_far, with the own lock. Whether any went; what is busy waits for the next round."""
    w: cython.pointer(Worker) = cython.address(pool.engine.att.w)
    status: cython.int
    if lock_try(w, cython.address(w.slot.own)) != OK:
        return False
    with cython.nogil:
        status = drop_far(w, pool.ref.idx, shard, below, cython.address(most), registry.host)
        unlock(w, cython.address(w.slot.own))
    if status != OK and status != BUSY:
        pool.engine.raise_status(status)
    return most != 0


@cython.cfunc
@cython.exceptval(-1)
def _trim(pool: Bound) -> cython.int:
    """Drop descriptors whose token leads nowhere, and the oldest where there are too many."""
    w: cython.pointer(Worker) = cython.address(pool.engine.att.w)
    record: cython.pointer(FarRecord) = pool.far_record()
    shards: u64 = w.client_geometry[GEO_SHARDS]
    shard: u64
    count: u64
    total: u64 = 0
    bytes: u64 = 0
    most: u64 = load(cython.address(record.most))
    below: u64 = load(cython.address(record.words[0]))
    if pool.keeps_far:
        return 0            # none of them may go; where there are as many as may be, no more become far
    for shard in range(shards):
        if below != 0:
            while _drop(pool, shard, below, TRIM):
                pool.engine.settle()
        total += load(cython.address(queue_at(w, pool.ref.idx, shard).far_count))
        bytes += load(cython.address(queue_at(w, pool.ref.idx, shard).far_bytes))
    if most & CAP_BYTES():
        # As many pages as have so many bytes, if they are as long as the others.
        most &= ~CAP_BYTES()
        most = cython.cast(u64, cython.cast(cython.double, total) * most / bytes) if bytes > most else total
    if _is_crowded(w):
        most = min(most, total - total // 16)
    for shard in range(shards if total > most else 0):
        # As many of each shard as it has of all.
        count = load(cython.address(queue_at(w, pool.ref.idx, shard).far_count))
        count = cython.cast(u64, cython.cast(cython.double, count) * (total - most) / total) + 1
        _drop(pool, shard, 0, min(count, TRIM))
    pool.engine.settle()
    return 0


@cython.cfunc
@cython.exceptval(-1)
def _drain(engine: Member, open_by: dict) -> cython.int:
    """Tell tiers of the tokens in the dead ring."""
    w: cython.pointer(Worker) = cython.address(engine.att.w)
    room: bytes = bytes(TRIM * cython.sizeof(Dead))
    dead: cython.pointer(Dead) = cython.cast(cython.pointer(Dead), PyBytes_AS_STRING(room))
    count: u64 = 0
    i: u64
    status: cython.int
    pool: Bound
    found: dict = {}
    if lock_try(w, cython.address(w.slot.own)) != OK:
        return 0
    status = take_dead(w, dead, TRIM, cython.address(count))
    unlock(w, cython.address(w.slot.own))
    if status == CORRUPT:
        engine.raise_status(status)
    for i in range(count):
        found.setdefault(dead[i].pool, []).append((name_of(w.header.nonce, dead[i].gen), dead[i].token))
    for key, pool in open_by.items():
        mine = found.pop(pool_mark(key[0], key[1]), [])
        delete_names(pool, [name for name, _ in mine], [token for _, token in mine])
    return 0


# --- a round --------------------------------------------------------------------------------------


@cython.cfunc
def _pools(engine: Member, state: Spiller, open_pool) -> dict:
    """The living pools with a tier that can be had here, opened once."""
    pool: Bound
    found: dict = {}
    for idx, gen in tiered(engine):
        try:
            pool = state.pools.get((idx, gen)) or open_pool(engine, idx, gen)
        except (AccessDenied, PoolDestroyed):
            continue
        if pool.tier is not None:
            found[idx, gen] = pool
    state.pools = found
    return found


@cython.cfunc
@cython.exceptval(-1)
def _one_choice(engine: Member, state: Spiller, pools: dict, done) -> cython.bint:
    """Choose pages and spill them; done.spilled is raised by how many are far since. False: no tier
    has taken any."""
    w: cython.pointer(Worker) = cython.address(engine.att.w)
    count: cython.int = 0
    idx: u64 = 0
    lack: u64
    most: u64
    status: cython.int
    carried: Carried
    pool: Bound
    memset(cython.address(carried), 0, cython.sizeof(carried))
    engine.att.enter()
    try:
        lack = _shortage(w)
        if lack == 0 or _is_crowded(w):
            return False
        state.look_ahead(w, pools)
        lack = max(lack, CHOSEN_MIN * A_PAGE)
        most = lack // A_PAGE
        if state.skip != 0:
            most = min(most, BATCH_MAX)     # the puts are faster: what is chosen is soon gone
        elif most > BATCH_MAX:
            most = min((most + BATCH_MAX - 1) // BATCH_MAX * BATCH_MAX, CHOSEN_MAX)
            lack = max(lack, most * A_PAGE)
        with cython.nogil:
            status = _choose(w, state, most, lack, cython.address(idx), cython.address(count))
        if status == CORRUPT:
            engine.raise_status(status)
        if status == MISS:
            return True             # they have fewer hits by now
        pool = pools.get((idx, pool_at(w, idx).gen)) if count != 0 else None
    finally:
        engine.att.leave()
    if pool is None:
        return False
    try:
        pool.enter()
        try:
            state.carrier.carry(pool, state.chosen, fitting(pool, state.chosen, count), cython.address(carried))
        finally:
            done.spilled += carried.far
            pool.leave()
    except PoolDestroyed:
        return False
    if carried.far == 0 and pool.keeps_far:
        state.passed[idx] = 1       # others have their turn
        return True
    return carried.taken != 0 or (carried.sent == 0 and carried.gone != 0)


@cython.cfunc
@cython.exceptval(-1)
def _tidy(engine: Member, pools: dict) -> cython.int:
    """Drop what is dead, and let others have what has become free."""
    w: cython.pointer(Worker) = cython.address(engine.att.w)
    pool: Bound
    for pool in pools.values():
        try:
            pool.enter()
            try:
                _trim(pool)
            finally:
                pool.leave()
        except PoolDestroyed:
            continue
    engine.att.enter()
    try:
        _drain(engine, pools)
        if lock_try(w, cython.address(w.slot.own)) == OK:
            drain_all(w, w.slot)
            unlock(w, cython.address(w.slot.own))
    finally:
        engine.att.leave()
    return 0


def spill(engine: Member, open_pool, done):
    """A round: batches until enough is free; done.spilled is raised by how many pages are far
    since. open_pool(engine, idx, gen) gives a Bound."""
    state: Spiller
    me: u64
    if not tiered(engine):
        return
    if engine.spiller is None:
        engine.spiller = Spiller()
    state = engine.spiller
    me = elected(engine)
    if me == 0:
        return
    try:
        pools: dict = _pools(engine, state, open_pool)
        state.passed = passed_over(engine, pools)
        state.passed_at = cython.cast(cython.p_const_uchar, PyByteArray_AS_STRING(state.passed))
        for _ in range(CHOICES):
            # Chunks of pages that became far are of no use to who needs descriptors: as long as no
            # whole segment is free, puts would let pages go for those.
            merge_ahead(engine, done)
            if not pools or not _one_choice(engine, state, pools, done):
                state.lost = NEVER
                break
        _tidy(engine, pools)
    finally:
        step_down(engine, me)

"""Owns the spiller: who copies pages that would go next to their pool's far tier, ahead of the puts
that would else let them go.

One at a time in an arena, elected by a byte of the liveness file that the kernel drops with him;
who comes second does nothing. He keeps a twentieth of the capacity free, and a whole segment of it.
A batch: choose pages, copy them (leavers.py), give them to the tier out of the turn and with
nothing held, and let each that is still the same, and that nobody has asked for, be far. Then
whatever is dead goes: descriptors whose token leads nowhere, the oldest where there are more than
the pool may have, tokens that the tier wants to drop.
Puts never wait for him. Where he is too slow, or there is none, pages go as in any pool.
Kill at any instruction: between two transactions nothing of his is in the arena. What a tier has
taken and no descriptor names is garbage, and never read.
"""
import cython
from cython.cimports.cpython.bytearray import PyByteArray_AS_STRING
from cython.cimports.cpython.bytes import PyBytes_AS_STRING
from cython.cimports.engine.capacity.electing import elected, step_down
from cython.cimports.engine.capacity.kept import fitting, passed_over
from cython.cimports.engine.capacity.leavers import copy_leavers, let_go
from cython.cimports.engine.eviction.evict import drop_far
from cython.cimports.engine.eviction.leaving import VALUES_MAX, Leaving, Room, choose_leaving, sort_leaving
from cython.cimports.engine.far.batch import BATCH_MAX, Batch
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
from cython.cimports.shm.atomics import add, load, set_release
from cython.cimports.shm.journal import kill_point
from cython.cimports.shm.layout import BUSY, CORRUPT, OK, Worker, u64
from cython.cimports.shm.lock import lock_try, unlock
from cython.cimports.shm.segments import limit_of
from cython.cimports.shm.slab import drain_all
from engine.capacity.tend import merge_ahead
from engine.errors import AccessDenied, PoolDestroyed
from engine.far.names import name_of

A_SHARD = cython.declare(u64, 16)               # of them from one shard
BATCHES = 16                                    # of a round
NEVER = cython.declare(u64, 0xFFFFFFFFFFFFFFFF)
SKIP_MAX = cython.declare(u64, 64)              # each is a look, with the shard held
RESERVE = cython.declare(u64, 20)               # a part of so many of the capacity is kept free
TRIM = cython.declare(u64, 256)                 # pages that go of a shard at once, and tokens of the dead ring


@cython.cclass
class Spiller:
    """What an engine knows as the one who spills."""

    def __cinit__(self):
        self.pools = {}
        self.batch = Batch()
        self.lost = NEVER

    def look_ahead(self, w, pools):
        """Note how many pages of a shard went for want of memory since the last batch began. Where
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
def _is_short(w: cython.pointer(Worker)) -> cython.bint:
    """True if less than the reserve is free: whole segments, and chunks of the size that was short
    last. Read while others work: a hint."""
    limit: u64 = limit_of(w)
    used: u64 = load(cython.address(w.depot.seg_used))
    cls: u64 = load(cython.address(w.depot.short_class)) - 1
    free: u64 = (limit - used if used < limit else 0) << w.seg_shift
    if cls < OBJNODE_CLASS:
        free += load(cython.address(w.depot.class_free[cls])) * w.class_bytes[cls]
    return free < (limit << w.seg_shift) // RESERVE


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
def _choose(w: cython.pointer(Worker), shard: cython.pointer(u64), skip: u64, table: cython.pointer(Leaving),
            passed: cython.p_const_uchar, pool: cython.pointer(u64), count: cython.pointer(cython.int)) -> cython.int:
    """Up to BATCH_MAX pages of one pool that go next, but for `skip` of each shard. OK (also with
    none), MISS (none, since all that were looked at were spared), BUSY or CORRUPT."""
    shards: u64 = w.client_geometry[GEO_SHARDS]
    of: u64 = 0
    found: u64
    i: u64
    status: cython.int
    room: Room
    room.pages = BATCH_MAX
    room.bytes = VALUES_MAX
    room.begun = False
    count[0] = 0
    if lock_try(w, cython.address(w.slot.own)) != OK:
        return BUSY
    status = OK
    spared: cython.bint = False
    for i in range(shards):
        if count[0] >= BATCH_MAX or status == CORRUPT:
            break
        status = choose_leaving(w, shard[0] & (shards - 1), table + count[0],
                                min(A_SHARD, cython.cast(u64, BATCH_MAX - count[0])), cython.address(room), skip,
                                passed, cython.address(of), cython.address(found))
        if found != 0 and count[0] != 0 and of != pool[0]:
            break                   # of another pool: the next batch begins here
        if found != 0:
            pool[0] = of
        count[0] += found
        if status == AGAIN:
            break                   # a value that wants more room: the next batch begins with it
        spared = spared or status == MISS
        shard[0] += 1
    unlock(w, cython.address(w.slot.own))
    sort_leaving(table, count[0])
    return status if status == CORRUPT else MISS if spared and count[0] == 0 else OK


# --- a batch --------------------------------------------------------------------------------------


@cython.cfunc
@cython.exceptval(-1)
def _pack(pool: Bound, batch: Batch, table: cython.pointer(Leaving), count: cython.int) -> cython.int:
    """Copy what was chosen, and seal it. How many pages were not there any more."""
    longest: u64 = pool.tier.longest
    most: u64 = pool.tier.batch_bytes
    gone: u64
    batch.begin(min(most, BATCH_MAX * longest))
    with cython.nogil:
        copy_leavers(cython.address(pool.engine.att.w), cython.address(pool.ref), table, count, longest, most, batch,
                     cython.address(gone))
    add(cython.address(pool.far_record().stale), gone)
    batch.seal()
    return gone


@cython.cfunc
@cython.exceptval(-1)
def _send(pool: Bound, batch: Batch, table: cython.pointer(Leaving)) -> cython.int:
    """Give a batch to the tier, and note the tokens: how many it has taken. What the tier's words
    are to be is known to all before it begins."""
    w: cython.pointer(Worker) = cython.address(pool.engine.att.w)
    record: cython.pointer(FarRecord) = pool.far_record()
    epoch: cython.int = pool.engine.att.epoch
    i: cython.int
    taken: cython.int = 0
    words = pool.tier.prepare(batch.lengths, [record.words[i] for i in range(4)])
    for i in range(4):
        # Release: who sees a token of what is written from here on sees these, too.
        set_release(cython.address(record.words[i]), words[i])
    kill_point(w)
    pool.engine.att.give_up_turn()
    try:
        tokens: list = pool.tier.put_many(batch)
    finally:
        pool.engine.att.again()
    pool.engine.refuse_fork(epoch)
    kill_point(w)
    for i in range(batch.count):
        table[batch.parcels[i].place].token = tokens[i]
        taken += table[batch.parcels[i].place].token != 0
    return taken


@cython.cfunc
@cython.exceptval(-1)
def _let_go(pool: Bound, batch: Batch, table: cython.pointer(Leaving)) -> cython.int:
    """Let the pages that the tier has be far. How many are."""
    w: cython.pointer(Worker) = cython.address(pool.engine.att.w)
    record: cython.pointer(FarRecord) = pool.far_record()
    epoch: cython.int = pool.engine.att.epoch
    status: cython.int = BUSY
    page: cython.pointer(Leaving)
    at: cython.int = 0
    i: cython.int
    done: cython.int = 0
    names: list = []
    tokens: list = []
    while status == BUSY:
        with cython.nogil:
            status = let_go(w, cython.address(pool.ref), table, batch, cython.address(at), pool.ops, registry.host)
        if status == BUSY:
            pool.pause()
            pool.engine.refuse_fork(epoch)
        elif status != OK:
            pool.fail(status)
    for i in range(batch.count):
        page = table + batch.parcels[i].place
        if page.stale:
            names.append(batch.name(i))
            tokens.append(page.token)
        done += page.token != 0 and not page.stale
    add(cython.address(record.spilled), done)
    add(cython.address(record.stale), len(names))
    pool.engine.settle()
    _delete(pool, names, tokens)
    return done


@cython.cfunc
@cython.exceptval(-1)
def _delete(pool: Bound, names: list, tokens: list) -> cython.int:
    """Tell the tier what nobody will ask for, if it wants to know."""
    if not names or not pool.tier.deletes:
        return 0
    pool.engine.att.give_up_turn()
    try:
        pool.tier.delete_many(names, tokens)
    finally:
        pool.engine.att.again()
    return 0


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
        _delete(pool, [name for name, _ in mine], [token for _, token in mine])
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
def _one_batch(engine: Member, state: Spiller, pools: dict, done) -> cython.bint:
    """Spill a batch; done.spilled is raised by how many pages are far since. False: no tier has
    taken any."""
    w: cython.pointer(Worker) = cython.address(engine.att.w)
    table: Leaving[255]
    count: cython.int = 0
    idx: u64 = 0
    status: cython.int
    far: cython.int = 0
    pool: Bound
    batch: Batch = state.batch
    passed: cython.p_const_uchar = cython.cast(cython.p_const_uchar, PyByteArray_AS_STRING(state.passed))
    engine.att.enter()
    try:
        if not _is_short(w) or _is_crowded(w):
            return False
        state.look_ahead(w, pools)
        with cython.nogil:
            status = _choose(w, cython.address(state.shard), state.skip, table, passed, cython.address(idx),
                             cython.address(count))
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
            gone: cython.int = _pack(pool, batch, table, fitting(pool, table, count))
            taken: cython.int = _send(pool, batch, table) if batch.count != 0 else 0
            if taken != 0:
                far = _let_go(pool, batch, table)
        finally:
            pool.leave()
    except PoolDestroyed:
        return False
    done.spilled += far
    if far == 0 and pool.keeps_far:
        state.passed[idx] = 1       # others have their turn
        return True
    return taken != 0 or (batch.count == 0 and gone != 0)


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
        for _ in range(BATCHES):
            # Chunks of pages that became far are of no use to who needs descriptors: as long as no
            # whole segment is free, puts would let pages go for those.
            merge_ahead(engine, done)
            if not pools or not _one_batch(engine, state, pools, done):
                state.lost = NEVER
                break
        _tidy(engine, pools)
    finally:
        step_down(engine, me)

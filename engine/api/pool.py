# cython: binding=False, embedsignature=True, embedsignature.format=clinic
"""Owns Pool, what callers hold: arguments in, bools, bytes and exceptions out.

What a call does is in its base, Bound; here are its forms, and what it takes.
binding=False: a method that can be bound like a Python function costs 9 ns a call.
"""

import cython
import cython.cimports.engine.api.batch as batch
import cython.cimports.engine.api.ranges as ranges
import cython.cimports.engine.api.values as values
import cython.cimports.engine.api.views as views
import cython.cimports.engine.api.walks as walks
import cython.cimports.engine.api.writing as filling
import cython.cimports.engine.verbs.ends as ends
from cython.cimports.engine.far.nodes import nodes_of
from cython.cimports.engine.layout.call import AGAIN, DESTROYED, Call
from cython.cimports.engine.layout.regions import far_at, is_live, keeps_far, pools_high
from cython.cimports.engine.layout.structs import (
    GAUGE_OBJECTS,
    PAM_NAME_BYTES,
    POOL_DEDUP,
    POOL_FAR,
    POOL_NAME_BYTES,
    POOL_PERSISTENT,
    POOL_SHARED,
    POOL_WHOLE,
    FarRecord,
)
from cython.cimports.engine.layout.words import CAP_BYTES
from cython.cimports.engine.member.access import allow_list
from cython.cimports.engine.member.arguments import handle, word
from cython.cimports.engine.member.bound import Bound
from cython.cimports.engine.member.far_target import target_of
from cython.cimports.engine.member.member import Member
from cython.cimports.engine.pages.pam.packed import flag_of
from cython.cimports.shm.atomics import load
from cython.cimports.shm.layout import OK, Worker, u64
from cython.cimports.shm.seal import seal
from engine.api.handle import open_object
from engine.errors import ArenaCorrupted, PoolDestroyed, PoolNotFound, TmemError
from engine.far.tiers import kind_of
from engine.member.access import owner_only
from engine.member.stats import pool_counters


def open_pool(engine: Member, idx, gen, name=None, nonce=None):
    """The Pool of slot `idx` that lives with generation `gen`; if given, of that name and in the
    arena with that nonce. PoolNotFound or PoolDestroyed if there is none, AccessDenied if the
    engine acts for a client that may not use it."""
    engine.att.enter()      # a forked child's becomes a worker, and a closed one says so, before its memory is read
    try:
        return _open(engine, idx, gen, name, nonce)
    finally:
        engine.att.leave()


@cython.cfunc
def _open(engine: Member, idx, gen, name, nonce):
    pool: Pool = Pool.__new__(Pool)
    pool.engine = engine
    pool.id = idx
    pool.ref.gen = word("gen", gen)
    if nonce is not None and nonce != engine.att.arena.geometry["nonce"]:
        raise PoolNotFound(
            f"pool {name!r} is of an arena {engine.name!r} that is gone; the one of that name now is another"
        )
    if word("idx", idx) >= pools_high(cython.address(engine.att.w)):
        raise PoolNotFound(f"arena {engine.name!r} has no pool {idx}")
    pool.bind()
    flags: u64 = pool.ref.record.flags
    pool.name = pool.ref.record.name[:POOL_NAME_BYTES].rstrip(b"\0").decode("utf-8", "replace")
    pool.pam = pool.ref.record.pam[:PAM_NAME_BYTES].rstrip(b"\0").decode("utf-8", "replace")
    pool.elsewhere = pool.pam != "raw"
    pool.persistent = flags & POOL_PERSISTENT != 0
    pool.shared = flags & POOL_SHARED != 0
    pool.client = pool.ref.record.client
    pool.policy = pool.policy_row().name.decode()
    cap: u64 = pool.ref.record.cap
    pool.cap = 0 if cap & CAP_BYTES() else cap
    pool.cap_bytes = cap & ~CAP_BYTES() if cap & CAP_BYTES() else 0
    pool.allow = allow_list(pool.ref.record)
    pool.exclusive = not pool.persistent and not pool.shared
    pool.page_size = pool.ref.page_size
    pool.dedup = pool.ref.dedup = flags & POOL_DEDUP != 0
    pool.whole = pool.ref.whole = flags & POOL_WHOLE != 0
    pool.ref.seed = pool.engine.att.w.header.secret
    pool.ref.codec = flag_of(pool.pam)
    pool.ref.packed_max = pool.ref.page_max - 1 if pool.ref.codec else 0
    # One that is named, in a pickle, may have been destroyed on the way, and nobody have its slot
    # yet: its calls say so.
    live: cython.bint = is_live(pool.ref.record, pool.ref.gen)
    if (
        not live
        and (name is None or load(cython.address(pool.ref.record.gen)) != pool.ref.gen)
        or name not in (None, pool.name)
    ):
        raise PoolDestroyed(f"pool {name or pool.name!r} was destroyed")
    if flags & POOL_FAR:
        pool.keeps_far = keeps_far(pool.ref.record)
        _open_tier(pool)
    return pool


@cython.cfunc
def _open_tier(pool: Pool):
    """Have the pool's far tier open, if it can be had here: without it, what is far is a miss."""
    w: cython.pointer(Worker) = cython.address(pool.engine.att.w)
    record: cython.pointer(FarRecord) = far_at(w, pool.ref.idx)
    i: cython.int
    pool.far_target = target_of(w, pool.ref.idx)
    if pool.far_target is None:
        raise ArenaCorrupted(f"arena {pool.engine.name!r}: what pool {pool.name!r} says of its far tier is damaged")
    pool.nodes = nodes_of(pool.engine.att, pool.ref.idx, pool.ref.gen)
    pool.localifies = record.stays == 0
    try:
        pool.tier = kind_of(pool.far_target).open(
            pool.far_target, w.header.nonce, [record.words[i] for i in range(4)],
            pool.nodes)
    except (TmemError, ValueError) as error:
        pool.untold = str(error)


@cython.cclass
class Pool(Bound):
    """A pool of pages, addressed by (oid, index). Made by Engine.new_pool and Engine.pool.

    oid: a triple of ints from 0 to 2**64-1, or what engine.oid returns. index: an int from 0 to
    2**64-1. Every call may raise TypeError and ValueError (naming the argument), PoolDestroyed,
    ArenaCorrupted, and TmemError when the engine is closed, or the package of the pool's codec is
    not installed. Page lengths are of pages as they were put, whatever the pool stores. A get that
    takes away a page which turns out not to decompress (ArenaCorrupted) has taken it away.
    Attributes tell what it was made with: client, pam, policy, cap (pages) or cap_bytes, allow (a
    tuple of client ids, or None), dedup and whole.
    """

    # --- put --------------------------------------------------------------------------------------

    def put(self, oid, index, data):
        """Put a page: a copy of `data`, 1 to page_size bytes. True, or False: refused, and no page
        is under the handle."""
        c: Call
        handle(cython.address(c), oid, index)
        return self.put_buffer(cython.address(c), data)

    def put_range(self, oid, index, buffer):
        """Put consecutive pages from `index` on, cut from `buffer` (the last may be shorter): all
        of them, at one moment.

        True, or False: refused, since there is no memory for them, or since they are one value (see
        `whole` of new_pool) that is larger than a cap; then all handles of the range are empty. 1
        to 16384 pages. TmemError when the file system has no memory left for the journal of a long
        range: then nothing has changed.
        """
        c: Call
        handle(cython.address(c), oid, index)
        return self.put_range_call(cython.address(c), buffer)

    # --- get --------------------------------------------------------------------------------------

    def get(self, oid, index, free=None):
        """A copy of the page, or None. free: True: the page leaves; False: it stays; None: it
        leaves in a private ephemeral pool and stays in any other."""
        c: Call
        handle(cython.address(c), oid, index)
        return self.get_call(cython.address(c), free)

    def get_into(self, oid, index, buffer, free=None):
        """Copy the page into a writable buffer at least as long as the page: its length, or -1 on a
        miss. free as in get.

        The copy is made without a lock and then confirmed: what lies behind the page in the buffer,
        and all of it after a miss, is undefined."""
        c: Call
        handle(cython.address(c), oid, index)
        return self.get_into_call(cython.address(c), buffer, free)

    def get_range(self, oid, index, count, free=None):
        """The pages from `index` on, joined, as they were at one moment; None if one is missing
        (and then none leaves)."""
        c: Call
        handle(cython.address(c), oid, index)
        return ranges.get_range(self, cython.address(c), count, free)

    def get_range_into(self, oid, index, count, buffer, free=None):
        """Copy the pages of a range, joined, into a writable buffer: how many bytes, or -1 if one
        is missing. free as in get_range.

        ValueError if the buffer is shorter than that; then none leaves. What lies behind the bytes
        in the buffer, and all of it after a miss or an error, is undefined. An array of NumPy is a
        buffer if it is C-contiguous."""
        c: Call
        handle(cython.address(c), oid, index)
        return ranges.get_range_into(self, cython.address(c), count, buffer, free)

    def view(self, oid, index, count=None):
        """The page where it lies, without a copy: a View, to be entered, which gives a read-only
        memoryview; None on a miss.

        With a count, 1 to 4096: a tuple of memoryviews, one a page, as the pages were at one
        moment; None if one is missing. Until the View is left, and what was made of the memoryviews
        is gone too, the page is not evicted, and its bytes stay as they are, also if somebody puts
        another page, flushes this one or destroys the pool. No page leaves its pool by being
        viewed. What does not lie in the arena as it was put (compressed, one word over and over, of
        a back end in Python; there, page by page) comes as a copy.
        Raises TooMuchPinned: see max_pinned of engine.create."""
        c: Call
        handle(cython.address(c), oid, index)
        return views.view(self, cython.address(c), count)

    def writing(self, oid, index, length):
        """A page that is filled where it will lie: a Writing, to be entered, which is a writable
        buffer of `length` bytes, 1 to page_size. Nobody sees it until the block is left; then it is
        put, whole.

        What the buffer holds at first is undefined. `abort()`, an exception inside the block, and a
        process that dies leave what was under the handle before; so does an array or a memoryview
        of the buffer that is still in use at the end (BufferError). Of two who write one page at a
        time the last to leave puts his over the other's. Entering raises ArenaFull when there is no
        room (what is under the handle stays), and TooMuchPinned, since what is being written counts
        as viewed (max_pinned of engine.create). Leaving raises ArenaFull when the put is refused
        after all; then no page is under the handle. Pools that compress, that keep equal pages
        once, or have a back end in Python fill a buffer of this process first."""
        c: Call
        handle(cython.address(c), oid, index)
        return filling.writing(self, cython.address(c), length)

    # --- values -----------------------------------------------------------------------------------

    def put_object(self, oid, data, *, ttl=None, if_absent=False, if_version=None, word=None, key=None):
        """Let an object be one value, `data`, whatever pages it had: a buffer, or a list of
        buffers, which are joined on the way. True, or False: refused, since there is no memory, and
        nothing is there; or engine.CONFLICT, which is false too: the condition does not hold, and
        what was there stays.

        A value is page 0 of its object, from 0 bytes to 1 GiB, whatever the pool's page_size.
        ttl: seconds, or a timedelta, that it lives; None: until it is evicted or replaced. One that
        has expired is a miss everywhere, and goes before others when memory is short. if_absent:
        put it only where there is no such object. if_version: only where the value is of this
        version (get_object with `info` tells it; 0: no object). word: an int from 0 to 2**64-1, and
        key: up to 1 MiB, that are kept with the value. With both a key and if_absent, a value of
        another key counts as none."""
        c: Call
        handle(cython.address(c), oid, 0)
        return values.put_object(self, cython.address(c), data, ttl, if_absent, if_version, word, key)

    def get_object(self, oid, info=False):
        """The value of an object, as it was at one moment, or None. With `info` a pair of it and an
        ObjectInfo of the same moment. It stays, in every pool.

        Of an object that was put page by page, all its pages joined, if they are those from 0 on;
        else TmemError."""
        c: Call
        handle(cython.address(c), oid, 0)
        return values.get_object(self, cython.address(c), info)

    def get_object_into(self, oid, buffer):
        """Copy the value of an object into a writable buffer at least as long: its length, or None.
        What lies behind it in the buffer, and all of it after a miss, is undefined."""
        c: Call
        handle(cython.address(c), oid, 0)
        return values.get_object_into(self, cython.address(c), buffer)

    def view_object(self, oid):
        """The value of an object where it lies: a View, as `view` gives one."""
        c: Call
        handle(cython.address(c), oid, 0)
        return values.view_object(self, cython.address(c))

    def writing_object(self, oid, length, *, ttl=None, if_absent=False, if_version=None, word=None, key=None):
        """A value of `length` bytes that is filled where it will lie: a Writing, as `writing` gives
        one, with what put_object takes beside. Leaving the block raises Conflict when the condition
        does not hold then; what is there stays."""
        c: Call
        handle(cython.address(c), oid, 0)
        return filling.writing_object(self, cython.address(c), length, ttl, if_absent, if_version, word, key)

    def incr(self, oid, delta=1, initial=0, ttl=None, *, word=None, key=None):
        """Add to a value of 8 bytes, a signed little-endian int: what it came to. Where there is
        none, it starts from `initial`, with ttl, word and key as put_object has them; one that is
        there keeps its own.

        KeyError if there is none and `initial` is None; TypeError if the value has another length;
        OverflowError if it would leave 64 bits; ArenaFull if there is no room for a new one."""
        c: Call
        handle(cython.address(c), oid, 0)
        return values.count(self, cython.address(c), delta, initial, ttl, word, key)

    def touch(self, oid, ttl):
        """Let an object live for `ttl` seconds from now on; None: until it is evicted or replaced.
        True if there is one."""
        c: Call
        handle(cython.address(c), oid, 0)
        return values.touch(self, cython.address(c), ttl)

    def expires(self, oid):
        """Seconds until an object expires, or None: never. KeyError if there is none."""
        c: Call
        handle(cython.address(c), oid, 0)
        return values.expires(self, cython.address(c))

    def has(self, oid):
        """True if there is such an object. No hit is counted."""
        c: Call
        handle(cython.address(c), oid, 0)
        return values.has(self, cython.address(c))

    # --- batches ----------------------------------------------------------------------------------

    def put_many(self, handles, pages):
        """Put a page under each handle, a pair (oid, index): for each True or False as `put`
        answers, in a list.

        Each page is put by itself, in this order: others see some of them before the rest, and a
        refusal does not hold up the others. All arguments are looked at first: a TypeError or
        ValueError, which names the place, has changed nothing. An exception that comes later (of a
        signal handler, of a back end, PoolDestroyed) leaves the pages up to there put."""
        return batch.put_many(self, batch.places_of(handles), "handles", pages)

    def get_many(self, handles, free=None):
        """The page under each handle, a pair (oid, index), or None, in a list. free as in get.

        Each page is got by itself, in this order; those that a far tier has are got after the
        others, together. All arguments are looked at first. Where pages leave, an exception that
        comes later (of a signal handler, of a back end) takes the pages along that have left by
        then; free=False keeps them."""
        return batch.get_many(self, batch.places_of(handles), free)

    # --- flush ------------------------------------------------------------------------------------

    def flush_page(self, oid, index):
        """Drop a page. True if there was one."""
        c: Call
        handle(cython.address(c), oid, index)
        return self.flush_page_call(cython.address(c))

    def flush_object(self, oid, if_version=None):
        """Drop all pages of an object, at one moment. True if there was one; or engine.CONFLICT,
        which is false: its value is not of this version, and stays."""
        c: Call
        handle(cython.address(c), oid, 0)
        return values.flush(self, cython.address(c), if_version)

    def clear(self):
        """Drop all objects of the pool, at one moment and in constant time; the pool stays, and
        nobody's handle of it is any worse. Calls that begin after this one has returned find
        nothing that was put before.

        What was dropped takes memory until somebody needs it, puts under the same oid, or tends the
        arena. Once in 65,535 times what was dropped before is taken apart first.
        Raises AccessDenied if the engine acts for a client to whom the pool does not belong."""
        status: cython.int
        owner_only(self.engine, self.client, f"clear pool {self.name!r}")
        self.enter()
        try:
            while True:
                status = self.until_free(cython.NULL, ends.clear)
                if status != AGAIN:
                    break
                self.engine.sweep_pool(self.id)
            if status != OK:
                self.fail(status)
        finally:
            self.leave()

    def destroy(self):
        """Drop the pool and all its pages. Calls on it, here and elsewhere, raise PoolDestroyed
        from now on.

        Raises AccessDenied if the engine acts for a client to whom the pool does not belong."""
        owner_only(self.engine, self.client, f"destroy pool {self.name!r}")
        self.enter()
        try:
            self.attempt(cython.NULL, ends.begin_destroy)
            self.drop_semaphores()
            self.engine.settle_quietly()
            self.engine.give_back(True)
        finally:
            self.leave()

    def drop_semaphores(self):
        """Remove the semaphores of a destroyed pool's locks. The lock words stay locks; a late
        sleeper makes a new one."""
        i: u64
        for i in range(self.ref.mask + 1):
            self.engine.att.semaphores.retire(
                cython.address(self.engine.att.w), cython.address(self.ref.buckets[i].lock)
            )
        return 0

    # --- looking ----------------------------------------------------------------------------------

    def objects(self, after=None, limit=None):
        """An iterator over the objects of the pool: an ObjectInfo each, in an order of the arena's.

        Nobody waits for it, and it sees no one moment: an object that lives all the time comes
        once, one that is put or dropped meanwhile may come or not, and one that has expired does
        not come. Of an object that is no single value, `length` is the sum of its pages', `version`
        that of page 0, or 0, and there is no key; so it is of a value that a far tier does not give
        now. No hit is counted. after: the oid of an object,
        which need not be there any more: only those behind it come. limit: so many at most."""
        return walks.walk_objects(self, after, limit)

    def object_info(self, oid):
        """(pampd_count, objnode_count, height) of an object: pages, tree nodes, tree levels; None
        if there is none."""
        c: Call
        handle(cython.address(c), oid, 0)
        return self.object_info_call(cython.address(c))

    def descriptor(self, oid, index):
        """(pampd, generation) of a page, or None: what `replace` wants. In a raw pool pampd is an
        arena offset."""
        c: Call
        handle(cython.address(c), oid, index)
        return self.descriptor_call(cython.address(c))

    def replace(self, oid, index, pampd, generation):
        """Let a page be `pampd` from now on, if it is still of this generation and its back end
        agrees. True if so."""
        c: Call
        handle(cython.address(c), oid, index)
        return self.replace_call(cython.address(c), pampd, generation)

    @property
    def far(self):
        """The far tier that the pool was made with, or None."""
        return self.far_target

    @property
    def far_nodes(self):
        """What all processes know of the servers that the far tier asks: a list of dicts. address:
        host:port. open_for: seconds for which nobody asks it any more, since it did not answer.
        opened: times that this was so. asked, pages: batches that it was sent, and what they asked
        for. failed, late: of them, those with no answer, and with none in time. moved, refused:
        pages that it sent elsewhere, or would not take. times: how many answers took less than 64
        us, 128 us and so on; the last: longer, too."""
        self.enter()
        try:
            return self.nodes.rows() if self.nodes is not None else []
        finally:
            self.leave()

    @property
    def far_persistent(self):
        """True if the pool is persistent, and its pages may be far."""
        return self.keeps_far

    @property
    def far_trouble(self):
        """Why this process cannot have the far tier at the moment, or None: what is far is a miss
        to it then, or FarUnavailable where `far_persistent`."""
        return self.untold if self.tier is None else self.tier.trouble

    @property
    def obj_count(self):
        """Objects in the pool: oids that have at least one page."""
        self.enter()
        try:
            count = pool_counters(self.engine, self.id)[GAUGE_OBJECTS]
            if not is_live(self.ref.record, self.ref.gen):
                self.fail(DESTROYED)
            return count
        finally:
            self.leave()

    def object(self, oid):
        """The same calls for one object, with the oid looked at once."""
        return open_object(self, oid)

    def __reduce__(self):
        return (open_pool, (self.engine, self.id, self.ref.gen, self.name, self.engine.att.arena.geometry["nonce"]))

    def __repr__(self):
        kind = ("persistent" if self.persistent else "ephemeral") + (" shared" if self.shared else " private")
        return f"<tmem pool {self.name!r} ({kind}) of arena {self.engine.name!r}>"


seal(Pool, "Engine.new_pool and Engine.pool")

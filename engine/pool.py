# cython: binding=False, embedsignature=True, embedsignature.format=clinic
"""Owns Pool, what callers hold: arguments in, bools, bytes and exceptions out.

May call: arguments, batch, ranges, views, core, fetch, lookaside, registry, session. Called by users and by handle.py. Each call is
bracketed by the attachment's enter and leave; a verb that answers BUSY is called again after a pause,
with nothing held, in which signal handlers run. Below this file nothing raises.
binding=False: a method that can be bound like a Python function costs 9 ns a call.
"""
import cython
from cython.cimports.cpython.buffer import (
    Py_buffer,
    PyBUF_SIMPLE,
    PyBUF_WRITABLE,
    PyBuffer_Release,
)
from cython.cimports.cpython.bytes import PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cython.cimports.engine import batch, core, fetch, lookaside, ranges, views
from cython.cimports.engine.access import allow_list, assert_open_to
from cython.cimports.engine.admit import is_capped
from cython.cimports.engine.arguments import buffer_of, free_flag, handle, word, wrong_length
from cython.cimports.engine.layout import (
    AGAIN,
    ASIDES_MIN,
    DESTROYED,
    FAILED,
    FLUSHES,
    GAUGE_OBJECTS,
    GETS_HIT,
    GETS_MISS,
    MISS,
    NODES_MAX,
    PAM_NAME_BYTES,
    POLICY_CLOCK,
    POLICY_FIFO,
    POLICY_S3FIFO,
    POLICY_SIEVE,
    POOL_DEDUP,
    POOL_NAME_BYTES,
    POOL_PERSISTENT,
    POOL_SHARED,
    PUTS_DUPLICATE,
    PUTS_OK,
    PUTS_REFUSED,
    RANGE_MAX,
    REFUSED,
    ROOT_PENDING,
    ROOT_RETIRED,
    SIZE,
    Call,
    buckets_at,
    copy_page,
    hits_worth,
    is_evictable,
    is_live,
    ledger_at,
    packed_in,
    pool_at,
    pools_high,
)
from cython.cimports.engine.overwrite import overwrite
from cython.cimports.engine.pam.packed import PackedPam, digest, flag_of
from cython.cimports.engine.reclaim import back_ledgers, has_ledger, take_garbage
from cython.cimports.engine.registry import registry
from cython.cimports.libc.string import memcpy
from cython.cimports.shm.atomics import load, unlikely
from cython.cimports.shm.journal import reserve, shrink
from cython.cimports.shm.layout import BUSY, NOMEM, NOSPACE, OK, Worker, slots_used, u64
from cython.cimports.shm.process import COPY
from cython.cimports.shm.seal import seal
from engine.access import owner_only
from engine.errors import ArenaCorrupted, PoolDestroyed, PoolNotFound, TmemError
from engine.stats import pool_counters

POLICIES = {"s3fifo": POLICY_S3FIFO, "sieve": POLICY_SIEVE, "clock": POLICY_CLOCK, "fifo": POLICY_FIFO}


def open_pool(engine: Engine, idx, gen, name=None, nonce=None):
    """The Pool of slot `idx` that lives with generation `gen`; if given, of that name and in the arena with that nonce. PoolNotFound or
    PoolDestroyed if there is none, AccessDenied if the engine acts for a client that may not use it."""
    pool: Pool = Pool.__new__(Pool)
    pool.engine = engine
    pool.id = idx
    pool.ref.gen = word("gen", gen)
    if nonce is not None and nonce != engine.att.arena.geometry["nonce"]:
        raise PoolNotFound(f"pool {name!r} is of an arena {engine.name!r} that is gone; the one of that name now is another")
    if word("idx", idx) >= pools_high(cython.address(engine.att.w)):
        raise PoolNotFound(f"arena {engine.name!r} has no pool {idx}")
    pool.bind()
    flags: u64 = pool.ref.record.flags
    pool.name = pool.ref.record.name[:POOL_NAME_BYTES].rstrip(b"\0").decode("utf-8", "replace")
    pool.pam = pool.ref.record.pam[:PAM_NAME_BYTES].rstrip(b"\0").decode("utf-8", "replace")
    pool.persistent = flags & POOL_PERSISTENT != 0
    pool.shared = flags & POOL_SHARED != 0
    pool.client = pool.ref.record.client
    # A number that is none of these is treated like CLOCK (evict.py).
    pool.policy = {number: name for name, number in POLICIES.items()}.get(pool.ref.record.policy, "clock")
    pool.cap = pool.ref.record.cap
    pool.allow = allow_list(pool.ref.record)
    pool.exclusive = not pool.persistent and not pool.shared
    pool.page_size = engine.page_size
    pool.dedup = pool.ref.dedup = flags & POOL_DEDUP != 0
    pool.ref.seed = pool.engine.att.w.header.nonce
    pool.ref.codec = flag_of(pool.pam)
    pool.ref.packed_max = min(pool.ref.page_size - 1, 0xFFFF) if pool.ref.codec else 0
    # One that is named, in a pickle, may have been destroyed on the way, and nobody have its slot yet: its calls say so.
    live: cython.bint = is_live(pool.ref.record, pool.ref.gen)
    if not live and (name is None or load(cython.address(pool.ref.record.gen)) != pool.ref.gen) or name not in (None, pool.name):
        raise PoolDestroyed(f"pool {name or pool.name!r} was destroyed")
    return pool


@cython.cclass
class Pool:
    """A pool of pages, addressed by (oid, index). Made by Engine.new_pool and Engine.pool.

    oid: a triple of ints from 0 to 2**64-1, or what engine.oid returns. index: an int from 0 to 2**64-1.
    Every call may raise TypeError and ValueError (naming the argument), PoolDestroyed, ArenaCorrupted, and TmemError
    when the engine is closed, or the package of the pool's codec is not installed. Page lengths are of pages as they were put, whatever
    the pool stores. A get that takes away a page which turns out not to decompress (ArenaCorrupted) has taken it away.
    Attributes tell what it was made with: client, pam, policy, cap, allow (a tuple of client ids, or None), and dedup.
    """

    def bind(self):
        """Point at this attachment's view of the pool."""
        w: cython.pointer(Worker) = cython.address(self.engine.att.w)
        idx: u64 = self.id
        assert_open_to(self.engine, pool_at(w, idx), self.ref.gen)
        back_ledgers(w)         # here, since a forked child comes by with a slot of its own
        if not has_ledger(w, idx):
            self.engine.no_memory("this worker's counters")
        self.ref.record = pool_at(w, idx)
        self.ref.buckets = buckets_at(w, idx)
        self.ref.mask = cython.cast(u64, self.engine.buckets) - 1
        self.ref.idx = idx
        self.ref.ledger = ledger_at(w, w.slot_idx, idx)
        self.ref.page_size = self.engine.page_size
        self.ref.evictable, self.ref.hits_max = is_evictable(self.ref.record), hits_worth(self.ref.record)
        if self.ref.asides == cython.NULL and lookaside.new_table(cython.address(self.ref), max(ASIDES_MIN, self.ref.mask + 1)) != OK:
            raise MemoryError
        self.epoch = self.engine.att.epoch
        return 0

    def __dealloc__(self):
        lookaside.forget(cython.address(self.ref))

    def enter(self):
        """Begin an operation: this thread's turn, this pool's back end."""
        self.engine.att.enter()
        if self.epoch != self.engine.att.epoch or self.ops is None:
            try:
                self.bind()
                self.ops = registry.pam(self.pam)
            except BaseException:
                self.engine.att.leave()
                raise
        return 0

    def pause(self):
        """Wait for the lock that was BUSY."""
        self.engine.att.pause()
        if self.epoch != self.engine.att.epoch:
            self.bind()         # a signal handler has forked, and this is the child, with a slot of its own
        return 0

    def let_others(self, c, wait):
        """In the middle of a put, wait for the lock that was BUSY, or only let signal handlers and other threads have their turn. If they
        used the engine, or this is a forked child afterwards, what was staged is not there any more."""
        turn: u64 = self.engine.att.kin.turn.count
        epoch: cython.int = self.epoch
        if wait:
            self.pause()
        else:
            self.engine.att.breathe()
        if self.engine.att.kin.turn.count != turn + 1 or self.engine.att.epoch != epoch:
            c.staged = 0
        return 0

    def leave(self):
        """End an operation: what a back end raised in it is raised here."""
        self.engine.att.leave()
        if unlikely(self.engine.att.w.unbacked):
            self.engine.att.enter()     # raises what bars it: zeroes may have been read
        if self.ops.foreign or registry.host.careful:
            self.leave_python()
        return 0

    def leave_python(self):
        """The rest of `leave` where something in Python took part."""
        error, self.ops.error = self.ops.error, None
        if self.engine.att.kin.apart == COPY:
            error = TmemError(f"pool {self.name!r}: this process was forked in the middle of the call; the parent goes on with it")
        if error is not None:
            self.ops.failed = False
        if registry.host.error is not None:
            if error is None:
                error = registry.host.error
            registry.host.error = None
        self.ops.result = None
        if error is not None:
            raise error
        return 0

    def fail(self, status):
        """Raise what a status other than a plain answer means."""
        if status == DESTROYED:
            raise PoolDestroyed(f"pool {self.name!r} was destroyed")
        self.engine.raise_status(status)
        return 0

    # --- codecs, with no lock held and out of this thread's turn ------------------------------------------

    def packer(self):
        """The back end of a pool that compresses. TmemError if its package is not installed here."""
        return cython.cast(PackedPam, registry.pam(self.pam), typecheck=True)

    def packed(self, c):
        """Compress the pages of a put, as c.packs says then, and find their digests. What must be kept until the put is done."""
        kept: list = self.packer().pack(cython.address(self.ref), c) if self.ref.codec != 0 else []
        if self.ref.dedup:
            kept.append(digest(cython.address(self.ref), c))
        return kept

    def unpacked(self, c, data):
        """A page from its bytes as they were stored. ArenaCorrupted if they are none."""
        page: bytes = self.packer().unpack(c.shape, data)
        if page is None:
            raise ArenaCorrupted(f"arena {self.engine.name!r}: a page of pool {self.name!r} does not decompress")
        return page

    # --- put ---------------------------------------------------------------------------------------------

    def put_pages(self, c):
        if self.ref.codec == 0 and not self.ref.dedup:
            return self.put_call(c)
        kept: list = self.packed(c)
        done: cython.bint = self.put_call(c)
        kept.clear()        # not before: c.packs leads into it
        return done

    def put_call(self, c):
        self.enter()
        try:
            return self.put_inside(c)
        finally:
            self.leave()

    def put_inside(self, c):
        """Put the pages of a call, between enter and leave. True, or False: refused."""
        status: cython.int
        w: cython.pointer(Worker) = cython.address(self.engine.att.w)
        p: cython.pointer(PoolRef) = cython.address(self.ref)
        pam: PamOps = self.ops
        short: cython.bint = not (registry.host.careful or pam.foreign or c.length >= LONG_BYTES)
        c.nodes_wanted = 2 + c.count // 64
        c.salvaged = False
        if registry.host.careful or pam.foreign:
            c.nodes_wanted = NODES_MAX + c.count // 64 + 1
        elif c.length >= LONG_BYTES:
            with cython.nogil:
                core.stage(w, p, c, pam)
            # The longest part is over, and nothing has changed yet: what a signal handler raises now leaves the put undone.
            self.let_others(c, False)
        while True:
            # Every time: another thread, or a signal handler, may have had a turn and shrunk the journal.
            if c.count > 1 and reserve(w, 1024 + c.count * STORES_A_PAGE) == NOSPACE:
                self.engine.no_memory("the journal of so many pages")
            status = overwrite(w, p, c, registry.host) if short else AGAIN
            if status == AGAIN:
                short = False
                status = core.put(w, p, c, pam, registry.host)
            if status == BUSY:
                self.let_others(c, True)
            elif status == NOMEM or (status == REFUSED and (c.refuse or c.exhausted) and not c.salvaged):
                c.salvaged = True
                c.staged = 0
                if not self.salvage() and status == REFUSED:
                    break           # a foreign back end was told, and would be told the same again
            else:
                break
        if c.count > 1:
            shrink(w)
            self.engine.settle_quietly()
        if status == OK:
            p.ledger[PUTS_OK] += 1
            if c.duplicate:
                p.ledger[PUTS_DUPLICATE] += 1
            if p.evictable and (not c.duplicate or c.count > 1) and is_capped(w, p.idx):
                self.engine.keep_caps(p.idx)
        elif status == REFUSED:
            p.ledger[PUTS_REFUSED] += 1
        else:
            self.fail(status)
        return status == OK

    def salvage(self):
        """Memory is short: give back what this worker has retired, and what the dead had, or else what other workers have retired or keep in
        their magazines. True if there was any."""
        w: cython.pointer(Worker) = cython.address(self.engine.att.w)
        idx: u64
        found: cython.bint = w.slot.client[ROOT_RETIRED] != 0 or w.slot.client[ROOT_PENDING] != 0
        found = self.engine.att.recover_quick() > 0 or found
        if not found:
            for idx in range(slots_used(w)):
                if idx != w.slot_idx:
                    found = take_garbage(w, idx) == OK or found
        if found:
            self.engine.settle()
        return found

    def put_buffer(self, c, data):
        view: Py_buffer
        if type(data) is bytes:
            c.data = PyBytes_AS_STRING(data)
            c.length = PyBytes_GET_SIZE(data)
            if not 1 <= c.length <= self.ref.page_size:
                raise wrong_length("data", self.ref.page_size, c.length)
            return self.put_pages(c)
        buffer_of("data", data, cython.address(view), PyBUF_SIMPLE)
        try:
            c.data = cython.cast(cython.p_char, view.buf)
            c.length = view.len
            if not 1 <= c.length <= self.ref.page_size:
                raise wrong_length("data", self.ref.page_size, c.length)
            return self.put_pages(c)
        finally:
            PyBuffer_Release(cython.address(view))

    def put(self, oid, index, data):
        """Put a page: a copy of `data`, 1 to page_size bytes. True, or False: refused, and no page is under the handle."""
        c: Call
        handle(cython.address(c), oid, index)
        return self.put_buffer(cython.address(c), data)

    def put_range_call(self, c, buffer):
        view: Py_buffer
        buffer_of("buffer", buffer, cython.address(view), PyBUF_SIMPLE)
        try:
            c.data = cython.cast(cython.p_char, view.buf)
            c.length = view.len
            c.count = (c.length + self.ref.page_size - 1) // self.ref.page_size
            if not 1 <= c.count <= RANGE_MAX:
                raise ValueError(f"buffer: 1 to {RANGE_MAX} pages of {self.page_size} bytes, not {c.length} bytes")
            if c.index + (c.count - 1) < c.index:
                raise ValueError(f"index: {c.index} plus {c.count} pages passes 2**64")
            return self.put_pages(c)
        finally:
            PyBuffer_Release(cython.address(view))

    def put_range(self, oid, index, buffer):
        """Put consecutive pages from `index` on, cut from `buffer` (the last may be shorter): all of them, at one moment.

        True, or False: refused, and all handles of the range are empty. 1 to 16384 pages. TmemError when the file system has
        no memory left for the journal of a long range: then nothing has changed.
        """
        c: Call
        handle(cython.address(c), oid, index)
        return self.put_range_call(cython.address(c), buffer)

    # --- get ---------------------------------------------------------------------------------------------

    def get_call(self, c, free):
        remove: cython.bint = self.exclusive if free is None else free_flag(free)
        result: bytes = None
        self.enter()
        try:
            result = self.get_inside(c, remove)
        finally:
            self.leave()
        return self.unpacked(c, result) if result is not None and packed_in(c.shape) != 0 else result

    def get_inside(self, c, remove):
        """Get a page, between enter and leave: its bytes as they are stored, of which c.shape tells; None on a miss."""
        status: cython.int
        peeks: cython.int = 0
        w: cython.pointer(Worker) = cython.address(self.engine.att.w)
        p: cython.pointer(PoolRef) = cython.address(self.ref)
        foreign: cython.bint = self.ops.foreign
        result: bytes = None
        while True:
            if not foreign and peeks < PEEKS:
                peeks += 1
                status = fetch.peek(w, p, c)
                if status == OK:
                    if c.room != 0 and c.length > c.room:
                        if fetch.peek_valid(w, p, c):
                            status = SIZE
                            break
                        continue
                    if result is None or PyBytes_GET_SIZE(result) != cython.cast(cython.Py_ssize_t, c.stored):
                        result = PyBytes_FromStringAndSize(cython.NULL, c.stored)
                    if not remove:
                        copy_page(w, PyBytes_AS_STRING(result), c.shape, c.found, c.stored)
                        if fetch.peek_valid(w, p, c):
                            break
                        continue
                elif status != BUSY:
                    break
            c.stored = 0 if result is None else PyBytes_GET_SIZE(result)
            status = fetch.fetch(w, p, c,
                                cython.NULL if result is None else PyBytes_AS_STRING(result), remove,
                                self.ops, registry.host)
            if status == AGAIN:
                status = fetch.fetch_remote(w, p, c, remove, self.ops, registry.host)
                if status == AGAIN:
                    continue
            if status == SIZE:
                if c.room != 0 and c.length > c.room:
                    break
                result = PyBytes_FromStringAndSize(cython.NULL, c.stored)
            elif status == BUSY:
                self.pause()
            else:
                break
        if status == OK:
            p.ledger[GETS_HIT] += 1
            return self.ops.result if foreign else result
        if status == MISS or status == FAILED:
            p.ledger[GETS_MISS] += 1
            return None
        if status == SIZE:
            raise ValueError(f"buffer: at least as long as the page, {c.length} bytes, not {c.room}")
        self.fail(status)

    def get(self, oid, index, free=None):
        """A copy of the page, or None. free: True: the page leaves; False: it stays; None: it leaves in a private
        ephemeral pool and stays in any other."""
        c: Call
        handle(cython.address(c), oid, index)
        return self.get_call(cython.address(c), free)

    def get_into_call(self, c, buffer, free):
        view: Py_buffer
        buffer_of("buffer", buffer, cython.address(view), PyBUF_WRITABLE)
        try:
            return self.copy_into(c, view.buf, view.len, free)
        finally:
            PyBuffer_Release(cython.address(view))

    def copy_into(self, c, out, room, free):
        status: cython.int
        peeks: cython.int = 0
        remove: cython.bint = self.exclusive if free is None else free_flag(free)
        w: cython.pointer(Worker) = cython.address(self.engine.att.w)
        data: bytes
        length: cython.Py_ssize_t
        c.room = max(room, 1)
        if self.ref.codec != 0:
            data = self.get_call(c, free if room else False)
            if data is None:
                return -1
            if not room:
                raise ValueError(f"buffer: at least as long as the page, {c.length} bytes, not 0")
            memcpy(out, PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data))
            return PyBytes_GET_SIZE(data)
        self.enter()
        try:
            c.stored = 0
            while True:
                if not self.ops.foreign and peeks < PEEKS:
                    peeks += 1
                    status = fetch.peek(w, cython.address(self.ref), c)
                    if status != OK and status != BUSY:
                        break
                    if status == OK and cython.cast(cython.Py_ssize_t, c.length) > room:
                        status = SIZE
                        if fetch.peek_valid(w, cython.address(self.ref), c):
                            break
                        c.stored = 0
                        continue
                    if status == OK and not remove:
                        copy_page(w, cython.cast(cython.p_char, out), c.shape, c.found, c.stored)
                        if fetch.peek_valid(w, cython.address(self.ref), c):
                            break
                        continue
                    if status == BUSY:
                        c.stored = 0
                status = fetch.fetch(w, cython.address(self.ref), c, cython.cast(cython.p_char, out), remove,
                                    self.ops, registry.host)
                if status == AGAIN:
                    status = fetch.fetch_remote(w, cython.address(self.ref), c, remove, self.ops, registry.host)
                    if status == AGAIN:
                        continue
                if status == SIZE:
                    if cython.cast(cython.Py_ssize_t, c.length) > room:
                        break
                elif status == BUSY:
                    self.pause()
                else:
                    break
            if status == OK and self.ops.foreign:
                data = self.ops.result
                length = PyBytes_GET_SIZE(data)
                c.length = length
                if length > room:
                    status = SIZE
                else:
                    memcpy(out, PyBytes_AS_STRING(data), length)
            if status == OK:
                self.ref.ledger[GETS_HIT] += 1
                return c.length
            if status == SIZE:
                raise ValueError(f"buffer: at least as long as the page, {c.length} bytes, not {room}")
            if status == MISS or status == FAILED:
                self.ref.ledger[GETS_MISS] += 1
                return -1
            self.fail(status)
        finally:
            self.leave()

    def get_into(self, oid, index, buffer, free=None):
        """Copy the page into a writable buffer at least as long as the page: its length, or -1 on a miss. free as in get.

        The copy is made without a lock and then confirmed: what lies behind the page in the buffer, and all of it
        after a miss, is undefined."""
        c: Call
        handle(cython.address(c), oid, index)
        return self.get_into_call(cython.address(c), buffer, free)

    def get_range(self, oid, index, count, free=None):
        """The pages from `index` on, joined, as they were at one moment; None if one is missing (and then none leaves)."""
        c: Call
        handle(cython.address(c), oid, index)
        return ranges.get_range(self, cython.address(c), count, free)

    def get_range_into(self, oid, index, count, buffer, free=None):
        """Copy the pages of a range, joined, into a writable buffer: how many bytes, or -1 if one is missing. free as in get_range.

        ValueError if the buffer is shorter than that; then none leaves. What lies behind the bytes in the buffer, and all of it
        after a miss or an error, is undefined. An array of NumPy is a buffer if it is C-contiguous."""
        c: Call
        handle(cython.address(c), oid, index)
        return ranges.get_range_into(self, cython.address(c), count, buffer, free)

    def view(self, oid, index, count=None):
        """The page where it lies, without a copy: a View, to be entered, which gives a read-only memoryview; None on a miss.

        With a count, 1 to 4096: a tuple of memoryviews, one a page, as the pages were at one moment; None if one is missing. Until the View
        is left, and what was made of the memoryviews is gone too, the page is not evicted, and its bytes stay as they are, also if
        somebody puts another page, flushes this one or destroys the pool. No page leaves its pool by being viewed. What does not
        lie in the arena as it was put (compressed, one word over and over, of a back end in Python; there, page by page) comes as a copy.
        Raises TooMuchPinned: see max_pinned of engine.create."""
        c: Call
        handle(cython.address(c), oid, index)
        return views.view(self, cython.address(c), count)

    # --- batches -----------------------------------------------------------------------------------------

    def put_many(self, handles, pages):
        """Put a page under each handle, a pair (oid, index): for each True or False as `put` answers, in a list.

        Each page is put by itself, in this order: others see some of them before the rest, and a refusal does not hold up the
        others. All arguments are looked at first: a TypeError or ValueError, which names the place, has changed nothing. An exception
        that comes later (of a signal handler, of a back end, PoolDestroyed) leaves the pages up to there put."""
        return batch.put_many(self, batch.places_of(handles), "handles", pages)

    def get_many(self, handles, free=None):
        """The page under each handle, a pair (oid, index), or None, in a list. free as in get.

        Each page is got by itself, in this order. All arguments are looked at first. Where pages leave, an exception that comes
        later (of a signal handler, of a back end) takes the pages along that have left by then; free=False keeps them."""
        return batch.get_many(self, batch.places_of(handles), free)

    # --- flush -------------------------------------------------------------------------------------------

    def flush_page_call(self, c):
        status: cython.int
        self.enter()
        try:
            while True:
                status = core.flush_page(cython.address(self.engine.att.w), cython.address(self.ref), c, self.ops,
                                         registry.host)
                if status != BUSY:
                    break
                self.pause()
            if status == OK:
                self.ref.ledger[FLUSHES] += 1
            elif status != MISS:
                self.fail(status)
        finally:
            self.leave()
        return status == OK

    def flush_page(self, oid, index):
        """Drop a page. True if there was one."""
        c: Call
        handle(cython.address(c), oid, index)
        return self.flush_page_call(cython.address(c))

    def flush_object_call(self, c):
        status: cython.int
        self.enter()
        try:
            while True:
                status = core.flush_object(cython.address(self.engine.att.w), cython.address(self.ref), c, registry.host)
                if status != BUSY:
                    break
                self.pause()
            if status == OK:
                self.ref.ledger[FLUSHES] += 1
                self.engine.settle_quietly()
            elif status != MISS:
                self.fail(status)
        finally:
            self.leave()
        return status == OK

    def flush_object(self, oid):
        """Drop all pages of an object, at one moment. True if there was one."""
        c: Call
        handle(cython.address(c), oid, 0)
        return self.flush_object_call(cython.address(c))

    def destroy(self):
        """Drop the pool and all its pages. Calls on it, here and elsewhere, raise PoolDestroyed from now on.

        Raises AccessDenied if the engine acts for a client to whom the pool does not belong."""
        status: cython.int
        w: cython.pointer(Worker) = cython.address(self.engine.att.w)
        owner_only(self.engine, self.client, f"destroy pool {self.name!r}")
        self.enter()
        try:
            while True:
                status = core.begin_destroy(w, cython.address(self.ref))
                if status != BUSY:
                    break
                self.pause()
            if status != OK:
                self.fail(status)
            self.drop_semaphores()
            self.engine.settle_quietly()
        finally:
            self.leave()

    def drop_semaphores(self):
        """Remove the semaphores of a destroyed pool's locks. The lock words stay locks; a late sleeper makes a new one."""
        i: u64
        for i in range(self.ref.mask + 1):
            self.engine.att.semaphores.retire(cython.address(self.engine.att.w), cython.address(self.ref.buckets[i].lock))
        return 0

    # --- looking -----------------------------------------------------------------------------------------

    def describe_call(self, c, out):
        status: cython.int
        self.enter()
        try:
            while True:
                status = fetch.describe(cython.address(self.engine.att.w), cython.address(self.ref), c, out)
                if status != BUSY:
                    break
                self.pause()
            if status != OK and status != MISS:
                self.fail(status)
        finally:
            self.leave()
        return status

    def object_info_call(self, c):
        out: u64[5]
        return None if self.describe_call(c, out) == MISS else (out[0], out[1], out[2])

    def object_info(self, oid):
        """(pampd_count, objnode_count, height) of an object: pages, tree nodes, tree levels; None if there is none."""
        c: Call
        handle(cython.address(c), oid, 0)
        return self.object_info_call(cython.address(c))

    def descriptor_call(self, c):
        out: u64[5]
        return None if self.describe_call(c, out) == MISS or out[4] == 0 else (out[3], out[4])

    def descriptor(self, oid, index):
        """(pampd, generation) of a page, or None: what `replace` wants. In a raw pool pampd is an arena offset."""
        c: Call
        handle(cython.address(c), oid, index)
        return self.descriptor_call(cython.address(c))

    def replace_call(self, c, pampd, generation):
        status: cython.int
        token: u64 = word("pampd", pampd)
        gen: u64 = word("generation", generation)
        self.enter()
        try:
            if not self.ops.foreign:
                raise TmemError(f"pool {self.name!r}: pam {self.pam!r} keeps its pages in the arena; nothing to replace")
            while True:
                status = core.replace(cython.address(self.engine.att.w), cython.address(self.ref), c, token, gen, self.ops)
                if status != BUSY:
                    break
                self.pause()
            if status != OK and status != MISS and status != REFUSED:
                self.fail(status)
        finally:
            self.leave()
        return status == OK

    def replace(self, oid, index, pampd, generation):
        """Let a page be `pampd` from now on, if it is still of this generation and its back end agrees. True if so."""
        c: Call
        handle(cython.address(c), oid, index)
        return self.replace_call(cython.address(c), pampd, generation)

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
        from engine.handle import open_object  # here, since that file is above this one
        return open_object(self, oid)

    def __reduce__(self):
        return (open_pool, (self.engine, self.id, self.ref.gen, self.name, self.engine.att.arena.geometry["nonce"]))

    def __repr__(self):
        kind = ("persistent" if self.persistent else "ephemeral") + (" shared" if self.shared else " private")
        return f"<tmem pool {self.name!r} ({kind}) of arena {self.engine.name!r}>"


seal(Pool, "Engine.new_pool and Engine.pool")

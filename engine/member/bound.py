"""Owns Bound: a pool as this attachment sees it, and each call on it once: arguments have been
read, and bools, bytes and exceptions come out.

Each call is bracketed by the attachment's enter and leave; a verb that answers BUSY is called again
after a pause, with nothing held, in which signal handlers run. Below this file nothing raises.
"""
import cython
import cython.cimports.engine.tree.lookaside as lookaside
import cython.cimports.engine.verbs.away as away
import cython.cimports.engine.verbs.ends as ends
import cython.cimports.engine.verbs.fetch as fetch
import cython.cimports.engine.verbs.flush as flush
import cython.cimports.engine.verbs.put as put
from cython.cimports.cpython.buffer import (
    Py_buffer,
    PyBUF_SIMPLE,
    PyBUF_WRITABLE,
    PyBuffer_Release,
)
from cython.cimports.cpython.bytes import PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cython.cimports.engine.eviction.admit import is_capped
from cython.cimports.engine.eviction.policies import Policy, policy_of
from cython.cimports.engine.far.names import SEAL_BYTES, name_of, unsealed
from cython.cimports.engine.layout.call import (
    AGAIN,
    ASIDES_MIN,
    AWAY,
    CONFLICT,
    DESTROYED,
    FAILED,
    FAULT_POLICY,
    MISS,
    RANGE_MAX,
    REFUSED,
    SIZE,
    TAKEN,
    Packed,
    Value,
)
from cython.cimports.engine.layout.regions import (
    buckets_at,
    copy_page,
    far_at,
    has_far,
    has_queues,
    is_evictable,
    is_live,
    ledger_at,
    pampd_at,
    pool_at,
)
from cython.cimports.engine.layout.structs import (
    FLUSHES,
    GETS_HIT,
    GETS_MISS,
    NODES_MAX,
    PAGE_MIN,
    PUTS_DUPLICATE,
    PUTS_OK,
    PUTS_REFUSED,
    FarRecord,
)
from cython.cimports.engine.layout.tail import is_key, tail_before
from cython.cimports.engine.layout.words import (
    LOST,
    copied_of,
    has_any_tail,
    has_hidden_tail,
    is_far,
    is_wrapped,
    packed_in,
    pool_mark,
    shape_of,
)
from cython.cimports.engine.member.access import assert_open_to
from cython.cimports.engine.member.arguments import aim, buffer_of, free_flag, refuse_wrap, word, wrong_length
from cython.cimports.engine.member.member import EMPTIED_MIN
from cython.cimports.engine.member.registry import registry
from cython.cimports.engine.pages.pam.packed import PackedPam, digest
from cython.cimports.engine.pages.reclaim import back_ledgers, has_ledger
from cython.cimports.engine.verbs.away import Glimpse, drop_away, survey, take_surveyed
from cython.cimports.engine.verbs.fetch import LONG_BYTES
from cython.cimports.engine.verbs.home import HOME_MAX, HOME_STORES, come_home
from cython.cimports.engine.verbs.overwrite import overwrite
from cython.cimports.engine.verbs.section import REAP_BUDGET, finish
from cython.cimports.libc.string import memcpy, memset
from cython.cimports.shm.atomics import add, load, unlikely
from cython.cimports.shm.journal import reserve, shrink
from cython.cimports.shm.kernel.process import COPY
from cython.cimports.shm.layout import BUSY, CORRUPT, EXTENT_MAX, FAULT_SENTINEL, NOMEM, NOSPACE, OK, Worker, u64
from cython.cimports.shm.segments import limit_of
from engine.errors import ArenaCorrupted, FarLost, FarUnavailable, PoolDestroyed, TmemError
from engine.far.tiers import FAILED as NO_ANSWER
from engine.member.stats import fixed_bytes


@cython.cfunc
@cython.exceptval(check=False)
def _copy_range(w: cython.pointer(Worker), p: cython.pointer(PoolRef), c: cython.pointer(Call)) -> cython.int:
    """peek_range, with the GIL released if there is much to copy."""
    status: cython.int
    if c.did.have < LONG_BYTES:
        return fetch.peek_range(w, p, c, True)
    with cython.nogil:
        status = fetch.peek_range(w, p, c, True)
    return status


@cython.cfunc
@cython.exceptval(check=False)
def _copy_page(w: cython.pointer(Worker), c: cython.pointer(Call)) -> cython.void:
    """Copy the page that was found, with the GIL released if it is long."""
    if c.found.stored < LONG_BYTES:
        copy_page(w, c.did.out, c.found.shape, c.found.data, c.found.stored)
        return
    with cython.nogil:
        copy_page(w, c.did.out, c.found.shape, c.found.data, c.found.stored)


@cython.cfunc
@cython.exceptval(check=False)
def note_unhad(c: cython.pointer(Call)) -> cython.void:
    """Let who gets a value know that there is one, whose bytes were not had."""
    if c.ask.value != cython.NULL:
        c.ask.value.unhad = True


def copied(data, out, room):
    """Copy what a get has found to where there is room for so many bytes: how many it was, or -1 on
    a miss."""
    if data is None:
        return -1
    if PyBytes_GET_SIZE(data) > room:
        raise ValueError(f"buffer: at least as long as the page, {PyBytes_GET_SIZE(data)} bytes, not {room}")
    memcpy(out, PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data))
    return PyBytes_GET_SIZE(data)


@cython.cclass
class Bound:
    """A pool, bound to an attachment. A blank one, as Python can make it, has nothing that Python
    can call."""

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
        self.ref.page_size = self.ref.record.page_size
        self.ref.page_max = EXTENT_MAX
        if not PAGE_MIN <= self.ref.page_size <= EXTENT_MAX:
            w.fault = FAULT_SENTINEL
            self.engine.raise_status(CORRUPT)
        self.ref.evictable = is_evictable(self.ref.record)
        self.ref.queued = has_queues(self.ref.record)
        self.ref.hits_max = self.policy_row().hits if self.ref.queued else 0
        if (
            self.ref.asides == cython.NULL
            and lookaside.new_table(cython.address(self.ref), max(ASIDES_MIN, self.ref.mask + 1)) != OK
        ):
            raise MemoryError
        self.epoch = self.engine.att.epoch
        return 0

    def policy_row(self):
        """What the pool's policy is. ArenaCorrupted if there is none of that number."""
        row: cython.pointer(Policy) = policy_of(self.ref.record.policy)
        if row == cython.NULL:
            self.engine.att.w.fault = FAULT_POLICY
            self.engine.raise_status(CORRUPT)
        return row

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
        try:
            self.engine.att.pause()
        except BaseException:
            # What a signal handler has raised: this thread has its turn, unless the engine is
            # barred.
            if self.epoch == self.engine.att.epoch and not self.engine.att.is_barred():
                ends.give_up(cython.address(self.engine.att.w))
            raise
        if self.epoch != self.engine.att.epoch:
            self.bind()         # a signal handler has forked, and this is the child, with a slot of its own
        return 0

    def let_others(self, c, wait):
        """In the middle of a put, wait for the lock that was BUSY, or only let signal handlers and
        other threads have their turn. If they used the engine, or this is a forked child
        afterwards, what was staged is not there any more."""
        turn: u64 = self.engine.att.kin.turn.count
        epoch: cython.int = self.epoch
        if wait:
            self.pause()
        else:
            self.engine.att.breathe()
        if self.engine.att.kin.turn.count != turn + 1 or self.engine.att.epoch != epoch:
            c.did.staged = 0
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
        error = self.ops.take_error()
        if self.engine.att.kin.apart == COPY:
            error = TmemError(
                f"pool {self.name!r}: this process was forked in the middle of the call; the parent goes on with it"
            )
        told = registry.host.take_error()
        if error is None:
            error = told
        self.ops.take_result()
        if error is not None:
            raise error
        return 0

    def until_free(self, c, verb):
        """Call a verb, and again after a pause as long as a lock is in its way: its status."""
        status: cython.int
        while True:
            status = verb(cython.address(self.engine.att.w), cython.address(self.ref), c, self.ops, registry.host)
            if status != BUSY:
                return status
            self.pause()

    def attempt(self, c, verb):
        """The same of a verb that answers OK, MISS or REFUSED; any other status is raised."""
        status: cython.int = self.until_free(c, verb)
        if status != OK and status != MISS and status != REFUSED:
            self.fail(status)
        return status

    def fail(self, status):
        """Raise what a status other than a plain answer means."""
        if status == DESTROYED:
            raise PoolDestroyed(f"pool {self.name!r} was destroyed")
        self.engine.raise_status(status)
        return 0

    # --- codecs, with no lock held and out of this thread's turn ----------------------------------

    def packer(self):
        """The back end of a pool that compresses. TmemError if its package is not installed
        here."""
        return cython.cast(PackedPam, registry.pam(self.pam), typecheck=True)

    def packed(self, c):
        """Compress the pages of a put, as c.ask.packs says then, and find their digests. What must
        be kept until the put is done."""
        kept: list = []
        if self.ref.codec != 0:
            kept = self.packer().pack(cython.address(self.engine.att.w), cython.address(self.ref), c)
        if self.ref.dedup:
            kept.append(digest(cython.address(self.ref), c))
        return kept

    def unpacked(self, c, data):
        """A page from its bytes as they were stored, and c.found.shape. ArenaCorrupted if they are
        none; None if it is a value of another key than c.ask.value asks for."""
        page: bytes = data if packed_in(c.found.shape) == 0 else None
        tail: u64 = 0
        v: cython.pointer(Value) = c.ask.value
        if page is None and self.ref.codec != 0:
            page = self.packer().unpack(c.found.shape, data)
        if page is None:
            raise ArenaCorrupted(f"arena {self.engine.name!r}: a page of pool {self.name!r} does not decompress")
        length: u64 = PyBytes_GET_SIZE(page)
        if has_any_tail(c.found.shape):
            tail = tail_before(v, PyBytes_AS_STRING(page) + length, length)
            if tail > length:
                raise ArenaCorrupted(f"arena {self.engine.name!r}: a value of pool {self.name!r} has no end")
        if v != cython.NULL:
            if v.key != cython.NULL and not is_key(v, PyBytes_AS_STRING(page) + length - tail):
                return None
            if v.with_tail:
                return page
        return page[: length - tail] if tail != 0 else page

    # --- put --------------------------------------------------------------------------------------

    def put_pages(self, c):
        if self.ref.codec == 0 and not self.ref.dedup:
            return self.put_call(c)
        kept: list = self.packed(c)
        done: cython.bint = self.put_call(c)
        kept.clear()        # not before: c.ask.packs leads into it
        return done

    def put_call(self, c):
        self.enter()
        try:
            return self.put_inside(c)
        finally:
            self.leave()

    def room_for(self, length: u64) -> u64:
        """Bytes that the pages of a range of so many may take: the capacity, less what persistent
        pages take; which is not asked for a range that is a small part of it."""
        w: cython.pointer(Worker) = cython.address(self.engine.att.w)
        capacity: u64 = limit_of(w) << w.seg_shift
        fixed: u64 = 0
        if length >= capacity // 64:
            fixed = min(fixed_bytes(self.engine), capacity)
        return capacity - fixed

    def put_inside(self, c):
        """Put the pages of a call, between enter and leave. True, or False: refused."""
        status: cython.int
        w: cython.pointer(Worker) = cython.address(self.engine.att.w)
        p: cython.pointer(PoolRef) = cython.address(self.ref)
        pam: PamOps = self.ops
        written: cython.bint = c.did.staged != 0        # it was filled in place, and is staged already
        short: cython.bint = not (registry.host.careful or pam.foreign or c.ask.length >= SHORT_BYTES or written)
        wide: cython.bint = c.ask.count > 1 or c.ask.length >= LONG_BYTES
        if wide:
            c.ask.room = self.room_for(c.ask.length)
        c.did.nodes_wanted = 2 + c.ask.count // 64
        c.did.salvaged = False
        if registry.host.careful or pam.foreign:
            c.did.nodes_wanted = NODES_MAX + c.ask.count // 64 + 1
        elif c.ask.length >= SHORT_BYTES and not written:
            with cython.nogil:
                put.stage(w, p, c, pam)
            # The longest part is over, and nothing has changed yet: what a signal handler raises
            # now leaves the put undone.
            self.let_others(c, False)
        while True:
            # Every time: another thread, or a signal handler, may have had a turn and shrunk the
            # journal.
            if c.ask.count > 1 and reserve(w, 1024 + c.ask.count * STORES_A_PAGE) == NOSPACE:
                self.engine.no_memory("the journal of so many pages")
            status = AGAIN
            if short and c.ask.length < LONG_BYTES:
                status = overwrite(w, p, c, registry.host)
            elif short:
                with cython.nogil:
                    status = overwrite(w, p, c, registry.host)
                    if status == AGAIN:
                        put.stage(w, p, c, pam)
            if status == AGAIN:
                short = False
                status = put.put(w, p, c, pam, registry.host)
            if status == BUSY:
                self.let_others(c, True)
            elif status == NOMEM or (status == REFUSED and (c.did.refuse or c.did.exhausted) and not c.did.salvaged):
                c.did.salvaged = True
                c.did.staged = 0
                if not self.engine.salvage() and status == REFUSED:
                    break           # a foreign back end was told, and would be told the same again
                if wide:
                    c.ask.room = self.room_for(c.ask.length)        # what stays may be less by now
            else:
                break
        if c.ask.count > 1:
            shrink(w)
            self.engine.settle_quietly()
        if status == OK:
            p.ledger[PUTS_OK] += 1
            if c.did.duplicate:
                p.ledger[PUTS_DUPLICATE] += 1
            if p.evictable and (not c.did.duplicate or c.did.grew or c.ask.count > 1) and is_capped(w, p.idx):
                self.attempt(c, ends.keep_caps)
        elif status == REFUSED:
            p.ledger[PUTS_REFUSED] += 1
        elif status == CONFLICT:
            c.ask.value.conflict = True
        else:
            self.fail(status)
        return status == OK

    def put_buffer(self, c, data):
        view: Py_buffer
        if type(data) is bytes:
            c.ask.data = PyBytes_AS_STRING(data)
            c.ask.length = PyBytes_GET_SIZE(data)
            if c.ask.length > self.ref.page_size:
                raise wrong_length("data", 0, self.ref.page_size, c.ask.length)
            return self.put_pages(c)
        buffer_of("data", data, cython.address(view), PyBUF_SIMPLE)
        try:
            c.ask.data = cython.cast(cython.p_char, view.buf)
            c.ask.length = view.len
            if c.ask.length > self.ref.page_size:
                raise wrong_length("data", 0, self.ref.page_size, c.ask.length)
            return self.put_pages(c)
        finally:
            PyBuffer_Release(cython.address(view))

    def put_range_call(self, c, buffer):
        view: Py_buffer
        buffer_of("buffer", buffer, cython.address(view), PyBUF_SIMPLE)
        try:
            c.ask.data = cython.cast(cython.p_char, view.buf)
            c.ask.length = view.len
            c.ask.count = (c.ask.length + self.ref.page_size - 1) // self.ref.page_size
            if not 1 <= c.ask.count <= RANGE_MAX:
                raise ValueError(f"buffer: 1 to {RANGE_MAX} pages of {self.page_size} bytes, not {c.ask.length} bytes")
            refuse_wrap(c)
            return self.put_pages(c)
        finally:
            PyBuffer_Release(cython.address(view))

    # --- get --------------------------------------------------------------------------------------

    def get_call(self, c, free):
        result: bytes = None
        c.ask.remove = self.exclusive if free is None else free_flag(free)
        self.enter()
        try:
            result = self.get_bytes(c)
            if c.ask.remove:
                self.look_at_what_is_free()
        finally:
            self.leave()
        return self.unpacked(c, result) if result is not None and is_wrapped(c.found.shape) else result

    def get_bytes(self, c):
        """Get a page, or all pages of a range as they were at one moment, between enter and leave:
        their bytes as they are stored, of which c.found.shape or c.ask.shapes tells; None on a
        miss. With c.ask.into, which has room for c.ask.room bytes, they go there, and the answer is
        b"".

        What stays is looked for without a lock, a few times; then, and what leaves, under it, and
        again after a pause as long as one is in the way."""
        status: cython.int
        w: cython.pointer(Worker) = cython.address(self.engine.att.w)
        p: cython.pointer(PoolRef) = cython.address(self.ref)
        peeks: cython.int = 0 if self.ops.foreign else PEEKS
        result: bytes = None
        while True:
            status = BUSY
            if peeks > 0:
                peeks -= 1
                status = fetch.peek_range(w, p, c, False) if c.ask.ranged else fetch.peek(w, p, c)
            if status == BUSY:
                status = self.get_locked(c)
                if status == BUSY:
                    self.pause()
                if status == BUSY or status == AGAIN:
                    continue
                if status != SIZE or c.found.length > c.ask.room:
                    if c.ask.ranged:
                        shrink(w)
                    elif status == OK and self.ops.foreign:
                        result = self.fetched(c)
                    break
            elif status != OK:
                break
            # Found, and it takes c.found.stored bytes.
            if c.did.have != c.found.stored or c.did.out == cython.NULL:
                c.did.have = c.found.stored
                if c.ask.into != cython.NULL:
                    result = b""
                    c.did.out = c.ask.into
                else:
                    result = PyBytes_FromStringAndSize(cython.NULL, c.did.have)
                    c.did.out = PyBytes_AS_STRING(result)
            if status != OK or (c.ask.remove and not c.ask.ranged):
                peeks = 0           # the rest is done under the lock
            elif c.ask.ranged:
                status = _copy_range(w, p, c)
                if status == OK and c.ask.remove:
                    c.did.copied = c.found.seq
                    peeks = 0       # they are taken out under the lock, if they are still the same
                elif status == BUSY:
                    peeks = 0
                elif status != SIZE:
                    break
            else:
                _copy_page(w, c)
                if fetch.peek_valid(w, p, c):
                    break           # else it is another by now
        if status == AWAY:
            if c.ask.batched:
                c.did.away = True
                return None
            return self.get_range_away(c) if c.ask.ranged else self.get_away(c)
        if status != OK:
            return self.got_none(c, status)
        p.ledger[GETS_HIT] += 1
        return result if result is not None else b""      # of no bytes, found at once under the lock

    def get_locked(self, c):
        """One try of a get under the lock: a status of `fetch` or `fetch_range`."""
        w: cython.pointer(Worker) = cython.address(self.engine.att.w)
        p: cython.pointer(PoolRef) = cython.address(self.ref)
        status: cython.int
        if c.ask.ranged:
            if c.ask.remove and reserve(w, 1024 + c.ask.count * STORES_A_PAGE) == NOSPACE:
                self.engine.no_memory("the journal of so many pages")
            return fetch.fetch_range(w, p, c, self.ops, registry.host)
        status = fetch.fetch(w, p, c, self.ops, registry.host)
        if status == AGAIN:
            return fetch.fetch_remote(w, p, c, self.ops, registry.host)
        if status == TAKEN:
            _copy_page(w, c)
            finish(w, REAP_BUDGET, registry.host)
            status = OK
        return status

    def got_none(self, c, status):
        """The answer of a get that got nothing: None on a miss, which is counted, or an
        exception."""
        if status == MISS or status == FAILED:
            self.ref.ledger[GETS_MISS] += 1
            return None
        if status == SIZE:
            what = "pages" if c.ask.ranged else "page"
            raise ValueError(f"buffer: at least as long as the {what}, {c.found.length} bytes, not {c.ask.room}")
        self.fail(status)

    def fetched(self, c):
        """The page that a foreign back end has given; also in c.ask.into, if that is not NULL."""
        data: bytes = self.ops.take_result()
        if c.ask.into != cython.NULL:
            c.found.length = PyBytes_GET_SIZE(data)
            if c.found.length > c.ask.room and not has_hidden_tail(c.found.shape):
                self.got_none(c, SIZE)      # another page than the one that was looked at before
            memcpy(c.ask.into, PyBytes_AS_STRING(data), c.found.length)
        return data

    # --- far pages: asked for with no lock held, and out of this thread's turn --------------------

    def far_record(self):
        """The far record of the pool. PoolDestroyed if the pool is there no more: then it is of the
        one that has taken its place. ArenaCorrupted if it has none: then no page of it is far."""
        has_one: cython.bint = has_far(self.ref.record)
        if not is_live(self.ref.record, self.ref.gen):
            self.fail(DESTROYED)
        if not has_one:
            self.engine.att.w.fault = FAULT_SENTINEL
            self.engine.raise_status(CORRUPT)
        return far_at(cython.address(self.engine.att.w), self.ref.idx)

    def ask_tier(self, names, tokens, lengths):
        """What the tier has under names, as it answers; the lists are this call's to change. Other
        threads have their turns meanwhile, and signal handlers run, so that anything may have
        happened afterwards."""
        dead_below: u64 = load(cython.address(self.far_record().words[0]))
        token: u64
        i: cython.Py_ssize_t
        dead: list = []
        tier: object = self.tier
        if tier is None:
            return [NO_ANSWER] * len(names)
        for i in range(len(tokens)):
            token = tokens[i]
            if token < dead_below:
                dead.append(i)
        for i in reversed(dead):
            del names[i], tokens[i], lengths[i]
        self.engine.att.give_up_turn()
        try:
            found: list = tier.get_many(names, tokens, lengths)
        finally:
            self.engine.att.again()
        if self.epoch != self.engine.att.epoch:
            self.bind()         # a signal handler has forked, and this is the child
        for i in dead:
            found.insert(i, None)
        return found

    def drop_gone(self, c, gen):
        """The tier has a page no more: drop it if it is still of that generation. True if so."""
        c.ask.gen = gen
        return self.attempt(c, drop_away) == OK

    def opened(self, c, index, gen, shape, value):
        """The bytes of a page from what the tier has given for it; None: they are not the
        page's."""
        head: u64[7]
        i: cython.int
        head[0] = self.engine.att.w.header.nonce
        head[1] = gen
        head[2] = pool_mark(self.ref.idx, self.ref.gen)
        for i in range(3):
            head[3 + i] = c.ask.oid[i]
        head[6] = index
        return unsealed(head, value, copied_of(shape))

    def is_none(self, c, gen, value):
        """The far page of generation `gen` was not had, for which the tier has answered `value`.
        True: that is a miss, and a page that is gone was dropped. False: it is another page by now,
        which is to be got. FarUnavailable or FarLost where pages are kept: nothing has changed.
        What the tier has answered is counted, if it is still that page."""
        record: cython.pointer(FarRecord) = self.far_record()
        lost: cython.bint = value is not NO_ANSWER
        # What is not there may have been dropped since somebody put another over it.
        if not (self.is_still(c, gen) if self.keeps_far else not lost or self.drop_gone(c, gen)):
            return False
        if lost:
            add(cython.address(record.gone), 1)
            add(cython.address(record.bad), value is not None)
        else:
            note_unhad(c)
            add(cython.address(record.failed), 1)
        if not self.keeps_far:
            return True
        note_unhad(c)
        if lost:
            self.note_lost(c, gen, True)
        self.ref.ledger[GETS_MISS] += 1
        raise self.far_error(c, lost)

    def note_lost(self, c, gen, lost):
        """Let the descriptor that was just found say whether its tier has lost the page: for those
        who check, and nobody else believes it."""
        w: cython.pointer(Worker) = cython.address(self.engine.att.w)
        noted: cython.bint = load(cython.address(pampd_at(w, c.found.page).queue)) & LOST() != 0
        w.fault = 0
        if noted != lost:
            c.ask.gen = gen
            c.ask.token = lost
            self.attempt(c, away.note_lost)
        return 0

    def far_error(self, c, lost):
        """The exception for the page of a call: FarLost, or FarUnavailable."""
        page: str = f"pool {self.name!r}: page {c.ask.index} of object ({c.ask.oid[0]}, {c.ask.oid[1]}, {c.ask.oid[2]})"
        if lost:
            return FarLost(f"{page} is lost: the far tier has it no more, or other bytes; put it anew, or flush it")
        if self.tier is None:
            return FarUnavailable(f"{page} is far, and this process cannot have the far tier: {self.untold}")
        why: str = f" ({self.tier.trouble})" if self.tier.trouble else ""
        return FarUnavailable(f"{page} is far, and the far tier gives no answer now{why}; it stays: ask again later")

    def is_still(self, c, gen):
        """True if what is under the handle is far, and of that generation: then it was all the
        time, since none comes twice. What was found meanwhile is in c.found, if it is far."""
        w: cython.pointer(Worker) = cython.address(self.engine.att.w)
        remove: cython.bint = c.ask.remove
        status: cython.int
        memset(cython.address(c.did), 0, cython.sizeof(c.did))
        c.ask.remove = False        # this is a look alone
        while True:
            status = fetch.peek(w, cython.address(self.ref), c)
            if status == BUSY:
                status = fetch.fetch(w, cython.address(self.ref), c, self.ops, registry.host)
            if status != BUSY:
                c.found.shape = c.found.shape if status == AWAY else 0
                c.ask.remove = remove
                return status == AWAY and c.found.gen == gen
            self.pause()

    def place(self, c, data):
        """The bytes of a far page as get_bytes answers them. None: it is a value of another key."""
        page: bytes
        if c.ask.into == cython.NULL:
            return data
        page = self.unpacked(c, data) if is_wrapped(c.found.shape) else data
        if page is None:
            return None
        c.found.length = PyBytes_GET_SIZE(page)
        if c.found.length > c.ask.room:
            self.got_none(c, SIZE)
        memcpy(c.ask.into, PyBytes_AS_STRING(page), c.found.length)
        c.found.shape = shape_of(c.found.length, 0, 0)
        return b""

    def give_out(self, c, gen, shape, value, status):
        """The bytes of a far page, for which the tier has given a value, as get_bytes answers them:
        if what is under the handle is still of that generation. status[0] is OK; MISS: there is
        none, which is counted; or AGAIN: it is another page by now, perhaps a local one."""
        length: u64
        data: bytes
        stored: bytes = self.opened(c, c.ask.index, gen, shape, value)
        status[0] = MISS
        if stored is None:
            if self.is_none(c, gen, value):
                return self.got_none(c, MISS)
            self.is_still(c, gen)       # what there is now
            status[0] = AGAIN
            return None
        c.found.shape = shape
        data = self.place(c, stored)
        if data is None:
            return self.got_none(c, MISS)
        shape = c.found.shape
        length = c.found.length
        if not (self.drop_gone(c, gen) if c.ask.remove else self.is_still(c, gen)):
            status[0] = AGAIN
            return None
        if self.keeps_far and not c.ask.remove:
            self.note_lost(c, gen, False)
        if self.localifies and not c.ask.remove:
            self.let_home(c, gen, stored)
        c.found.shape = shape
        c.found.length = length
        c.found.gen = gen
        add(cython.address(self.far_record().hits), 1)
        self.ref.ledger[GETS_HIT] += 1
        status[0] = OK
        return data

    def let_home(self, c, gen, stored):
        """A far page was got, and looked at a moment ago, as c.found says: let it come home if it
        is time. The get is done, whatever comes of it."""
        d: Call
        seen: Glimpse
        pack: Packed
        w: cython.pointer(Worker) = cython.address(self.engine.att.w)
        seen.gen = gen
        seen.shape = c.found.shape
        seen.queue = load(cython.address(pampd_at(w, c.found.page).queue))
        w.fault = 0
        pack.data = PyBytes_AS_STRING(stored)
        pack.length = PyBytes_GET_SIZE(stored)
        aim(cython.address(d), c.ask.oid, c.ask.hash, c.ask.index)
        d.ask.into = cython.cast(cython.p_char, cython.address(seen))
        d.ask.packs = cython.address(pack)
        return self.bring_home(cython.address(d))

    def bring_home(self, c):
        """come_home, once: whoever is in the way is not waited for."""
        w: cython.pointer(Worker) = cython.address(self.engine.att.w)
        status: cython.int = come_home(w, cython.address(self.ref), c, self.ops, registry.host)
        if status == CORRUPT:
            self.engine.raise_status(status)
        if status == OK and is_capped(w, self.ref.idx):
            self.attempt(c, ends.keep_caps)
        return 0

    def get_away(self, c):
        """Get the page that was found to be far, as get_bytes does. First the bytes are had, then
        the descriptor is looked at again: they are given out if it is of the same generation."""
        gen: u64
        shape: u64
        asked: cython.int
        status: cython.int
        data: bytes
        for asked in range(AWAY_TRIES):
            gen = c.found.gen
            shape = c.found.shape
            value = self.ask_tier(
                [name_of(self.engine.att.w.header.nonce, gen)], [c.found.data], [copied_of(shape) + SEAL_BYTES]
            )[0]
            data = self.give_out(c, gen, shape, value, cython.address(status))
            if status != AGAIN:
                return data
            if c.ask.remove or not is_far(c.found.shape):
                break
        # Another page by now, which may be local; or for the last time another that is far.
        if asked == AWAY_TRIES - 1 and not c.ask.remove and is_far(c.found.shape):
            if self.is_none(c, c.found.gen, NO_ANSWER if self.keeps_far else None):
                return self.got_none(c, MISS)
        memset(cython.address(c.did), 0, cython.sizeof(c.did))
        return self.get_bytes(c)

    def let_range_home(self, c, table, stored):
        """Far pages of a range were got, which a survey has found; `stored` has the bytes of each,
        None of a page that is local. Where they are one value they come home as one."""
        d: Call
        i: u64
        n: u64 = c.ask.count
        seen: cython.pointer(Glimpse) = cython.cast(cython.pointer(Glimpse), PyBytes_AS_STRING(table))
        packs: bytes = bytes(n * cython.sizeof(Packed))
        pack: cython.pointer(Packed) = cython.cast(cython.pointer(Packed), PyBytes_AS_STRING(packs))
        w: cython.pointer(Worker) = cython.address(self.engine.att.w)
        for i in range(n):
            if stored[i] is not None:
                pack[i].data = PyBytes_AS_STRING(cython.cast(bytes, stored[i]))
                pack[i].length = PyBytes_GET_SIZE(cython.cast(bytes, stored[i]))
        for i in range(0, n, n if self.ref.whole else 1):
            aim(cython.address(d), c.ask.oid, c.ask.hash, c.ask.index + i)
            d.ask.count = n if self.ref.whole else 1
            d.ask.into = cython.cast(cython.p_char, seen + i)
            d.ask.packs = pack + i
            if self.ref.whole and reserve(w, 1024 + n * HOME_STORES) == NOSPACE:
                return 0
            self.bring_home(cython.address(d))
            shrink(w)
        return 0

    def fetch_seen(self, c, table, values, stored):
        """The pages of a survey, each as it was put, with what the tier has given for those that
        are far; `stored` gets their bytes as they are stored, None of a page that is local. None:
        one of them is another by now, or is gone."""
        seen: cython.pointer(Glimpse) = cython.cast(cython.pointer(Glimpse), PyBytes_AS_STRING(table))
        d: Call
        i: u64
        pages: list = []
        page: bytes
        for i in range(c.ask.count):
            aim(cython.address(d), c.ask.oid, c.ask.hash, c.ask.index + i)
            if is_far(seen[i].shape):
                value = values.pop(0)
                page = self.opened(c, c.ask.index + i, seen[i].gen, seen[i].shape, value)
                d.found.shape = seen[i].shape
                if page is None:
                    self.is_none(cython.address(d), seen[i].gen, value)
            else:
                d.ask.batched = True
                page = self.get_bytes(cython.address(d))
                if not d.did.away:
                    self.ref.ledger[GETS_MISS if page is None else GETS_HIT] -= 1       # the range is the get
                if page is not None and d.found.gen != seen[i].gen:
                    return None
            if page is None:
                return None
            stored.append(page if is_far(seen[i].shape) else None)
            pages.append(self.unpacked(cython.address(d), page) if is_wrapped(d.found.shape) else page)
        return pages

    def far_pages(self, c):
        """The pages of a range of which some are far, each as it was put, as they were at one
        moment: those of a survey, if the next finds the same. None: one is missing, or cannot be
        had."""
        table: bytes = bytes(c.ask.count * cython.sizeof(Glimpse))
        after: bytes = bytes(c.ask.count * cython.sizeof(Glimpse))
        seen: cython.pointer(Glimpse) = cython.cast(cython.pointer(Glimpse), PyBytes_AS_STRING(table))
        again: cython.pointer(Glimpse) = cython.cast(cython.pointer(Glimpse), PyBytes_AS_STRING(after))
        w: cython.pointer(Worker) = cython.address(self.engine.att.w)
        d: Call
        i: u64
        tries: cython.int
        status: cython.int
        pages: list
        for tries in range(AWAY_TRIES):
            d = c[0]
            memset(cython.address(d.did), 0, cython.sizeof(d.did))
            d.ask.into = cython.cast(cython.p_char, seen)
            status = self.attempt(cython.address(d), survey)
            if status == MISS:
                return None
            far: list = [i for i in range(c.ask.count) if is_far(seen[i].shape)]
            values: list = self.ask_tier(
                [name_of(w.header.nonce, seen[i].gen) for i in far],
                [seen[i].data for i in far],
                [copied_of(seen[i].shape) + SEAL_BYTES for i in far],
            ) if far else []
            if NO_ANSWER in values:
                i = far[values.index(NO_ANSWER)]
                aim(cython.address(d), c.ask.oid, c.ask.hash, c.ask.index + i)
                if not self.is_none(cython.address(d), seen[i].gen, NO_ANSWER):
                    continue
                note_unhad(c)
                return None
            stored: list = []
            pages = self.fetch_seen(c, table, values, stored)
            if pages is None:
                continue
            c.found.length = sum([len(page) for page in pages])
            if c.ask.room < c.found.length:
                self.got_none(c, SIZE)
            if c.ask.remove:
                if reserve(w, 1024 + c.ask.count * STORES_A_PAGE) == NOSPACE:
                    self.engine.no_memory("the journal of so many pages")
                status = self.attempt(cython.address(d), take_surveyed)
                shrink(w)
                if status == OK:
                    add(cython.address(self.far_record().hits), len(far))
                    return pages
                continue
            d.ask.into = cython.cast(cython.p_char, again)
            status = self.attempt(cython.address(d), survey)
            for i in range(c.ask.count if status == OK else 0):
                if again[i].gen != seen[i].gen:
                    status = MISS
            if status == OK:
                c.found.page = d.found.page
                c.found.gen = d.found.gen
                add(cython.address(self.far_record().hits), len(far))
                if self.localifies and far and c.ask.count <= HOME_MAX:
                    self.let_range_home(c, after, stored)
                return pages
        note_unhad(c)
        if self.keeps_far:
            self.ref.ledger[GETS_MISS] += 1
            raise FarUnavailable(f"pool {self.name!r}: of {c.ask.count} pages some changed each time that the far tier "
                                 "was asked for them; ask again")
        return None

    def get_range_away(self, c):
        """Get a range of which some pages are far, as get_bytes does."""
        pages: list = self.far_pages(c)
        i: u64
        if pages is None:
            return self.got_none(c, MISS)
        for i in range(c.ask.count if c.ask.shapes != cython.NULL else 0):
            c.ask.shapes[i] = shape_of(len(pages[i]), 0, 0)
        self.ref.ledger[GETS_HIT] += 1
        data: bytes = b"".join(pages)
        if c.ask.into == cython.NULL:
            return data
        memcpy(c.ask.into, PyBytes_AS_STRING(data), c.found.length)
        return b""

    def get_into_call(self, c, buffer, free):
        view: Py_buffer
        buffer_of("buffer", buffer, cython.address(view), PyBUF_WRITABLE)
        try:
            c.ask.room = view.len
            if self.elsewhere:
                return copied(self.get_call(c, free), view.buf, view.len)
            c.ask.into = cython.cast(cython.p_char, view.buf)
            return -1 if self.get_call(c, free) is None else c.found.length
        finally:
            PyBuffer_Release(cython.address(view))

    # --- flush ------------------------------------------------------------------------------------

    def flush_page_call(self, c):
        self.enter()
        try:
            done: cython.bint = self.flushed(self.attempt(c, flush.flush_page))
            if done:
                self.look_at_what_is_free()
            return done
        finally:
            self.leave()

    def flush_object_call(self, c):
        self.enter()
        try:
            done: cython.bint = self.flushed(self.attempt(c, flush.flush_object))
            if done:
                self.engine.settle_quietly()
                self.look_at_what_is_free()
            return done
        finally:
            self.leave()

    def flushed(self, status):
        """Count a flush that has found something: True, or False."""
        if status == OK:
            self.ref.ledger[FLUSHES] += 1
        return status == OK

    def look_at_what_is_free(self):
        """After pages have left: give memory back to the system if this worker has emptied some
        segments lately."""
        if self.engine.att.w.emptied >= EMPTIED_MIN:
            self.engine.give_back(False)
        return 0

    # --- looking ----------------------------------------------------------------------------------

    def look_call(self, c):
        self.enter()
        try:
            return self.attempt(c, fetch.look) == OK
        finally:
            self.leave()

    def describe_call(self, c, out):
        c.ask.into = cython.cast(cython.p_char, out)
        self.enter()
        try:
            return self.attempt(c, fetch.describe)
        finally:
            self.leave()

    def object_info_call(self, c):
        out: u64[5]
        return None if self.describe_call(c, out) == MISS else (out[0], out[1], out[2])

    def descriptor_call(self, c):
        out: u64[5]
        return None if self.describe_call(c, out) == MISS or out[4] == 0 else (out[3], out[4])

    def replace_call(self, c, pampd, generation):
        c.ask.token = word("pampd", pampd)
        c.ask.gen = word("generation", generation)
        self.enter()
        try:
            if not self.ops.foreign:
                raise TmemError(
                    f"pool {self.name!r}: pam {self.pam!r} keeps its pages in the arena; nothing to replace"
                )
            return self.attempt(c, flush.replace) == OK
        finally:
            self.leave()

# cython: binding=False, embedsignature=True, embedsignature.format=clinic
"""Owns views: reading pages where they lie, and the Python objects that keep them pinned.

A View gives memoryviews; each is of a Pin, which owns one pin and lives as long as any buffer of
it: a slice or an array made of a memoryview keeps the page after the View was left. So a pin may go
at any moment at which Python frees an object, in any thread, also inside another call of the same
engine: then only the pin is cleared, and whoever lacks memory next looks through limbo.
`Kin.keeping` guards pins and their count; it is taken before the bucket's lock and held until that
is given back, so nobody waits for it with a lock.
"""
import cython
from cython.cimports.cpython.buffer import Py_buffer, PyBuffer_FillInfo
from cython.cimports.cpython.bytes import PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cython.cimports.cpython.memoryview import PyMemoryView_GET_BUFFER
from cython.cimports.cpython.ref import Py_REFCNT
from cython.cimports.engine.api.views import Sight
from cython.cimports.engine.layout.call import AGAIN, AWAY, FULL, MISS, Call, PoolRef
from cython.cimports.engine.layout.regions import chunk_of, copy_page, obj_at, page_at, pages_of
from cython.cimports.engine.layout.structs import (
    GEO_PINNED,
    GETS_HIT,
    GETS_MISS,
    OBJNODE_CLASS,
    PINS_MAX,
    ROOT_WRITTEN,
    Bucket,
    Pampd,
)
from cython.cimports.engine.layout.words import (
    VIEWED,
    class_in,
    copied_of,
    has_open_tail,
    is_far,
    is_same,
    is_wrapped,
    packed_in,
    size_class,
    with_flags,
)
from cython.cimports.engine.member.arguments import set_count
from cython.cimports.engine.member.bound import Bound
from cython.cimports.engine.member.registry import registry
from cython.cimports.engine.pages.pam.base import PamOps
from cython.cimports.engine.pages.pins import charge, collect, note_unpinned, pin, prepare, uncharge, unpin
from cython.cimports.engine.pages.reclaim import drop_unwritten
from cython.cimports.engine.tree.hostops import HostOps
from cython.cimports.engine.tree.lookaside import remember
from cython.cimports.engine.verbs.fetch import touch
from cython.cimports.engine.verbs.section import REAP_BUDGET, bucket_of, end_section, find_page, finish, lock_bucket
from cython.cimports.engine.verbs.tail import check_chunk, look_at_value
from cython.cimports.shm.atomics import mutex_lock, mutex_unlock, set
from cython.cimports.shm.extent import room_of
from cython.cimports.shm.kernel.process import CLOSED, FORKED
from cython.cimports.shm.layout import BUSY, FAULT_SENTINEL, NOSPACE, OK, Worker, offset_of, u64
from cython.cimports.shm.lock import lock_try, unlock
from cython.cimports.shm.seal import seal
from engine.errors import TooMuchPinned

# --- finding and pinning --------------------------------------------------------------------------


@cython.cfunc
@cython.nogil
@cython.inline
@cython.exceptval(check=False)
def _room(w: cython.pointer(Worker), shape: u64) -> u64:
    """Bytes of arena that the page of a shape, which has been checked, keeps while it is viewed."""
    return room_of(w, size_class(shape), copied_of(shape))


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _find_all(w: cython.pointer(Worker), p: cython.pointer(PoolRef), c: cython.pointer(Call), b: cython.pointer(Bucket),
              sights: cython.pointer(Sight), count: cython.pointer(u64), size: cython.pointer(u64)) -> cython.int:
    """Where the pages of a call lie, how many chunks those are, and of how many bytes. OK, MISS or
    AWAY, or a fault."""
    d: cython.pointer(Pampd)
    obj_off: u64
    i: u64
    status: cython.int
    for i in range(c.ask.count):
        d = find_page(w, p, c, b, c.ask.index + i, cython.address(obj_off))
        if i == 0:
            remember(p, c)
        if d != cython.NULL and is_far(d.shape):
            return AWAY
        if d == cython.NULL:
            if c.ask.value != cython.NULL:
                c.ask.value.pages = pages_of(obj_at(w, obj_off)) if obj_off != 0 else 0
            return MISS
        sights[i].page = offset_of(w, d)
        sights[i].shape = d.shape
        sights[i].data = chunk_of(w, d.shape, d.data)
        sights[i].place = 0
        sights[i].length = copied_of(d.shape)
        check_chunk(w, d.shape, sights[i].data, copied_of(d.shape))
        if w.fault == 0 and (c.ask.value != cython.NULL or has_open_tail(d.shape)):
            c.found.shape = sights[i].shape
            c.found.data = sights[i].data
            c.found.stored = c.found.length = copied_of(d.shape)
            c.found.gen = d.gen
            status = look_at_value(w, c, obj_off)
            if status == AGAIN:
                w.fault = FAULT_SENTINEL
            if status != OK:
                return MISS
            sights[i].length = c.found.stored
        if packed_in(d.shape) > p.packed_max:
            w.fault = FAULT_SENTINEL
        if not is_same(d.shape):
            if class_in(d) >= OBJNODE_CLASS or copied_of(d.shape) > room_of(w, class_in(d), copied_of(d.shape)):
                w.fault = FAULT_SENTINEL
                return MISS
            count[0] += 1
            size[0] += _room(w, sights[i].shape)
    return OK


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _pin_all(
    w: cython.pointer(Worker), p: cython.pointer(PoolRef), c: cython.pointer(Call), sights: cython.pointer(Sight)
) -> cython.void:
    """Pin what _find_all has found in this locked section, and mark the pages. After a fault only
    some are, whose places the sights tell."""
    d: cython.pointer(Pampd)
    i: u64
    for i in range(c.ask.count):
        d = page_at(w, sights[i].page)
        if not is_same(sights[i].shape):
            sights[i].place = pin(w, sights[i].data, size_class(sights[i].shape), copied_of(sights[i].shape))
            if sights[i].place == 0:
                return
            # Not journalled: a mark without a pin costs a look.
            set(cython.address(d.shape), with_flags(d.shape, VIEWED))
        if p.hits_max != 0:
            touch(w, p, sights[i].page)


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _hold(w: cython.pointer(Worker), p: cython.pointer(PoolRef), c: cython.pointer(Call), pam: PamOps,
          host: HostOps) -> cython.int:
    """Find the pages of a call, and pin them, at one moment; c.ask.into is the table of their
    sights. OK, MISS, BUSY, FULL, NOSPACE, DESTROYED or CORRUPT: nothing is pinned then."""
    status: cython.int
    mutex_lock(w.keeping)
    status = _hold_keeping(w, p, c)
    mutex_unlock(w.keeping)
    return status


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _hold_keeping(w: cython.pointer(Worker), p: cython.pointer(PoolRef), c: cython.pointer(Call)) -> cython.int:
    sights: cython.pointer(Sight) = cython.cast(cython.pointer(Sight), c.ask.into)
    b: cython.pointer(Bucket) = bucket_of(p, c)
    count: u64 = 0
    size: u64 = 0
    i: u64
    status: cython.int = prepare(w, c.ask.count)
    if status == OK:
        status = lock_bucket(w, p, b)
    if status != OK:
        return status
    status = _find_all(w, p, c, b, sights, cython.address(count), cython.address(size))
    if status == OK and w.fault == 0 and count != 0:
        status = charge(w, count, size)
    if status == OK and w.fault == 0:
        _pin_all(w, p, c, sights)
        if w.fault != 0:
            for i in range(c.ask.count):
                if sights[i].place != 0:
                    count -= 1
                    size -= _room(w, sights[i].shape)
                    unpin(w, sights[i].place, _room(w, sights[i].shape))
            uncharge(w, count, size)
    status = end_section(w, b, status)
    unlock(w, cython.address(w.slot.own))
    return status


def let_go_of(engine, worker, place, size, data, counted):
    """Let go of a pin, whatever is going on. In a forked child it is the parent's, and stays."""
    w: cython.pointer(Worker) = cython.address(engine.att.w)
    status: cython.int = BUSY
    waits: cython.bint = False
    mutex_lock(cython.address(engine.att.kin.keeping))
    if engine.att.bars(CLOSED | FORKED) == 0 and w.id == worker:
        waits = unpin(w, place, size)
        if counted:
            # After the unpin: with the last one a worker that has lost its descriptors is gone.
            engine.att.end_keep()
    mutex_unlock(cython.address(engine.att.kin.keeping))
    if engine.att.is_barred() or not (waits or w.slot.client[ROOT_WRITTEN] != 0):
        return
    if engine.att.try_enter():
        if lock_try(w, cython.address(w.slot.own)) == OK:
            # What a page that was given up takes is nobody's to evict, so it must not wait.
            drop_unwritten(w)
            status = collect(w, data) if waits and w.fault == 0 else OK
            finish(w, REAP_BUDGET, registry.host)
        w.fault = 0
        engine.att.leave()
    if waits and status == BUSY:
        note_unpinned(w)


# --- what callers hold ----------------------------------------------------------------------------


@cython.no_gc
@cython.freelist(8)
@cython.cclass
class Pin:
    """One pinned chunk, as a buffer of the page's bytes in it. It refers to its engine alone, which
    does not know of it."""

    def __getbuffer__(self, buffer: cython.pointer(Py_buffer), flags: cython.int):
        PyBuffer_FillInfo(buffer, self, self.engine.att.w.base + self.data, self.length, 1, flags)

    def __dealloc__(self):
        if self.place != 0:
            let_go_of(self.engine, self.worker, self.place, self.size, self.data, True)


@cython.freelist(8)
@cython.cclass
class View:
    """Pages where they lie, pinned from Pool.view on until it is left or released. A context
    manager: entering gives a memoryview, a tuple of them, or None."""

    def __enter__(self):
        with cython.critical_section(self):
            pages: object = self.pages
            released: cython.bint = self.released
        if released:
            raise ValueError("this view was released")
        return pages

    def __exit__(self, kind, value, traceback):
        try:
            self.release()
        except BufferError:
            if kind is None:  # else what was raised inside is worth more, and its traceback may be what keeps them
                raise

    def release(self):
        """Let the pages go; the memoryviews are of no use from then on. Twice is once.

        Raises BufferError if an array or a memoryview made of them is still in use: their pages
        stay pinned until it is gone."""
        kept: cython.int = 0
        with cython.critical_section(self):         # of two threads that release it, one has the pages
            pages: object = self.pages
            self.pages = None
            self.released = True
        for page in pages if isinstance(pages, tuple) else () if pages is None else (pages,):
            pin = cython.cast(object, PyMemoryView_GET_BUFFER(page).obj)
            try:
                page.release()
            except BufferError:
                kept += 1
            else:
                # A slice, or an array made of it, has the pin by the buffer that all memoryviews of
                # one share: then it is not ours alone.
                kept += isinstance(pin, Pin) and Py_REFCNT(pin) > 1
        if kept:
            raise BufferError(
                f"{kept} pages of this view are still in use, by an array or another memoryview; "
                "they stay pinned until then"
            )

    @property
    def found(self):
        """False after a miss, and after release."""
        return self.pages is not None

    def __repr__(self):
        what = "released" if self.released else "of nothing" if self.pages is None else "held"
        return f"<tmem view, {what}>"


seal(Pin, "Pool.view")
seal(View, "Pool.view")


@cython.cfunc
def _pinned(pool: Bound, c: cython.pointer(Call), sights: cython.pointer(Sight)) -> list:
    """The pages of a call as memoryviews, of the bytes as they are stored; None on a miss."""
    w: cython.pointer(Worker) = cython.address(pool.engine.att.w)
    p: cython.pointer(PoolRef) = cython.address(pool.ref)
    status: cython.int
    i: u64
    made: u64 = 0
    page: Pin
    data: bytes
    out: list = []
    c.ask.into = cython.cast(cython.p_char, sights)
    status = pool.until_free(c, _hold)
    if status == AWAY:
        for i in range(c.ask.count):
            sights[i].shape = 0         # it comes as it was put
        c.ask.into = cython.NULL
        return _foreign(pool, c) if c.ask.count == 1 else _copies(pool, c)
    if status == MISS:
        p.ledger[GETS_MISS] += 1
        return None
    if status == FULL:
        raise TooMuchPinned(
            f"arena {pool.engine.name!r}: views may pin {w.client_geometry[GEO_PINNED]} bytes together, and "
            f"{PINS_MAX} pages of one worker; release some, or see max_pinned of create"
        )
    if status == NOSPACE:
        pool.engine.no_memory("a note of what is viewed")
    if status != OK:
        pool.fail(status)
    p.ledger[GETS_HIT] += 1
    try:
        for i in range(c.ask.count):
            if sights[i].place == 0:
                data = PyBytes_FromStringAndSize(cython.NULL, sights[i].length)
                copy_page(w, PyBytes_AS_STRING(data), sights[i].shape, sights[i].data, sights[i].length)
                out.append(memoryview(data))
            else:
                page = Pin.__new__(Pin)
                page.engine = pool.engine
                page.worker = w.id
                page.data = sights[i].data
                page.length = sights[i].length
                page.size = _room(w, sights[i].shape)
                page.place = sights[i].place
                made = i + 1
                pool.engine.att.keep_one()
                out.append(memoryview(page))
    except BaseException:
        for i in range(made, c.ask.count):
            if sights[i].place != 0:
                let_go_of(
                    pool.engine,
                    w.id,
                    sights[i].place,
                    _room(w, sights[i].shape),
                    sights[i].data,
                    False,
                )
        raise
    return out


@cython.cfunc
def _foreign(pool: Bound, c: cython.pointer(Call)) -> list:
    """Copies of pages that a back end in Python has; None if one is missing."""
    out: list = []
    i: u64
    page: bytes
    first: u64 = c.ask.index
    for i in range(c.ask.count):
        c.ask.index = first + i
        page = pool.get_bytes(c)
        if page is not None and is_wrapped(c.found.shape):
            page = pool.unpacked(c, page)
        if page is None:
            return None
        out.append(memoryview(page))
    return out


@cython.cfunc
def _copies(pool: Bound, c: cython.pointer(Call)) -> list:
    """Copies of pages of which some are far, as they were at one moment; None if one is missing."""
    pages: list = pool.far_pages(c)
    pool.ref.ledger[GETS_MISS if pages is None else GETS_HIT] += 1
    return None if pages is None else [memoryview(page) for page in pages]


def view(pool, c, count):
    """Pool.view."""
    found: View = View.__new__(View)
    sight: Sight
    sights: cython.pointer(Sight) = cython.address(sight)
    room: bytes
    out: list
    i: u64
    if count is not None:
        set_count(c, count, PINS_MAX, "None, or ")
        room = PyBytes_FromStringAndSize(cython.NULL, c.ask.count * cython.sizeof(Sight))
        sights = cython.cast(cython.pointer(Sight), PyBytes_AS_STRING(room))
    pool.enter()
    try:
        foreign: cython.bint = pool.ops.foreign
        out = _foreign(pool, c) if foreign else _pinned(pool, c, sights)
    finally:
        pool.leave()
    if out is None:
        return found
    if pool.ref.codec != 0:
        # The compressed bytes stay pinned until they are decompressed, out of this thread's turn.
        for i in range(c.ask.count):
            if packed_in(sights[i].shape) != 0:
                c.found.shape = sights[i].shape
                out[i] = memoryview(pool.unpacked(c, bytes(out[i])))
    found.pages = out[0] if count is None else tuple(out)
    return found

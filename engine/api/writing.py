# cython: binding=False, embedsignature=True, embedsignature.format=clinic
"""Owns Writing: a page, or a value, that is filled where it will lie, and seen by all at once.

What happens in the arena is in verbs/write.py. A pool whose pages do not lie there as they were put
(compressed, kept once, of a back end) fills a buffer of the process instead, and puts that.
"""
import cython
from cython.cimports.cpython.buffer import Py_buffer, PyBuffer_FillInfo
from cython.cimports.cpython.bytearray import PyByteArray_AS_STRING
from cython.cimports.cpython.bytes import PyBytes_AS_STRING
from cython.cimports.engine.api.values import VALUE_PUT, flush_or_conflict, new_pieces, put_value
from cython.cimports.engine.api.views import let_go_of
from cython.cimports.engine.layout.call import FULL, MISS, Call
from cython.cimports.engine.layout.structs import GEO_PINNED, PINS_MAX
from cython.cimports.engine.member.arguments import aim, word, wrong_length
from cython.cimports.engine.member.bound import Bound
from cython.cimports.engine.verbs.write import begin, publish
from cython.cimports.libc.string import memcpy
from cython.cimports.shm.clock import now
from cython.cimports.shm.extent import room_of
from cython.cimports.shm.layout import EXTENT_MAX, NOMEM, NOSPACE, OK, Worker, u64
from cython.cimports.shm.seal import seal
from cython.cimports.shm.segments import class_of
from engine.errors import ArenaFull, Conflict, TmemError, TooMuchPinned

SALVAGES = cython.declare(cython.int, 8)    # looks at what others have left, before there is no room


def writing(pool, c, length):
    """Pool.writing."""
    made: Writing = Writing.__new__(Writing)
    size: u64 = word("length", length)
    if not 1 <= size <= pool.ref.page_size:
        raise wrong_length("length", 1, pool.ref.page_size, size)
    c.ask.length = made.length = size
    made.pool = pool
    made.call = c[0]
    return made


def writing_object(pool, c, length, ttl, if_absent, if_version, word_, key):
    """Pool.writing_object."""
    made: Writing = Writing.__new__(Writing)
    made.length = word("length", length)
    made.pieces = new_pieces()
    made.gone = made.pieces.ask(pool, cython.address(made.value), ttl, if_absent, if_version, word_, key)
    c.ask.length = made.length + made.value.tail
    if c.ask.length > EXTENT_MAX:
        raise ValueError(f"length: at most {EXTENT_MAX} bytes with key and word, not {c.ask.length}")
    made.since = now(cython.address(pool.engine.att.w))
    made.pool = pool
    made.call = c[0]
    made.call.ask.value = cython.address(made.value)
    return made


@cython.no_gc       # it keeps no memoryview of itself: a cycle would be cleared before it is let go of
@cython.cclass
class Writing:
    """A page on its way, made by Pool.writing: a context manager, and inside its block a writable
    buffer of the page's bytes, with what a memoryview has (slices, nbytes, cast)."""

    def __enter__(self):
        if self.begun:
            raise ValueError("a Writing is entered once")
        self.begun = True
        self.take()
        return self

    def take(self):
        """Have memory for the page."""
        pool: Bound = self.pool
        c: cython.pointer(Call) = cython.address(self.call)
        w: cython.pointer(Worker) = cython.address(pool.engine.att.w)
        status: cython.int
        tries: cython.int = 0
        pool.enter()
        try:
            if pool.ops.foreign or pool.ref.codec != 0 or pool.ref.dedup or self.length == 0:
                self.copy = bytearray(self.length)
                return 0
            c.ask.room = pool.room_for(c.ask.length)
            status = pool.until_free(c, begin)
            while status == NOMEM and tries < SALVAGES and (pool.engine.salvage() or tries == 0):
                tries += 1
                c.ask.room = pool.room_for(c.ask.length)
                status = pool.until_free(c, begin)
            if status == NOMEM:
                raise ArenaFull(
                    f"arena {pool.engine.name!r}: no room for a page of {c.ask.length} bytes; what is under the "
                    "handle stays"
                )
            if status == FULL:
                raise TooMuchPinned(
                    f"arena {pool.engine.name!r}: views and pages that are being written may pin "
                    f"{w.client_geometry[GEO_PINNED]} bytes together, and {PINS_MAX} pages of one worker; release "
                    "some, or see max_pinned of create"
                )
            if status == NOSPACE:
                pool.engine.no_memory("a note of what is being written")
            if status != OK:
                pool.fail(status)
            self.size = room_of(w, class_of(w, c.ask.length), c.ask.length)
            self.worker = w.id
            pool.engine.att.keep_one()
            if c.ask.length != self.length:
                memcpy(w.base + c.found.data + self.length, PyBytes_AS_STRING(self.pieces.tail), self.value.tail)
        finally:
            pool.leave()
        return 0

    def __exit__(self, kind, value, traceback):
        if self.ended:
            return
        with cython.critical_section(self):
            self.ended = True           # from here on nobody gets a buffer of it
            used: cython.bint = self.exports != 0
        if kind is None and not used:
            self.put()
            return
        self.abort()
        if kind is None:
            raise BufferError(
                "the page was not put: an array or a memoryview of it is still in use, and could change it afterwards"
            )

    def put(self):
        """Let everybody see the page, in the place of the one that was there."""
        pool: Bound = self.pool
        c: cython.pointer(Call) = cython.address(self.call)
        w: cython.pointer(Worker) = cython.address(pool.engine.att.w)
        status: cython.int
        done: cython.bint = False
        d: Call
        if self.value.expires != 0:
            self.value.expires += now(w) - self.since       # it lives from here on
        self.value.time = 0
        if self.gone:
            # As if it were put, and dead a moment later.
            self.abort()
            aim(cython.address(d), c.ask.oid, c.ask.hash, 0)
            done = flush_or_conflict(pool, cython.address(d), cython.address(self.value))
            self.value.conflict = not done
        elif self.copy is not None and self.pieces is None:
            data, self.copy = self.copy, None
            done = pool.put_buffer(c, data)
        elif self.copy is not None:
            data, self.copy = self.copy, None
            self.pieces.hold(data)
            self.value.parts = self.pieces.parts
            self.value.part_count = 2
            done = put_value(pool, c, cython.address(self.value), self.pieces.length) == VALUE_PUT
        else:
            pool.enter()
            try:
                if w.id != self.worker:
                    raise TmemError(
                        f"pool {pool.name!r}: this process was forked while a page was being written; it is the "
                        "parent's, and nothing was put"
                    )
                status = pool.until_free(c, publish)
                if status == MISS:
                    raise TmemError(f"pool {pool.name!r}: the arena was repaired meanwhile; the page was not put")
                if status != OK:
                    pool.fail(status)
                # The bytes stay pinned until it is done: if the staged page goes on the way, it is
                # staged anew from there.
                c.ask.data = w.base + c.found.data
                done = pool.put_inside(c)
            finally:
                try:
                    pool.leave()
                finally:
                    self.let_go()
        if not done and self.value.conflict:
            raise Conflict(f"pool {pool.name!r}: the condition does not hold; what is there stays")
        if not done:
            raise ArenaFull(f"pool {pool.name!r}: the page was refused; none is under the handle now")
        return 0

    def let_go(self):
        """Unpin the page, whatever it is by now."""
        with cython.critical_section(self):
            worker: u64 = self.worker
            self.worker = 0
        if worker != 0:
            let_go_of(self.pool.engine, worker, self.call.found.pin, self.size, self.call.found.data, True)
        return 0

    def abort(self):
        """Give the page up: what was under the handle before stays. Twice is once."""
        with cython.critical_section(self):
            self.ended = True
            used: cython.bint = self.exports != 0
        if not used:
            self.copy = None
            self.let_go()

    def __dealloc__(self):
        if self.worker != 0:
            let_go_of(self.pool.engine, self.worker, self.call.found.pin, self.size, self.call.found.data, True)

    def is_open(self):
        return not self.ended and (self.worker != 0 or self.copy is not None)

    def __getbuffer__(self, buffer: cython.pointer(Py_buffer), flags: cython.int):
        at: cython.p_char
        with cython.critical_section(self):
            usable: cython.bint = self.is_open()
            self.exports += usable
        if not usable:
            raise BufferError("a page is written inside the block of its Writing")
        if self.copy is not None:
            at = PyByteArray_AS_STRING(self.copy)
        else:
            at = self.pool.engine.att.w.base + self.call.found.data
        PyBuffer_FillInfo(buffer, self, at, self.length, 0, flags)

    def __releasebuffer__(self, buffer: cython.pointer(Py_buffer)):
        with cython.critical_section(self):
            self.exports -= 1
            last: cython.bint = self.ended and self.exports == 0
        if last:
            self.let_go()

    # --- what a memoryview has --------------------------------------------------------------------

    def __len__(self):
        return self.length

    def __getitem__(self, place):
        return memoryview(self)[place]

    def __setitem__(self, place, value):
        memoryview(self)[place] = value

    @property
    def nbytes(self):
        """The length of the page."""
        return self.length

    def cast(self, format):
        """The buffer as items of a format of `struct`, a memoryview."""
        return memoryview(self).cast(format)

    def __getattr__(self, name):
        if not self.is_open() or name.startswith("_"):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r} outside its block")
        return getattr(memoryview(self), name)

    def __repr__(self):
        return f"<tmem page of {self.length} bytes, {'ended' if self.ended else 'being written'}>"


seal(Writing, "Pool.writing and Pool.writing_object")

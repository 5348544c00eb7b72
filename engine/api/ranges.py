"""Owns getting ranges: of consecutive pages of an object, as they were at one moment, into a
`bytes` or a buffer of the caller's.

A Call comes in that has the handle of the first page. Long ranges are copied with the GIL released:
the turn stays this thread's (Attachment.busy), so other threads of the process wait for it as they
do while a verb sleeps. Not those that leave: at their end a bucket may be given back with a shard
held, and waking who sleeps there takes the GIL.
"""
import cython
import cython.cimports.engine.verbs.fetch as fetch
from cython.cimports.cpython.buffer import Py_buffer, PyBUF_WRITABLE, PyBuffer_Release
from cython.cimports.cpython.bytes import PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cython.cimports.engine.layout.call import MISS, RANGE_MAX, SIZE, Call, PoolRef
from cython.cimports.engine.layout.structs import GETS_HIT, GETS_MISS
from cython.cimports.engine.member.arguments import buffer_of, free_flag, word
from cython.cimports.engine.member.bound import LONG_BYTES, PEEKS, STORES_A_PAGE, Bound
from cython.cimports.engine.member.registry import registry
from cython.cimports.libc.string import memcpy
from cython.cimports.shm.journal import reserve, shrink
from cython.cimports.shm.layout import BUSY, NOSPACE, OK, Worker, u64
from engine.errors import ArenaCorrupted, TmemError


@cython.cfunc
@cython.exceptval(-1)
def _count(c: cython.pointer(Call), count: object) -> cython.int:
    """The `count` of a range, into the Call."""
    c.count = word("count", count)
    if not 1 <= c.count <= RANGE_MAX:
        raise ValueError(f"count: 1 to {RANGE_MAX} pages, not {count}")
    if c.index + (c.count - 1) < c.index:
        raise ValueError(f"index: {c.index} plus {c.count} pages passes 2**64")
    return 0


@cython.cfunc
@cython.exceptval(check=False)
def _look(
    w: cython.pointer(Worker), p: cython.pointer(PoolRef), c: cython.pointer(Call), out: cython.p_char
) -> cython.int:
    """peek_range, with the GIL released if there is much to copy."""
    status: cython.int
    if out == cython.NULL or c.length < LONG_BYTES:
        return fetch.peek_range(w, p, c, out)
    with cython.nogil:
        status = fetch.peek_range(w, p, c, out)
    return status


@cython.cfunc
def _room(c: cython.pointer(Call), into: cython.p_char, out: cython.pointer(cython.p_char)) -> object:
    """Let `out` be where the pages go: `into`, or a new bytes object, which is the answer then."""
    data: bytes
    if into != cython.NULL:
        out[0] = into
        return True
    data = PyBytes_FromStringAndSize(cython.NULL, c.length)
    out[0] = PyBytes_AS_STRING(data)
    return data


@cython.cfunc
def _get(pool: Bound, c: cython.pointer(Call), remove: cython.bint, into: cython.p_char) -> object:
    """The pages of a range as they are stored, joined, in a bytes object; None if one is missing.
    With `into`, which has room for c.room bytes, they go there, and the answer is True. c.length
    says how many bytes they are."""
    status: cython.int
    peeks: cython.int = 0
    w: cython.pointer(Worker) = cython.address(pool.engine.att.w)
    p: cython.pointer(PoolRef) = cython.address(pool.ref)
    out: cython.p_char = cython.NULL        # of c.length bytes, once it is known how many there are
    result: object = True
    pool.enter()
    try:
        if pool.ops.foreign:
            raise TmemError(f"pool {pool.name!r}: ranges are for pages that lie in the arena, not for pam {pool.pam!r}")
        while True:
            if remove and reserve(w, 1024 + c.count * STORES_A_PAGE) == NOSPACE:
                pool.engine.no_memory("the journal of so many pages")
            if not remove and peeks < PEEKS:
                peeks += 1
                status = _look(w, p, c, out)
                if status == SIZE and out != cython.NULL:
                    out = cython.NULL       # the pages are others by now
                    continue
                if status == OK and out == cython.NULL:
                    result = _room(c, into, cython.address(out))
                    continue
                if status != BUSY:
                    break
            status = fetch.fetch_range(w, p, c, out, remove, pool.ops, registry.host)
            if status == BUSY:
                pool.pause()
            elif status == SIZE and (c.room == 0 or c.asked <= c.room):
                result = _room(c, into, cython.address(out))
            else:
                break
        shrink(w)
        if status == OK:
            p.ledger[GETS_HIT] += 1
            return result
        if status == MISS:
            p.ledger[GETS_MISS] += 1
            return None
        if status == SIZE:
            raise ValueError(f"buffer: at least as long as the pages, {c.asked} bytes, not {c.room}")
        pool.fail(status)
    finally:
        pool.leave()


def get_range(pool, c, count, free):
    """Pool.get_range."""
    remove: cython.bint = pool.exclusive if free is None else free_flag(free)
    shapes: bytes = None
    _count(c, count)
    if pool.ref.codec != 0:
        shapes = PyBytes_FromStringAndSize(cython.NULL, c.count * 8)
        c.shapes = cython.cast(cython.pointer(u64), PyBytes_AS_STRING(shapes))
    data: object = _get(pool, c, remove, cython.NULL)
    if data is None or shapes is None:
        return data
    pages: list = pool.packer().unpack_all(c, data)
    if pages is None:
        raise ArenaCorrupted(f"arena {pool.engine.name!r}: a page of pool {pool.name!r} does not decompress")
    return b"".join(pages)


def get_range_into(pool, c, count, buffer, free):
    """Pool.get_range_into."""
    view: Py_buffer
    data: object
    remove: cython.bint = pool.exclusive if free is None else free_flag(free)
    _count(c, count)
    buffer_of("buffer", buffer, cython.address(view), PyBUF_WRITABLE)
    try:
        if view.len == 0:
            raise ValueError(f"buffer: at least as long as the pages, of which there are {c.count}, not 0 bytes")
        c.room = view.len
        if pool.ref.codec == 0:
            if _get(pool, c, remove, cython.cast(cython.p_char, view.buf)) is None:
                return -1
            return c.length
        data = get_range(pool, c, count, remove)
        if data is None:
            return -1
        memcpy(view.buf, PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data))
        return PyBytes_GET_SIZE(data)
    finally:
        PyBuffer_Release(cython.address(view))

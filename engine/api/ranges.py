"""Owns getting ranges: of consecutive pages of an object, as they were at one moment, into a
`bytes` or a buffer of the caller's.

A Call comes in that has the handle of the first page. Bound.get_bytes does it as it does single
pages. Long ranges are copied with the GIL released: the turn stays this thread's (Attachment.busy),
so other threads of the process wait for it as they do while a verb sleeps. One that leaves is
copied so too, and then taken out under the lock, if nobody has written to its bucket meanwhile;
else it is copied again, with the lock and the GIL held: where a bucket is given back with a shard
held, waking who sleeps there takes the GIL.
"""
import cython
from cython.cimports.cpython.buffer import Py_buffer, PyBUF_WRITABLE, PyBuffer_Release
from cython.cimports.cpython.bytes import PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cython.cimports.engine.layout.call import RANGE_MAX, Call
from cython.cimports.engine.member.arguments import buffer_of, free_flag, set_count
from cython.cimports.engine.member.bound import Bound, copied
from cython.cimports.shm.layout import u64
from engine.errors import ArenaCorrupted, TmemError


@cython.cfunc
def _get(pool: Bound, c: cython.pointer(Call)) -> bytes:
    """Bound.get_bytes of a range."""
    c.ask.ranged = True
    pool.enter()
    try:
        if pool.ops.foreign:
            raise TmemError(f"pool {pool.name!r}: ranges are for pages that lie in the arena, not for pam {pool.pam!r}")
        result: bytes = pool.get_bytes(c)
        if c.ask.remove:
            pool.look_at_what_is_free()
        return result
    finally:
        pool.leave()


def get_range(pool, c, count, free):
    """Pool.get_range."""
    shapes: bytes = None
    c.ask.remove = pool.exclusive if free is None else free_flag(free)
    set_count(c, count, RANGE_MAX, "")
    if pool.ref.codec != 0:
        shapes = PyBytes_FromStringAndSize(cython.NULL, c.ask.count * 8)
        c.ask.shapes = cython.cast(cython.pointer(u64), PyBytes_AS_STRING(shapes))
    data: bytes = _get(pool, c)
    if data is None or shapes is None:
        return data
    pages: list = pool.packer().unpack_all(c, data)
    if pages is None:
        raise ArenaCorrupted(f"arena {pool.engine.name!r}: a page of pool {pool.name!r} does not decompress")
    return b"".join(pages)


def get_range_into(pool, c, count, buffer, free):
    """Pool.get_range_into."""
    view: Py_buffer
    c.ask.remove = pool.exclusive if free is None else free_flag(free)
    set_count(c, count, RANGE_MAX, "")
    buffer_of("buffer", buffer, cython.address(view), PyBUF_WRITABLE)
    try:
        if view.len == 0:
            raise ValueError(f"buffer: at least as long as the pages, of which there are {c.ask.count}, not 0 bytes")
        c.ask.room = view.len
        if pool.ref.codec != 0:
            return copied(get_range(pool, c, count, free), view.buf, view.len)
        c.ask.into = cython.cast(cython.p_char, view.buf)
        return -1 if _get(pool, c) is None else c.found.length
    finally:
        PyBuffer_Release(cython.address(view))

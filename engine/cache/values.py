"""Owns the values of a cache: what is kept of them, and the way back.

Bytes are kept as they are, and ints of 64 bits as counters are. All else is a pickle of protocol 5,
or what a serializer of the caller's makes of it. How a value is to be read says the word that is
kept with it, which costs nothing to read along:

    bits 0 to 7     RAW, COUNTER, PICKLE ...; PADDED: one byte more, since `incr` takes any value of
                    eight bytes for a counter
    bits 8 to 31    seconds that it took to compute: the upper 24 bits of a float of 32
    bits 32 to 63   seconds that it may still be used after its time: a float of 32 bits

Buffers that pickle gives apart (arrays of NumPy, Arrow's, memoryviews) lie in the value one behind
the other, each at a multiple of 64 bytes, so that they are copied once, and can be used where they
lie:

    buffers, the pickle, (offset, length) of each buffer, their count, offset of the pickle

No lock is held here: what pickle calls is the callers' code.
"""
import pickle
import struct

import cython
from cython.cimports.cpython.buffer import Py_buffer, PyBuffer_FillInfo
from cython.cimports.cpython.bytes import PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cython.cimports.cpython.long import PyLong_AsLongLongAndOverflow
from cython.cimports.libc.string import memcpy
from cython.cimports.shm.layout import u64

ALIGN = 64
COUNTER_BYTES = cython.declare(cython.Py_ssize_t, 8)
_dumps = pickle.dumps
_loads = pickle.loads
_NONE: bytes = pickle.dumps(None, 5)
TAIL = struct.Struct("<QQ")
ZEROES = bytes(ALIGN)


# --- the word -------------------------------------------------------------------------------------


def timed(word, stale, took):
    """The word of a value that was computed."""
    short: cython.float = took
    bits: cython.uint = 0
    memcpy(cython.address(bits), cython.address(short), 4)
    word |= cython.cast(u64, bits >> 8) << 8
    short = stale
    memcpy(cython.address(bits), cython.address(short), 4)
    return word | cython.cast(u64, bits) << 32


def stale_of(word):
    short: cython.float = 0
    bits: cython.uint = cython.cast(cython.uint, word >> 32)
    memcpy(cython.address(short), cython.address(bits), 4)
    return short


def took_of(word):
    short: cython.float = 0
    bits: cython.uint = cython.cast(cython.uint, word >> 8 & 0xFFFFFF) << 8
    memcpy(cython.address(short), cython.address(bits), 4)
    return short


# --- on the way in --------------------------------------------------------------------------------


def store_form(value, serializer, word):
    """What is kept of a value: bytes, or a list of buffers; and its word."""
    number: cython.longlong
    overflow: cython.int
    data: bytes
    if type(value) is bytes:
        word[0] = RAW
        return _padded(value, word)
    if type(value) is int:
        number = PyLong_AsLongLongAndOverflow(value, cython.address(overflow))
        if overflow == 0:
            word[0] = COUNTER
            return PyBytes_FromStringAndSize(cython.cast(cython.p_char, cython.address(number)), 8)
    if serializer is not None:
        return _padded(_serialized(value, serializer, word), word)
    apart: list = []
    word[0] = PICKLE
    data = _dumps(value, 5, buffer_callback=apart.append)
    if not apart:
        return _padded(data, word)
    word[0] = PICKLE_APART
    return _gathered(data, apart)


@cython.cfunc
def _padded(data: bytes, word: cython.pointer(u64)) -> bytes:
    if PyBytes_GET_SIZE(data) != COUNTER_BYTES:
        return data
    word[0] |= PADDED
    return data + b"\0"


@cython.cfunc
def _serialized(value: object, serializer: object, word: cython.pointer(u64)) -> bytes:
    made = serializer.dumps(value)
    if isinstance(made, str):
        word[0] = SERIAL_TEXT
        return made.encode("utf-8", "surrogatepass")
    word[0] = SERIAL
    return made if type(made) is bytes else bytes(made)


@cython.cfunc
def _gathered(data: bytes, apart: list) -> list:
    """The parts of a value with buffers apart. Each buffer is copied from where it is."""
    out: list = []
    tail: list = []
    at: cython.Py_ssize_t = 0
    gap: cython.Py_ssize_t
    for buffer in apart:
        view = buffer.raw()
        gap = -at % ALIGN
        if gap:
            out.append(ZEROES[:gap])
            at += gap
        tail.append(TAIL.pack(at, view.nbytes))
        if view.nbytes:
            out.append(view)
        at += view.nbytes
    out.append(data)
    tail.append(TAIL.pack(len(apart), at))
    out.extend(tail)
    return out


# --- on the way out -------------------------------------------------------------------------------


@cython.no_gc
@cython.cclass
class Block:
    """Bytes that nobody else has seen, as a buffer that may be written: arrays that are got are the
    caller's own."""

    data: bytes

    def __getbuffer__(self, buffer: cython.pointer(Py_buffer), flags: cython.int):
        PyBuffer_FillInfo(buffer, self, PyBytes_AS_STRING(self.data), PyBytes_GET_SIZE(self.data), 0, flags)


def load_form(data, word, serializer):
    """The value, from the bytes that were kept of it, which are the caller's alone."""
    how: u64 = word & HOW
    kept: bytes = data
    if word & PADDED:
        kept = kept[: PyBytes_GET_SIZE(kept) - 1]
    if how == RAW:
        return kept
    if how == COUNTER and PyBytes_GET_SIZE(kept) == COUNTER_BYTES:
        return cython.cast(cython.pointer(cython.longlong), PyBytes_AS_STRING(kept))[0]
    if how == PICKLE and serializer is None:
        return _loads(kept)
    if how == PICKLE_APART and serializer is None:
        block = Block.__new__(Block)
        cython.cast(Block, block).data = kept
        return _assembled(memoryview(block))
    return _deserialized(kept, how, serializer)


def load_in_place(page, word, serializer):
    """The value, from where it lies: buffers in it, and bytes, are not copied. `page` is a
    read-only memoryview, which stays as long as anything made of it."""
    how: u64 = word & HOW
    if how == RAW:
        return page[: page.nbytes - 1] if word & PADDED else page
    if how == PICKLE_APART and serializer is None:
        return _assembled(page)
    return load_form(page.tobytes(), word, serializer)


@cython.cfunc
def _assembled(page: object) -> object:
    end: cython.Py_ssize_t = page.nbytes - TAIL.size
    count, start = TAIL.unpack_from(page, end)
    table: cython.Py_ssize_t = end - count * TAIL.size
    where = [TAIL.unpack_from(page, table + n * TAIL.size) for n in range(count)]
    return _loads(page[start:table], buffers=[page[at : at + size] for at, size in where])


@cython.cfunc
def _deserialized(kept: bytes, how: u64, serializer: object) -> object:
    if how in (SERIAL, SERIAL_TEXT):
        if serializer is None:
            raise TypeError("this value was stored by a cache with a serializer, and this cache has none")
        return serializer.loads(kept.decode("utf-8", "surrogatepass") if how == SERIAL_TEXT else kept)
    if how in (PICKLE, PICKLE_APART):
        raise TypeError("this value was pickled, by a cache without a serializer, and this cache has one")
    raise TypeError("this was not stored by a cache")

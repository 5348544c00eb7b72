"""Owns how each page of a put is stored where that is not as it is: the digest of a page that may
have a twin, and the compressed PAMs, whose page is a chunk of the arena, like in raw.py, of the
smallest class that holds it compressed.

No lock is held before a put (`pack`), nor after a get, when what was copied is known to be the page
(`unpack`). All that happens in between knows compressed bytes by the page's shape word alone. A
page that would not get into a smaller class is stored as it is. So is one that is the same word
over and over where such pages take no chunk; core notices it.
"""
from xxhash import xxh3_128_intdigest

import cython
from cython.cimports.cpython.buffer import PyBUF_READ
from cython.cimports.cpython.bytes import PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cython.cimports.cpython.memoryview import PyMemoryView_FromMemory
from cython.cimports.engine.layout.call import Packed, put_bytes, put_length
from cython.cimports.engine.layout.structs import TWIN_BYTES_MIN
from cython.cimports.engine.layout.tail import tail_before
from cython.cimports.engine.layout.words import (
    LZ4,
    PACKED_UNIT_SHIFT,
    ZSTD,
    codec_in,
    copied_of,
    has_any_tail,
    packed_in,
    same_filled,
    size_class,
)
from cython.cimports.engine.pages.pam.raw import RawPam
from cython.cimports.shm.layout import EXTENT_CLASS, NOMEM, u64
from cython.cimports.shm.segments import class_of
from engine.pages.pam.codec import CODECS

FRAME_UNIT = cython.declare(u64, 1 << PACKED_UNIT_SHIFT)


def flag_of(name):
    """The flag that compressed pages of a PAM have; 0: it does not compress."""
    return LZ4 if name == "lz4" else ZSTD if name == "zstd" else 0


def framed(data):
    """Compressed bytes as an extent has them: in units, of which a shape word counts how many there
    are; how many bytes are to be read says the last word."""
    size: int = (len(data) + 8 + FRAME_UNIT - 1) // FRAME_UNIT * FRAME_UNIT
    return data + bytes(size - len(data) - 8) + len(data).to_bytes(8, "little")


def unframed(data):
    """What `framed` was told; of bytes that it did not make, anything."""
    size: cython.Py_ssize_t = len(data) - 8
    return data[: min(int.from_bytes(data[size:], "little"), size)]


def digest(p, c):
    """The digests of the pages of a put, in c.ask.packs, which is made if nobody has packed. What
    must be kept until the put is done."""
    table: bytes = None
    data: cython.p_const_char
    stored: u64
    i: u64
    if c.ask.packs == cython.NULL:
        table = bytes(c.ask.count * cython.sizeof(Packed))
        c.ask.packs = cython.cast(cython.pointer(Packed), PyBytes_AS_STRING(table))
    for i in range(c.ask.count):
        data = put_bytes(c, i, p.page_size, cython.address(stored))
        if stored >= TWIN_BYTES_MIN:
            number = xxh3_128_intdigest(
                PyMemoryView_FromMemory(cython.cast(cython.p_char, data), stored, PyBUF_READ), p.seed
            )
            c.ask.packs[i].digest[0] = number & 0xFFFFFFFFFFFFFFFF
            c.ask.packs[i].digest[1] = number >> 64
    return table


@cython.cclass
class PackedPam(RawPam):
    """Pages compressed, in arena chunks. Made by name; TmemError if the codec's package is not
    installed."""

    def __cinit__(self, name):
        self.codec = CODECS[name]()
        self.flag = flag_of(name)

    def prepare_larger(self, w, d, data, length, most):
        cls: cython.int = class_of(w, length) + 1
        status: cython.int = NOMEM
        while status == NOMEM and 0 < cls < EXTENT_CLASS and w.class_bytes[cls] < most + 64:
            status = self.place(w, d, data, length, cls)
            cls += 1
        return status

    def pack(self, w, p, c):
        """Compress the pages of a put: c.ask.packs says how each is stored. What must be kept until
        the put is done."""
        table: bytes = PyBytes_FromStringAndSize(cython.NULL, c.ask.count * cython.sizeof(Packed))
        packs: cython.pointer(Packed) = cython.cast(cython.pointer(Packed), PyBytes_AS_STRING(table))
        kept: list = [table]
        page: cython.p_const_char
        data: bytes
        i: u64
        length: u64
        packed: u64
        cls: cython.int
        for i in range(c.ask.count):
            page = c.ask.data + i * p.page_size
            length = put_length(c, i, p.page_size)
            packs[i].length = 0
            cls = class_of(w, length)
            if cls <= class_of(w, 1) or (p.evictable and same_filled(page, length)):
                continue
            data = self.codec.pack(PyMemoryView_FromMemory(cython.cast(cython.p_char, page), length, PyBUF_READ))
            if class_of(w, PyBytes_GET_SIZE(data)) == EXTENT_CLASS:
                data = framed(data)
            packed = PyBytes_GET_SIZE(data)
            if 0 < packed <= p.packed_max and (
                class_of(w, packed) < cls or cls == EXTENT_CLASS and packed + FRAME_UNIT <= length
            ):
                packs[i].data = PyBytes_AS_STRING(data)
                packs[i].length = packed
                kept.append(data)
        c.ask.packs = packs
        return kept

    def unpack(self, shape, data):
        """The page of a shape from its bytes as they are stored; None: they are no page, the arena
        is damaged."""
        if packed_in(shape) == 0:
            return data
        length: u64 = cython.cast(cython.uint, shape)
        if codec_in(shape) != self.flag:
            return None
        if size_class(shape) == EXTENT_CLASS:
            data = unframed(data)
        try:
            page = self.codec.unpack(data, length)
        except MemoryError:
            raise
        except Exception:
            return None
        return page if type(page) is bytes and len(page) == length else None

    def unpack_all(self, c, data):
        """The pages of a range from their joined bytes and c.ask.shapes, as a list; None: the arena
        is damaged."""
        found: list = []
        page: bytes
        at: u64 = 0
        i: u64
        length: u64
        tail: u64
        for i in range(c.ask.count):
            length = copied_of(c.ask.shapes[i])
            page = self.unpack(c.ask.shapes[i], data[at:at + length])
            if page is None:
                return None
            if has_any_tail(c.ask.shapes[i]):
                tail = tail_before(cython.NULL, PyBytes_AS_STRING(page) + len(page), len(page))
                if tail > cython.cast(u64, len(page)):
                    return None
                page = page[: len(page) - tail]
            found.append(page)
            at += length
        return found

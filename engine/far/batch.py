"""Owns Batch: pages of one pool that a far tier is to keep, sealed.

The values lie one behind the other, each from a multiple of 8 bytes on, in memory that begins where
a page does: so a file takes all of them as they lie, with one call and no copy. What another tier
wants, names, values, and how long each has to live, is made of it when it is asked for.
A sum is of name, handle and bytes. So for that moment name and handle stand in front of the bytes,
where the end of the value before is; and one call finds it. Rejected: an XXH3 of our own, to be
free of Python here, too: it would take a tenth of a microsecond from the two that a page costs.
The memory is kept from batch to batch. It is private: a forked child shares none with its parent.
"""
import mmap

from xxhash import xxh3_64_intdigest

import cython
from cython.cimports.cpython.buffer import PyBUF_READ, PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cython.cimports.cpython.bytes import PyBytes_FromStringAndSize
from cython.cimports.cpython.memoryview import PyMemoryView_FromMemory
from cython.cimports.engine.far.batch import BLOCK, Parcel, in_units
from cython.cimports.engine.far.names import HEAD_BYTES, NAME_BYTES, SEAL_BYTES
from cython.cimports.libc.string import memcpy, memset
from cython.cimports.shm.layout import u64


@cython.cclass
class Batch:
    """What `put_many` of a tier is given. `room`, and what tells where in it a value is, counts
    until put_many is over; lists and what is in them may be kept."""

    def begin(self, space):
        """Empty it, with room for values that take so many bytes."""
        if self.values_at == cython.NULL or space > self.space:
            if self.values_at != cython.NULL:
                self.values_at = cython.NULL
                PyBuffer_Release(cython.address(self.held))
            # A block before the values, for the head of the first, and one behind, which is the
            # last one's end.
            size: u64 = (space + 3 * BLOCK - 1) // BLOCK * BLOCK
            self.memory = mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
            PyObject_GetBuffer(self.memory, cython.address(self.held), PyBUF_SIMPLE)
            self.values_at = cython.cast(cython.p_char, self.held.buf) + BLOCK
            self.space = space
        self.count = 0
        self.end = 0
        return 0

    def __dealloc__(self):
        if self.values_at != cython.NULL:
            PyBuffer_Release(cython.address(self.held))

    def seal(self):
        """Write the sum of each page behind it, and zeroes behind all of them."""
        saved: Parcel
        i: cython.int
        for i in range(self.count):
            p: cython.pointer(Parcel) = cython.address(self.parcels[i])
            head: cython.p_char = self.values_at + p.at - HEAD_BYTES
            length: u64 = p.length - SEAL_BYTES
            memcpy(saved.head, head, HEAD_BYTES)
            memcpy(head, p.head, HEAD_BYTES)
            found: u64 = xxh3_64_intdigest(PyMemoryView_FromMemory(head, HEAD_BYTES + length, PyBUF_READ))
            memcpy(head, saved.head, HEAD_BYTES)
            memcpy(self.values_at + p.at + length, cython.address(found), SEAL_BYTES)
            memset(self.values_at + p.at + p.length, 0, in_units(p.length) - p.length)
        memset(self.values_at + self.end, 0, -self.end % BLOCK)
        return 0

    def name(self, i):
        return PyBytes_FromStringAndSize(cython.cast(cython.p_char, self.parcels[i].head), NAME_BYTES)

    # --- what a tier may ask ----------------------------------------------------------------------

    def __len__(self):
        return self.count

    @property
    def names(self):
        """The name of each, 16 bytes."""
        return [self.name(i) for i in range(self.count)]

    @property
    def values(self):
        """What is to be kept under each, bytes."""
        return [
            PyBytes_FromStringAndSize(self.values_at + self.parcels[i].at, self.parcels[i].length)
            for i in range(self.count)
        ]

    @property
    def ttls(self):
        """Milliseconds that each has to live, from now on; 0: for ever."""
        return [self.parcels[i].ttl for i in range(self.count)]

    @property
    def lengths(self):
        """Bytes of each value."""
        return [self.parcels[i].length for i in range(self.count)]

    @property
    def starts(self):
        """Where in `room` each value begins."""
        return [self.parcels[i].at for i in range(self.count)]

    @property
    def room(self):
        """The values as they lie, and zeroes to a multiple of 4 KiB: a memoryview."""
        return memoryview(self.memory)[BLOCK : BLOCK + (self.end + BLOCK - 1) // BLOCK * BLOCK]

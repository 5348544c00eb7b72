"""Owns a page that is one word over and over, as bytes of which a megabyte takes memory, however
long the page is: so that a few bytes of a file cannot ask for a gigabyte.
"""
import os

import cython
from cython.cimports.posix.mman import (
    MAP_ANONYMOUS,
    MAP_FAILED,
    MAP_FIXED,
    MAP_PRIVATE,
    MAP_SHARED,
    PROT_NONE,
    PROT_READ,
    mmap,
    munmap,
)
from cython.cimports.shm.kernel.system import MAP_NORESERVE
from cython.cimports.shm.layout import u64
from cython.cimports.shm.seal import seal

TILE = cython.declare(u64, 1 << 20)


@cython.cclass
class Repeated:
    """The bytes of such a page, from `at` on, mapped as long as this is there."""

    def begin(self, word, length):
        done: u64 = 0
        size: u64 = (length + TILE - 1) // TILE * TILE
        whole: cython.p_void = mmap(cython.NULL, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)
        if whole == MAP_FAILED:
            raise MemoryError
        self.at = cython.cast(cython.p_char, whole)
        self.length = size
        fd = os.memfd_create("tmem-page", os.MFD_CLOEXEC)
        try:
            os.write(fd, word * (TILE // 8))
            while done < size:
                if mmap(self.at + done, TILE, PROT_READ, MAP_SHARED | MAP_FIXED, fd, 0) == MAP_FAILED:
                    raise MemoryError
                done += TILE
        finally:
            os.close(fd)
        return 0

    def __dealloc__(self):
        if self.at != cython.NULL:
            munmap(self.at, self.length)


seal(Repeated, "engine.restore")


def repeated(word, length):
    """The page of `length` bytes that is this word, of 8, over and over."""
    made: Repeated = Repeated.__new__(Repeated)
    made.begin(word, length)
    return made

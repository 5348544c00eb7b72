"""Owns reading a snapshot: its head, and its blocks one after the other, each of them verified
before anybody looks at what is in it.

Never more than two blocks are in memory, whatever the file says. Behind a damaged block the next
one is found by its first word and its sum.
"""
import io
import os

from xxhash import xxh3_64_intdigest

import cython
from cython.cimports.cpython.bytes import PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cython.cimports.engine.layout.stream import BLOCK_BYTES, BLOCK_MAGIC, Block
from cython.cimports.engine.snapshots.source import BLOCK_BAD, BLOCK_END, BLOCK_GOOD
from cython.cimports.libc.errno import EINTR, errno
from cython.cimports.libc.string import memcpy, memmove
from cython.cimports.posix.unistd import read
from cython.cimports.shm.layout import u64
from cython.cimports.shm.seal import seal
from engine.errors import SnapshotDamaged
from engine.snapshots.head import read_head

MAGIC_BYTES = (0x6B6C62706D657489).to_bytes(8, "little")
WINDOW = 2 * (cython.sizeof(Block) + BLOCK_BYTES)


def descriptor_of(file):
    """That of an open file; -1: it has none."""
    try:
        return file.fileno()
    except (AttributeError, OSError, ValueError):
        return -1


def open_source(file):
    """The Source of an argument: a path, or an open binary file. TypeError, OSError,
    SnapshotDamaged, SnapshotVersionMismatch."""
    source: Source = Source.__new__(Source)
    if isinstance(file, (str, bytes, os.PathLike)):
        source.file = open(file, "rb", buffering=0)
        source.where = os.fsdecode(file)
    elif descriptor_of(file) >= 0 and hasattr(file, "read"):
        source.file = file
        source.where = str(getattr(file, "name", "the file"))
    else:
        raise TypeError(f"file: a path, or an open binary file, not {type(file).__name__}")
    try:
        source.fd = source.file.fileno()
        source.window = PyBytes_FromStringAndSize(cython.NULL, WINDOW)
        source.at = PyBytes_AS_STRING(source.window)
        source.said, source.id = read_head(source.take, source.where)
        try:
            source.start = os.lseek(source.fd, 0, os.SEEK_CUR) - (source.end - source.begin)
            source.again = True
        except OSError:
            source.again = False        # a pipe
    except BaseException:
        if source.file is not file:
            source.file.close()
        raise
    return source


@cython.cclass
class Source:
    """A snapshot that is read."""

    def close(self, file):
        """Close what was opened here."""
        if self.file is not file:
            self.file.close()

    def take(self, count):
        """So many bytes, or all there are; in pieces, so that no more memory is taken than there
        are bytes."""
        out = io.BytesIO()
        left: u64 = count
        got: u64
        while left != 0:
            got = min(self.have(min(left, BLOCK_BYTES)), left)
            if got == 0:
                break
            out.write(self.window[self.begin : self.begin + got])
            self.begin += got
            left -= got
        return out.getvalue()

    def rewind(self):
        """Read the blocks from the first one on."""
        os.lseek(self.fd, self.start, os.SEEK_SET)
        self.begin = self.end = 0
        self.number = 0

    def have(self, count):
        """Read until there are so many bytes in the window; how many there are."""
        done: cython.Py_ssize_t
        problem: cython.int
        most: u64
        if self.end - self.begin >= count:
            return self.end - self.begin
        memmove(self.at, self.at + self.begin, self.end - self.begin)
        self.end -= self.begin
        self.begin = 0
        while self.end < count:
            most = count - self.end
            with cython.nogil:
                done = read(self.fd, self.at + self.end, most)
                problem = errno
            if done < 0:
                if problem == EINTR:
                    continue
                raise OSError(problem, os.strerror(problem), self.where)
            if done == 0:
                break
            self.end += done
        return self.end

    def inside(self):
        """What is in the block that was just read, self.head.length bytes."""
        return self.at + self.begin

    def skip(self):
        """Go behind it."""
        self.begin += self.head.length
        return 0

    def next(self):
        """Go to the next block, which has its head in self.head and is left by `skip`: BLOCK_GOOD;
        BLOCK_BAD; BLOCK_END."""
        have: u64 = self.have(cython.sizeof(Block))
        self.lost = 0
        if have == 0:
            return BLOCK_END
        if have < cython.sizeof(Block):
            return self.bad("it ends in the middle of a block")
        memcpy(cython.address(self.head), self.at + self.begin, cython.sizeof(Block))
        if self.head.magic != BLOCK_MAGIC or self.head.length > BLOCK_BYTES:
            return self.bad("no block begins where one should")
        have = self.have(cython.sizeof(Block) + self.head.length)
        if have < cython.sizeof(Block) + self.head.length:
            return self.bad("it ends in the middle of a block")
        seen = memoryview(self.window)[self.begin + 16 : self.begin + cython.sizeof(Block) + self.head.length]
        if xxh3_64_intdigest(seen, self.id) != self.head.sum:
            return self.bad("a block has another sum")
        if self.head.number < self.number:
            return self.bad("a block comes twice")
        self.lost = self.head.number - self.number
        self.number = self.head.number + 1
        self.begin += cython.sizeof(Block)
        return BLOCK_GOOD

    def bad(self, why):
        """Go to where the next block may begin."""
        found: cython.Py_ssize_t
        self.why = f"{self.where}: {why}"
        self.begin += min(self.end - self.begin, 1)
        while True:
            found = self.window.find(MAGIC_BYTES, self.begin, self.end)
            if found >= 0:
                self.begin = found
                break
            # The word may be cut in two where the window ends.
            self.begin = max(self.begin, self.end - 7 if self.end > 7 else 0)
            before: u64 = self.end - self.begin
            if self.have(BLOCK_BYTES) <= before:
                self.begin = self.end
                break
        return BLOCK_BAD


seal(Source, "engine.restore")


def refuse(source):
    """The error for what `why` says."""
    return SnapshotDamaged(f"{source.why}; partial=True (--partial) restores what is whole")

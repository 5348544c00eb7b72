"""Owns the far tier that is one file on a local disk: where pages lie in it, and how it is reused.

The file has its memory from the start. Behind a first block, which says whose it is, lie regions of
2 MiB, which are written one after the other and over again from the first one on: what was written
first goes first. Pages are written in batches, each from a block of the disk on; a batch lies in
one region, and a region that has no room for the next is left as it is.
A token is the number of the region, counted from the first that was ever begun, and where in it the
page begins, in units of 8 bytes. So regions need no table: the number of the last one begun says of
every token whether its region was begun anew since. The arena has that number before the first byte
is written over. Who reads meanwhile gets a mixture, which its seal does not fit.
Never: an index on disk, compaction, or recovery after a reboot. With the arena goes what is in it.
A lock of the open file, shared among those who have it open, says that it is in use: no other pool
can be made with it. A file that nobody has open may be taken, and its pages are then misses.
Kill at any instruction: what was written, and nobody has a token of, is never read.
"""
import errno
import fcntl
import mmap
import os
import secrets
import struct
import threading
from collections.abc import Sequence
from urllib.parse import parse_qsl, unquote, urlsplit

from engine.errors import TmemError
from engine.far.answers import FAILED, Answer
from engine.far.batch import Batch
from engine.far.disk import Disk
from engine.sizes import parse_size

BLOCK = 4096                    # what a batch begins at a multiple of, and the first block
REGION = 2 << 20
UNIT = 8
PLACE_BITS = 18                 # of a token: REGION // UNIT places
REGIONS_MIN = 2
GAP_MAX = 16 << 10              # bytes that are read in vain between two values, which take less than a second read
READ_MAX = 1 << 20
HEADER = struct.Struct("<8sQQQ")        # magic, nonce of the arena, tag, regions
MAGIC = b"tmemfar1"
LOCK = struct.Struct("@hhqqi")  # struct flock: type, whence, start, len, pid
EXCLUSIVE = fcntl.F_WRLCK
SHARED = fcntl.F_RDLCK


def place_of(target: str) -> tuple[str, int]:
    """The path of a target, and how many regions its file has. ValueError names the argument."""
    parts = urlsplit(target)
    asked = dict(parse_qsl(parts.query, keep_blank_values=True))
    size = asked.pop("size", None)
    path = unquote(parts.path)
    if parts.netloc or not path.startswith("/") or path.endswith("/") or size is None or asked:
        raise ValueError(f"far: 'file:///PATH?size=SIZE', an absolute path and a size such as 50GiB, not {target!r}")
    regions = (parse_size("far: size", size) - BLOCK) // REGION
    if not REGIONS_MIN <= regions < 1 << 40:
        raise ValueError(f"far: size: at least {BLOCK + REGIONS_MIN * REGION} bytes, not {size}")
    return path, regions


def _open(path: str, flags: int, mode: int = 0) -> tuple[int, bool]:
    """The file, past the page cache if its file system does that: (descriptor, whether)."""
    try:
        return os.open(path, flags | os.O_DIRECT | os.O_CLOEXEC | os.O_NOFOLLOW, mode), True
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
    return os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW, mode), False


def _lock(fd: int, kind: int) -> bool:
    """Take the lock of the open file, or change it; False: others are in the way."""
    try:
        fcntl.fcntl(fd, fcntl.F_OFD_SETLK, LOCK.pack(kind, os.SEEK_SET, 0, 1, 0))
    except OSError as error:
        if error.errno in (errno.EAGAIN, errno.EACCES):
            return False
        raise
    return True


def _at(token: int) -> int:
    """Where in its region a value begins."""
    return (token & ((1 << PLACE_BITS) - 1)) * UNIT


def _end(wanted: tuple[int, int, int]) -> int:
    """Where in its region a value ends, by its token and length."""
    return _at(wanted[0]) + wanted[1]


def _stretch(wanted: Sequence[tuple[int, int, int]], first: int) -> int:
    """Behind which of the values, sorted by where they lie, one read ends that begins with this
    one."""
    stop = first + 1
    token = wanted[first][0]
    while stop < len(wanted):
        behind, length, _ = wanted[stop]
        if (
            behind >> PLACE_BITS != token >> PLACE_BITS
            or _at(behind) - _end(wanted[stop - 1]) > GAP_MAX
            or length > READ_MAX + _at(token) - _at(behind)
        ):
            break
        stop += 1
    return stop


class FileTier:
    """A tier in one file; made by `make` and `open`."""

    deletes = False
    apart = True
    durable = False
    trouble = None
    longest = REGION
    batch_bytes = REGION

    def __init__(self, fd: int, direct: bool, regions: int) -> None:
        self.fd = fd
        self.file = os.fstat(fd)
        self.direct = direct
        self.regions = regions
        self.region = -1            # that is being filled, by the process of this number
        self.filler = 0
        self.filled = REGION        # bytes of it
        self.disk = Disk()          # of who spills
        self.tokens: list[int] = []     # of the batch that is being written
        self.begun = 0              # bytes of it
        self.rooms = threading.local()
        self.sector = self._sector() if direct else 1

    def __del__(self) -> None:
        if self.fd >= 0 and self._has_file():
            os.close(self.fd)
        self.fd = -1

    def _has_file(self) -> bool:
        """Whether the descriptor leads to the file still. Who closes all that he has, as daemons
        do, may have got its number for another file, which is not ours to write to."""
        try:
            return os.path.samestat(os.fstat(self.fd), self.file)
        except OSError:
            return False

    # --- making and opening -----------------------------------------------------------------------

    @classmethod
    def make(cls, target: str, nonce: int, mode: int) -> tuple["FileTier", list[int]]:
        """The tier of a new pool in the arena of this nonce, and its words."""
        path, regions = place_of(target)
        size = BLOCK + regions * REGION
        try:
            fd, direct = _open(path, os.O_RDWR | os.O_CREAT, mode & 0o666)
            tier = cls(fd, direct, regions)
            there = os.fstat(fd).st_size
            if there != 0 and tier._read(0, HEADER.size)[:8] != MAGIC:
                raise ValueError(f"far: {path!r} is there, and no file of a far tier: another path, or remove it")
            if not _lock(fd, EXCLUSIVE):
                raise TmemError(f"far: {path!r} is in use by another pool; each needs a file of its own")
            os.ftruncate(fd, size)
            os.posix_fallocate(fd, 0, size)
            tag = secrets.randbits(64) | 1
            tier._write(0, tier._first_block(HEADER.pack(MAGIC, nonce, tag, regions)))
            _lock(fd, SHARED)
        except OSError as error:
            raise TmemError(f"far: no file of {size} bytes can be had at {path!r}: {error.strerror}") from error
        return tier, [0, 1, tag, regions]       # the first region is number 1: no token is 0

    @classmethod
    def open(cls, target: str, nonce: int, words: Sequence[int], nodes: object = None) -> "FileTier":
        """The tier of a pool that is there."""
        path, regions = place_of(target)
        try:
            try:
                fd, direct = _open(path, os.O_RDWR)
            except OSError as error:
                if error.errno not in (errno.EACCES, errno.EROFS):
                    raise
                fd, direct = _open(path, os.O_RDONLY)       # who may only read can still get
            tier = cls(fd, direct, regions)
            if not _lock(fd, SHARED):
                raise TmemError(f"far: {path!r} is being made anew for another pool")
            header = tier._read(0, HEADER.size)
        except OSError as error:
            raise TmemError(f"far: the file at {path!r} cannot be used: {error.strerror}") from error
        if header != HEADER.pack(MAGIC, nonce, words[2], words[3]) or words[3] != regions:
            raise TmemError(f"far: the file at {path!r} is not the one this pool was made with")
        return tier

    def _sector(self) -> int:
        """What reads past the page cache must begin at a multiple of."""
        room = self._room(BLOCK)
        try:
            os.preadv(self.fd, [room[:512]], 512)
        except OSError:
            return BLOCK
        return 512

    # --- bytes in and out -------------------------------------------------------------------------

    def _room(self, size: int) -> memoryview:
        """Memory of this thread's that begins where a page does, until `_keep`: a signal handler
        that gets pages meanwhile has its own. Private: a forked child shares none with its
        parent."""
        room, pid = self.rooms.__dict__.pop("room", (None, 0))
        if room is None or len(room) < size or pid != os.getpid():
            size = (size + 2 * BLOCK) // BLOCK * BLOCK
            room = memoryview(mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))
        found: memoryview = room
        return found

    def _keep(self, room: memoryview) -> None:
        """Have a room ready for the next time."""
        self.rooms.room = room, os.getpid()

    def _reader(self) -> Disk:
        """What reads for this thread."""
        disk: Disk | None = getattr(self.rooms, "disk", None)
        if disk is None:
            disk = self.rooms.disk = Disk()
        return disk

    def _read(self, at: int, length: int) -> bytes:
        """What stands there; less where the file is shorter."""
        if not self.direct:
            return os.pread(self.fd, length, at)
        skip = at % self.sector
        span = (skip + length + self.sector - 1) // self.sector * self.sector
        room = self._room(span)
        got = os.preadv(self.fd, [room[:span]], at - skip)
        value = bytes(room[skip : min(skip + length, got)])
        self._keep(room)
        return value

    def _write(self, at: int, room: memoryview) -> None:
        """Write whole blocks there. OSError if not all was written."""
        if os.pwritev(self.fd, [room], at) != len(room):
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    def _first_block(self, header: bytes) -> memoryview:
        room = self._room(BLOCK)
        room[:BLOCK] = header + bytes(BLOCK - len(header))
        return room[:BLOCK]

    def _start(self, region: int) -> int:
        return BLOCK + region % self.regions * REGION

    def _place(self, token: int) -> int:
        """Where in the file a value begins."""
        return self._start(token >> PLACE_BITS) + _at(token)

    # --- what a tier is asked ---------------------------------------------------------------------

    def prepare(self, lengths: Sequence[int], words: Sequence[int]) -> list[int]:
        """Begin a region if the one that is being filled has no room for these values."""
        begun = words[1]
        size = sum((length + UNIT - 1) // UNIT * UNIT for length in lengths)
        # A forked child does not know what its parent has written since.
        if self.region + 1 == begun and self.filled + size <= REGION and self.filler == os.getpid():
            return list(words)
        self.region, self.filled, self.filler = begun, 0, os.getpid()
        return [max(0, begun + 1 - self.regions) << PLACE_BITS, begun + 1, *words[2:]]

    def put_many(self, batch: Batch) -> list[int]:
        """Write values as they lie, one batch, where `prepare` has found room."""
        self.begin_put(batch)
        return self.end_put()

    def begin_put(self, batch: Batch) -> None:
        """The same, until it is under way."""
        room = batch.room
        place = self._start(self.region) + self.filled
        self.tokens = [self.region << PLACE_BITS | (self.filled + at) // UNIT for at in batch.starts]
        self.begun = len(room) if self._has_file() else -1
        if self.begun < 0:
            return
        self.filled += len(room)        # first: a signal handler may raise when it is under way
        self.disk.begin(self.fd, room, place)

    def end_put(self) -> list[int]:
        """Wait for it: 0 for all if not all was written."""
        done = self.disk.end() == self.begun > 0
        return self.tokens if done else [0] * len(self.tokens)

    def get_many(
        self, names: Sequence[bytes], tokens: Sequence[int], lengths: Sequence[int]
    ) -> list[bytes | None | Answer]:
        """Read values: those that lie near each other, as pages do that left together, at once."""
        if not self._has_file():
            return [FAILED] * len(names)
        if len(tokens) == 1:
            return [self._get(tokens[0], lengths[0])]
        found: list[bytes | None | Answer] = [None] * len(names)
        # What cannot be in a file, by a damaged descriptor, is not there.
        wanted = sorted(one for one in zip(tokens, lengths, range(len(names)), strict=True)
                        if 0 < one[1] <= REGION - _at(one[0]))
        stretches: list[tuple[int, int, int, int]] = []     # the first and behind the last, where in the room, bytes
        spans = []
        first = size = 0
        while first < len(wanted):
            stop = _stretch(wanted, first)
            start = self._place(wanted[first][0])
            skip = start % self.sector
            whole = skip + _end(wanted[stop - 1]) - _at(wanted[first][0])
            stretches.append((first, stop, size + skip, size + whole))
            spans.append((start - skip, size, (whole + self.sector - 1) // self.sector * self.sector))
            size += (whole + BLOCK - 1) // BLOCK * BLOCK
            first = stop
        room = self._room(size)
        done = self._reader().read(self.fd, room, spans)
        for (first, stop, start, end), (_, begun, _), got in zip(stretches, spans, done, strict=True):
            near = _at(wanted[first][0])
            for token, length, place in wanted[first:stop]:
                at = start + _at(token) - near
                # By itself if the read has failed, or was too short.
                there = at + length <= min(begun + got, end)
                found[place] = bytes(room[at : at + length]) if there else self._get(token, length)
        self._keep(room)
        return found

    def _get(self, token: int, length: int) -> bytes | None | Answer:
        at = _at(token)
        if not 0 < length <= REGION - at:
            return None
        at = self._place(token)
        try:
            value = self._read(at, length)
            # A read that is too short is at the end of a file that was cut, or an error of the
            # disk, which is told at the next one.
            gone = len(value) < length and os.fstat(self.fd).st_size < at + length
        except OSError:
            return FAILED
        return None if gone else value if len(value) == length else FAILED

    def delete_many(self, names: Sequence[bytes], tokens: Sequence[int]) -> None:
        """Nothing to do: what is not needed is written over in its turn."""

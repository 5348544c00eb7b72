"""Owns the arena file: its name, its geometry, creating, attaching (with every check), mapping, unlinking.

May call: memory, semaphores, liveness, posix_ipc. Called by workers.Attachment; tables inside the regions are
other files' business. An arena is ready when its magic word is there, written last; a creator holds the birth
byte until then, so that an attacher can tell one that is slow from one that died.
"""
import os
import re
import stat
import struct
import time

import posix_ipc
import xxhash

import cython
from cython.cimports.posix.mman import (
    MAP_ANONYMOUS,
    MAP_FAILED,
    MAP_FIXED,
    MAP_PRIVATE,
    MAP_SHARED,
    PROT_NONE,
    PROT_READ,
    PROT_WRITE,
    mmap,
    munmap,
)
from cython.cimports.shm.layout import (
    CLASS_COUNT,
    CLIENT_WORDS,
    HUGE_BYTES,
    JOURNAL_BYTES,
    LAYOUT_VERSION,
    OK,
    SLOT_BYTES,
    SYS_PAGE,
    Depot,
    Header,
    Segment,
    Slot,
    u64,
)
from cython.cimports.shm.liveness import byte_held, byte_try
from cython.cimports.shm.memory import back
from cython.cimports.shm.system import MAP_NORESERVE
from shm import semaphores
from shm.errors import AccessDenied, ArenaBusy, ArenaCorrupted, ArenaExists, ArenaNotFound, TmemError

LIMIT_OFFSET = 64       # of Depot.limit
MAGIC = b"tmem\x00arn"
BIRTH_BYTE = 1 << 21
BIRTH_WAIT_S = 5.0
CAPACITY_MIN = 1 << 20
CAPACITY_MAX = 1 << 42
_FIELDS = ("capacity", "seg_shift", "seg_total", "max_workers", "bounce_bytes", "ledger_bytes",
           "client_bytes", "mode", "huge", "nonce")
_HEADER = struct.Struct(f"<8sQQ{len(_FIELDS)}Q{CLIENT_WORDS}Q")
_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,199}")


def check_name(name):
    """The name, if it can be an arena's; TypeError or ValueError else."""
    if not isinstance(name, str):
        raise TypeError(f"name: a str of letters, digits, '_', '.', '-', not {type(name).__name__}")
    if not _NAME.fullmatch(name):
        raise ValueError(f"name: 1 to 200 letters, digits, '_', '.', '-', not starting with '.': {name!r}")
    return name


def _round(n, unit):
    return (n + unit - 1) // unit * unit


def regions(geometry):
    """Offset of every region, and the size of the file, by name; see layout.pxd."""
    workers = geometry["max_workers"]
    sizes = (
        ("slots", workers * SLOT_BYTES),
        ("bounces", workers * geometry["bounce_bytes"]),
        ("ledgers", workers * geometry["ledger_bytes"]),
        ("client", geometry["client_bytes"]),
        ("journals", workers * JOURNAL_BYTES),
        ("segtable", geometry["seg_total"] * cython.sizeof(Segment)),
        ("marks", geometry["seg_total"] << (geometry["seg_shift"] - 8)),
    )
    offsets, at = {}, 2 * SYS_PAGE
    for name, size in sizes:
        offsets[name] = at
        at = _round(at + size, SYS_PAGE)
    offsets["segments"] = _round(at, HUGE_BYTES)
    offsets["tail"] = offsets["segments"] + (geometry["seg_total"] << geometry["seg_shift"])
    offsets["end"] = offsets["tail"] + SYS_PAGE
    return offsets


def layout_id(client_layout):
    """A number that changes when a struct of either layer does."""
    text = (f"{LAYOUT_VERSION} {cython.sizeof(Header)} {cython.sizeof(Depot)} {cython.sizeof(Slot)} "
            f"{cython.sizeof(Segment)} {SLOT_BYTES} {JOURNAL_BYTES} {CLASS_COUNT} {client_layout}")
    return xxhash.xxh64_intdigest(text.encode())


def _geometry(capacity, max_workers, bounce_bytes, ledger_bytes, client_bytes, mode, huge):
    seg_shift = 18 if capacity >= 1 << 26 else 16
    return {
        "capacity": capacity >> seg_shift << seg_shift, "seg_shift": seg_shift,
        "seg_total": capacity >> seg_shift, "max_workers": max_workers,
        "bounce_bytes": _round(bounce_bytes, SYS_PAGE), "ledger_bytes": _round(ledger_bytes, SYS_PAGE),
        "client_bytes": _round(client_bytes, SYS_PAGE), "mode": mode,
        "huge": int(huge and seg_shift == 18), "nonce": int.from_bytes(os.urandom(8), "little"),
    }


def _open(name, **how):
    try:
        return posix_ipc.SharedMemory("/" + name, **how)
    except posix_ipc.PermissionsError:
        raise AccessDenied(f"arena {name!r}: permission denied") from None


def create(name, capacity, limit, max_workers, bounce_bytes, ledger_bytes, client_bytes, mode, huge, client_layout, client):
    """Make the arena file, its header and its tables. The Arena, mapped. `limit`: bytes of the capacity that may have memory for now.

    ArenaExists if the name is taken; TmemError if the file system cannot hold the tables.
    """
    check_name(name)
    geometry = _geometry(capacity, max_workers, bounce_bytes, ledger_bytes, client_bytes, mode, huge)
    where = regions(geometry)
    try:
        shared = _open(name, flags=posix_ipc.O_CREX, mode=0o600)
    except posix_ipc.ExistentialError:
        raise ArenaExists(f"arena {name!r} is there already") from None
    try:
        byte_try(shared.fd, BIRTH_BYTE)
        semaphores.unlink_all(name)
        os.ftruncate(shared.fd, where["end"])
        for start, end in ((0, 2 * SYS_PAGE), (where["segtable"], where["marks"]), (where["tail"], where["end"])):
            if back(shared.fd, start, end - start) != OK:
                raise TmemError(f"arena {name!r}: no memory in {semaphores.SHM_DIR} for its tables")
        os.fchmod(shared.fd, mode)
        words = [geometry[field] for field in _FIELDS] + list(client)
        words += [0] * (len(_FIELDS) + CLIENT_WORDS - len(words))
        body = _HEADER.pack(MAGIC, layout_id(client_layout), 0, *words)
        body = body[:16] + struct.pack("<Q", xxhash.xxh64_intdigest(body[24:])) + body[24:]
        if limit < capacity:
            os.pwrite(shared.fd, struct.pack("<Q", limit >> geometry["seg_shift"]), SYS_PAGE + LIMIT_OFFSET)
        os.pwrite(shared.fd, body[8:], 8)
        os.pwrite(shared.fd, body[:8], 0)
    except BaseException as error:
        shared.close_fd()
        posix_ipc.unlink_shared_memory("/" + name)
        if isinstance(error, OSError):
            raise TmemError(f"arena {name!r}: {error}") from error
        raise
    # The birth byte goes with the last descriptor of this opening; the arena's own opening is another.
    shared.close_fd()
    return attach(name, client_layout)


def attach(name, client_layout):
    """Open, check and map an arena that is there. See the error classes for what is refused."""
    check_name(name)
    try:
        shared = _open(name)
    except posix_ipc.ExistentialError:
        raise ArenaNotFound(f"no arena {name!r}") from None
    except (OSError, ValueError) as error:
        raise ArenaCorrupted(f"arena {name!r}: {error}") from None
    try:
        os.set_inheritable(shared.fd, False)
        _check_owner(name, os.fstat(shared.fd))
        geometry = _read_header(name, shared.fd, client_layout)
        return Arena(name, shared.fd, geometry)
    except BaseException:
        shared.close_fd()
        raise


def _check_owner(name, status):
    if not stat.S_ISREG(status.st_mode):
        raise ArenaCorrupted(f"arena {name!r}: not a regular file")
    if status.st_uid != os.geteuid() and status.st_mode & 0o022:
        raise AccessDenied(
            f"arena {name!r} belongs to user {status.st_uid}, and others may write to it "
            f"(mode {stat.S_IMODE(status.st_mode):#o})"
        )


def _read_header(name, fd, client_layout):
    started = time.monotonic()
    while True:
        held = byte_held(fd, BIRTH_BYTE)
        raw = os.pread(fd, _HEADER.size, 0)
        if len(raw) == _HEADER.size and raw[:8] != bytes(8):
            break
        waited = time.monotonic() - started
        # A creator takes the birth byte a moment after the file appears.
        if not held and waited > 0.05:
            raise ArenaCorrupted(f"arena {name!r}: truncated, or its creation was never finished; unlink it")
        if waited > BIRTH_WAIT_S:
            raise ArenaBusy(f"arena {name!r} is still being created")
        time.sleep(0.001)
    magic, identity, checksum, *words = _HEADER.unpack(raw)
    if magic != MAGIC:
        raise ArenaCorrupted(f"{semaphores.SHM_DIR}/{name} is not an arena")
    if identity != layout_id(client_layout):
        raise ArenaCorrupted(f"arena {name!r} has another layout: it was made by another version")
    if checksum != xxhash.xxh64_intdigest(raw[24:]):
        raise ArenaCorrupted(f"arena {name!r}: the header's checksum is wrong")
    geometry = dict(zip(_FIELDS, words, strict=False))
    geometry["client"] = words[len(_FIELDS):]
    if not (
        geometry["seg_shift"] in (16, 18)
        and 1 << geometry["seg_shift"] <= geometry["capacity"] <= CAPACITY_MAX
        and geometry["seg_total"] == geometry["capacity"] >> geometry["seg_shift"]
        and 0 < geometry["max_workers"] <= 4096
        and geometry["huge"] <= 1 and geometry["mode"] <= 0o777
        and all(geometry[part] % SYS_PAGE == 0 for part in ("bounce_bytes", "ledger_bytes", "client_bytes"))
        and os.fstat(fd).st_size >= regions(geometry)["end"]
    ):
        raise ArenaCorrupted(f"arena {name!r} is truncated, or its geometry is impossible")
    return geometry


def reopen(fd):
    """A new opening of the file behind a descriptor, whether its name is still there or not. TmemError without /proc."""
    try:
        return os.open(f"/proc/self/fd/{fd}", os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        raise TmemError(f"cannot reopen the arena through /proc/self/fd: {error}") from None


def unlink(name):
    """Remove the arena's name and its semaphores; who is attached goes on until it closes."""
    check_name(name)
    try:
        posix_ipc.unlink_shared_memory("/" + name)
    except posix_ipc.ExistentialError:
        semaphores.unlink_all(name)
        raise ArenaNotFound(f"no arena {name!r}") from None
    except posix_ipc.PermissionsError:
        raise AccessDenied(f"arena {name!r}: permission denied") from None
    semaphores.unlink_all(name)


@cython.cclass
class Arena:
    """One mapping of an arena, unmapped when collected, and a descriptor of an opening of its own (`fd`), which
    belongs to the attachment. The descriptor passed in is closed.

    geometry: header fields by name, checked; `client` is the list of the layer above's words.
    """

    def __init__(self, name, fd, geometry):
        self.name = name
        self.geometry = geometry
        self.fd = -1
        size = regions(geometry)["end"]
        # A huge page of the file can be one of the mapping only if both begin at a multiple of its size: claim addresses
        # for that much more, and map over the part of them that begins right.
        wide: u64 = size + HUGE_BYTES
        claimed: cython.p_void = mmap(cython.NULL, wide, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)
        if claimed == MAP_FAILED:
            raise TmemError(f"arena {name!r}: cannot map {size} bytes")
        self.claimed = cython.cast(cython.p_char, claimed)
        self.claimed_bytes = wide
        start: u64 = (cython.cast(u64, claimed) + HUGE_BYTES - 1) & ~cython.cast(u64, HUGE_BYTES - 1)
        at: cython.p_void = mmap(cython.cast(cython.p_void, start), size, PROT_READ | PROT_WRITE,
                                 MAP_SHARED | MAP_NORESERVE | MAP_FIXED, fd, 0)
        if at == MAP_FAILED:
            raise TmemError(f"arena {name!r}: cannot map {size} bytes")
        self.base = cython.cast(cython.p_char, at)
        self.map_bytes = size
        # The mapping keeps its open file description alive, in forked children too, and with it every lock taken
        # through it. Liveness needs a description that ends with its descriptor: one that is not mapped.
        self.fd = reopen(fd)
        os.close(fd)

    def __dealloc__(self):
        if self.claimed != cython.NULL:
            munmap(self.claimed, self.claimed_bytes)

    def describe(self, w):
        """Fill the parts of a Worker that follow from the geometry alone."""
        where = regions(self.geometry)
        w.base = self.base
        w.map_bytes = self.map_bytes
        w.header = cython.cast(cython.pointer(Header), self.base)
        w.depot = cython.cast(cython.pointer(Depot), self.base + SYS_PAGE)
        w.seg_shift = self.geometry["seg_shift"]
        w.seg_total = self.geometry["seg_total"]
        w.max_workers = self.geometry["max_workers"]
        w.huge = self.geometry["huge"]
        w.huge_skip = 0
        w.huge_failures = 0
        w.slots_off = where["slots"]
        w.bounces_off = where["bounces"]
        w.bounce_bytes = self.geometry["bounce_bytes"]
        w.ledgers_off = where["ledgers"]
        w.ledger_bytes = self.geometry["ledger_bytes"]
        w.client_off = where["client"]
        w.client_bytes = self.geometry["client_bytes"]
        w.journals_off = where["journals"]
        w.segtable_off = where["segtable"]
        w.marks_off = where["marks"]
        for i, word in enumerate(self.geometry["client"]):
            w.client_geometry[i] = word
        w.segtable = cython.cast(cython.pointer(Segment), self.base + w.segtable_off)
        w.seg_lo = where["segments"]
        w.seg_span = 0

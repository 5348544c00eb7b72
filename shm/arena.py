"""Owns the arena file: its name, its geometry, creating, attaching (with every check), mapping,
unlinking.

An arena is ready when its magic word is there, written last; a creator holds the birth byte until
then, so that an attacher can tell one that is slow from one that died. Beside the arena lie its
liveness file and semaphores, whose names begin with the arena's and go on with its nonce.
"""
import dataclasses
import os
import re
import stat
import struct
import time

import posix_ipc
import xxhash

import cython
from cython.cimports.libc.string import memset
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
    mprotect,
    munmap,
)
from cython.cimports.posix.stat import fstat, struct_stat
from cython.cimports.shm.kernel.liveness import birth_held, birth_try, make_alive
from cython.cimports.shm.kernel.system import MAP_NORESERVE, munlock
from cython.cimports.shm.layout import (
    BULK_CAP,
    CLASS_COUNT,
    CLIENT_WORDS,
    HUGE_BYTES,
    JOURNAL_BYTES,
    LAYOUT_VERSION,
    MAG_CAP,
    OK,
    SLOT_BYTES,
    SYS_PAGE,
    Depot,
    Header,
    Lock,
    Magazine,
    Segment,
    Slot,
    Worker,
    u64,
)
from cython.cimports.shm.memory import back_file
from cython.cimports.shm.segments import limit_of, set_classes
from shm import entry
from shm.copies import home_of, settle
from shm.entry import BORN, MAGIC
from shm.errors import (
    AccessDenied,
    ArenaBusy,
    ArenaCorrupted,
    ArenaExists,
    ArenaVersionMismatch,
    TmemError,
)
from shm.kernel.liveness import SHM_DIR, alive_name
from shm.memory import has_huge_pages

LIMIT_OFFSET: u64 = cython.cast(u64, cython.address(cython.cast(cython.pointer(Depot), 0).limit))
LAYOUT_MARK = 0xA7      # first byte of a layout_id that tells versions
BIRTH_WAIT_S = 5.0
CAPACITY_MIN = 1 << 20
CAPACITY_MAX = 1 << 42
_FIELDS = ("capacity", "seg_shift", "seg_total", "max_workers", "bounce_bytes", "ledger_bytes",
           "client_bytes", "mode", "huge", "secret")
_HEADER = struct.Struct(f"<8sQQ{len(_FIELDS)}Q{CLIENT_WORDS}QQQ")
_SUMMED = slice(24, _HEADER.size - 16)      # what the checksum is of: all behind it but the nonce and the home
_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,199}")
# What the structs of the substrate must fill, or must not be larger than.
_SIZES = {
    "Lock": (cython.sizeof(Lock), 32),
    "Header": (cython.sizeof(Header), _HEADER.size),
    "Depot": (max(cython.sizeof(Depot), SYS_PAGE), SYS_PAGE),
    "Segment": (cython.sizeof(Segment), 64),
    "Magazine": (cython.sizeof(Magazine), 8 + MAG_CAP * 8),
    # Its last magazine, of the bulk class, is longer than it is declared.
    "Slot": (max(cython.sizeof(Slot) + (BULK_CAP - MAG_CAP) * 8, SLOT_BYTES), SLOT_BYTES),
}


def assert_sizes(said):
    """ImportError, unless both of each pair in `said` are the same: the size of a struct that lies
    in arenas, and the size of what it must fill."""
    wrong = {name: pair for name, pair in said.items() if pair[0] != pair[1]}
    if wrong:
        raise ImportError(f"structs of another size than what they lie in: {wrong}")


assert_sizes(_SIZES)


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
    """A number that changes when a struct of either layer does: a mark, the version of either, and
    a hash. The client's layout is a text whose first number is its version."""
    text = (f"{LAYOUT_VERSION} {cython.sizeof(Header)} {cython.sizeof(Depot)} {cython.sizeof(Slot)} "
            f"{cython.sizeof(Segment)} {cython.sizeof(Lock)} {cython.sizeof(Magazine)} "
            f"{SLOT_BYTES} {JOURNAL_BYTES} {CLASS_COUNT} {client_layout}")
    version = LAYOUT_MARK << 16 | LAYOUT_VERSION << 8 | int(re.search(r"\d+", client_layout)[0])
    return version << 40 | xxhash.xxh64_intdigest(text.encode()) >> 24


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """What an arena is made with."""

    capacity: int           # bytes of all segments together: the most that a resize can make of it
    limit: int              # bytes of these that may have memory for now
    max_workers: int        # how many worker slots there are
    bounce_bytes: int       # length of the longest page, for which each worker has a bounce page
    ledger_bytes: int       # bytes that the layer above has for each worker
    client_bytes: int       # bytes that the layer above has for all workers together
    client_layout: str      # what tells layouts of the layer above apart: a text whose first number is its version
    client: tuple           # words that the layer above keeps in the header, 16 at most
    mode: int               # permission bits of the file, and of what lies beside it
    group: int              # number of the group whose file it is; -1 is this process's
    secret: int = 0         # what hashes in the arena begin with; 0: a new one
    huge: bool              # whether the system is asked for huge pages, where the segments are large enough


def new_secret():
    """64 random bits, of which one is set."""
    return int.from_bytes(os.urandom(8), "little") or 1


def _geometry(plan):
    """The fields of the header that follow from a Plan, by name."""
    seg_shift = 18 if plan.capacity >= 1 << 26 else 16
    return {
        "capacity": plan.capacity >> seg_shift << seg_shift,
        "seg_shift": seg_shift,
        "seg_total": plan.capacity >> seg_shift,
        "max_workers": plan.max_workers,
        "bounce_bytes": _round(plan.bounce_bytes, SYS_PAGE),
        "ledger_bytes": _round(plan.ledger_bytes, SYS_PAGE),
        "client_bytes": _round(plan.client_bytes, SYS_PAGE),
        "mode": plan.mode,
        "huge": int(plan.huge and seg_shift == 18),
        "secret": plan.secret or new_secret(),
    }


def glance(raw, client_layout):
    """Of an arena whose first two pages these are: the capacity, and how much of it is taken, in
    bytes. None if it is of another version, or says what cannot be."""
    w: Worker
    start: cython.p_char = raw
    used: u64 = 0
    cls: cython.int
    if len(raw) < 2 * SYS_PAGE:
        return None
    memset(cython.address(w), 0, cython.sizeof(w))
    w.header = cython.cast(cython.pointer(Header), start)
    w.depot = cython.cast(cython.pointer(Depot), start + SYS_PAGE)
    w.seg_shift = w.header.seg_shift
    w.seg_total = w.header.seg_total
    if w.header.layout_id != layout_id(client_layout) or w.seg_shift not in (16, 18):
        return None
    set_classes(cython.address(w))
    for cls in range(CLASS_COUNT):
        used += (w.depot.class_segments[cls] * w.class_chunks[cls] - w.depot.class_free[cls]) * w.class_bytes[cls]
    return limit_of(cython.address(w)) << w.seg_shift, min(used, w.seg_total << w.seg_shift)


def create(name, plan):
    """Make the arena file, its header and its tables, as a Plan says. The Arena, mapped.

    ArenaExists if the name is taken; AccessDenied if the group is not this user's; TmemError if the
    file system cannot hold the tables.
    """
    check_name(name)
    geometry = _geometry(plan)
    where = regions(geometry)
    try:
        shared = entry.open_entry(name, flags=posix_ipc.O_CREX, mode=0o600)
    except posix_ipc.ExistentialError:
        raise ArenaExists(
            f"arena {name!r} is there already: attach to it, create it with exist_ok=True, or unlink it first"
        ) from None
    try:
        os.pwrite(shared.fd, BORN, 0)       # before anything else: who finds it half made knows what it is
        birth_try(shared.fd)
        entry.unlink_beside(name)
        nonce = new_secret()
        make_alive(name, nonce, plan.mode, plan.group)
        os.ftruncate(shared.fd, where["end"])
        for start, end in ((0, 2 * SYS_PAGE), (where["segtable"], where["marks"]), (where["tail"], where["end"])):
            if back_file(shared.fd, start, end - start) != OK:
                raise entry.no_memory(name, "its tables")
        os.fchown(shared.fd, -1, plan.group)     # before others may write to it
        os.fchmod(shared.fd, plan.mode)
        words = [geometry[field] for field in _FIELDS] + list(plan.client)
        words += [0] * (len(_FIELDS) + CLIENT_WORDS - len(words))
        body = _HEADER.pack(MAGIC, layout_id(plan.client_layout), 0, *words, nonce, home_of(shared.fd))
        body = body[:16] + struct.pack("<Q", xxhash.xxh64_intdigest(body[_SUMMED])) + body[24:]
        if plan.limit < plan.capacity:
            limit = plan.limit >> geometry["seg_shift"]
            os.pwrite(shared.fd, struct.pack("<Q", limit), SYS_PAGE + LIMIT_OFFSET)
        os.pwrite(shared.fd, body[8:], 8)
        os.pwrite(shared.fd, body[:8], 0)
    except BaseException as error:
        shared.close_fd()
        entry.drop(name)
        entry.unlink_beside(name)
        if isinstance(error, (OSError, posix_ipc.Error)):
            raise entry.refusal(name, error) from error
        raise
    # The birth byte goes with the last descriptor of this opening; the arena's own opening is
    # another.
    shared.close_fd()
    try:
        return attach(name, plan.client_layout, os.geteuid())
    except BaseException:
        entry.drop(name)
        raise


def attach(name, client_layout, owner=None, parts=None):
    """Open, check and map an arena that is there. See the error classes for what is refused.
    `owner`: the user whose it must be; None: one who is no stranger. `parts`: tells which ranges of
    a copy the layer above calls backed, see copies.py."""
    check_name(name)
    try:
        shared = entry.open_entry(name)
    except posix_ipc.ExistentialError:
        raise entry.not_found(name) from None
    try:
        os.set_inheritable(shared.fd, False)
        _check_owner(name, os.fstat(shared.fd), owner)
        geometry = _read_header(name, shared.fd, client_layout)
        if geometry["home"] != home_of(shared.fd):
            geometry = settle(
                name, shared.fd, geometry["mode"], lambda: _read_header(name, shared.fd, client_layout), regions, parts
            )
        return Arena(name, shared.fd, geometry)
    except BaseException:
        shared.close_fd()
        raise


def _check_owner(name, status, owner):
    """AccessDenied if the file is not of the user whose it must be. Anybody may make a file of any
    name in the directory of shared memory, so that the kernel lets this process write to it says
    nothing; but nobody gives a file a group he is not in."""
    if not stat.S_ISREG(status.st_mode):
        raise ArenaCorrupted(f"{SHM_DIR}/{name} is not an arena: not a regular file")
    mine = os.geteuid()
    if owner is not None and status.st_uid != owner:
        raise AccessDenied(f"arena {name!r} belongs to user {status.st_uid}, not to {owner}")
    if owner is not None or mine == 0 or status.st_uid in (mine, 0):
        return
    if status.st_mode & 0o060 != 0o060 or status.st_gid not in (os.getegid(), *os.getgroups()):
        raise AccessDenied(
            f"arena {name!r} belongs to user {status.st_uid}, with whom this one shares no group that may write to "
            f"it; anybody could have made one of that name. If it is meant, attach with owner={status.st_uid}"
        )


def _read_header(name, fd, client_layout):
    started = time.monotonic()
    while True:
        held = birth_held(fd)
        raw = os.pread(fd, _HEADER.size, 0)
        if len(raw) == _HEADER.size and raw[:8] not in (bytes(8), BORN):
            # Once more: the magic word is written last, and what was read before it may be older.
            raw = os.pread(fd, _HEADER.size, 0)
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
        raise ArenaCorrupted(f"{SHM_DIR}/{name} is not an arena")
    ours = layout_id(client_layout)
    if identity != ours:
        # An identity without the mark is of a time before there was one.
        theirs = identity >> 40 if identity >> 56 == LAYOUT_MARK else 0
        which = "an older" if theirs < ours >> 40 else "a newer" if theirs > ours >> 40 else "another"
        raise ArenaVersionMismatch(
            f"arena {name!r} is of {which} version of this package and has another layout; it may "
            "be sound, and in use: "
            "take that version, or unlink it once its workers have ended"
        )
    if checksum != xxhash.xxh64_intdigest(raw[_SUMMED]):
        raise ArenaCorrupted(f"arena {name!r}: the header's checksum is wrong")
    geometry = dict(zip(_FIELDS, words, strict=False))
    rest = words[len(_FIELDS):]
    geometry["client"] = rest[:CLIENT_WORDS]
    geometry["nonce"] = rest[CLIENT_WORDS]
    geometry["home"] = rest[CLIENT_WORDS + 1]
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


def rename(old, new):
    """Give an arena that nobody is attached to another name. ArenaExists if that is taken.

    Kill at any instruction: it has the old name, or both, or the new one."""
    check_name(new)
    shared = entry.open_entry(old)
    try:
        nonce = struct.unpack("<Q", os.pread(shared.fd, 8, _HEADER.size - 16))[0]
        beside = f"{SHM_DIR}/{alive_name(new, nonce)}"
        # The liveness file first: who finds the arena finds it, too.
        os.link(f"{SHM_DIR}/{alive_name(old, nonce)}", beside)
        try:
            os.link(f"{SHM_DIR}/{old}", f"{SHM_DIR}/{new}", follow_symlinks=False)
        except FileExistsError:
            os.unlink(beside)
            raise ArenaExists(f"arena {new!r} was made meanwhile") from None
        except OSError:
            os.unlink(beside)
            raise
        os.unlink(f"{SHM_DIR}/{old}")
        entry.unlink_beside(old)
    except OSError as error:
        raise entry.refusal(new, error) from error
    finally:
        shared.close_fd()


def unlink(name):
    """Remove the arena's name and its semaphores; who is attached goes on until it closes. What is
    no arena stays."""
    check_name(name)
    entry.remove(name)


@cython.cclass
class Arena:
    """One mapping of an arena, unmapped when collected, and the descriptor it was mapped from
    (`fd`), which belongs to the attachment.
    No lock is taken through that: forked children keep it, and the mapping.

    geometry: header fields by name, checked; `client` is the list of the layer above's words.
    owner, group: whose file it is."""

    def __init__(self, name, fd, geometry):
        self.name = name
        self.geometry = geometry
        self.fd = -1
        status: struct_stat
        size = regions(geometry)["end"]
        # A huge page of the file can be one of the mapping only if both begin at a multiple of its
        # size: claim addresses for that much more, and map over the part of them that begins right.
        wide: u64 = size + HUGE_BYTES
        claimed: cython.p_void = mmap(cython.NULL, wide, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)
        if claimed == MAP_FAILED:
            raise TmemError(f"arena {name!r}: cannot map {size} bytes")
        self.claimed = cython.cast(cython.p_char, claimed)
        self.claimed_bytes = wide
        start: u64 = (cython.cast(u64, claimed) + HUGE_BYTES - 1) & ~cython.cast(u64, HUGE_BYTES - 1)
        # A process that has asked for all its future memory to be locked (mlockall(2)) would give
        # the whole file memory here. What cannot be read or written is not filled, and what is
        # unlocked by then stays as it is.
        at: cython.p_void = mmap(
            cython.cast(cython.p_void, start), size, PROT_NONE, MAP_SHARED | MAP_NORESERVE | MAP_FIXED, fd, 0
        )
        if at == MAP_FAILED or munlock(at, size) != 0 or mprotect(at, size, PROT_READ | PROT_WRITE) != 0:
            raise TmemError(f"arena {name!r}: cannot map {size} bytes")
        if fstat(fd, cython.address(status)) != 0:
            raise TmemError(f"arena {name!r}: its file cannot be looked at")
        self.base = cython.cast(cython.p_char, at)
        self.map_bytes = size
        self.dev = status.st_dev
        self.ino = status.st_ino
        self.owner = status.st_uid
        self.group = status.st_gid
        self.fd = fd

    def __dealloc__(self):
        if self.claimed != cython.NULL:
            munmap(self.claimed, self.claimed_bytes)

    def describe(self, w):
        """Fill the parts of a Worker that follow from the geometry alone."""
        where = regions(self.geometry)
        w.base = self.base
        w.fd = self.fd
        w.dev = self.dev
        w.ino = self.ino
        w.map_bytes = self.map_bytes
        w.header = cython.cast(cython.pointer(Header), self.base)
        w.depot = cython.cast(cython.pointer(Depot), self.base + SYS_PAGE)
        w.seg_shift = self.geometry["seg_shift"]
        w.seg_total = self.geometry["seg_total"]
        w.max_workers = self.geometry["max_workers"]
        w.huge = self.geometry["huge"] and has_huge_pages()
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

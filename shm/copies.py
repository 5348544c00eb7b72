"""Owns telling that an arena's file is a copy of another one's, and making it an arena of its own
before anybody attaches to it.

The header has a word, `home`, that says which file it is in: its lower half follows from device and
inode, its upper half from the boot of the machine, since inodes are numbered anew after each. A
copy has the bytes, and not what the system had promised the file: where it is sparse, memory that
the arena calls backed is a hole, and whoever touches it while the file system is full dies of
SIGBUS. So all of it is backed again, and the copy gets a nonce of its own, and with that a liveness
file and semaphores.
Nobody else can be attached meanwhile. Who attaches compares `home` first, and comes here if it is
another's; here one at a time has the birth byte, as who makes an arena has. Who has compared it
before says that he lives, and looks at it once more; here it is made 0 first, and then it is looked
who lives. The system's locks order the two, so that one sees the other. Machines that are several
in one, as containers with a boot number each, share arenas all the same: while somebody lives there
it is no copy, as long as the file is the one of its header.
The file is read and written by calls on its descriptor alone: nothing of it is mapped, so that a
hole is zeroes, and no signal.
Kill at any instruction: the kernel gives the birth byte back, `home` is 0 or another's still, and
whoever attaches next begins again.
"""
import os
import struct
import time

import xxhash

import cython
from cython.cimports.shm.kernel.liveness import alive_held, birth_release, birth_try, make_alive
from cython.cimports.shm.layout import (
    JOURNAL_BACKED,
    JOURNAL_BYTES,
    JOURNAL_ENTRY,
    OK,
    SEG_HOLE,
    SEG_PUNCHING,
    SLOT_BYTES,
    SYS_PAGE,
    Depot,
    Header,
    Segment,
    Slot,
    u64,
)
from cython.cimports.shm.memory import back_file
from shm import entry
from shm.errors import AccessDenied, ArenaBusy
from shm.kernel.liveness import SHM_DIR, alive_name

BOOT_ID = "/proc/sys/kernel/random/boot_id"
SETTLE_WAIT_S = 60.0
NONCE_OFFSET: u64 = cython.cast(u64, cython.address(cython.cast(cython.pointer(Header), 0).nonce))
HOME_OFFSET: u64 = cython.cast(u64, cython.address(cython.cast(cython.pointer(Header), 0).home))
FILE_BITS = (1 << 32) - 1       # of `home`: the file; those above are the boot


def home_of(fd):
    """What `home` says in the header of the file behind a descriptor; never 0."""
    status = os.fstat(fd)
    try:
        with open(BOOT_ID, "rb") as file:
            boot = file.read()
    except OSError:
        boot = b""
    which = xxhash.xxh32_intdigest(struct.pack("<QQ", status.st_dev, status.st_ino))
    return xxhash.xxh32_intdigest(boot) << 32 | which or 1


def settle(name, fd, mode, read_header, regions, parts):
    """Make a copy an arena of its own, if nobody else has by now: its geometry. `read_header` reads
    and checks the header, `regions` says where what is; `parts` says of the layer above which
    ranges it calls backed. ArenaBusy: somebody lives in the arena that has its name, or it takes
    others long; AccessDenied; TmemError if the file system is full."""
    deadline = time.monotonic() + SETTLE_WAIT_S
    while birth_try(fd) != 0:
        if time.monotonic() > deadline:
            raise ArenaBusy(f"arena {name!r}: it is a copy that another process has been settling for "
                            f"{SETTLE_WAIT_S:.0f} s")
        time.sleep(0.001)
    try:
        geometry = read_header()
        ours = home_of(fd)
        if geometry["home"] == ours:
            return geometry
        _put_word(fd, HOME_OFFSET, 0)
        if alive_held(f"{SHM_DIR}/{alive_name(name, geometry['nonce'])}"):
            _put_word(fd, HOME_OFFSET, geometry["home"])
            if geometry["home"] & FILE_BITS == ours & FILE_BITS:
                return geometry         # another machine's, and the same file
            raise ArenaBusy(
                f"arena {name!r}: its file is a copy that was put in the place of one that processes still have; "
                "it can be used when they have ended, or under another name"
            )
        _back(name, fd, geometry, regions(geometry), parts)
        return _rename(name, fd, mode, geometry, ours)
    finally:
        birth_release(fd)


def _put_word(fd, offset, word):
    os.pwrite(fd, struct.pack("<Q", word), offset)


def _rename(name, fd, mode, geometry, ours):
    """Give the copy a nonce, and what lies beside it, and last the home that lets others in."""
    status = os.fstat(fd)
    if os.geteuid() not in (0, status.st_uid):
        raise AccessDenied(
            f"arena {name!r}: it is a copy that nobody has attached to yet; its owner, user {status.st_uid}, or root "
            "has to be the first, since the file that says who lives must be the owner's"
        )
    nonce = int.from_bytes(os.urandom(8), "little")
    entry.unlink_beside(name)
    make_alive(name, nonce, mode, status.st_gid)
    if os.geteuid() != status.st_uid:
        os.chown(f"{SHM_DIR}/{alive_name(name, nonce)}", status.st_uid, -1)
    _put_word(fd, NONCE_OFFSET, nonce)
    _put_word(fd, HOME_OFFSET, ours)
    return geometry | {"nonce": nonce, "home": ours}


def _back(name, fd, geometry, where, parts):
    """Give memory to all that is called backed. TmemError: the file system has too little."""
    def read(offset, size):
        data = os.pread(fd, size, offset)
        return data + bytes(size - len(data))

    ranges = _ranges(read, where, geometry)
    if parts is not None:
        ranges += parts(read, where, geometry, slots_of(read, geometry))
    for start, size in sorted(ranges):
        if start + size > where["end"] or (size != 0 and back_file(fd, start, size) != OK):
            raise entry.no_memory(
                name, f"a copy of it, which needs all that the arena had ({os.strerror(28)}); nothing of it is lost"
            )


def slots_of(read, geometry):
    """How many worker slots were ever used."""
    page: bytes = read(SYS_PAGE, SYS_PAGE)
    depot: cython.pointer(Depot) = cython.cast(cython.pointer(Depot), cython.cast(cython.p_char, page))
    return min(depot.slots_high, geometry["max_workers"])


def _ranges(read, where, geometry):
    """(start, size) of all that this layer calls backed. The words may be anything."""
    page: bytes = read(SYS_PAGE, SYS_PAGE)
    depot: cython.pointer(Depot) = cython.cast(cython.pointer(Depot), cython.cast(cython.p_char, page))
    table: bytes
    row: bytes
    s: cython.pointer(Segment)
    slot: cython.pointer(Slot)
    i: u64
    shift = geometry["seg_shift"]
    segments: u64 = min(depot.seg_high, geometry["seg_total"])
    found = [(0, 2 * SYS_PAGE), (where["segtable"], where["marks"] - where["segtable"]), (where["tail"], SYS_PAGE),
             (where["marks"], segments << (shift - 8))]
    for i in range(slots_of(read, geometry)):
        row = read(where["slots"] + i * SLOT_BYTES, SYS_PAGE)
        slot = cython.cast(cython.pointer(Slot), cython.cast(cython.p_char, row))
        journal = min(max(slot.journal_len * JOURNAL_ENTRY, JOURNAL_BACKED), JOURNAL_BYTES)
        found += [
            (where["slots"] + i * SLOT_BYTES, SLOT_BYTES),
            (where["bounces"] + i * geometry["bounce_bytes"], geometry["bounce_bytes"]),
            (where["journals"] + i * JOURNAL_BYTES, journal),
            (where["ledgers"] + i * geometry["ledger_bytes"], min(slot.ledger_backed, geometry["ledger_bytes"])),
        ]
    table = read(where["segtable"], segments * cython.sizeof(Segment))
    for i in range(segments):
        s = cython.cast(cython.pointer(Segment), cython.cast(cython.p_char, table)) + i
        if s.state != SEG_HOLE and s.state != SEG_PUNCHING:
            found.append((where["segments"] + (i << shift), 1 << shift))
    return found

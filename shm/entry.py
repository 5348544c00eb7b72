"""Owns the entry of an arena in the directory of shared memory: opening it, telling whether the
file is an arena's, removing it, and the exceptions of this package for what the system or posix_ipc
says.

Anybody may put anything under any name there: opening never waits (a FIFO, a device), follows no
link, and nothing is removed that is not an arena, or one whose making was cut short.
"""
import contextlib
import errno
import os
import resource
import stat
import struct

import posix_ipc
import xxhash

from shm.errors import AccessDenied, ArenaBusy, ArenaCorrupted, ArenaNotFound, TmemError
from shm.kernel import semaphores
from shm.kernel.liveness import SHM_DIR

MAGIC = b"tmem\x00arn"
BORN = b"tmem\x00new"       # the first word from the creator's first store on, until MAGIC takes its place
HEADER_PAGE = 4096
NAMES_TOLD = 5
FULL = (errno.EMFILE, errno.ENFILE)


def open_entry(name, **how):
    """An opening of the file of that name, a posix_ipc.SharedMemory. posix_ipc.ExistentialError if
    it is there, or is not."""
    try:
        return posix_ipc.SharedMemory("/" + name, flags=how.pop("flags", 0) | os.O_NONBLOCK | os.O_NOFOLLOW, **how)
    except posix_ipc.ExistentialError:
        if not os.path.isdir(SHM_DIR):
            raise TmemError(
                f"arena {name!r}: there is no directory {SHM_DIR} on this system; a tmpfs belongs there"
            ) from None
        raise
    except (OSError, ValueError, posix_ipc.Error) as error:
        raise refusal(name, error) from None


def no_memory(name, what):
    """The TmemError for a file system that gives no memory for something of an arena: it tells how
    large that is, and how to have more."""
    try:
        found = os.statvfs(SHM_DIR)
        size = f"{SHM_DIR} has {found.f_blocks * found.f_frsize} bytes, {found.f_bavail * found.f_frsize} of them free"
    except OSError:
        size = f"{SHM_DIR} cannot be looked at"
    return TmemError(
        f"arena {name!r}: no memory left for {what}: {size}; a container has more with docker run "
        "--shm-size, or with a memory-backed "
        "emptyDir there in Kubernetes"
    )


def refusal(name, error):
    """The exception of this package for what the system or posix_ipc raised about the arena of that
    name."""
    if isinstance(error, TmemError):
        return error
    # posix_ipc tells some errors by their text alone.
    if getattr(error, "errno", None) in FULL or "number of files" in str(error) or "files open" in str(error):
        return ArenaBusy(
            f"arena {name!r}: no file descriptor is left for it; this process may have "
            f"{resource.getrlimit(resource.RLIMIT_NOFILE)[0]} "
            "files open (RLIMIT_NOFILE, ulimit -n)"
        )
    if isinstance(error, (PermissionError, posix_ipc.PermissionsError)):
        return AccessDenied(f"arena {name!r}: permission denied")
    if getattr(error, "errno", None) == errno.ENOSPC:
        return no_memory(name, "a file, or no inode")
    try:
        if not stat.S_ISREG(os.lstat(f"{SHM_DIR}/{name}").st_mode):
            return ArenaCorrupted(f"{SHM_DIR}/{name} is not an arena: not a regular file")
    except OSError:
        pass
    return TmemError(f"arena {name!r}: {error}")


def is_arena(fd):
    """True if the file is an arena's, whole or damaged, or one whose making was cut short: by its
    first word, or by the header's checksum."""
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        return False
    page = os.pread(fd, HEADER_PAGE, 0)
    first = page[:8]
    if first in (b"", BORN, MAGIC):
        return True
    # The checksum covers the header's words behind it; how many they are is the header's business,
    # and no more than fit.
    return len(page) == HEADER_PAGE and any(
        struct.unpack_from("<Q", page, 16)[0] == xxhash.xxh64_intdigest(page[24:end]) for end in range(32, 512, 8))


def names():
    """The names of the arenas that this process may read, sorted."""
    found = []
    for one in os.scandir(SHM_DIR):
        with contextlib.suppress(OSError):
            if one.is_file(follow_symlinks=False) and not one.name.startswith("sem."):
                fd = os.open(one.path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
                try:
                    if os.pread(fd, len(MAGIC), 0) == MAGIC:
                        found.append(one.name)
                finally:
                    os.close(fd)
    return sorted(found)


def not_found(name):
    """The ArenaNotFound for a name: it tells what there is."""
    try:
        there = names()
    except OSError:
        there = []
    told = ", ".join(map(repr, there[:NAMES_TOLD])) + (
        f" and {len(there) - NAMES_TOLD} more" if len(there) > NAMES_TOLD else ""
    )
    what = f"there {'is' if len(there) == 1 else 'are'} {told}" if there else "there is none that this user may read"
    return ArenaNotFound(f"no arena {name!r}; {what}")


def unlink_beside(name):
    """Remove what lies beside an arena of that name: its liveness file and its semaphores, as far
    as they are this user's."""
    try:
        semaphores.unlink_all(name)
    except (OSError, ValueError, posix_ipc.Error) as error:
        raise refusal(name, error) from None


def drop(name):
    """Remove the entry that this process has made and could not finish, if it is still there."""
    with contextlib.suppress(OSError, posix_ipc.Error):
        posix_ipc.unlink_shared_memory("/" + name)


def remove(name):
    """Remove the entry and its semaphores. ArenaNotFound, ArenaCorrupted (it is no arena, and
    stays), AccessDenied, ArenaBusy."""
    try:
        shared = open_entry(name, read_only=True)
    except posix_ipc.ExistentialError:
        unlink_beside(name)
        raise not_found(name) from None
    try:
        if not is_arena(shared.fd):
            raise ArenaCorrupted(f"{SHM_DIR}/{name} is not an arena, and is left alone")
        posix_ipc.unlink_shared_memory("/" + name)
    except posix_ipc.ExistentialError:
        raise not_found(name) from None
    except (OSError, posix_ipc.Error) as error:
        raise refusal(name, error) from None
    finally:
        shared.close_fd()
    unlink_beside(name)

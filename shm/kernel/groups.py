"""Owns asking how much memory the control groups of this process leave: the kernel kills who takes
more, where a file system refuses.

A group's pages of files count as free, since they are dropped when memory is short; swap does not
count. It is a look and no reservation: what others of the group take in between may still be too
much, so MARGIN stays free. Where no group has a limit it costs nothing.
Rejected: memory.high and the events file (nothing is refused by them); asking for each page (a
segment is what is taken).
"""
import builtins
import os
import re

import cython
from cython.cimports.libc.stdlib import calloc, free, strtoull
from cython.cimports.libc.string import memcmp, memcpy, strlen, strstr
from cython.cimports.posix.unistd import close, read
from cython.cimports.shm.atomics import fence_release
from cython.cimports.shm.kernel.groups import LEVELS, PATH_BYTES, Groups
from cython.cimports.shm.kernel.system import O_CLOEXEC, O_RDONLY, open
from cython.cimports.shm.layout import u64

ROOT = "/sys/fs/cgroup"
TEXT_BYTES = cython.declare(cython.int, 4096)
NO_LIMIT = cython.declare(u64, cython.cast(u64, 1) << 60)      # version 1 says almost 2**63, version 2 "max"
MARGIN_PART = cython.declare(u64, 32)
MARGIN_MAX = cython.declare(u64, 16 << 20)
NAMES = {1: ("memory.limit_in_bytes", "memory.usage_in_bytes"), 2: ("memory.max", "memory.current")}

# What was found last. It is never changed once it is here, and never given back: another thread may
# be reading it.
_groups = cython.declare(cython.pointer(Groups), cython.NULL)


def _folders(text, root):
    """(version, folders from this process's group up to the root) by what /proc/self/cgroup
    says."""
    old = re.search(r"^\d+:(?:[^:\n]*,)?memory(?:,[^:\n]*)?:/(.*)$", text, re.MULTILINE)
    new = re.search(r"^0::/(.*)$", text, re.MULTILINE)
    version, base, path = (1, f"{root}/memory", old[1]) if old else (2, root, new[1] if new else "")
    # In a container the path may be the host's, and what is mounted there the container's own
    # group.
    parts = path.split("/") if path and os.path.isdir(f"{base}/{path}") else []
    return version, ["/".join([base, *parts[:n]]) for n in range(len(parts), -1, -1)]


def find():
    """Look for the groups of this process that have a limit. They are what `has_room` asks from now
    on."""
    global _groups
    path: bytes
    try:
        with builtins.open("/proc/self/cgroup") as file:
            version, folders = _folders(file.read(), ROOT)
    except OSError:
        return 0
    n: cython.int = 0
    made: cython.pointer(Groups) = cython.cast(cython.pointer(Groups), calloc(1, cython.sizeof(Groups)))
    if made == cython.NULL:
        raise MemoryError
    limit_name, use_name = NAMES[version]
    for folder in folders:
        path = os.fsencode(f"{folder}/{limit_name}")
        if n == LEVELS or len(path) >= PATH_BYTES - 8 or _number(path) >= NO_LIMIT:
            continue
        memcpy(made.limits[n], cython.cast(cython.p_char, path), len(path) + 1)
        path = os.fsencode(f"{folder}/{use_name}")
        memcpy(made.uses[n], cython.cast(cython.p_char, path), len(path) + 1)
        path = os.fsencode(f"{folder}/memory.stat")
        memcpy(made.parts[n], cython.cast(cython.p_char, path), len(path) + 1)
        n += 1
    made.total = version == 1
    made.count = n
    if _groups != cython.NULL and memcmp(_groups, made, cython.sizeof(Groups)) == 0:
        free(made)
        return 0
    fence_release()
    _groups = made          # the one before stays: once more only where the process has moved to other groups
    return 0


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _read(path: cython.p_char, text: cython.p_char) -> cython.bint:
    """The first TEXT_BYTES of a file. False: it cannot be read."""
    fd: cython.int = open(path, O_RDONLY | O_CLOEXEC)
    got: cython.Py_ssize_t
    if fd < 0:
        return False
    got = read(fd, text, TEXT_BYTES - 1)
    close(fd)
    if got <= 0:
        return False
    text[got] = 0
    return True


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _number(path: cython.p_char) -> u64:
    """The number in a file; NO_LIMIT if there is none."""
    text: cython.char[4096]
    if not _read(path, text) or not 48 <= text[0] <= 57:
        return NO_LIMIT
    return strtoull(text, cython.NULL, 10)


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _figure(text: cython.p_char, name: cython.p_char) -> u64:
    """A figure of memory.stat by the end of the line before, its name and a blank; 0 if it is not
    there."""
    at: cython.p_char = strstr(text, name)
    return strtoull(at + strlen(name), cython.NULL, 10) if at != cython.NULL else 0


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _of_files(groups: cython.pointer(Groups), which: cython.int) -> u64:
    """Bytes of a group that are pages of files, without those of shared memory."""
    text: cython.char[4096]
    if not _read(groups.parts[which], text):
        return 0
    if groups.total:
        return _figure(text, b"\ntotal_inactive_file ") + _figure(text, b"\ntotal_active_file ")
    return _figure(text, b"\ninactive_file ") + _figure(text, b"\nactive_file ")


def has_room(bytes):
    """False if a group of this process would have hardly anything left after so many bytes more."""
    i: cython.int
    groups: cython.pointer(Groups) = _groups
    limit: u64
    need: u64
    used: u64
    if groups == cython.NULL:
        return True
    for i in range(groups.count):
        limit = _number(groups.limits[i])
        need = bytes + (limit // MARGIN_PART if limit // MARGIN_PART < MARGIN_MAX else MARGIN_MAX)
        used = _number(groups.uses[i])
        if limit >= NO_LIMIT or used >= NO_LIMIT or used + need <= limit:
            continue
        if used + need - _of_files(groups, i) > limit:
            return False
    return True

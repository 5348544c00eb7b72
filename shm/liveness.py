"""Owns the byte locks by which the kernel says who lives: one byte a worker slot, one for rescues.

May call: fcntl. Called by workers (to live), lock and recovery (to ask). The locks are open-file-description
locks far beyond the end of the arena file, so they say nothing about its content; the kernel drops
them when the last descriptor of the opening is closed, however the process ends. No pid is
guessed, so pid reuse and pid namespaces do not matter. Never blocks.
Rejected: pids with start times (races, namespaces), robust futexes (not reachable from a named
semaphore), F_SETLK (any close of the file in the process drops them).
"""
import cython
from cython.cimports.libc.stdio import SEEK_SET
from cython.cimports.libc.string import memset
from cython.cimports.posix.fcntl import F_UNLCK, F_WRLCK, fcntl
from cython.cimports.posix.fcntl import flock as struct_flock
from cython.cimports.shm.layout import OK, u64
from cython.cimports.shm.liveness import BYTE_TAKEN
from cython.cimports.shm.system import F_OFD_GETLK, F_OFD_SETLK


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _describe(lock: cython.pointer(struct_flock), kind: cython.int, which: u64) -> cython.void:
    memset(lock, 0, cython.sizeof(struct_flock))
    lock.l_type = kind
    lock.l_whence = SEEK_SET
    lock.l_start = (cython.cast(cython.longlong, 1) << 62) + which
    lock.l_len = 1


def byte_try(fd, which):
    """Take the byte without waiting: OK, or BYTE_TAKEN."""
    lock: struct_flock
    _describe(cython.address(lock), F_WRLCK, which)
    if fcntl(fd, F_OFD_SETLK, cython.address(lock)) == 0:
        return OK
    return BYTE_TAKEN


def byte_release(fd, which):
    """Give the byte back."""
    lock: struct_flock
    _describe(cython.address(lock), F_UNLCK, which)
    fcntl(fd, F_OFD_SETLK, cython.address(lock))


def byte_held(fd, which):
    """True if another open file description holds the byte, or if the kernel would not say."""
    lock: struct_flock
    _describe(cython.address(lock), F_WRLCK, which)
    if fcntl(fd, F_OFD_GETLK, cython.address(lock)) != 0:
        return True
    return lock.l_type != F_UNLCK

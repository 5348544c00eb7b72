"""Owns the liveness file of an arena, and the byte locks in it by which the kernel says who lives:
one byte a worker slot, one for the resize, and one a slot for who is about to have it.

The locks are open-file-description locks; the kernel drops them when the last reference to the
opening is gone, however the process ends. No pid is guessed, so pid reuse and pid namespaces do not
matter. The worker's opening is kept by a mapping of one page, which is never read: so nobody in the
process takes its life by closing descriptors, and a forked child lets go of it by unmapping the
page (process.py). The file is another one than the arena's: only who may write can open it, so that
a reader of the arena cannot lock anything, and nothing that happens to this descriptor touches
pages. Before each call the descriptor is asked where it stands. Nobody else's stands there; if this
one does not, somebody has closed it and the number is another file's: nothing is asked of that, and
Worker.lost is set. Never blocks.
Rejected: pids with start times (races, namespaces), robust futexes (not reachable from a named
semaphore), F_SETLK (any close of the file in the process drops them), locks in the arena's file
(see above).
"""
import os

import cython
from cython.cimports.libc.errno import EACCES, EMFILE, ENFILE, ENOENT, EPERM, errno
from cython.cimports.libc.stdio import SEEK_SET
from cython.cimports.libc.string import memset
from cython.cimports.posix.fcntl import F_UNLCK, F_WRLCK, fcntl
from cython.cimports.posix.fcntl import flock as struct_flock
from cython.cimports.posix.mman import MAP_FAILED, MAP_SHARED, PROT_NONE, mmap, munmap
from cython.cimports.posix.stat import S_ISREG, fstat, struct_stat
from cython.cimports.posix.unistd import SEEK_CUR, close, lseek
from cython.cimports.shm.kernel.liveness import BYTE_TAKEN, next_mark
from cython.cimports.shm.kernel.system import F_OFD_GETLK, F_OFD_SETLK, O_CLOEXEC, O_NOFOLLOW, O_NONBLOCK, O_RDWR, open
from cython.cimports.shm.layout import OK, SYS_PAGE, Worker, u64
from shm.errors import AccessDenied, ArenaBusy, ArenaCorrupted, ArenaNotFound, TmemError

SHM_DIR = "/dev/shm"
BIRTH_BYTE = cython.declare(u64, 1 << 21)
READ_OF_WRITE = 1       # by how much a class's permission to read lies above that to write


def alive_name(name, nonce):
    """The liveness file's name. It does not begin with the arena's, so that who lists his arenas by
    how their names begin finds arenas alone; '@' cannot occur in one. The nonce tells arenas of one
    name apart."""
    return f"alive.{name}@{nonce:016x}"


def make_alive(name, nonce, mode, group):
    """Make the liveness file of a new arena: for whoever may write to the arena, and for nobody
    else. `group`: as of arena.create."""
    writers = mode & 0o222
    fd = os.open(f"{SHM_DIR}/{alive_name(name, nonce)}", os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        os.fchown(fd, -1, group)
        os.fchmod(fd, writers | writers << READ_OF_WRITE)
    finally:
        os.close(fd)
    return 0


def open_alive(w, path, owner):
    """Open the liveness file, which must be a file of user `owner`, for a worker that has none; a
    forked child may have it open already.

    In one go with the GIL held: a child forked by another thread either knows of the opening, or
    does not have it."""
    status: struct_stat
    fd: cython.int = w.live_fd
    page: cython.p_void
    seed: u64 = int.from_bytes(os.urandom(8), "little")
    where: bytes = path
    if w.live_page != cython.NULL and _is_own(w):
        return 0
    if fd < 0 or cython.cast(u64, lseek(fd, 0, SEEK_CUR)) != w.live_mark:
        fd = open(where, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK)
    if fd < 0:
        problem: cython.int = errno
        if problem == ENOENT:
            raise ArenaNotFound(f"{os.fsdecode(where)}, which tells who is alive, is gone: the arena was unlinked")
        if problem == EACCES or problem == EPERM:
            raise AccessDenied(f"{os.fsdecode(where)}: permission denied")
        if problem == EMFILE or problem == ENFILE:
            raise ArenaBusy(f"{os.fsdecode(where)}: no file descriptor is left for it; see RLIMIT_NOFILE, ulimit -n")
        raise TmemError(f"{os.fsdecode(where)}: {os.strerror(problem)}")
    page = mmap(cython.NULL, SYS_PAGE, PROT_NONE, MAP_SHARED, fd, 0)
    w.live_mark = next_mark(seed)
    if (page == MAP_FAILED or lseek(fd, w.live_mark, SEEK_SET) < 0 or fstat(fd, cython.address(status)) != 0
            or not S_ISREG(status.st_mode) or status.st_uid != cython.cast(cython.uint, owner)):
        if page != MAP_FAILED:
            munmap(page, SYS_PAGE)
        close(fd)
        w.live_fd = -1
        raise ArenaCorrupted(f"{os.fsdecode(where)} does not belong to the arena")
    w.live_page = cython.cast(cython.p_char, page)
    w.live_fd = fd
    return 0


def let_die(w):
    """Let go of the liveness file: the kernel drops what is locked in it."""
    if w.live_fd >= 0 and cython.cast(u64, lseek(w.live_fd, 0, SEEK_CUR)) == w.live_mark:
        close(w.live_fd)
    w.live_fd = -1
    if w.live_page != cython.NULL:
        munmap(w.live_page, SYS_PAGE)
        w.live_page = cython.NULL


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _ask(
    fd: cython.int, what: cython.int, kind: cython.int, which: u64, lock: cython.pointer(struct_flock)
) -> cython.int:
    memset(lock, 0, cython.sizeof(struct_flock))
    lock.l_type = kind
    lock.l_whence = SEEK_SET
    lock.l_start = (cython.cast(cython.longlong, 1) << 62) + which
    lock.l_len = 1
    return fcntl(fd, what, lock)


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _is_own(w: cython.pointer(Worker)) -> cython.bint:
    if w.live_fd >= 0 and cython.cast(u64, lseek(w.live_fd, 0, SEEK_CUR)) == w.live_mark:
        return True
    w.lost = True
    return False


def byte_try(w, which):
    """Take the byte without waiting: OK, or BYTE_TAKEN."""
    lock: struct_flock
    if _is_own(w) and _ask(w.live_fd, F_OFD_SETLK, F_WRLCK, which, cython.address(lock)) == 0:
        return OK
    return BYTE_TAKEN


def byte_release(w, which):
    """Give the byte back."""
    lock: struct_flock
    if _is_own(w):
        _ask(w.live_fd, F_OFD_SETLK, F_UNLCK, which, cython.address(lock))


def byte_held(w, which):
    """True if another open file description holds the byte, or if the kernel would not say."""
    lock: struct_flock
    return (
        not _is_own(w)
        or _ask(w.live_fd, F_OFD_GETLK, F_WRLCK, which, cython.address(lock)) != 0
        or lock.l_type != F_UNLCK
    )


def birth_try(fd):
    """Say with a lock in the arena's own file that it is being made, until `fd` is closed."""
    lock: struct_flock
    return _ask(fd, F_OFD_SETLK, F_WRLCK, BIRTH_BYTE, cython.address(lock))


def birth_held(fd):
    """True if the arena behind a descriptor is being made."""
    lock: struct_flock
    return _ask(fd, F_OFD_GETLK, F_WRLCK, BIRTH_BYTE, cython.address(lock)) != 0 or lock.l_type == F_WRLCK


def birth_release(fd):
    """Take the lock of `birth_try` away, and go on with the descriptor."""
    lock: struct_flock
    _ask(fd, F_OFD_SETLK, F_UNLCK, BIRTH_BYTE, cython.address(lock))


def alive_held(path):
    """True if some worker lives, or is about to, in the arena with the liveness file of that path,
    or the kernel would not say; False too if there is no such file."""
    lock: struct_flock
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    try:
        memset(cython.address(lock), 0, cython.sizeof(struct_flock))
        lock.l_type = F_WRLCK
        lock.l_whence = SEEK_SET
        return fcntl(cython.cast(cython.int, fd), F_OFD_GETLK, cython.address(lock)) != 0 or lock.l_type != F_UNLCK
    finally:
        os.close(fd)

"""Owns the named semaphores of an arena: their names, making and opening them, posting, sleeping
with a time-out, removal.

Nothing here is on an uncontended path. A lock's semaphore is
`/<arena>@<nonce>-<offset>-<generation>`, in hexadecimal: the nonce, which is random, keeps anybody
from preparing a file of that name; the generation changes when the semaphore is removed, so that a
process with the old one open cannot post past the new one's sleepers. It is an ordinary named
semaphore, which `posix_ipc.Semaphore` opens too. A semaphore is only a way to sleep. It carries no
state of the lock: losing one, or a post too many, costs a sleeper its time slice and nothing else.
A file is only used if it is a regular file of the right size, made by somebody whom the arena's
mode lets in (`_is_of_ours`), looked at through the descriptor that is mapped: a file of another
size would be a SIGBUS, a stranger's a way to hold us up. Its bytes are looked at before each call
on it (`_is_sound`): the C library passes a word of them to futex(2), and aborts the process, or
sleeps for ever, if that word is anything but what sem_init(3) has written. A damaged semaphore is
one that was lost; who would sleep on it removes it. A new one is written under a name that
begins like its own, with the arena's group and mode (and owner, if root makes it), and linked when
it is whole: so a kill leaves nothing that `unlink_all` would not find. (sem_open(3) leaves a file
`sem.XXXXXX`.) Only who made a file here can remove it, and root: whoever uses another user's arena
takes his with him when he leaves (`retire_mine`). Time-outs are on the monotonic clock
(sem_clockwait, glibc 2.30; elsewhere a look each millisecond): sem_timedwait(3), which is all that
posix_ipc has, is on the wall clock, and sleeps for an hour longer when that is set back an hour.
"""
import os
import re

import posix_ipc

import cython
from cython.cimports.libc.errno import EINTR, ENOENT, errno
from cython.cimports.libc.stdio import snprintf
from cython.cimports.libc.string import memcmp, memset
from cython.cimports.posix.fcntl import posix_fallocate
from cython.cimports.posix.mman import MAP_FAILED, MAP_SHARED, PROT_READ, PROT_WRITE, mmap, munmap
from cython.cimports.posix.stat import S_ISREG, fchmod, fstat, struct_stat
from cython.cimports.posix.unistd import access, close, geteuid, getpid, link, unlink
from cython.cimports.shm.atomics import cas, load
from cython.cimports.shm.kernel.semaphores import OPEN_MAX, Sem, SemTable
from cython.cimports.shm.kernel.system import (
    CLOCK_MONOTONIC,
    O_CLOEXEC,
    O_CREAT,
    O_EXCL,
    O_NOFOLLOW,
    O_NONBLOCK,
    O_RDWR,
    RTLD_DEFAULT,
    SHM_SEM_PREFIX,
    SemClockwait,
    clock_gettime,
    clock_nanosleep,
    dlsym,
    fchown,
    open,
    sem_getvalue,
    sem_init,
    sem_post,
    sem_t,
    sem_trywait,
    timespec,
)
from cython.cimports.shm.layout import Lock, offset_of, u64
from shm.kernel.liveness import SHM_DIR, alive_name

EXISTS = cython.declare(u64, cython.cast(u64, 1) << 63)
GENERATION = cython.declare(u64, (1 << 63) - 1)     # the bits of Lock.sem that are one
PATH_MAX = cython.declare(cython.int, 400)
NAP_NS = cython.declare(cython.long, 1_000_000)
NS = cython.declare(cython.long, 1_000_000_000)
# In a semaphore, here and in musl: its value, how many sleep on it, and then what never changes.
CONSTANT_FROM = cython.declare(cython.size_t, 8)
_fresh = cython.declare(sem_t)
sem_init(cython.address(_fresh), 1, 0)
_clockwait = cython.declare(cython.p_void, dlsym(RTLD_DEFAULT, "sem_clockwait"))


# --- files ----------------------------------------------------------------------------------------


def prefix():
    """What the name of a semaphore's file begins with on this system's C library."""
    return cython.cast(bytes, SHM_SEM_PREFIX).decode()


def unlink_all(arena_name):
    """Remove every file that belongs to an arena of this name, besides the arena's own: how many
    there were. Other users' stay."""
    name = re.escape(arena_name)
    pattern = re.compile(
        rf"alive\.{name}@[0-9a-f]{{16}}|{re.escape(prefix())}{name}@[0-9a-f]{{16}}-[0-9a-f]+-[0-9a-f]+(?:~[0-9]+)?"
    )
    count = 0
    for entry in os.listdir(SHM_DIR):
        if pattern.fullmatch(entry):
            count += unlink_one(entry)
    return count


def unlink_one(file_name):
    """Remove one file of /dev/shm; 1 if it was there, and this user's to remove. A semaphore goes
    as one."""
    try:
        if prefix() and file_name.startswith(prefix()) and "~" not in file_name:
            posix_ipc.unlink_semaphore("/" + file_name[len(prefix()):])
        else:
            os.unlink(f"{SHM_DIR}/{file_name}")
    except (posix_ipc.Error, OSError):
        return 0
    return 1


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _is_of_ours(table: cython.pointer(SemTable), status: cython.pointer(struct_stat)) -> cython.bint:
    """True if somebody has made a file who may write to the arena: nobody gives a file a group that
    is not his."""
    return (
        status.st_uid == table.owner or status.st_uid == geteuid() or table.mode & 0o002 != 0
        or (table.mode & 0o020 != 0 and status.st_gid == table.group)
    )


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _map(table: cython.pointer(SemTable), fd: cython.int) -> cython.pointer(sem_t):
    """Map what is behind a descriptor, which is closed, if it can be a semaphore of this arena;
    else NULL."""
    status: struct_stat
    at: cython.p_void = MAP_FAILED
    if (
        fstat(fd, cython.address(status)) == 0 and S_ISREG(status.st_mode) and status.st_size == cython.sizeof(sem_t)
        and _is_of_ours(table, cython.address(status))
    ):
        at = mmap(cython.NULL, cython.sizeof(sem_t), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0)
    close(fd)
    return cython.cast(cython.pointer(sem_t), at) if at != MAP_FAILED else cython.NULL


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _make(table: cython.pointer(SemTable), path: cython.p_char) -> cython.void:
    """Make a semaphore of value 0, if none is there. It is whole when its name appears."""
    draft: cython.char[400]
    sem: cython.pointer(sem_t)
    fd: cython.int
    snprintf(draft, PATH_MAX, "%s~%d", path, getpid())
    unlink(draft)           # of a process of the same number that died here
    fd = open(draft, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0o600)
    if fd < 0:
        return
    if fchown(fd, table.owner, table.group) != 0:
        fchown(fd, -1, table.group)     # not root; if the group is another's too, the mode lets everybody in
    if posix_fallocate(fd, 0, cython.sizeof(sem_t)) == 0 and fchmod(fd, table.mode) == 0:
        sem = _map(table, fd)
        if sem != cython.NULL:
            if sem_init(sem, 1, 0) == 0:
                link(draft, path)       # if it is there by now, another sleeper was faster
            munmap(sem, cython.sizeof(sem_t))
    else:
        close(fd)
    unlink(draft)


# --- the table of open ones -----------------------------------------------------------------------


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _close(sem: cython.pointer(Sem)) -> cython.void:
    if sem.at != cython.NULL:
        munmap(sem.at, cython.sizeof(sem_t))
    sem.at = cython.NULL
    sem.offset = 0


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _place(
    table: cython.pointer(SemTable), offset: u64, generation: u64, found: cython.pointer(cython.bint)
) -> cython.pointer(Sem):
    """Where the semaphore of a lock is, or can be; NULL if people sleep on all that could make
    way."""
    start: u64 = (offset >> 6) * cython.cast(u64, 0x9E3779B97F4A7C15) >> 54
    i: u64
    sem: cython.pointer(Sem)
    free: cython.pointer(Sem) = cython.NULL
    found[0] = False
    for i in range(8):
        sem = cython.address(table.open[(start + i) % OPEN_MAX])
        if sem.offset == offset and sem.generation == generation:
            found[0] = True
            return sem
        if free == cython.NULL and sem.offset == 0:
            free = sem
    if free != cython.NULL:
        return free
    for i in range(8):
        table.next += 1
        sem = cython.address(table.open[(start + table.next % 8) % OPEN_MAX])
        if load(cython.address(sem.users)) == 0:
            _close(sem)
            return sem
    return cython.NULL


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _open(table: cython.pointer(SemTable), offset: u64, generation: u64, make: cython.bint) -> cython.pointer(Sem):
    """The open semaphore of a lock; NULL if it is not there, cannot be had, or is not to be
    trusted."""
    path: cython.char[400]
    fd: cython.int
    found: cython.bint
    sem: cython.pointer(Sem) = _place(table, offset, generation & GENERATION, cython.address(found))
    if found or sem == cython.NULL:
        return sem
    snprintf(path, PATH_MAX, "%s-%llx-%llx", table.prefix, cython.cast(cython.ulonglong, offset),
             cython.cast(cython.ulonglong, generation & GENERATION))
    fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK)
    if fd < 0 and errno == ENOENT and make:
        # An arena that was unlinked gets no new files: nobody would remove them.
        if access(table.alive, 0) != 0:
            return cython.NULL
        _make(table, path)
        fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK)
    if fd < 0:
        return cython.NULL
    sem.at = _map(table, fd)
    if sem.at == cython.NULL:
        return cython.NULL
    sem.users = 0
    sem.generation = generation & GENERATION
    sem.offset = offset
    return sem


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _is_sound(table: cython.pointer(SemTable), sem: cython.pointer(Sem)) -> cython.bint:
    """True if nobody has written over a semaphore: what sem_init writes is there, and no more posts
    than sleepers and as many late posters can have left."""
    value: cython.int = 0
    at: cython.p_char = cython.cast(cython.p_char, sem.at)
    return (
        memcmp(at + CONSTANT_FROM, cython.cast(cython.p_char, cython.address(_fresh)) + CONSTANT_FROM,
               cython.sizeof(sem_t) - CONSTANT_FROM) == 0
        and sem_getvalue(sem.at, cython.address(value)) == 0
        and 0 <= value <= 2 * cython.cast(cython.longlong, table.sleepers)
    )


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _post(table: cython.pointer(SemTable), offset: u64, generation: u64, make: cython.bint) -> cython.void:
    """Wake one sleeper. Where as many posts are waiting as there can be sleepers, all of them are
    awake already: so posts do not pile up. (One waiting post is not enough: whoever it was for may
    be about to take it, and another asleep.)"""
    value: cython.int = 0
    sem: cython.pointer(Sem) = _open(table, offset, generation, make)
    if (
        sem != cython.NULL
        and _is_sound(table, sem)
        and sem_getvalue(sem.at, cython.address(value)) == 0
        and value < cython.cast(cython.longlong, table.sleepers)
    ):
        sem_post(sem.at)


def post_one(w, lock):
    """Wake one sleeper of a lock. Who sleeps has made the semaphore: where there is none, nobody
    does. No Python, so no handler, runs here."""
    _post(cython.cast(cython.pointer(SemTable), w.semaphores), offset_of(w, lock), lock.sem, False)


def sleep_on(sem, nanoseconds):
    """Sleep until posted, until a signal comes, or for so long: 1 if posted."""
    until: timespec
    now: timespec
    nap: timespec
    clock_gettime(CLOCK_MONOTONIC, cython.address(until))
    until.tv_nsec += nanoseconds
    until.tv_sec += until.tv_nsec // NS
    until.tv_nsec %= NS
    if sem != cython.NULL and _clockwait != cython.NULL:
        return cython.cast(SemClockwait, _clockwait)(sem.at, CLOCK_MONOTONIC, cython.address(until)) == 0
    nap.tv_sec = 0
    nap.tv_nsec = NAP_NS
    while True:
        if sem != cython.NULL and sem_trywait(sem.at) == 0:
            return 1
        clock_gettime(CLOCK_MONOTONIC, cython.address(now))
        if now.tv_sec > until.tv_sec or (now.tv_sec == until.tv_sec and now.tv_nsec >= until.tv_nsec):
            return 0
        if clock_nanosleep(CLOCK_MONOTONIC, 0, cython.address(nap), cython.NULL) == EINTR:
            return 0


@cython.cclass
class Semaphores:
    """The semaphores of one arena as one attachment has them open.

    nonce: the arena's. mode: its permission bits. owner, group: whose it is. sleepers: how many can
    be asleep on one of them."""

    def __cinit__(self, arena_name, nonce, mode, owner, group, sleepers):
        path: bytes = f"{SHM_DIR}/{prefix()}{arena_name}@{nonce:016x}".encode()
        alive: bytes = f"{SHM_DIR}/{alive_name(arena_name, nonce)}".encode()
        memset(cython.address(self.table), 0, cython.sizeof(SemTable))
        snprintf(self.table.alive, 320, "%s", cython.cast(cython.p_char, alive))
        snprintf(self.table.prefix, 320, "%s", cython.cast(cython.p_char, path))
        self.table.mode = mode
        self.table.owner = owner
        self.table.group = group
        self.table.sleepers = sleepers
        self.arena_name = arena_name
        self.nonce = nonce

    def name(self, offset, generation):
        """The name of the semaphore of the lock at `offset`."""
        return f"/{self.arena_name}@{self.nonce:016x}-{offset:x}-{generation & (1 << 63) - 1:x}"

    def find(self, w, lock):
        """The open semaphore of a lock that somebody is about to sleep on, made if it is not there;
        or NULL. One that is damaged is removed: whoever sleeps next has a new one."""
        table: cython.pointer(SemTable) = cython.address(self.table)
        sem: cython.pointer(Sem) = _open(table, offset_of(w, lock), load(cython.address(lock.sem)), True)
        if sem != cython.NULL and not _is_sound(table, sem):
            self.retire(w, lock)
            return cython.NULL
        return sem

    def post(self, offset, generation):
        """Wake one sleeper."""
        _post(cython.address(self.table), offset, generation, True)

    def sleep(self, offset, generation, seconds):
        """Sleep until posted or for `seconds`; without a semaphore the sleep is the same. True if
        posted."""
        table: cython.pointer(SemTable) = cython.address(self.table)
        sem: cython.pointer(Sem) = _open(table, offset, generation, True)
        if sem != cython.NULL and not _is_sound(table, sem):
            sem = cython.NULL
        return sleep_on(sem, cython.cast(u64, seconds * 1e9)) == 1

    def retire(self, w, lock):
        """Remove the semaphore of a lock, if it has one; a late sleeper makes a new one, of the
        next generation."""
        old: u64 = load(cython.address(lock.sem))
        if old & EXISTS and cas(cython.address(lock.sem), old, (old + 1) & ~EXISTS):
            self.unlink(offset_of(w, lock), old)
        return 0

    def retire_mine(self, w):
        """Remove the semaphores that this user has made, as far as they are open here, if the arena
        is another's: nobody else could."""
        i: u64
        if self.table.owner == geteuid() or geteuid() == 0:
            return 0
        for i in range(OPEN_MAX):
            if self.table.open[i].offset != 0:
                self.retire(w, cython.cast(cython.pointer(Lock), w.base + self.table.open[i].offset))
        return 0

    def unlink(self, offset, generation):
        """Remove the semaphore of a lock that nobody will take any more."""
        found: cython.bint
        sem: cython.pointer(Sem) = _place(
            cython.address(self.table), offset, generation & GENERATION, cython.address(found)
        )
        if found and load(cython.address(sem.users)) == 0:
            _close(sem)
        unlink_one(prefix() + self.name(offset, generation)[1:])

    def close(self):
        """Close all on which no thread sleeps; the semaphores stay."""
        i: u64
        for i in range(OPEN_MAX):
            if self.table.open[i].offset != 0 and load(cython.address(self.table.open[i].users)) == 0:
                _close(cython.address(self.table.open[i]))

    def __dealloc__(self):
        self.close()

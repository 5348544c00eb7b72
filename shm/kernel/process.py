"""Owns what befalls a process as a whole: a fork, and memory of a mapping that is not there when it
is touched.

Both come at any moment, in any thread, with or without the GIL, so both are answered by C handlers
that only make system calls and set words; `Attachment` looks at the words when the next call
begins. They find the attachments of the process in a list of `Kin`.

A fork: the child must not keep its parent's slot alive, nor use it. Whoever forks, and whatever
hooks of Python run before ours, the handler has run first (pthread_atfork(3)): the child has let go
of its parent's opening of the liveness file, has one of its own as far as a descriptor can be had,
and every attachment is barred until it has a slot of its own. Its memory cannot be touched until
then, unless somebody may be looking at pages in it (and so mlockall(2) in a child does not fill
it). A child that was forked in the middle of a call, by a back end in Python, goes on in that call:
on a copy of its own, so that nobody is harmed, and the call ends with an error.

A SIGBUS: a file that was truncated, or a damaged word that says of memory that it is there, while
the file system is full. The page that is missing is replaced by one of zeroes of this process
alone; zeroes have no sentinel, so the walk that met them ends as `CORRUPT`, and the attachment is
barred. So a fault costs an exception and not the interpreter, and the hot paths pay nothing for it.
A fault elsewhere goes to the handler that was there before.
A handler may be walking the list in any thread: `part` waits until none is, before what it took out
goes away.
Rejected: comparing every offset with what has memory by this process's own books (a load and a
branch on each of them).
"""
import cython
from cython.cimports.libc.stdio import snprintf
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
from cython.cimports.posix.unistd import SEEK_CUR, SEEK_SET, close, getpid, lseek
from cython.cimports.shm.atomics import (
    Mutex,
    add,
    fence_full,
    fence_release,
    load,
    mutex_forget,
    mutex_lock,
    mutex_unlock,
    pause,
    set_bits,
    this_thread,
)
from cython.cimports.shm.kernel.liveness import next_mark
from cython.cimports.shm.kernel.process import CLOSED, COPY, FORKED, SHARED, SHUT, UNBACKED, Kin
from cython.cimports.shm.kernel.semaphores import OPEN_MAX, SemTable
from cython.cimports.shm.kernel.system import (
    MAP_NORESERVE,
    O_CLOEXEC,
    O_RDWR,
    SA_SIGINFO,
    SIG_DFL,
    SIG_IGN,
    SIGBUS,
    munlock,
    open,
    pthread_atfork,
    sigaction,
    sigaction_t,
    sigemptyset,
    siginfo_t,
)
from cython.cimports.shm.layout import SYS_PAGE, Worker, u64
from cython.cimports.shm.memory import is_arena
from cython.cimports.shm.turns import WAITED

_kin = cython.declare(cython.pointer(Kin), cython.NULL)
_list = cython.declare(Mutex)               # who changes the list has it; and who installs the handlers
_walkers = cython.declare(u64, 0)           # handlers of SIGBUS that are walking it
_installed = cython.declare(cython.bint, False)
_before = cython.declare(sigaction_t)       # what SIGBUS did before


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _let_go_of_parent(w: cython.pointer(Worker)) -> cython.void:
    """Have an opening of the liveness file that is this process's own, and none of the parent's."""
    path: cython.char[64]
    old: cython.int = w.live_fd
    if w.live_page != cython.NULL:
        munmap(w.live_page, SYS_PAGE)
        w.live_page = cython.NULL
    w.live_fd = -1
    # A number that somebody closed and used again is somebody else's.
    if old < 0 or cython.cast(u64, lseek(old, 0, SEEK_CUR)) != w.live_mark:
        return
    # Of the same file, whether its name is still there or not.
    snprintf(path, 64, "/proc/self/fd/%d", old)
    w.live_fd = open(path, O_RDWR | O_CLOEXEC)
    close(old)
    if w.live_fd >= 0:
        w.live_mark = next_mark(w.live_mark ^ cython.cast(u64, getpid()))
        lseek(w.live_fd, w.live_mark, SEEK_SET)


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _set_apart(kin: cython.pointer(Kin)) -> cython.void:
    """Keep the child from the memory that its parent uses."""
    w: cython.pointer(Worker) = kin.w
    if kin.barred & (CLOSED | FORKED) or w.base == cython.NULL:
        return
    if kin.turn.owner & ~cython.cast(u64, WAITED) == this_thread():
        if (
            is_arena(w)
            and mmap(w.base, w.map_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED | MAP_NORESERVE, w.fd, 0)
            != MAP_FAILED
        ):
            kin.apart = COPY
    elif kin.keeps == 0 and mprotect(w.base, w.map_bytes, PROT_NONE) == 0:
        kin.apart = SHUT


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _after_fork_in_child() -> cython.void:
    global _walkers
    kin: cython.pointer(Kin) = _kin
    mutex_forget(cython.address(_list))
    _walkers = 0
    while kin != cython.NULL:
        _let_go_of_parent(kin.w)
        _set_apart(kin)
        set_bits(cython.address(kin.barred), FORKED)
        kin.turn.owner = 0          # whoever had it, or waited for it, is a thread of the parent
        mutex_forget(cython.address(kin.turn.queue))
        mutex_forget(cython.address(kin.keeping))
        kin.turn.first = cython.NULL
        kin.turn.last = cython.NULL
        kin = kin.next


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _replace(at: cython.p_char, size: u64) -> cython.bint:
    """Put zeroes of this process alone in the place of pages of a mapping."""
    return mmap(at, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) != MAP_FAILED


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _mend(kin: cython.pointer(Kin), at: cython.p_char) -> cython.bint:
    """True if the address is in this attachment's memory, which is there now."""
    w: cython.pointer(Worker) = kin.w
    table: cython.pointer(SemTable) = cython.cast(cython.pointer(SemTable), w.semaphores)
    i: u64
    size: u64
    left: u64
    at = cython.cast(cython.p_char, cython.cast(u64, at) & ~cython.cast(u64, SYS_PAGE - 1))
    if w.base != cython.NULL and w.base <= at < w.base + w.map_bytes:
        # More each time: what is missing is missing in one piece as a rule, and a process may have
        # only so many mappings.
        size = cython.cast(u64, SYS_PAGE) << kin.faults
        left = cython.cast(u64, w.base + w.map_bytes - at)
        if not _replace(at, size if size < left else left):
            return False
        if kin.faults < 30:
            kin.faults += 1
        w.unbacked = True
        set_bits(cython.address(kin.barred), UNBACKED)
        return True
    if table != cython.NULL:
        for i in range(OPEN_MAX):
            if cython.cast(cython.p_char, table.open[i].at) == at:
                return _replace(at, SYS_PAGE)  # a semaphore carries no state: a sleep that nobody ends ends by itself
    return False


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _on_sigbus(number: cython.int, info: cython.pointer(siginfo_t), context: cython.p_void) -> cython.void:
    kin: cython.pointer(Kin)
    default: sigaction_t
    add(cython.address(_walkers), 1)
    kin = _kin
    while kin != cython.NULL and not _mend(kin, cython.cast(cython.p_char, info.si_addr)):
        kin = kin.next
    add(cython.address(_walkers), -1)
    if kin != cython.NULL:
        return
    if _before.sa_flags & SA_SIGINFO:
        _before.sa_sigaction(number, info, context)
    elif _before.sa_handler == SIG_DFL or _before.sa_handler == SIG_IGN:
        sigemptyset(cython.address(default.sa_mask))
        default.sa_flags = 0
        default.sa_handler = SIG_DFL
        sigaction(SIGBUS, cython.address(default), cython.NULL)     # the access is tried again, and ends the process
    else:
        _before.sa_handler(number)


@cython.cfunc
@cython.exceptval(check=False)
def _install() -> cython.bint:
    """Have both handlers in place. False: there is no memory for one."""
    global _installed
    ours: sigaction_t
    if _installed:
        return True
    if pthread_atfork(cython.NULL, cython.NULL, _after_fork_in_child) != 0:
        return False
    sigemptyset(cython.address(ours.sa_mask))
    ours.sa_flags = SA_SIGINFO
    ours.sa_sigaction = _on_sigbus
    sigaction(SIGBUS, cython.address(ours), cython.address(_before))
    _installed = True
    return True


def join(kin):
    """Add an attachment, before it has a descriptor. One store makes it known: a handler that comes
    meanwhile sees it or does not."""
    global _kin
    mutex_lock(cython.address(_list))
    installed: cython.bint = _install()
    if installed:
        kin.next = _kin
        fence_release()
        _kin = kin
    mutex_unlock(cython.address(_list))
    if not installed:
        raise MemoryError
    return 0


def part(kin):
    """Forget an attachment, which has no descriptor any more. Of one that never joined, nothing
    happens."""
    global _kin
    at: cython.pointer(cython.pointer(Kin)) = cython.address(_kin)
    mutex_lock(cython.address(_list))
    while at[0] != cython.NULL and at[0] != kin:
        at = cython.address(at[0].next)
    if at[0] == kin:
        at[0] = kin.next
    mutex_unlock(cython.address(_list))
    fence_full()            # out of the list first, then who is walking it: a handler does the reverse
    while load(cython.address(_walkers)) != 0:
        pause()


def rejoin(kin):
    """Have the arena in its place again, in a forked child. 0, or -1: it cannot be had."""
    w: cython.pointer(Worker) = kin.w
    if kin.apart == SHUT and (
        munlock(w.base, w.map_bytes) != 0 or mprotect(w.base, w.map_bytes, PROT_READ | PROT_WRITE) != 0
    ):
        return -1
    if kin.apart == COPY and (not is_arena(w) or mmap(w.base, w.map_bytes, PROT_READ | PROT_WRITE,
                                                      MAP_SHARED | MAP_FIXED | MAP_NORESERVE, w.fd, 0) == MAP_FAILED):
        return -1
    kin.apart = SHARED
    return 0

"""Owns backing and punching of ranges of the arena file, asking what has memory, and the bounds
check of chunk offsets.

Never maps anything: that is arena.py. Takes no lock. A kill between `posix_fallocate` and the word
that records it costs nothing: backing twice is backing once. Before each call on the descriptor it
is asked which file it is of: a program may have closed it, and have one of its own under the same
number. Then nothing is done, and Worker.lost is set.
"""
import cython
from cython.cimports.posix.fcntl import posix_fallocate
from cython.cimports.posix.stat import fstat, struct_stat
from cython.cimports.posix.unistd import lseek
from cython.cimports.shm.atomics import load
from cython.cimports.shm.kernel.groups import has_room
from cython.cimports.shm.kernel.system import (
    FALLOC_FL_KEEP_SIZE,
    FALLOC_FL_PUNCH_HOLE,
    MADV_COLLAPSE,
    SEEK_DATA,
    SEEK_HOLE,
    SIG_SETMASK,
    fallocate,
    madvise,
    pthread_sigmask,
    sigfillset,
    sigset_t,
)
from cython.cimports.shm.layout import HUGE_BYTES, NOSPACE, OK, SYS_PAGE, u64

NOWHERE = cython.declare(u64, cython.cast(u64, -1))
HUGE_PAGE_SIZE = "/sys/kernel/mm/transparent_hugepage/hpage_pmd_size"


def has_huge_pages(said=HUGE_PAGE_SIZE):
    """True if the system's huge pages are of HUGE_BYTES. They are larger where a small one has 16
    or 64 KiB: no segment is as large as that."""
    try:
        with open(said) as file:
            return int(file.read()) == HUGE_BYTES
    except (OSError, ValueError):
        return False


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _look(w: cython.pointer(Worker), status: cython.pointer(struct_stat)) -> cython.bint:
    """fstat of the arena's file; False, and Worker.lost, if the descriptor is not of it any
    more."""
    if fstat(w.fd, status) == 0 and status.st_dev == w.dev and status.st_ino == w.ino:
        return True
    w.lost = True
    return False


def is_arena(w):
    """True if the descriptor is still of the arena's file."""
    status: struct_stat
    return _look(w, cython.address(status))


def back_file(fd, offset, length):
    """Give the range of a file memory, zeroed where it had none. OK or NOSPACE.

    Signals wait meanwhile: each would end the call and undo what it had done, and a timer that
    rings often would do so for ever."""
    all: sigset_t
    before: sigset_t
    rc: cython.int
    sigfillset(cython.address(all))
    pthread_sigmask(SIG_SETMASK, cython.address(all), cython.address(before))
    rc = posix_fallocate(fd, cython.cast(cython.long, offset), cython.cast(cython.long, length))
    pthread_sigmask(SIG_SETMASK, cython.address(before), cython.NULL)
    return OK if rc == 0 else NOSPACE


def back(w, offset, length):
    """Give the range memory, zeroed where it had none. OK or NOSPACE, also (Worker.lost) if the
    descriptor is not of the arena any more."""
    return back_file(w.fd, offset, length) if is_arena(w) else NOSPACE


def back_segment(w, offset, run):
    """Give a segment memory. OK or NOSPACE. If `run` says that the memory up to HUGE_BYTES from
    here may be had, and a huge page can begin here, it becomes one where the system has one.

    Shared memory gets huge pages by request alone, whatever the system's policy for the unasked
    (madvise(2), MADV_COLLAPSE, Linux 6.1). The request wants a page to start from. It may cost the
    kernel a search, so after a failure this process skips a while, longer each time. Its yes is not
    believed: kernels with pages of 16 or 64 KiB say it and do nothing.
    """
    huge: cython.bint = w.huge and run and offset & (HUGE_BYTES - 1) == 0 and has_room(HUGE_BYTES)
    if not huge and not has_room(cython.cast(u64, 1) << w.seg_shift):
        return NOSPACE
    if huge:
        if w.huge_skip > 0:
            w.huge_skip -= 1
        elif back(w, offset, SYS_PAGE) != OK:
            return NOSPACE
        elif madvise(w.base + offset, HUGE_BYTES, MADV_COLLAPSE) == 0:
            w.huge_failures = 0
        else:
            w.huge_skip = cython.cast(u64, 1) << w.huge_failures
            if w.huge_failures < 12:
                w.huge_failures += 1
    return back(w, offset, cython.cast(u64, 1) << w.seg_shift)


def punch(w, offset, length):
    """Give the range's memory back to the system; it reads as zeroes afterwards. OK or NOSPACE."""
    mode: cython.int = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE
    if is_arena(w) and fallocate(w.fd, mode, cython.cast(cython.long, offset), cython.cast(cython.long, length)) == 0:
        return OK
    return NOSPACE


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _seek(w: cython.pointer(Worker), at: u64, what: cython.int) -> u64:
    found: cython.longlong = lseek(w.fd, cython.cast(cython.long, at), what) if is_arena(w) else -1
    return cython.cast(u64, found) if found >= 0 else NOWHERE


def next_data(w, at):
    """Where the first memory from `at` on is; the largest number if there is none, or the kernel
    would not say."""
    return _seek(w, at, SEEK_DATA)


def next_hole(w, at):
    """Where the first range without memory from `at` on is, as next_data."""
    return _seek(w, at, SEEK_HOLE)


def backed_bytes(w):
    """What the arena's file takes of the system's memory, in bytes; 0 if the descriptor is not of
    it any more."""
    status: struct_stat
    return status.st_blocks * 512 if _look(w, cython.address(status)) else 0


def widen(w, rel):
    """Learn of segments that others have backed since; True if `rel` lies in one of them.

    The depot's word is clamped by this process's own copy of the geometry.
    """
    high: u64 = load(cython.address(w.depot.seg_high))
    if high > w.seg_total:
        high = w.seg_total
    w.seg_span = high << w.seg_shift
    return rel < w.seg_span

"""Owns backing and punching of ranges of the arena file, and the bounds check of chunk offsets.

May call: libc. Called by arena, journal, slab, workers and every walk of a structure.
Never maps anything: that is arena.py. Takes no lock. A kill between `posix_fallocate` and the word that
records it costs nothing: backing twice is backing once.
"""
import cython
from cython.cimports.libc.errno import EINTR
from cython.cimports.posix.fcntl import posix_fallocate
from cython.cimports.shm.atomics import load
from cython.cimports.shm.layout import HUGE_BYTES, NOSPACE, OK, SYS_PAGE, u64
from cython.cimports.shm.system import FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE, MADV_COLLAPSE, fallocate, madvise


def back(fd, offset, length):
    """Give the range memory, zeroed where it had none. OK or NOSPACE."""
    rc: cython.int = EINTR
    while rc == EINTR:
        rc = posix_fallocate(fd, cython.cast(cython.long, offset), cython.cast(cython.long, length))
    return OK if rc == 0 else NOSPACE


def back_segment(w, offset, run):
    """Give a segment memory. OK or NOSPACE. If `run` says that the memory up to HUGE_BYTES from here may be had, and a huge page can
    begin here, it becomes one where the system has one.

    Shared memory gets huge pages by request alone, whatever the system's policy for the unasked (madvise(2), MADV_COLLAPSE,
    Linux 6.1). The request wants a page to start from. It may cost the kernel a search, so after a failure
    this process skips a while, longer each time.
    """
    if w.huge and run and offset & (HUGE_BYTES - 1) == 0:
        if w.huge_skip > 0:
            w.huge_skip -= 1
        elif back(w.fd, offset, SYS_PAGE) != OK:
            return NOSPACE
        elif madvise(w.base + offset, HUGE_BYTES, MADV_COLLAPSE) == 0:
            w.huge_failures = 0
            return OK
        else:
            w.huge_skip = cython.cast(u64, 1) << w.huge_failures
            if w.huge_failures < 12:
                w.huge_failures += 1
    return back(w.fd, offset, cython.cast(u64, 1) << w.seg_shift)


def punch(fd, offset, length):
    """Give the range's memory back to the system; it reads as zeroes afterwards. OK or NOSPACE."""
    mode: cython.int = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE
    if fallocate(fd, mode, cython.cast(cython.long, offset), cython.cast(cython.long, length)) == 0:
        return OK
    return NOSPACE


def widen(w, rel):
    """Learn of segments that others have backed since; True if `rel` lies in one of them.

    The depot's word is clamped by this process's own copy of the geometry.
    """
    high: u64 = load(cython.address(w.depot.seg_high))
    if high > w.seg_total:
        high = w.seg_total
    w.seg_span = high << w.seg_shift
    return rel < w.seg_span

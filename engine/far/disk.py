"""Owns Disk: reads and writes of a file, several at a time, which nobody stands and waits for.

By the asynchronous calls of Linux, io_submit(2): past the page cache they leave the waiting to the
disk, which has the next before it is done with the one before. A thread would need the lock of the
interpreter, and be in the way of who forks. Where such calls cannot be had (a kernel or a sandbox
without them, or more of them than fs.aio-max-nr allows) each is made by itself, and is over when it
has begun.
A context belongs to one process: a forked child makes its own, and what its parent had under way is
none of its business.
Nothing returns while the kernel may still write to memory of ours: interrupted waits go on.
"""
import cython
from cython.cimports.cpython.buffer import (
    Py_buffer,
    PyBUF_SIMPLE,
    PyBUF_WRITABLE,
    PyBuffer_Release,
    PyObject_GetBuffer,
)
from cython.cimports.engine.far.disk import (
    DEPTH,
    IOCB_CMD_PREAD,
    IOCB_CMD_PWRITE,
    SYS_io_destroy,
    SYS_io_getevents,
    SYS_io_setup,
    SYS_io_submit,
    getpid,
    iocb,
    pread,
    pwrite,
    syscall,
)
from cython.cimports.libc.errno import EINTR, EIO, errno
from cython.cimports.libc.string import memset


@cython.cclass
class Disk:
    """What one thread has under way."""

    def __dealloc__(self):
        if self.context != 0 and self.owner == getpid():
            syscall(SYS_io_destroy, self.context)       # waits for what is under way
        if self.holds:
            PyBuffer_Release(cython.address(self.held))

    def ready(self):
        """Have a context of this process's, if one can be had."""
        if self.owner != getpid():
            self.context = 0
            self.under_way = 0
            self.owner = getpid()
        if self.context == 0 and not self.refused:
            self.refused = syscall(SYS_io_setup, cython.cast(cython.uint, DEPTH), cython.address(self.context)) != 0
            if self.refused:
                self.context = 0
        return 0

    def submit(self, count):
        """Begin the first `count` calls. Those that the kernel does not take are made here."""
        one: cython.pointer(iocb)
        taken: cython.long = 0
        i: cython.int
        for i in range(count):
            self.order[i] = cython.address(self.calls[i])
            self.calls[i].aio_data = i
            self.answers[i] = -EIO
        if self.context != 0:
            taken = syscall(SYS_io_submit, self.context, cython.cast(cython.long, count), self.order)
        self.under_way = max(taken, 0)
        for i in range(self.under_way, count):
            one = cython.address(self.calls[i])
            at: cython.p_void = cython.cast(cython.p_void, cython.cast(cython.size_t, one.aio_buf))
            while True:
                if one.aio_lio_opcode == IOCB_CMD_PREAD:
                    self.answers[i] = pread(one.aio_fildes, at, one.aio_nbytes, one.aio_offset)
                else:
                    self.answers[i] = pwrite(one.aio_fildes, at, one.aio_nbytes, one.aio_offset)
                if self.answers[i] >= 0:
                    break
                self.answers[i] = -errno
                if self.answers[i] != -EINTR:
                    break

    def wait(self):
        """Wait for all that is under way."""
        found: cython.long
        i: cython.long
        while self.under_way > 0:
            found = syscall(SYS_io_getevents, self.context, cython.cast(cython.long, self.under_way),
                            cython.cast(cython.long, self.under_way), self.events, cython.NULL)
            if found < 0 and errno == EINTR:
                continue
            if found < 0:
                # Not to be expected. What has not answered counts as failed, and is over after
                # this.
                syscall(SYS_io_destroy, self.context)
                self.context = 0
                self.under_way = 0
            for i in range(found):
                self.answers[self.events[i].data] = self.events[i].res
            self.under_way -= max(found, 0)

    def read(self, fd, room, spans):
        """Read parts of a file: (where in it, where in `room`, how many bytes) each. For each how
        many it got, or the number of an error below 0."""
        view: Py_buffer
        count: cython.int
        i: cython.int
        found: list = []
        first: cython.Py_ssize_t = 0
        memset(self.calls, 0, cython.sizeof(self.calls))
        PyObject_GetBuffer(room, cython.address(view), PyBUF_SIMPLE | PyBUF_WRITABLE)
        try:
            self.ready()
            while first < len(spans):
                count = min(DEPTH, len(spans) - first)
                for i in range(count):
                    at, place, length = spans[first + i]
                    if not 0 <= place <= place + length <= view.len:
                        raise ValueError(f"spans: within the room of {view.len} bytes, not {place}, {length}")
                    self.calls[i].aio_lio_opcode = IOCB_CMD_PREAD
                    self.calls[i].aio_fildes = fd
                    self.calls[i].aio_buf = cython.cast(cython.size_t, view.buf) + cython.cast(cython.size_t, place)
                    self.calls[i].aio_nbytes = length
                    self.calls[i].aio_offset = at
                with cython.nogil:
                    self.submit(count)
                    self.wait()
                for i in range(count):
                    found.append(self.answers[i])
                first += count
        finally:
            PyBuffer_Release(cython.address(view))
        return found

    def begin(self, fd, room, at):
        """Begin to write a buffer to a file. Until `end` it is not to be changed. What was begun
        before and never ended, since a signal handler raised, or by a thread of a parent, is waited
        for first."""
        self.end()
        PyObject_GetBuffer(room, cython.address(self.held), PyBUF_SIMPLE)
        self.holds = True
        self.ready()
        memset(self.calls, 0, cython.sizeof(self.calls))
        self.calls[0].aio_lio_opcode = IOCB_CMD_PWRITE
        self.calls[0].aio_fildes = fd
        self.calls[0].aio_buf = cython.cast(cython.size_t, self.held.buf)
        self.calls[0].aio_nbytes = self.held.len
        self.calls[0].aio_offset = at
        with cython.nogil:
            self.submit(1)

    def end(self):
        """Wait for what was begun: how many bytes were written, or the number of an error below 0;
        0 in a child that was forked meanwhile."""
        if not self.holds:
            return 0
        mine: cython.bint = self.owner == getpid()
        if mine:
            with cython.nogil:
                self.wait()
        self.holds = False
        PyBuffer_Release(cython.address(self.held))
        return self.answers[0] if mine else 0

# C-level names of disk.py.
from cpython.buffer cimport Py_buffer
from libc.stdint cimport int64_t, uint16_t, uint32_t, uint64_t

cdef extern from "<linux/aio_abi.h>" nogil:
    ctypedef unsigned long aio_context_t
    enum:
        IOCB_CMD_PREAD
        IOCB_CMD_PWRITE
    struct iocb:
        uint64_t aio_data
        uint16_t aio_lio_opcode
        uint32_t aio_fildes
        uint64_t aio_buf
        uint64_t aio_nbytes
        int64_t aio_offset
    struct io_event:
        uint64_t data
        int64_t res

cdef extern from "<sys/syscall.h>" nogil:
    long SYS_io_setup
    long SYS_io_destroy
    long SYS_io_submit
    long SYS_io_getevents

cdef extern from "<unistd.h>" nogil:
    long syscall(long number, ...)
    int getpid()
    ssize_t pread(int fd, void *into, size_t length, int64_t at)
    ssize_t pwrite(int fd, const void *data, size_t length, int64_t at)

cdef enum:
    DEPTH = 32                      # calls that are under way at once

cdef class Disk:
    cdef aio_context_t context      # 0: there is none
    cdef bint refused               # none can be had
    cdef int owner                  # the process that the context is of
    cdef iocb calls[DEPTH]
    cdef iocb *order[DEPTH]         # as the kernel wants to be told of them
    cdef io_event events[DEPTH]     # and tells
    cdef int64_t answers[DEPTH]     # bytes, or the number of an error below 0
    cdef int under_way              # so many calls that the kernel has and has not answered
    cdef Py_buffer held             # what is being written
    cdef bint holds
    cdef int ready(self) except -1
    cdef void submit(self, int count) noexcept nogil
    cdef void wait(self) noexcept nogil

# Owns the declarations of Linux calls that Cython's own libc and posix files lack. No code.
from libc.stdint cimport int64_t

cdef extern from "<fcntl.h>" nogil:
    int F_OFD_SETLK
    int F_OFD_GETLK
    int FALLOC_FL_PUNCH_HOLE
    int FALLOC_FL_KEEP_SIZE
    int fallocate(int fd, int mode, int64_t offset, int64_t length)

cdef extern from "<sys/mman.h>" nogil:
    int madvise(void *start, size_t length, int advice)
    int MAP_NORESERVE
    int MADV_COLLAPSE

cdef extern from "<signal.h>" nogil:
    int SIGSTOP
    int kill(int pid, int signal)

cdef extern from "<unistd.h>" nogil:
    long syscall(long number, ...)

cdef extern from "<sys/syscall.h>":
    long SYS_membarrier

cdef extern from "<linux/membarrier.h>":
    int MEMBARRIER_CMD_GLOBAL

cdef extern from *:
    """
    #ifndef MADV_COLLAPSE
    #define MADV_COLLAPSE 25    /* Linux 6.1; older ones answer EINVAL */
    #endif
    """

# Owns the declarations of system calls and types that Cython's own libc and posix files lack. No code.
from cpython.pythread cimport PyThread_type_lock
from libc.stdint cimport int64_t, uint64_t

cdef extern from "Python.h" nogil:
    int PyThread_acquire_lock_timed(PyThread_type_lock lock, long long microseconds, int interruptible)

cdef extern from "<fcntl.h>" nogil:
    int F_OFD_SETLK
    int F_OFD_GETLK
    int FALLOC_FL_PUNCH_HOLE
    int FALLOC_FL_KEEP_SIZE
    int O_CLOEXEC
    int O_NOFOLLOW
    int O_NONBLOCK
    int O_RDONLY
    int O_RDWR
    int O_CREAT
    int O_EXCL
    int fallocate(int fd, int mode, int64_t offset, int64_t length)
    int SYNC_FILE_RANGE_WRITE
    int sync_file_range(int fd, int64_t offset, int64_t length, unsigned int flags)
    int open(const char *path, int flags, ...)

cdef extern from "<sys/mman.h>" nogil:
    int madvise(void *start, size_t length, int advice)
    int munlock(const void *start, size_t length)
    int MAP_NORESERVE
    int MADV_COLLAPSE

cdef extern from "<signal.h>" nogil:
    ctypedef struct sigset_t:
        pass
    ctypedef struct siginfo_t:
        void *si_addr
    ctypedef void (*SignalHandler)(int) noexcept nogil
    ctypedef void (*SignalAction)(int, siginfo_t *, void *) noexcept nogil
    struct sigaction_t "sigaction":
        SignalHandler sa_handler
        SignalAction sa_sigaction
        sigset_t sa_mask
        int sa_flags
    int SIGSTOP
    int SIGBUS
    int SIG_SETMASK
    int SA_SIGINFO
    SignalHandler SIG_DFL
    SignalHandler SIG_IGN
    int kill(int pid, int signal)
    int sigaction(int signal, const sigaction_t *new, sigaction_t *old)
    int sigfillset(sigset_t *set)
    int sigemptyset(sigset_t *set)
    int pthread_sigmask(int how, const sigset_t *set, sigset_t *old)

cdef extern from "<pthread.h>" nogil:
    int pthread_atfork(void (*prepare)() noexcept nogil, void (*parent)() noexcept nogil,
                       void (*child)() noexcept nogil)

cdef extern from "<time.h>" nogil:
    ctypedef int clockid_t
    struct timespec:
        long tv_sec
        long tv_nsec
    int CLOCK_MONOTONIC
    int clock_gettime(clockid_t clock, timespec *now)
    int clock_nanosleep(clockid_t clock, int flags, const timespec *wanted, timespec *left)

cdef extern from "<semaphore.h>" nogil:
    ctypedef struct sem_t:
        pass
    int sem_init(sem_t *sem, int shared, unsigned int value)
    int sem_post(sem_t *sem)
    int sem_trywait(sem_t *sem)
    int sem_getvalue(sem_t *sem, int *value)

# sem_clockwait(3) of glibc 2.30 and later, found when the program runs: one binary serves older ones too.
ctypedef int (*SemClockwait)(sem_t *sem, clockid_t clock, const timespec *until) noexcept nogil

cdef extern from "<dlfcn.h>" nogil:
    void *dlsym(void *handle, const char *name)
    void *RTLD_DEFAULT

cdef extern from "<unistd.h>" nogil:
    int fchown(int fd, unsigned int owner, unsigned int group)
    int SEEK_DATA
    int SEEK_HOLE
    long syscall(long number, ...)

cdef extern from "<sys/syscall.h>":
    long SYS_membarrier

cdef extern from *:
    """
    #ifndef MADV_COLLAPSE
    #define MADV_COLLAPSE 25    /* Linux 6.1; older ones answer EINVAL */
    #endif
    #define MEMBARRIER_GLOBAL 1    /* MEMBARRIER_CMD_GLOBAL; musl comes without the kernel's headers */
    #ifdef __GLIBC__
    #define SHM_SEM_PREFIX "sem."
    #else
    #define SHM_SEM_PREFIX ""   /* musl */
    #endif
    """
    const char *SHM_SEM_PREFIX
    int MEMBARRIER_GLOBAL

# Owns the clock that all processes of a machine share: nanoseconds since it was booted, also of time
# that it was suspended in. Nobody sets it, so it never steps. A process in a time namespace of its
# own reads another clock.
from shm.kernel.system cimport clock_gettime, clockid_t, timespec
from shm.layout cimport Worker, u64

cdef extern from "<time.h>" nogil:
    clockid_t CLOCK_BOOTTIME

cdef inline u64 now(Worker *w) noexcept nogil:
    # Never 0. `clock_ahead`: so many nanoseconds later, for this process alone (tests).
    cdef timespec at
    clock_gettime(CLOCK_BOOTTIME, &at)
    return <u64>at.tv_sec * 1000000000u + <u64>at.tv_nsec + w.clock_ahead + 1

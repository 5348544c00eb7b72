# C-level names of waiting.py.
from shm.layout cimport Worker

cdef enum:
    # What to do about a lock that was BUSY.
    GO_ON = 0           # try again at once
    REST = 1            # sleep on its semaphore, a slice
    WRONG = 2           # its word cannot be true: ArenaCorrupted
    UNKNOWN = 3         # whether its holder lives cannot be asked (Worker.lost)

cdef int consider(Worker *w) noexcept nogil
cdef void stand_aside(Worker *w) noexcept nogil
cdef int refuse(Worker *w) except -1
cdef void note_wait(Worker *w, long long nanoseconds) noexcept nogil

# C-level names of semaphores.py.
from shm.layout cimport Lock, Worker, u64
from shm.kernel.system cimport sem_t

cdef enum:
    OPEN_MAX = 1024         # semaphores kept open a process; each is a mapped page

# One open semaphore. `users`: threads asleep on it, which have not the turn; changed by atomic adds.
cdef struct Sem:
    u64 offset              # of the lock; 0 = free
    u64 generation
    sem_t *at
    u64 users

# The semaphores of one attachment. Guard: the turn of the attachment, but for `users`.
cdef struct SemTable:
    char prefix[320]        # path of a semaphore, up to the nonce
    char alive[320]         # path of the liveness file: while it is there, the arena was not unlinked
    u64 sleepers            # how many can be asleep on one of them: the workers of the arena
    unsigned int owner      # the user who owns the arena
    unsigned int group      # and its group
    unsigned int mode       # the arena's permission bits
    u64 next                # where to look for one to close
    Sem open[OPEN_MAX]

cdef class Semaphores:
    cdef SemTable table
    cdef object arena_name
    cdef u64 nonce
    cdef int retire(self, Worker *w, Lock *lock) except -1
    cdef int retire_mine(self, Worker *w) except -1
    cdef Sem *find(self, Worker *w, Lock *lock) except? NULL

cdef void post_one(Worker *w, Lock *lock) noexcept nogil
cdef int sleep_on(Sem *sem, u64 nanoseconds) noexcept nogil

# C-level names of policies.py.
from engine.layout.structs cimport Queue
from shm.layout cimport Worker, u64

# Which queue a page begins in, QUEUE_SMALL or QUEUE_MAIN. The page is pending, and no queue has it.
ctypedef u64 (*Enter)(Worker *w, Queue *q, u64 off) noexcept nogil

# The page that goes next of a queue (QUEUE_SMALL or QUEUE_MAIN, which a policy without a small one
# takes for the main one; QUEUE_NONE: of that which has too many), after others were spared; 0: none,
# or a fault. Looks at no more than `steps` pages, and counts them down.
ctypedef u64 (*Victim)(Worker *w, Queue *q, u64 of, u64 *steps) noexcept nogil

# The victim cannot go now: let others be looked at first. OK or CORRUPT.
ctypedef int (*Pass)(Worker *w, Queue *q, u64 off) noexcept nogil

# A row of the table.
cdef struct Policy:
    const char *name
    u64 number              # in the record of a pool
    u64 hits                # of a page that are worth counting, at most HITS_MAX
    bint tries              # pages are tried in the small queue first
    Enter enter
    Victim victim
    Pass pass_over

cdef enum:
    ROWS_MAX = 16

cdef Policy rows[ROWS_MAX]
cdef int count

cdef Policy *policy_of(u64 number) noexcept nogil

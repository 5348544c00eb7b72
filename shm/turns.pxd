# C-level names of turns.py, and the state of a turn.
from shm.atomics cimport Mutex
from shm.layout cimport u64

cdef enum:
    WAITED = 1      # in Turn.owner: somebody waits; what names a thread is aligned, and leaves the bit free

# Who waits for a turn: lies on the stack of the thread that waits. Guard: Turn.queue.
cdef struct Waiter:
    void *lock              # held; given back when the turn is granted
    u64 thread
    bint granted
    Waiter *next

# Whose turn it is.
cdef struct Turn:
    u64 owner               # the thread, perhaps with WAITED; 0: nobody's. State table in turns.py
    u64 count               # turns taken. Guard: the turn
    Mutex queue             # guards what follows
    Waiter *first           # the one that has waited longest
    Waiter *last

cdef int take_turn(Turn *turn, bint interruptible) except -1
cdef void pass_turn(Turn *turn) noexcept

# C-level names of turns.py, and the state of a turn.
from shm.layout cimport u64

# Who waits for a turn: lies on the stack of the thread that waits. Guard: the GIL.
cdef struct Waiter:
    void *lock              # held; given back when the turn is granted
    u64 thread
    bint granted
    Waiter *next

# Whose turn it is. Guard: the GIL.
cdef struct Turn:
    bint busy
    u64 thread              # while busy
    u64 count               # turns taken
    Waiter *first           # the one that has waited longest
    Waiter *last

cdef int take_turn(Turn *turn, bint interruptible) except -1
cdef void pass_turn(Turn *turn) noexcept

# C-level names of process.py, and what its handlers know of an attachment.
from libc.stdint cimport uint64_t
from shm.atomics cimport Mutex
from shm.layout cimport Worker
from shm.turns cimport Turn

cdef enum:
    # Kin.barred: why the next call must not go straight on.
    CLOSED = 1          # the attachment was closed
    FORKED = 2          # this process is a child of the one that attached, and has no slot of its own yet
    LOST = 4            # a descriptor was closed behind the attachment's back: it has given up its slot
    UNBACKED = 8        # memory that should have been there was not
    GATED = 16          # a newcomer that has yet to see that nobody has stopped the world

    # Kin.apart: what a forked child has in place of the arena until it has a slot of its own.
    SHARED = 0          # the arena as it was
    SHUT = 1            # nothing that can be touched
    COPY = 2            # its own copy: it was forked in the middle of a call, which goes on in it

# What belongs to this process of one attachment; lies in the Attachment. Guard: the turn, unless said
# otherwise, and what process.py says of its handlers.
cdef struct Kin:
    Worker *w
    uint64_t barred         # itself: bits are set and cleared one by one
    Turn turn
    # Of what may end in any thread at any moment, out of turn: `keeps`, the pins of the layer above,
    # and the end of the slot, which comes with the last of them.
    Mutex keeping
    # reasons of the layer above to stay alive after a descriptor was lost, and to keep the memory
    # readable
    uint64_t keeps          # keeping
    int apart
    int faults              # pages that were not there
    Kin *next               # the list's own mutex

cdef int join(Kin *kin) except -1
cdef int rejoin(Kin *kin) noexcept
cdef void part(Kin *kin) noexcept

# C-level names of workers.py.
from cpython.pythread cimport PyThread_get_thread_ident
from shm.arena cimport Arena
from shm.atomics cimport barrier, likely
from shm.layout cimport Inherit, RankOf, Worker, u64

cdef Attachment blank()

cdef class Attachment:
    cdef Worker w
    cdef readonly Arena arena
    cdef readonly object semaphores
    cdef u64 turns                  # counts enters
    cdef long thread                # whose turn it is, while busy
    cdef bint busy                  # an operation is under way (guard: the GIL)
    cdef readonly bint closed
    cdef readonly int epoch         # counts the slots this object has had; pointers die with each
    cdef bint forked                # this process is a child of the one that attached
    cdef object client_layout
    cdef Inherit inherit            # set by the layer above before __init__, as is the next
    cdef RankOf rank_of
    cdef object __weakref__
    cdef int enter_slow(self) except -1
    cdef int pause(self) except -1
    cdef int breathe(self) except -1
    cdef int recover_quick(self) except -1
    cdef int attach_slot(self) except -1
    cdef int take_slot(self) except -1

    # Brackets of every operation. `enter` returns with this thread the only one that uses the Worker.
    cdef inline int enter(self) except -1:
        if self.busy or self.closed or self.forked:
            self.enter_slow()
        self.busy = True
        self.thread = PyThread_get_thread_ident()
        self.turns += 1
        # Inside, and not as ever before: after a pause the phase was odd already. No fence: see grace.py.
        self.w.slot.phase = (self.w.slot.phase + 1) | 1
        barrier()
        return 0

    cdef inline void outside(self) noexcept:
        # Nothing of the arena is being read. Not in a forked child that has no slot of its own yet: the phase is its parent's.
        barrier()
        if likely(not self.forked):
            self.w.slot.phase = (self.w.slot.phase | 1) + 1

    cdef inline void leave(self) noexcept:
        self.outside()
        self.busy = False

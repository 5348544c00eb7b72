# C-level names of workers.py.
from shm.arena cimport Arena
from shm.atomics cimport barrier, claim, give_up, glance, likely, set_release, this_thread, unlikely
from shm.layout cimport Inherit, Lock, RankOf, Worker, u64
from shm.kernel.process cimport CLOSED, FORKED, GATED, LOST, UNBACKED, Kin
from shm.kernel.semaphores cimport Semaphores

cdef Attachment blank()

cdef class Attachment:
    cdef Worker w
    cdef Kin kin                    # whose turn it is, and what bars the next call
    cdef readonly Arena arena
    cdef readonly Semaphores semaphores
    cdef readonly int epoch         # counts the slots this object has had; pointers die with each
    # a bit for each word of Slot.client that is a list: empty when the slot is given back. Set
    # before `begin`,
    cdef u64 roots
    cdef Inherit inherit            # as are these two
    cdef RankOf rank_of
    cdef object __weakref__
    cdef int begin(self, Arena arena) except -1
    cdef int enter_slow(self) except -1
    cdef int unbar(self) except -1
    cdef bint has_turn(self) noexcept
    cdef bint try_enter(self) noexcept
    cdef void leave_slow(self) noexcept
    cdef int again(self) except -1
    cdef int enter_quietly(self) except -1
    cdef int refuse_inside(self) except -1
    cdef int pause(self) except -1
    cdef int rest(self, double seconds) except -1
    cdef int rest_at(self, Lock *lock, double seconds) except -1
    cdef int breathe(self) except -1
    cdef int step_aside(self) except -1
    cdef int wait_quietly(self) except -1
    cdef int recover_quick(self) except -1
    cdef int lose(self) except -1
    cdef int keep_one(self) noexcept
    cdef int end_keep(self) noexcept
    cdef int give_up_turn(self) noexcept
    cdef int sleep_once(self) except -1
    cdef bint close_barred(self) except -1
    cdef int close_descriptors(self) noexcept
    cdef int end(self) except -1
    cdef bint back_slot(self, u64 idx) noexcept
    cdef int refuse_fork(self) except -1
    cdef int attach_slot(self) except -1
    cdef int pass_gate(self) except -1
    cdef int call_myself(self, u64 idx) except -1
    cdef int live(self, u64 idx) except -1
    cdef int live_in(self, u64 idx) except -1
    cdef bint claim(self, u64 idx) noexcept
    cdef int disclaim(self, u64 idx) noexcept
    cdef int take_from_the_dead(self, u64 idx) except -1
    cdef int take_slot(self) except -1

    # Brackets of every operation. `enter` returns with this thread the only one that uses the
    # Worker.
    cdef inline int enter(self) except -1:
        if unlikely(not claim(&self.kin.turn.owner, this_thread())):
            self.enter_slow()
        else:
            self.kin.turn.count += 1
            if unlikely(glance(&self.kin.barred) != 0):
                self.unbar()
        # Inside, and not as ever before: after a pause the phase was odd already. No fence: see
        # grace.py.
        self.w.slot.phase = (self.w.slot.phase + 1) | 1
        barrier()
        return 0

    cdef inline u64 bars(self, u64 reasons) noexcept:
        # Those of these reasons for which the next call must not go straight on.
        return glance(&self.kin.barred) & reasons

    cdef inline bint is_barred(self) noexcept:
        return self.bars(<u64>-1) != 0

    cdef inline void outside(self) noexcept:
        # Nothing of the arena is being read: what was read is read before this is seen. Not where
        # the slot is not this process's, or not any more.
        if likely(self.bars(FORKED | LOST | CLOSED) == 0):
            set_release(&self.w.slot.phase, (self.w.slot.phase | 1) + 1)

    cdef inline bint is_mine(self) noexcept:
        # True if the turn is this thread's, and there is a slot to use it in.
        return self.has_turn() and self.bars(FORKED | LOST | CLOSED | UNBACKED) == 0

    cdef inline void leave(self) noexcept:
        if likely(glance(&self.kin.turn.owner) == this_thread()):
            self.outside()
            if likely(give_up(&self.kin.turn.owner, this_thread())):
                return
        self.leave_slow()

"""Owns Member: what a process is in an arena, as far as every part of the engine above the verbs
needs it.

It is attached, or refused; it gives back what it has retired; a status that is no answer becomes an
exception here. What callers hold is made of it (`engine/api/session.py`).
"""
import cython
import cython.cimports.engine.verbs.ends as ends
from cython.cimports.engine.eviction.sweep import may_be_dead, note_swept
from cython.cimports.engine.layout.call import AGAIN
from cython.cimports.engine.layout.regions import is_live, pool_at, pools_high
from cython.cimports.engine.layout.structs import (
    CLIENT_PAGE,
    GEO_BUCKETS,
    POOL_NAME_BYTES,
    ROOT_PENDING,
    ROOT_RETIRED,
    ROOT_STAGED,
    ClientPage,
    PoolRecord,
)
from cython.cimports.engine.member.ranks import rank_of
from cython.cimports.engine.member.registry import registry
from cython.cimports.engine.pages.reclaim import back_ledgers, bury, take_garbage
from cython.cimports.shm.atomics import load, load_acquire
from cython.cimports.shm.layout import BUSY, CORRUPT, GONE, OK, Worker, slot_at, slots_used, u64
from cython.cimports.shm.lock import lock_both
from cython.cimports.shm.memory import back_file
from cython.cimports.shm.workers import blank
from engine.errors import ArenaCorrupted, TmemError
from engine.layout.geometry import is_possible, shards_start
from engine.member.ranks import order_checked
from shm import arena as arenas
from shm.entry import no_memory

SALVAGE_WAITS = cython.declare(cython.int, 20)      # slices
QUIET_WAITS = cython.declare(cython.int, 10)        # slices
QUIET_TURNS = cython.declare(cython.int, 1024)      # of 64 steps each: a page, a node or an object
FAULTS = {1: "an offset that leads nowhere", 2: "a struct without its sentinel", 3: "a journal longer than itself",
          4: "a chunk that is free twice, or of another class", 5: "a walk longer than any legal one",
          6: "a lock word that its holder did not write", 32: "a policy that there is not"}


@cython.cclass
class Member:
    """A process in an arena: one worker. A blank one, as Python can make it, has nothing that
    Python can call."""

    def begin(self, arena, client):
        """Be attached to this arena, as a worker that acts for this client."""
        geometry = arena.geometry
        self.name = arena.name
        self.max_capacity = geometry["capacity"]
        self.client_id = client
        self.max_workers = geometry["max_workers"]
        self.page_size, self.buckets, self.max_pools, shards, _, _ = geometry["client"][:6]
        if not is_possible(geometry):
            raise ArenaCorrupted(f"arena {self.name!r}: impossible geometry")
        # ClientPage and the first page of pool records; the rest is backed pool by pool.
        start = arenas.regions(geometry)["client"]
        page = start + shards_start(self.max_pools, self.buckets, shards)
        if back_file(arena.fd, start, 2 * CLIENT_PAGE) != OK or back_file(arena.fd, page, CLIENT_PAGE) != OK:
            raise no_memory(self.name, "its pool table")
        self.att = blank()
        self.att.roots = 1 << ROOT_STAGED | 1 << ROOT_RETIRED | 1 << ROOT_PENDING
        self.att.inherit = bury
        if order_checked():
            self.att.rank_of = rank_of
        self.att.begin(arena)
        back_ledgers(cython.address(self.att.w))
        try:
            self.recover_dead()
        except ArenaCorrupted:
            pass        # what the dead left cannot be read: `check` says so, and needs an engine
        return 0

    def raise_status(self, status):
        """Raise what a status that is no answer means."""
        fault = self.att.w.fault
        self.att.w.fault = 0
        if status == GONE:
            self.att.lose()
        if status == CORRUPT:
            raise ArenaCorrupted(f"arena {self.name!r}: {FAULTS.get(fault, 'it contradicts itself')}; run `tmem check`")
        raise TmemError(f"arena {self.name!r}: unexpected status {status}")

    def no_memory(self, what):
        """TmemError: the file system gave no memory for something, or could not be asked."""
        if self.att.w.lost:
            self.att.lose()
        raise no_memory(self.name, what)

    def sound(self, answer):
        """The answer; ArenaCorrupted if memory was missing that it was made from."""
        if self.att.w.unbacked:
            self.att.enter()        # raises what bars it
        return answer

    def refuse_fork(self, epoch):
        """TmemError if this process is not the one any more that began something when the
        attachment had this epoch: a signal handler has forked, and the parent goes on with it."""
        if self.att.epoch != epoch:
            raise TmemError(
                f"arena {self.name!r}: this process was forked in the middle of the call; the parent goes on with it"
            )
        return 0

    def settle_quietly(self):
        """Give back what this worker has retired, after a verb that has taken effect: no signal
        handler runs, so none can make it look as if it had not. What others are in the way of for
        longer is left to later calls, and to whoever lacks memory. After QUIET_TURNS handlers run
        all the same, or nothing would end the giving back of millions of pages; what is left when
        one raises is left to later calls, too."""
        status: cython.int = AGAIN
        waits: cython.int = 0
        turns: cython.int = 0
        while status == AGAIN or status == BUSY:
            status = ends.work_off(cython.address(self.att.w), registry.host)
            turns += 1
            if status == BUSY:
                waits += 1
                if waits > QUIET_WAITS:
                    return 0
                self.att.wait_quietly()
            elif status == AGAIN and turns > QUIET_TURNS:
                self.att.breathe()
            elif status == AGAIN:
                self.att.step_aside()
        if status != OK:
            self.raise_status(status)
        return 0

    def settle(self):
        """Give back all that this worker has retired; the caller is inside enter and leave."""
        status: cython.int = AGAIN
        while status == AGAIN or status == BUSY:
            status = ends.work_off(cython.address(self.att.w), registry.host)
            if status == BUSY:
                self.att.pause()
            elif status == AGAIN:
                self.att.breathe()
        if status != OK:
            self.raise_status(status)
        return 0

    def salvage(self):
        """Memory is short, or pools are: give back what this worker has retired, and what the dead
        had, and what is dead in any pool, or else what other workers have retired or keep in their
        magazines. True if there was any."""
        w: cython.pointer(Worker) = cython.address(self.att.w)
        idx: u64
        found: cython.bint = w.slot.client[ROOT_RETIRED] != 0 or w.slot.client[ROOT_PENDING] != 0
        found = self.att.recover_quick() > 0 or found
        found = self.sweep() > 0 or found
        if not found:
            for idx in range(slots_used(w)):
                if idx != w.slot_idx:
                    found = self.salvage_of(idx) or found
        if found:
            self.settle()
        return found

    def sweep(self):
        """Bury all that is dead in any pool, objects that have expired or were cleared, and give it
        back: how many. The caller is inside enter and leave, with no lock held; signal handlers
        run."""
        w: cython.pointer(Worker) = cython.address(self.att.w)
        idx: u64
        buried: u64 = 0
        for idx in range(pools_high(w)):
            if may_be_dead(w, idx):
                buried += self.sweep_pool(idx)
        return buried

    def sweep_pool(self, idx):
        """The same in one pool."""
        w: cython.pointer(Worker) = cython.address(self.att.w)
        epoch: u64 = load_acquire(cython.address(pool_at(w, idx).epoch))
        buried: u64 = 0
        bucket: u64 = 0
        end: u64 = w.client_geometry[GEO_BUCKETS]
        busy: cython.bint = False
        own: cython.int = self.att.epoch
        status: cython.int = AGAIN
        while status == AGAIN or status == BUSY:
            with cython.nogil:
                status = ends.sweep_step(w, idx, cython.address(bucket), end, cython.address(buried),
                                         cython.address(busy))
            if status == BUSY:
                self.att.pause()
            elif status != CORRUPT:
                self.settle()
            self.refuse_fork(own)
        if status != OK:
            self.raise_status(status)
        if not busy:
            note_swept(pool_at(w, idx), epoch)
        return buried

    def salvage_of(self, idx):
        """Take what another worker has retired or keeps in its magazines. True if there was any.

        Who is in the middle of giving much back is waited for: the memory of a pool that is being
        destroyed is nobody's to evict, and a put that wants it would else be refused."""
        w: cython.pointer(Worker) = cython.address(self.att.w)
        waits: cython.int = 0
        status: cython.int = take_garbage(w, idx)
        while status == BUSY and waits < SALVAGE_WAITS and load(cython.address(slot_at(w, idx).client[ROOT_RETIRED])):
            waits += 1
            self.att.pause()
            status = take_garbage(w, idx)
        return status == OK

    def give_back(self, destroyed):
        """Give memory that lies free back to the system, if it is much, after frees that have taken
        effect, no lock being held. `destroyed`: a whole pool went. How that is done is the business
        of a floor above (engine/capacity/giving.py): here nothing is."""
        return 0

    def hold(self, lock):
        """Take the own lock and another, whoever has them, with pauses; the caller is inside enter
        and leave, and gives both back."""
        while lock_both(cython.address(self.att.w), lock) != OK:
            self.att.pause()
        return 0

    def lock_table(self):
        """The pool table, held."""
        w: cython.pointer(Worker) = cython.address(self.att.w)
        table: cython.pointer(ClientPage) = cython.cast(cython.pointer(ClientPage), w.base + w.client_off)
        self.hold(cython.address(table.lock))
        return table

    def live(self):
        """(index, generation, name) of every pool that is alive."""
        self.att.enter()
        try:
            return self.live_slots()
        finally:
            self.att.leave()

    def live_slots(self):
        """The same, inside enter and leave."""
        w: cython.pointer(Worker) = cython.address(self.att.w)
        p: cython.pointer(PoolRecord)
        idx: u64
        gen: u64
        found = []
        for idx in range(pools_high(w)):
            p = pool_at(w, idx)
            gen = load_acquire(cython.address(p.gen))
            name = p.name[:POOL_NAME_BYTES].rstrip(b"\0").decode("utf-8", "replace")
            if is_live(p, gen):
                found.append((idx, gen, name))
        return found

    def recover_dead(self):
        """Recover workers that died, and give back what they left. How many."""
        self.att.enter()
        try:
            found = self.att.recover_quick()
            self.settle()
        finally:
            self.att.leave()
        return found

    def refuse_while_viewed(self):
        """BufferError if this worker has pinned pages: nobody would keep them for it."""
        if self.att.kin.keeps != 0:
            raise BufferError(
                f"arena {self.name!r}: {self.att.kin.keeps} pages are viewed; release the views, "
                "and what was made of them, "
                "before closing"
            )
        return 0

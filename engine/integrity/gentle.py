"""Owns the check during which everybody goes on working: pool records, buckets, queues and the
depot, one after the other.

Each part is walked under the lock that guards it, and the worker's own, as a verb would; then both
go back, other threads and signal handlers have their turns, and the next part comes. So a caller
waits only for the part that he needs, and only while it is walked; gets of such a bucket wait too.
A bucket is walked in slices: first its tree of objs, then their pages, so many to a slice. What an
obj says of all its pages is compared with them only if nobody wrote into the bucket between the
slices in which they were walked.
Nothing is written but lock words: a kill is any dead holder's. What lies in two parts cannot be
compared while it changes. So these are for a stopped world alone (stop.py): chunks that nobody has,
or two parts have, gauges, lists and journals of workers, references of twins, limbo, pins, and
whether a page is in the queue that it names.
"""
import cython
from cython.cimports.engine.integrity.claims import bit_of, word_of
from cython.cimports.engine.integrity.leases import walk_lease_bucket
from cython.cimports.engine.integrity.linked import Linked
from cython.cimports.engine.layout.regions import (
    buckets_at,
    has_leases,
    is_live,
    lease_bucket,
    obj_at,
    pool_at,
    pools_high,
    shard_at,
)
from cython.cimports.engine.layout.structs import DEPTH_MAX, GEO_SHARDS, LEASE_BUCKETS, Bucket, Obj, PoolRecord
from cython.cimports.engine.member.member import Member
from cython.cimports.engine.tree.rbtree import compare
from cython.cimports.libc.stdlib import free, realloc
from cython.cimports.shm.atomics import load
from cython.cimports.shm.layout import Lock, Worker, u64
from cython.cimports.shm.lock import unlock_both
from engine.integrity.report import report_of

WORDS_FIRST = cython.declare(u64, 4096)
SLICE_PAGES = cython.declare(u64, 4096)     # 2 to 4 ms


@cython.cclass
class Gentle(Linked):
    """A walk over parts of an arena that others work in. Claims are of one part: `forget` ends
    them."""

    def __dealloc__(self):
        free(self.words)

    def set_bit(self, map, rel):
        more: cython.pointer(cython.pointer(u64))
        room: u64
        if self.count == self.words_room:
            room = self.words_room * 2 if self.words_room != 0 else WORDS_FIRST
            more = cython.cast(
                cython.pointer(cython.pointer(u64)), realloc(self.words, room * cython.sizeof(cython.pointer(u64)))
            )
            if more == cython.NULL:
                raise MemoryError
            self.words = more
            self.words_room = room
        self.words[self.count] = map + word_of(rel)
        self.count += 1
        map[word_of(rel)] |= bit_of(rel)
        return 0

    def forget(self):
        """The maps are empty again."""
        i: u64
        for i in range(self.count):
            self.words[i][0] = 0
        self.count = 0

    def begin_bucket(self):
        self.oid[0] = self.oid[1] = self.oid[2] = 0
        self.done = False
        self.seq = 0
        self.alone = True
        self.enter_obj()
        return 0

    def walk_obj(self, off):
        """Nothing yet: while the tree of objs is walked, no pages are."""
        return 0

    def walk_slice(self, b, bucket):
        """As much of a bucket, whose lock is held and which is not empty, as others may wait for.
        True if there is more."""
        off: u64
        o: cython.pointer(Obj)
        room: u64 = SLICE_PAGES
        if self.seq == 0:
            self.walk_living(b, bucket)
        elif b.lock.seq != self.seq + 2:
            self.alone = False
        self.seq = b.lock.seq
        off = self.following(b)
        while off != 0:
            o = obj_at(self.w, off)
            if compare(o.oid, self.oid) != 0:
                self.oid[0], self.oid[1], self.oid[2] = o.oid[0], o.oid[1], o.oid[2]
                self.alone = True
                self.enter_obj()
            self.room = room
            if self.walk_pages(off):
                if self.alone:
                    self.compare_obj(off)
                self.leave_obj()
            self.done = not self.cut
            room = self.room
            if room == 0:
                return True
            off = self.following(b)
        return False

    def following(self, b):
        """The obj that comes next in the order of oids; 0 if there is none."""
        off: u64 = b.root
        found: u64 = 0
        depth: cython.int = 0
        o: cython.pointer(Obj)
        while off != 0 and depth <= DEPTH_MAX:
            o = obj_at(self.w, off)
            if self.w.fault != 0:       # the walk of the tree has said so
                self.w.fault = 0
                return 0
            if compare(o.oid, self.oid) >= cython.cast(cython.int, self.done):
                found = off
                off = o.left
            else:
                off = o.right
            depth += 1
        return found


def run(engine: Member):
    """Check an arena part by part. A Report."""
    checker: Gentle
    engine.recover_dead()
    engine.att.enter()
    try:
        checker = Gentle(engine, False)
        checker.counts.update(pools=0, objects=0, objnodes=0, pages=0)
        _check_pools(engine, checker)
        _check_queues(engine, checker)
        checker.counts["far_lost"] = checker.far_lost
        _check_leases(engine, checker)
        _hold(engine, cython.address(engine.att.w.depot.lock))
        try:
            checker.walk_depot()
        finally:
            unlock_both(cython.address(engine.att.w), cython.address(engine.att.w.depot.lock))
        return report_of(checker.problems, checker.counts, gentle=True)
    finally:
        engine.att.w.fault = 0
        engine.att.leave()


@cython.cfunc
@cython.exceptval(-1)
def _hold(engine: Member, lock: cython.pointer(Lock)) -> cython.int:
    """Take the own lock and this one. What waits meanwhile may use the engine, and so leave a fault
    behind, which is not the arena's."""
    w: cython.pointer(Worker) = cython.address(engine.att.w)
    epoch: cython.int = engine.att.epoch
    engine.hold(lock)
    if engine.att.epoch != epoch:
        unlock_both(w, lock)
        engine.refuse_fork(epoch)
    w.fault = 0
    return 0


@cython.cfunc
@cython.exceptval(-1)
def _next(engine: Member, checker: Gentle) -> cython.int:
    """Between two parts, with nothing held."""
    epoch: cython.int = engine.att.epoch
    checker.forget()
    engine.att.breathe()
    engine.refuse_fork(epoch)
    return 0


@cython.cfunc
@cython.exceptval(-1)
def _check_pools(engine: Member, checker: Gentle) -> cython.int:
    w: cython.pointer(Worker) = cython.address(engine.att.w)
    table: cython.pointer(Lock) = cython.cast(cython.pointer(Lock), w.base + w.client_off)
    p: cython.pointer(PoolRecord)
    idx: u64
    gen: u64
    for idx in range(pools_high(w)):
        p = pool_at(w, idx)
        _hold(engine, table)
        gen = load(cython.address(p.gen))
        try:
            if is_live(p, gen):
                checker.walk_record(idx)
        finally:
            unlock_both(cython.address(engine.att.w), table)
        _next(engine, checker)
        _check_buckets(engine, checker, idx, gen)
    return 0


@cython.cfunc
@cython.exceptval(-1)
def _check_buckets(engine: Member, checker: Gentle, idx: u64, gen: u64) -> cython.int:
    p: cython.pointer(PoolRecord) = pool_at(cython.address(engine.att.w), idx)
    b: cython.pointer(Bucket)
    i: u64
    more: cython.bint
    checker.begin_pool(idx)
    for i in range(cython.cast(u64, engine.buckets)):
        b = buckets_at(cython.address(engine.att.w), idx) + i
        if not is_live(p, gen):
            break
        if load(cython.address(b.root)) == 0:
            continue
        checker.begin_bucket()
        more = True
        while more:
            _hold(engine, cython.address(b.lock))
            try:
                # Again, now that nobody can take the tree apart.
                more = b.root != 0 and is_live(p, gen) and checker.walk_slice(b, i)
            finally:
                unlock_both(cython.address(engine.att.w), cython.address(b.lock))
            _next(engine, checker)
    if is_live(p, gen):
        for what, count in (
            ("pools", 1),
            ("objects", checker.objects),
            ("objnodes", checker.nodes),
            ("pages", checker.pages),
        ):
            checker.counts[what] += count
    checker.leave_pools()
    return 0


@cython.cfunc
@cython.exceptval(-1)
def _check_queues(engine: Member, checker: Gentle) -> cython.int:
    w: cython.pointer(Worker) = cython.address(engine.att.w)
    lock: cython.pointer(Lock)
    shard: u64
    idx: u64
    for shard in range(w.client_geometry[GEO_SHARDS]):
        lock = cython.address(shard_at(w, shard).lock)
        for idx in range(pools_high(w)):
            _hold(engine, lock)
            try:
                checker.walk_queues(idx, shard)
            finally:
                unlock_both(cython.address(engine.att.w), lock)
            _next(engine, checker)
    return 0


@cython.cfunc
@cython.exceptval(-1)
def _check_leases(engine: Member, checker: Gentle) -> cython.int:
    w: cython.pointer(Worker) = cython.address(engine.att.w)
    lock: cython.pointer(Lock)
    number: u64
    for number in range(LEASE_BUCKETS):
        lock = cython.address(lease_bucket(w, number).lock)
        if not has_leases(w, number):
            continue
        _hold(engine, lock)
        try:
            walk_lease_bucket(checker, number)
        finally:
            unlock_both(cython.address(engine.att.w), lock)
        _next(engine, checker)
    return 0

"""Owns the way of chosen pages to their pool's tier: copied and sealed (leavers.py), given to it
with nothing held, and let be far where they are still the same.

Batch after batch. While a disk writes one, the next is made, and the pages of the one before become
far, so that neither waits for the other. Two batches are on their way at most, and no more than one
with the tier.
Kill at any instruction: what a tier has taken and no descriptor names is garbage, and never read.
"""
import cython
from cython.cimports.engine.capacity.carrying import Carried
from cython.cimports.engine.capacity.leavers import copy_leavers, let_go
from cython.cimports.engine.eviction.leaving import Leaving
from cython.cimports.engine.far.batch import BATCH_MAX, Batch
from cython.cimports.engine.layout.structs import FarRecord
from cython.cimports.engine.member.bound import Bound
from cython.cimports.engine.member.registry import registry
from cython.cimports.shm.atomics import add, set_release
from cython.cimports.shm.journal import kill_point
from cython.cimports.shm.layout import BUSY, OK, Worker, u64


@cython.cclass
class Flight:
    """Pages that are on their way."""


def delete_names(pool, names, tokens):
    """Tell the tier what nobody will ask for, if it wants to know."""
    if not names or not pool.tier.deletes:
        return 0
    pool.engine.att.give_up_turn()
    try:
        pool.tier.delete_many(names, tokens)
    finally:
        pool.engine.att.again()
    return 0


@cython.cfunc
def _packed(pool: Bound, batch: Batch, table: cython.pointer(Leaving), count: cython.int,
            looked: cython.pointer(cython.int), done: cython.pointer(Carried)) -> Flight:
    """Copy the first of these pages, as many as fit, and seal them. looked[0]: how many are done
    with, since they were copied, are not there any more, or are too long. None: none was copied."""
    longest: u64 = pool.tier.longest
    most: u64 = pool.tier.batch_bytes
    gone: u64 = 0
    batch.begin(min(most, BATCH_MAX * longest))
    with cython.nogil:
        looked[0] = copy_leavers(cython.address(pool.engine.att.w), cython.address(pool.ref), table, count, longest,
                                 most, batch, cython.address(gone))
    add(cython.address(pool.far_record().stale), gone)
    done.gone += gone
    if batch.count == 0:
        return None
    batch.seal()
    made: Flight = Flight.__new__(Flight)
    made.batch = batch
    made.table = table
    return made


@cython.cfunc
@cython.exceptval(-1)
def _send(pool: Bound, flight: Flight) -> cython.int:
    """Give a batch to the tier. What the tier's words are to be is known to all before it
    begins."""
    w: cython.pointer(Worker) = cython.address(pool.engine.att.w)
    record: cython.pointer(FarRecord) = pool.far_record()
    epoch: cython.int = pool.engine.att.epoch
    i: cython.int
    words = pool.tier.prepare(flight.batch.lengths, [record.words[i] for i in range(4)])
    for i in range(4):
        # Release: who sees a token of what is written from here on sees these, too.
        set_release(cython.address(record.words[i]), words[i])
    kill_point(w)
    pool.engine.att.give_up_turn()      # also to begin: not every file system leaves the waiting to the disk
    try:
        if pool.tier.apart:
            flight.begun = True         # first: a signal handler may raise when it is
            pool.tier.begin_put(flight.batch)
        else:
            flight.tokens = pool.tier.put_many(flight.batch)
    finally:
        pool.engine.att.again()
    pool.engine.refuse_fork(epoch)
    return 0


@cython.cfunc
@cython.exceptval(-1)
def _land(pool: Bound, flight: Flight) -> cython.int:
    """Wait until the tier has the batch, and note its tokens. How many it has taken."""
    w: cython.pointer(Worker) = cython.address(pool.engine.att.w)
    epoch: cython.int = pool.engine.att.epoch
    i: cython.int
    taken: cython.int = 0
    if flight.begun:
        pool.engine.att.give_up_turn()
        try:
            flight.tokens = pool.tier.end_put()
            flight.begun = False
        finally:
            pool.engine.att.again()
        pool.engine.refuse_fork(epoch)
    kill_point(w)
    for i in range(flight.batch.count):
        flight.table[flight.batch.parcels[i].place].token = flight.tokens[i]
        taken += flight.table[flight.batch.parcels[i].place].token != 0
    return taken


@cython.cfunc
@cython.exceptval(-1)
def _let_go(pool: Bound, flight: Flight) -> cython.int:
    """Let the pages that the tier has be far. How many are."""
    w: cython.pointer(Worker) = cython.address(pool.engine.att.w)
    record: cython.pointer(FarRecord) = pool.far_record()
    epoch: cython.int = pool.engine.att.epoch
    batch: Batch = flight.batch
    status: cython.int = BUSY
    page: cython.pointer(Leaving)
    at: cython.int = 0
    i: cython.int
    done: cython.int = 0
    names: list = []
    tokens: list = []
    while status == BUSY:
        with cython.nogil:
            status = let_go(w, cython.address(pool.ref), flight.table, batch, cython.address(at), pool.ops,
                            registry.host)
        if status == BUSY:
            pool.pause()
            pool.engine.refuse_fork(epoch)
        elif status != OK:
            pool.fail(status)
    for i in range(batch.count):
        page = flight.table + batch.parcels[i].place
        if page.stale:
            names.append(batch.name(i))
            tokens.append(page.token)
        done += page.token != 0 and not page.stale
    add(cython.address(record.spilled), done)
    add(cython.address(record.stale), len(names))
    pool.engine.settle()
    delete_names(pool, names, tokens)
    return done


@cython.cfunc
@cython.exceptval(-1)
def _abandon(pool: Bound) -> cython.int:
    """Wait until the tier is done with a batch, after an exception: its memory is used again. There
    is no turn to give up where the engine was closed meanwhile."""
    turn: cython.bint = pool.engine.att.has_turn()
    if turn:
        pool.engine.att.give_up_turn()
    try:
        pool.tier.end_put()
    finally:
        if turn:
            pool.engine.att.again()
    return 0


@cython.cclass
class Carrier:
    """Who carries the pages of one engine."""

    def __cinit__(self):
        self.next = Batch()
        self.other = Batch()

    def carry(self, pool, table, count, done):
        """Let chosen pages of a pool leave, one behind the other. Within a call on the pool."""
        first: cython.int = 0
        looked: cython.int = 0
        taken: cython.int
        one: Flight = None
        two: Flight = None
        try:
            while True:
                two = None
                while two is None and first < count:
                    two = _packed(pool, self.next, table + first, count - first, cython.address(looked), done)
                    first += looked
                taken = _land(pool, one) if one is not None else 0
                if two is not None:
                    _send(pool, two)
                    done.sent += two.batch.count
                    self.next, self.other = self.other, self.next
                if taken != 0:
                    done.taken += taken
                    done.far += _let_go(pool, one)
                one, two = two, None
                if one is None:
                    return 0
        finally:
            for flight in (one, two):
                if flight is not None and cython.cast(Flight, flight).begun:
                    _abandon(pool)

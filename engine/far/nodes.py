"""Owns what all processes of an arena know of the nodes that a far tier asks: which are asked at
all, and how they have answered.

A circuit breaker a node, in the pool's far record. The first call that gets no answer opens it, for
half a second; while it is open nobody asks that node. Then one call tries it again: an answer
closes the breaker, none opens it for twice as long, up to 8 seconds. So an outage costs the workers
of an arena one wait, and not one each.
Who asks is out of its engine's turn; the words are read and written within it, a batch at a time,
since the arena's memory is there only then.
Ordering: every word is a hint that stands for itself, so loads and stores are relaxed. The breaker
and the place of a node are taken by compare-and-swap, and who loses has nothing to do.
Kill at any instruction: a place that has a hash and no address yet has no label in the statistics;
who was killed while it tried a node again has that node left alone for as long as the try may take.
"""
import logging

from xxhash import xxh3_64_intdigest

import cython
from cython.cimports.engine.layout.regions import far_at, has_far, is_live, pool_at
from cython.cimports.engine.layout.structs import FAR_ADDRESS_BYTES, FAR_NODES, FAR_TIMES, FarNode
from cython.cimports.libc.string import memcpy
from cython.cimports.shm.atomics import add, cas, load, set
from cython.cimports.shm.clock import now
from cython.cimports.shm.layout import Worker, u64
from cython.cimports.shm.seal import seal

BACKOFF_NS = cython.declare(u64, 500_000_000)
BACKOFF_MAX_NS = cython.declare(u64, 8_000_000_000)
TIMES_SHIFT = 6                 # the first column counts answers of less than 64 us
NOT_ASKED = -1                  # the breaker is open
UNKNOWN = -1                    # a node that has no place in the table: asked always

log = logging.getLogger("tmem.far")


@cython.cfunc
@cython.exceptval(check=False)
def _answered(node: cython.pointer(FarNode), seen: u64, pages: u64, us: u64) -> cython.bint:
    """A node has answered. True if its breaker closed by this."""
    column: cython.int = 0
    while column < FAR_TIMES - 1 and us >> (TIMES_SHIFT + column) != 0:
        column += 1
    add(cython.address(node.asked), 1)
    add(cython.address(node.pages), pages)
    add(cython.address(node.times[column]), 1)
    if seen == 0 or not cas(cython.address(node.until), seen, 0):
        return False
    set(cython.address(node.backoff), 0)
    return True


@cython.cfunc
@cython.exceptval(check=False)
def _failed(w: cython.pointer(Worker), node: cython.pointer(FarNode), seen: u64, pages: u64, late: cython.bint
            ) -> cython.bint:
    """A node has not answered. True if its breaker was closed until now. Of several that find so at
    once, the first sets the time."""
    backoff: u64 = max(BACKOFF_NS, min(2 * load(cython.address(node.backoff)), BACKOFF_MAX_NS))
    add(cython.address(node.asked), 1)
    add(cython.address(node.pages), pages)
    add(cython.address(node.late), late)
    add(cython.address(node.failed), not late)
    if not cas(cython.address(node.until), seen, now(w) + backoff):
        return False
    set(cython.address(node.backoff), backoff)
    add(cython.address(node.opened), 1)
    return seen == 0


@cython.cclass
class Nodes:
    """The nodes of one pool's tier. `pool`, `gen`: which pool. A pool that has taken the place of
    one that was destroyed meanwhile gets a word or two of its hints."""

    def at(self, seat):
        """A node's place. In the turn."""
        return cython.address(far_at(cython.address(self.att.w), self.pool).nodes[seat])

    def seat(self, address):
        """The number of a node's place, which it gets if it has none; -1: all are taken. In the
        turn."""
        hash: u64 = xxh3_64_intdigest(address) or 1
        found: u64
        i: cython.int
        node: cython.pointer(FarNode)
        w: cython.pointer(Worker) = cython.address(self.att.w)
        if not is_live(pool_at(w, self.pool), self.gen) or not has_far(pool_at(w, self.pool)):
            return UNKNOWN
        for i in range(FAR_NODES):
            node = self.at((hash + i) % FAR_NODES)
            found = load(cython.address(node.hash))
            if found == 0 and cas(cython.address(node.hash), 0, hash):
                address = address[:FAR_ADDRESS_BYTES - 1] + b"\0"
                memcpy(node.address, cython.cast(cython.p_char, address), len(address))
                found = hash
            elif found == 0:
                found = load(cython.address(node.hash))     # another process was faster
            if found == hash:
                return (hash + i) % FAR_NODES
        return UNKNOWN

    def admit(self, addresses: list, patience_ns: u64):
        """For each node a ticket, to be given back with `note`, or NOT_ASKED. Who is let in where
        the breaker is open tries the node for all, and has so long for it."""
        tickets: list = []
        node: cython.pointer(FarNode)
        until: u64
        at: u64
        seat: cython.int
        self.att.again()
        try:
            at = now(cython.address(self.att.w))
            for address in addresses:
                seat = self.seat(address.encode())
                if seat == UNKNOWN:
                    tickets.append((UNKNOWN, 0))
                    continue
                node = self.at(seat)
                until = load(cython.address(node.until))
                # A time that lies further ahead than any breaker is set to is none.
                if at < until and until - at <= BACKOFF_MAX_NS + patience_ns:
                    tickets.append(NOT_ASKED)
                elif until == 0 or cas(cython.address(node.until), until, at + patience_ns):
                    tickets.append((seat, 0 if until == 0 else at + patience_ns))
                else:
                    tickets.append(NOT_ASKED)
        finally:
            self.att.give_up_turn()
        return tickets

    def note(self, outcomes: list):
        """What came of the batches: (ticket, address, pages, us, fault) each; fault: None, "late"
        or "failed"; a log line for each breaker that opens or closes."""
        said: list = []
        node: cython.pointer(FarNode)
        self.att.again()
        try:
            for (seat, seen), address, pages, us, fault in outcomes:
                if seat == UNKNOWN:
                    continue
                node = self.at(seat)
                if fault is None:
                    if _answered(node, seen, pages, us):
                        said.append((logging.INFO, "far tier: node %s answers again", address))
                elif _failed(cython.address(self.att.w), node, seen, pages, fault == "late"):
                    said.append((logging.WARNING, "far tier: node %s does not answer; it is left alone for a while",
                                 address))
        finally:
            self.att.give_up_turn()
        for level, text, address in said:
            log.log(level, text, address)

    def count(self, address: str, moved: u64, refused: u64):
        """Pages that a node has sent elsewhere, and such that it would not take."""
        seat: cython.int
        self.att.again()
        try:
            seat = self.seat(address.encode())
            if seat != UNKNOWN:
                add(cython.address(self.at(seat).moved), moved)
                add(cython.address(self.at(seat).refused), refused)
        finally:
            self.att.give_up_turn()

    def rows(self):
        """What is known of each node: a list of dicts. Within a call of the engine."""
        found: list = []
        node: cython.pointer(FarNode)
        w: cython.pointer(Worker) = cython.address(self.att.w)
        i: cython.int
        j: cython.int
        at: u64 = now(w)
        until: u64
        for i in range(FAR_NODES if is_live(pool_at(w, self.pool), self.gen) and has_far(pool_at(w, self.pool)) else 0):
            node = self.at(i)
            if load(cython.address(node.hash)) == 0:
                continue
            until = load(cython.address(node.until))
            label: bytes = node.address[:FAR_ADDRESS_BYTES]
            found.append({
                "address": label.partition(b"\0")[0].decode("utf-8", "replace"),
                "open_for": min(until - at, BACKOFF_MAX_NS) / 1e9 if until > at else 0.0,
                "opened": load(cython.address(node.opened)),
                "asked": load(cython.address(node.asked)),
                "pages": load(cython.address(node.pages)),
                "failed": load(cython.address(node.failed)),
                "late": load(cython.address(node.late)),
                "moved": load(cython.address(node.moved)),
                "refused": load(cython.address(node.refused)),
                "times": [load(cython.address(node.times[j])) for j in range(FAR_TIMES)],
            })
        return sorted(found, key=lambda row: row["address"])


def nodes_of(att, pool, gen):
    """The nodes of a pool's tier."""
    made: Nodes = Nodes.__new__(Nodes)
    made.att = att
    made.pool = pool
    made.gen = gen
    return made


seal(Nodes, "Engine.new_pool and Engine.pool")

"""Owns what the processes of the race tests run: a meeting point, operations that a model can
repeat, and loops that verify every read by themselves.

Loaded by their processes: never imports pytest.
"""
import os
import random

from tests.support import page

PAGE = 512
FAR = 70                                # an index that needs a higher tree


class Gate:
    """A meeting point of processes: nobody passes `arrive` before all have come. Spins, so that all
    leave together."""

    def __init__(self, context, parties):
        self.counts = context.RawArray("Q", parties)
        self.stop = context.RawValue("b", 0)    # for loops that run until somebody has enough

    def arrive(self, me):
        mine = self.counts[me] = self.counts[me] + 1
        while min(self.counts) < mine:
            os.sched_yield()


def get_into(pool, oid):
    buffer = bytearray(PAGE)
    length = pool.get_into(oid, 0, buffer, False)
    # What lies behind the page is not looked at: a copy that had to be repeated may have left
    # something there.
    return length, bytes(buffer[:max(length, 0)])


# Operations on one object: (pool, oid, who) -> answer. `pool` may be a Pool or a ModelPool.
OPERATIONS = {
    "put": lambda pool, oid, who: pool.put(oid, 0, page(10 + who, 100)),
    "put long": lambda pool, oid, who: pool.put(oid, 0, page(20 + who, PAGE)),
    "put far": lambda pool, oid, who: pool.put(oid, FAR, page(30 + who, 8)),
    "get": lambda pool, oid, who: pool.get(oid, 0),
    "get and keep": lambda pool, oid, who: pool.get(oid, 0, False),
    "get and take": lambda pool, oid, who: pool.get(oid, 0, True),
    "get_into": lambda pool, oid, who: get_into(pool, oid),
    "flush page": lambda pool, oid, who: pool.flush_page(oid, 0),
    "flush object": lambda pool, oid, who: pool.flush_object(oid),
    "put range": lambda pool, oid, who: pool.put_range(oid, 0, page(40 + who, 3 * PAGE - 10)),
    "get range": lambda pool, oid, who: pool.get_range(oid, 0, 3, False),
    "take range": lambda pool, oid, who: pool.get_range(oid, 0, 3, True),
    "object info": lambda pool, oid, who: pool.object_info(oid),
}
STARTS = 3


def prepare(pool, oid, start):
    """Bring an object into one of the states that races start from."""
    if start:
        pool.put(oid, 0, page(1, 300))
    if start == 2:
        pool.put_range(oid, 1, page(2, 2 * PAGE))
        pool.put(oid, FAR, page(3, 3))


def observe(pool, oid):
    """Everything that can be seen of an object."""
    return (*(pool.get(oid, index, False) for index in (0, 1, 2, FAR)), pool.object_info(oid))


def serve(pipe, gate, me, engine):
    """Do what the pipe says: (operation, pool, oids), at every oid together with the others; send
    the answers back. No pool is kept while another comes: each is a worker of its own."""
    while (job := pipe.recv()) is not None:
        name, pool, oids = job
        operation = OPERATIONS[name]
        answers = []
        for oid in oids:
            gate.arrive(me)
            try:
                answers.append(operation(pool, oid, me))
            except Exception as error:
                answers.append(error)
        del job, pool, operation
        pipe.send(answers)


# --- loops without meeting points -----------------------------------------------------------------


def write_versions(pool, oid, pages, gate, me):
    """Put a page, or a range of several, that names its writer and version, until the reader has
    enough."""
    gate.arrive(me)
    version = 0
    while not gate.stop.value:
        version += 1
        data = page(me << 32 | version, pages * pool.page_size)
        assert pool.put(oid, 0, data) if pages == 1 else pool.put_range(oid, 0, data)


def read_versions(pool, oid, pages, gate, me, count):
    """Read `count` times: nothing torn, no writer going backwards."""
    length = pages * pool.page_size
    buffer = bytearray(length)
    seen = [0] * me
    gate.arrive(me)
    try:
        while count > 0:
            if pages > 1:
                data = pool.get_range(oid, 0, pages, False)
            elif count % 2:
                data = pool.get(oid, 0, False)
            else:
                data = bytes(buffer) if pool.get_into(oid, 0, buffer, False) > 0 else None
            if data is None:
                assert not any(seen), "a page that was there is gone"
                continue
            tag = int.from_bytes(data[:8], "little")
            assert data == page(tag, length), "torn"
            who, version = tag >> 32, tag & 0xFFFFFFFF
            assert seen[who] <= version, f"writer {who}: version {version} after {seen[who]}"
            seen[who] = version
            count -= 1
    finally:
        gate.stop.value = 1


def take_all(pool, oid, count, pipe):
    """Take pages exclusively until none is left; send what was taken."""
    taken = []
    for index in range(count):
        data = pool.get(oid, index, True)
        if data is not None:
            assert data == page(index, 200)
            taken.append(index)
    pipe.send(taken)


# --- owners that may be killed --------------------------------------------------------------------


class Ledger:
    """What each handle may hold, in memory that outlives a killed writer. One owner a handle;
    anybody reads.

    Versions count up from 0; odd: content that names the version; even: nothing there. started: of
    the latest write begun; finished: of the latest that returned. A read between finds one of these
    or what lies between.
    """

    def __init__(self, context, handles, workers):
        self.handles = handles
        self.started = context.RawArray("Q", handles)
        self.finished = context.RawArray("Q", handles)
        self.progress = context.RawArray("Q", workers)
        self.stop = context.RawValue("b", 0)

    @staticmethod
    def content(handle, version):
        """Single pages of even handles, ranges of three pages of odd ones; lengths vary."""
        full = PAGE if handle % 2 == 0 else 3 * PAGE
        return page(handle << 32 | version, full - version % 61)

    def check_read(self, pool, handle):
        """One verified read."""
        oldest = self.finished[handle]
        data = pool.get((handle, 0, 0), 5, False) if handle % 2 == 0 else pool.get_range((handle, 0, 0), 5, 3, False)
        newest = self.started[handle]
        if data is None:
            assert newest > oldest or newest % 2 == 0, f"handle {handle}: nothing there, version {newest} is"
            return
        tag = int.from_bytes(data[:8], "little")
        assert tag >> 32 == handle and oldest <= tag & 0xFFFFFFFF <= newest, (
            f"handle {handle}: version {tag & 0xFFFFFFFF} (of {tag >> 32}), allowed {oldest} to {newest}")
        assert data == self.content(handle, tag & 0xFFFFFFFF), f"handle {handle}: torn"

    def write(self, pool, handle):
        """The next version, or once more the one that a killed owner had begun."""
        again = self.started[handle] != self.finished[handle]
        version = self.started[handle] if again else self.finished[handle] + 1
        self.started[handle] = version
        oid = (handle, 0, 0)
        if version % 2:
            put = pool.put if handle % 2 == 0 else pool.put_range
            assert put(oid, 5, self.content(handle, version)), f"handle {handle}: refused"
        else:
            there = pool.flush_page(oid, 5) if handle % 2 == 0 else pool.flush_object(oid)
            assert there or again, f"handle {handle}: nothing to flush"
        self.finished[handle] = version


def own(pool, ledger, me, owners, seed):
    """Write one's own handles and read everybody's, at random, until told to stop."""
    rng = random.Random(seed)
    mine = range(me, ledger.handles, owners)
    for handle in mine:
        ledger.check_read(pool, handle)         # what a killed owner left: before or after, never between
    while not ledger.stop.value:
        if rng.random() < 0.5:
            ledger.write(pool, rng.choice(mine))
        else:
            ledger.check_read(pool, rng.randrange(ledger.handles))
        ledger.progress[me] += 1

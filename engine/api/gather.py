"""Owns Gather: the far pages of a batch, which a tier is asked for together.

A batch notes what it finds to be far, with its generation, and goes on. Afterwards it asks the tier
for as many at once as there are, in pieces, with nothing held and out of this thread's turn. Then
each page is looked at again, as a single get does: it is given out if it is of the same generation,
and got by itself, from the beginning, if it is another by now.
Kill at any instruction: nothing of it is in the arena.
"""
import cython
from cython.cimports.engine.api.gather import GATHER_BYTES, GATHER_NAMES
from cython.cimports.engine.far.names import SEAL_BYTES, name_of
from cython.cimports.engine.layout.call import AGAIN
from cython.cimports.engine.layout.words import copied_of
from cython.cimports.libc.string import memset
from cython.cimports.shm.seal import seal


@cython.cclass
class Gather:
    """Far pages of one pool."""

    def note(self, c, place):
        """A get has answered that the page in this place of the batch is far."""
        self.places.append(place)
        self.gens.append(c.found.gen)
        self.shapes.append(c.found.shape)
        self.names.append(name_of(self.pool.engine.att.w.header.nonce, c.found.gen))
        self.tokens.append(c.found.data)
        self.lengths.append(copied_of(c.found.shape) + SEAL_BYTES)
        return 0

    def piece(self, first):
        """Behind which page a piece ends that begins with this one."""
        stop: cython.Py_ssize_t = first + 1
        size: u64 = self.lengths[first]
        while stop < len(self.lengths) and stop - first < GATHER_NAMES:
            size += cython.cast(u64, self.lengths[stop])
            if size > GATHER_BYTES:
                break
            stop += 1
        return stop

    def values(self, first, stop):
        """What the tier has for the pages of a piece. Between enter and leave."""
        return self.pool.ask_tier(self.names[first:stop], self.tokens[first:stop], self.lengths[first:stop])

    def ask(self, first, stop):
        """The same, with an enter and a leave of its own."""
        self.pool.enter()
        try:
            return self.values(first, stop)
        finally:
            self.pool.leave()

    def give(self, c, i, value):
        """Page i, for which the tier has given a value, as Bound.get_bytes answers it; c has its
        handle, and c.found what there is to know of it. Between enter and leave."""
        status: cython.int
        data: bytes = self.pool.give_out(c, self.gens[i], self.shapes[i], value, cython.address(status))
        if status != AGAIN:
            return data
        memset(cython.address(c.did), 0, cython.sizeof(c.did))
        return self.pool.get_bytes(c)


seal(Gather, "Pool.get_many")


def new_gather(pool):
    """One without a page."""
    made: Gather = Gather.__new__(Gather)
    made.pool = pool
    made.places = []
    made.gens = []
    made.shapes = []
    made.names = []
    made.tokens = []
    made.lengths = []
    return made

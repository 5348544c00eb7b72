"""Owns the built-in PAM: a page is a chunk of the arena, of the smallest class that holds it, as it
was put.

The chunk is filled before anything links to it, so the copy needs no journal.
"""
import cython
from cython.cimports.engine.layout.words import shape_of
from cython.cimports.engine.pages.pam.base import PamOps
from cython.cimports.libc.string import memcpy
from cython.cimports.shm.layout import CORRUPT, NOMEM, OK, u64
from cython.cimports.shm.memory import chunk_at
from cython.cimports.shm.slab import class_of, ensure, pop, top


@cython.cclass
class RawPam(PamOps):
    """Pages as they are, in arena chunks."""

    def prepare(self, w, d, data, length):
        cls: cython.int = class_of(length)
        return self.place(w, d, data, length, cls) if cls >= 0 else NOMEM

    def place(self, w, d, data, length, cls):
        """Put the bytes into a chunk of a class that holds them. OK, BUSY, NOMEM or CORRUPT."""
        chunk: u64
        status: cython.int = ensure(w, cls, 1)
        if status != OK:
            return status
        chunk = top(w, cls)
        if chunk == 0:
            return CORRUPT
        memcpy(chunk_at(w, chunk), data, length)
        d.data = chunk
        d.shape = shape_of(length, cls, 0)
        pop(w, cls)
        return OK

    def create(self, pool, oid, d, data, length):
        return OK

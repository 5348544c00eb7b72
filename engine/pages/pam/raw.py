"""Owns the built-in PAM: a page is a chunk of the arena, of the smallest class that holds it, or an
extent, as it was put.

It is filled before anything links to it, so the copy needs no journal.
"""
import cython
from cython.cimports.engine.layout.words import shape_of
from cython.cimports.engine.pages.pam.base import PamOps
from cython.cimports.libc.string import memcpy
from cython.cimports.shm.layout import CORRUPT, NOMEM, OK, u64
from cython.cimports.shm.memory import chunk_at
from cython.cimports.shm.segments import class_of
from cython.cimports.shm.slab import ensure_for, pop, top


@cython.cclass
class RawPam(PamOps):
    """Pages as they are, in arena chunks."""

    def prepare(self, w, d, data, length):
        cls: cython.int = class_of(w, length)
        return self.place(w, d, data, length, cls) if cls >= 0 else NOMEM

    def place(self, w, d, data, length, cls):
        """Put the bytes into a chunk of a class that holds them, or an extent. OK, BUSY, NOMEM or
        CORRUPT."""
        chunk: u64
        status: cython.int = ensure_for(w, cls, length)
        if status != OK:
            return status
        chunk = top(w, cls)
        chunk_at(w, chunk + ((length - 1) & ~cython.cast(u64, 63)))
        if chunk == 0 or w.fault != 0:
            return CORRUPT
        if data != cython.NULL:         # else the caller does
            memcpy(w.base + chunk, data, length)
        d.data = chunk
        d.shape = shape_of(length, cls, 0)
        pop(w, cls)
        return OK

    def create(self, pool, oid, d, data, length):
        return OK

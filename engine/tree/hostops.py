"""Owns allocation of objs and objnodes: the op table, its built-in form, and the adapter to Python
back ends.

A bucket's lock is held, and the stores are part of the caller's transaction. Each chunk that is
given out lies in the worker's magazine already, so nothing here can block. `*_undone` tells a back
end of allocations that a rolled-back put had made.
"""
import cython
from cython.cimports.engine.layout.structs import OBJNODE_CLASS
from cython.cimports.engine.pages.reclaim import retire
from cython.cimports.shm.atomics import this_thread
from cython.cimports.shm.slab import pop


@cython.cclass
class HostOps:
    """The built-in host: memory from the arena's slab, nothing refused while there is any."""

    def take_error(self):
        return None

    def obj_alloc(self, w, pool, cls):
        """Offset of a chunk of a class, for an obj, or 0: refused."""
        return pop(w, cls)

    def obj_free(self, w, pool, off):
        """The obj at `off` is unlinked."""
        retire(w, off)

    def objnode_alloc(self, w, pool):
        """Offset of a chunk for an objnode, or 0: refused."""
        return pop(w, OBJNODE_CLASS)

    def objnode_free(self, w, pool, off):
        """The objnode at `off` is unlinked."""
        retire(w, off)

    def objnode_undone(self, w, pool, count):
        """`count` objnodes of a rolled-back put went back."""

    def obj_undone(self, w, pool, count):
        """`count` objs of a rolled-back put went back."""


@cython.cclass
class PyHostOps(HostOps):
    """Asks an object written in Python before each allocation, and tells it of each free.

    ops: obj_alloc(pool_id) -> bool, obj_free(pool_id), objnode_alloc(pool_id) -> bool,
    objnode_free(pool_id). False refuses. What it raises counts as a refusal and reaches the caller
    of the verb.
    """

    def __cinit__(self, ops):
        for verb in ("obj_alloc", "obj_free", "objnode_alloc", "objnode_free"):
            if not callable(getattr(ops, verb, None)):
                raise TypeError(f"ops: an object with obj_alloc, obj_free, objnode_alloc, objnode_free; no {verb}")
        self.ops = ops
        self.errors = {}
        self.careful = True

    def fail(self, error):
        self.errors.setdefault(this_thread(), error)

    def take_error(self):
        return self.errors.pop(this_thread(), None)

    def ask(self, verb, pool):
        try:
            return bool(getattr(self.ops, verb)(pool))
        except BaseException as error:
            self.fail(error)
            return False

    def tell(self, verb, pool, count):
        try:
            for _ in range(count):
                getattr(self.ops, verb)(pool)
        except BaseException as error:
            self.fail(error)

    def obj_alloc(self, w, pool, cls):
        return pop(w, cls) if self.ask("obj_alloc", pool) else 0

    def obj_free(self, w, pool, off):
        retire(w, off)
        self.tell("obj_free", pool, 1)

    def objnode_alloc(self, w, pool):
        return pop(w, OBJNODE_CLASS) if self.ask("objnode_alloc", pool) else 0

    def objnode_free(self, w, pool, off):
        retire(w, off)
        self.tell("objnode_free", pool, 1)

    def objnode_undone(self, w, pool, count):
        self.tell("objnode_free", pool, count)

    def obj_undone(self, w, pool, count):
        self.tell("obj_free", pool, count)

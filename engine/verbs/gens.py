"""Owns reading under which names the pages of an object are in a far tier: the generations of those
that are there.

As a walk over the indexes (engine/verbs/walk.py): a few between two looks at the bucket's sequence
word, or under the lock. Nothing is changed.
Kill at any instruction: nothing was changed.
"""
import cython
import cython.cimports.engine.tree.walk as tree
from cython.cimports.engine.layout.call import DESTROYED, Call, PoolRef
from cython.cimports.engine.layout.regions import obj_at, pampd_at
from cython.cimports.engine.layout.structs import Bucket, Obj, Pampd
from cython.cimports.engine.layout.words import is_far, target_of
from cython.cimports.engine.tree.lookaside import find_obj
from cython.cimports.engine.tree.objnode import lookup
from cython.cimports.engine.verbs.section import begin_look, bucket_of, end_section, lock_bucket
from cython.cimports.shm.atomics import load
from cython.cimports.shm.layout import BUSY, OK, Worker, u64
from cython.cimports.shm.lock import seq_same, unlock

TRIES = cython.declare(cython.int, 4)       # then the lock is taken


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _gens(w: cython.pointer(Worker), p: cython.pointer(PoolRef), c: cython.pointer(Call), b: cython.pointer(Bucket),
          index: u64, found: cython.pointer(u64), gens: cython.pointer(u64), most: cython.int) -> cython.int:
    off: u64 = find_obj(w, p, c, b)
    o: cython.pointer(Obj)
    d: cython.pointer(Pampd)
    link: u64
    i: cython.int
    count: cython.int
    if off == 0 or w.fault != 0:
        return 0
    o = obj_at(w, off)
    count = tree.indexes_from(w, o, index, found, most)
    for i in range(count):
        link = lookup(w, o, found[i])
        if link == 0 or w.fault != 0:
            return 0
        d = pampd_at(w, target_of(link))
        gens[i] = load(cython.address(d.gen)) if is_far(load(cython.address(d.shape))) else 0
    return count


def read_far_gens(w, p, c, index, found, gens, most, count):
    """The indexes of an object's pages from one on, up to `most`, and the generation of each that
    is far, else 0: fewer if there are no more. OK with count[0]; BUSY, DESTROYED or CORRUPT."""
    b: cython.pointer(Bucket) = bucket_of(p, c)
    tries: cython.int
    seq: u64
    status: cython.int
    for tries in range(TRIES):
        status = begin_look(w, p, b, cython.address(seq))
        if status == DESTROYED:
            return DESTROYED
        if status == BUSY:
            continue
        count[0] = _gens(w, p, c, b, index, found, gens, most)
        if w.fault == 0 and seq_same(cython.address(b.lock), seq):
            return OK
    w.fault = 0
    status = lock_bucket(w, p, b)
    if status != OK:
        return status
    count[0] = _gens(w, p, c, b, index, found, gens, most)
    status = end_section(w, b, OK)
    unlock(w, cython.address(w.slot.own))
    return status

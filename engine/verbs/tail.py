"""Owns what is looked at once a page was found and before it is copied: that its bytes lie in the
arena, and where they end and the tail of a value begins.

Under the bucket's lock, or between two looks at its sequence word: then anything may come out, and
is worth nothing before the second look.
"""
import cython
from cython.cimports.engine.layout.call import AGAIN, MISS, Value
from cython.cimports.engine.layout.regions import expiry_of, obj_at, pages_of
from cython.cimports.engine.layout.structs import Obj
from cython.cimports.engine.layout.tail import is_key, tail_before
from cython.cimports.engine.layout.words import has_open_tail, is_far, is_foreign, is_same, packed_in
from cython.cimports.shm.atomics import load
from cython.cimports.shm.layout import OK, u64


def look_at_value(w, c, obj_off):
    """After a page was found: take its tail off c.found.length and c.found.stored, and see what the
    object says beside. OK, MISS: it is another key's, or AGAIN: the tail cannot be.

    A page that is compressed, far, or a back end's, has its tail with it; whoever gets its bytes
    looks at that."""
    v: cython.pointer(Value) = c.ask.value
    size: u64 = 0
    length: u64 = c.found.stored
    o: cython.pointer(Obj)
    if v != cython.NULL:
        o = obj_at(w, obj_off)
        v.pages = pages_of(o)
        v.expires_found = load(expiry_of(w, o))
        v.tail_found = v.key_found = v.word = 0
        v.has_word = v.has_key = False
    if packed_in(c.found.shape) != 0 or is_foreign(c.found.shape) or is_far(c.found.shape):
        return OK
    if has_open_tail(c.found.shape):
        size = c.found.stored + 1 if is_same(c.found.shape) else tail_before(
            v, w.base + c.found.data + c.found.stored, c.found.stored
        )
        if size > c.found.stored:
            return AGAIN
        if v == cython.NULL or not v.with_tail:
            c.found.length -= size
            c.found.stored -= size
    # A tail that was found ends where the page does.
    if v != cython.NULL and v.key != cython.NULL and not is_key(v, w.base + c.found.data + length - size):
        return MISS
    return OK

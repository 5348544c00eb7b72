"""Owns object ids: keys to oids (xxhash), oids to hash values, and checking what callers pass."""
import xxhash

import cython
from cython.cimports.cpython.exc import PyErr_Clear, PyErr_Occurred
from cython.cimports.engine.oid import int_word
from cython.cimports.shm.layout import u64
from engine.sizes import whole

U64_MAX = 0xFFFF_FFFF_FFFF_FFFF
_KIND_STR = 1 << 56
_KIND_BYTES = 2 << 56


def oid(key):
    """The object id of a key: a tuple of three unsigned 64-bit words.

    key: str or bytes-like (XXH3-128 of the bytes, and kind and length in the third word), an int
    from 0 to 2^64-1 (itself), or a triple of such ints (unchanged). What says which int it is
    (`__index__`, NumPy's integers) is that int; a buffer of anything else than bytes is no key.
    TypeError, ValueError else.
    """
    if isinstance(key, str):
        return _digest(key.encode("utf-8", "surrogatepass"), _KIND_STR)
    if isinstance(key, int):
        if not 0 <= key <= U64_MAX:
            raise ValueError(f"key: an int from 0 to 2**64-1, not {key}")
        return (int(key), 0, 0)
    number = whole(key)
    if number is not None:
        return oid(number)
    if isinstance(key, (tuple, list)):
        words: u64[3]
        oid_words(key, words)
        return (words[0], words[1], words[2])
    try:
        view = memoryview(key)
    except TypeError:
        raise TypeError(f"key: str, bytes, int or a triple of ints, not {type(key).__name__}") from None
    if view.format not in ("B", "b", "c") or view.ndim == 0:
        raise TypeError(
            f"key: a buffer of bytes, not of {view.format!r} ({type(key).__name__}); its tobytes() may be meant"
        )
    return _digest(bytes(view), _KIND_BYTES)


def _digest(data, kind):
    value = xxhash.xxh3_128_intdigest(data)
    return (value & U64_MAX, value >> 64, kind | (len(data) & ((1 << 56) - 1)))


@cython.cfunc
@cython.exceptval(-1)
def _bad_oid(oid: object) -> cython.int:
    if not isinstance(oid, (tuple, list)):
        raise TypeError(f"oid: a triple of ints (see engine.oid), not {type(oid).__name__}")
    if len(oid) != 3:
        raise ValueError(f"oid: a triple of ints (see engine.oid), not {len(oid)} of them")
    for word in oid:
        if not isinstance(word, int) and whole(word) is None:
            raise TypeError(f"oid: ints from 0 to 2**64-1, not {type(word).__name__}")
    raise ValueError(f"oid: ints from 0 to 2**64-1, not {tuple(oid)}")


def oid_words(oid, out):
    """The three words of an oid argument; raises TypeError or ValueError that names it."""
    triple: tuple
    if type(oid) is tuple:
        triple = oid
    elif isinstance(oid, (tuple, list)):
        triple = tuple(oid)
    else:
        return _bad_oid(oid)
    if len(triple) != 3:
        return _bad_oid(oid)
    if not (isinstance(triple[0], int) and isinstance(triple[1], int) and isinstance(triple[2], int)):
        triple = tuple([word if isinstance(word, int) else whole(word) for word in triple])
        if None in triple:
            return _bad_oid(oid)
    out[0] = int_word(triple[0])
    out[1] = int_word(triple[1])
    out[2] = int_word(triple[2])
    # All ones is also what a number that is none of these becomes.
    if (~out[0] == 0 or ~out[1] == 0 or ~out[2] == 0) and PyErr_Occurred() != cython.NULL:
        PyErr_Clear()
        return _bad_oid(oid)
    return 0

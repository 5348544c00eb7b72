"""Owns how a far page is called, and how its bytes are opened that were sealed.

A name is never used twice: it is the arena's nonce, which no two arenas share, and the generation
of the page, which no two pages of an arena share. So what a tier has under a name never changes,
and nothing that is put, flushed or evicted meanwhile can make it wrong. Pages are given to a tier
sealed (batch.py): behind the bytes stands the XXH3 of name, handle and bytes, 64 bits. What comes
back with another sum was never given.
"""
from xxhash import xxh3_64_intdigest

import cython
from cython.cimports.cpython.bytes import PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cython.cimports.engine.far.names import HEAD_BYTES, NAME_BYTES, SEAL_BYTES
from cython.cimports.libc.string import memcpy
from cython.cimports.shm.layout import u64

WORD_CHARS = cython.declare(cython.int, 17)     # of a word as text, with a colon before it


def name_of(nonce, gen):
    """The name of a page in every tier, 16 bytes."""
    words: u64[2]
    words[0] = nonce
    words[1] = gen
    return PyBytes_FromStringAndSize(cython.cast(cython.p_char, words), NAME_BYTES)


def key_of(name):
    """The name of a page as servers have it: `tmem:NONCE:GENERATION`, each 16 digits."""
    word: u64
    i: cython.int
    j: cython.int
    digits: cython.p_const_char = b"0123456789abcdef"
    if PyBytes_GET_SIZE(name) != NAME_BYTES:
        raise ValueError(f"name: {NAME_BYTES} bytes, not {PyBytes_GET_SIZE(name)}")
    made: bytes = PyBytes_FromStringAndSize(cython.NULL, 4 + 2 * WORD_CHARS)
    at: cython.p_char = PyBytes_AS_STRING(made)
    memcpy(at, cython.cast(cython.p_const_char, b"tmem"), 4)
    at += 4
    for i in range(2):
        memcpy(cython.address(word), PyBytes_AS_STRING(name) + i * cython.sizeof(u64), cython.sizeof(u64))
        at[0] = b":"
        for j in range(WORD_CHARS - 1, 0, -1):
            at[j] = digits[word & 15]
            word >>= 4
        at += WORD_CHARS
    return made


def unsealed(head, value, length):
    """The bytes of a page, `length` of them, whose name and handle are the words of `head`; None:
    what the tier has given is not that page."""
    said: u64
    if not isinstance(value, bytes) or PyBytes_GET_SIZE(value) != length + SEAL_BYTES:
        return None
    at: cython.p_char = PyBytes_AS_STRING(value)
    memcpy(cython.address(said), at + length, SEAL_BYTES)
    summed: bytes = PyBytes_FromStringAndSize(cython.NULL, HEAD_BYTES + length)
    memcpy(PyBytes_AS_STRING(summed), head, HEAD_BYTES)
    memcpy(PyBytes_AS_STRING(summed) + HEAD_BYTES, at, length)
    if cython.cast(u64, xxh3_64_intdigest(summed)) != said:
        return None
    return PyBytes_FromStringAndSize(at, length)

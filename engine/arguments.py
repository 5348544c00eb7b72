"""Owns the checks of what callers of a pool pass: handles, numbers, buffers, flags. Errors name the argument and what it takes.

May call: oid. Called by pool.py, before Attachment.enter.
"""
import cython
from cython.cimports.cpython.buffer import PyBUF_WRITABLE, PyObject_GetBuffer
from cython.cimports.cpython.long import PyLong_AsUnsignedLongLong
from cython.cimports.engine.layout import Call
from cython.cimports.engine.oid import hash_oid, oid_words
from cython.cimports.libc.string import memset


def word(name, value):
    """An unsigned 64-bit argument."""
    if not isinstance(value, int):
        raise TypeError(f"{name}: an int from 0 to 2**64-1, not {type(value).__name__}")
    try:
        return PyLong_AsUnsignedLongLong(value)
    except OverflowError:
        raise ValueError(f"{name}: an int from 0 to 2**64-1, not {value}") from None


def handle(c, oid, index):
    """Fill a Call with the handle of one page, and clear the rest of it."""
    memset(c, 0, cython.sizeof(Call))
    oid_words(oid, c.oid)
    c.hash = hash_oid(c.oid[0], c.oid[1], c.oid[2])
    c.index = word("index", index)
    c.count = 1
    return 0


def buffer_of(name, data, view, flags):
    """A contiguous buffer of an argument, to be released by the caller."""
    try:
        PyObject_GetBuffer(data, view, flags)
    except TypeError:
        raise TypeError(f"{name}: a bytes-like object, not {type(data).__name__}") from None
    except (BufferError, ValueError) as error:
        kind = "writable, contiguous" if flags & PyBUF_WRITABLE else "contiguous"
        raise ValueError(f"{name}: a {kind} buffer ({error})") from None
    return 0


def free_flag(free):
    """The `free` of a get: None, True or False."""
    if free is not None and not isinstance(free, bool):
        raise TypeError(f"free: None, True or False, not {type(free).__name__}")
    return free

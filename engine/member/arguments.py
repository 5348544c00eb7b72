"""Owns the checks of what callers of a pool pass: handles, numbers, buffers, flags. Errors name the
argument and what it takes.
"""
import cython
from cython.cimports.cpython.buffer import PyBUF_WRITABLE, PyObject_GetBuffer
from cython.cimports.cpython.exc import PyErr_Clear, PyErr_Occurred
from cython.cimports.engine.oid import int_word
from cython.cimports.shm.layout import u64
from engine.sizes import whole


def word(name, value):
    """An unsigned 64-bit argument."""
    number: u64
    if not isinstance(value, int):
        given = whole(value)
        if given is None:
            raise TypeError(f"{name}: an int from 0 to 2**64-1, not {type(value).__name__}")
        return word(name, given)
    number = int_word(value)
    if ~number == 0 and PyErr_Occurred() != cython.NULL:
        PyErr_Clear()
        raise ValueError(f"{name}: an int from 0 to 2**64-1, not {value}")
    return number


def wrong_length(name, least, most, length):
    """The error for a page that is too long: it says where longer ones go."""
    return ValueError(
        f"{name}: {least} to {most} bytes, not {length}; put_object takes more, as one value, "
        "and put_range, as pages of one object"
    )


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


def refuse_wrap(c):
    """ValueError if the pages of a call go beyond the last index."""
    if c.ask.index + (c.ask.count - 1) < c.ask.index:
        raise ValueError(f"index: {c.ask.index} plus {c.ask.count} pages passes 2**64")
    return 0


def set_count(c, count, most, also):
    """The `count` of a call, 1 to `most`, into it; `also`: what else it may be, in words."""
    c.ask.count = word("count", count)
    if not 1 <= c.ask.count <= most:
        raise ValueError(f"count: {also}1 to {most} pages, not {count}")
    return refuse_wrap(c)

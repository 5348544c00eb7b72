"""Owns the keys of a cache: what they are in bytes, their hash, and the way back.

A key is a str, bytes, an int, or anything else that is hashable and equal to its copy in another
process. Keys that are equal in Python are one key here, as in a dict: 1, 1.0, True and NumPy's 1
are, "1" and b"1" are not. All processes agree on the bytes of a key, whatever their hash seed. They
are its UTF-8, itself, or two's complement; any other key has a canonical form, where each part
begins with what it is:

    N  .            None, Ellipsis
    i  length       an int
    f  8 bytes      a number that is no int and equals a float
    s b  length     text, bytes
    t l  count      a tuple, a list, and their items
    z d  count      a set, a dict: the forms of the items, sorted
    c  text         a class or a function, by the name under which it can be imported
    e  class, name  a member of an enumeration
    a  class, ...   an object of a dataclass: the fields that are compared
    o  what `__reduce_ex__` says, for all others: what makes it, from what, and its state

Not pickle: its bytes depend on which parts are one object and on the order of sets. An object that
is equal to nothing but itself is refused. The bytes are kept with the value, and are compared.
"""
import dataclasses
import enum
import numbers
import struct
import sys
from datetime import UTC, datetime
from pathlib import PurePath
from types import BuiltinFunctionType, FunctionType

import xxhash

import cython
from cython.cimports.cpython.bytes import PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cython.cimports.cpython.long import PyLong_AsLongLongAndOverflow
from cython.cimports.cpython.object import PyObject_Hash
from cython.cimports.cpython.unicode import PyUnicode_AsUTF8AndSize
from cython.cimports.engine.cache.xxh3 import SHORT_KEY, hash_short
from cython.cimports.libc.stdlib import free, realloc
from cython.cimports.libc.string import memcpy
from cython.cimports.shm.layout import u64
from engine.sizes import whole

KEY_MAX = 1 << 20           # bytes of a key
DEPTH_MAX = 50              # of what is inside one another in a key
FLOAT = struct.Struct("<d")
INT64_MIN, INT64_MAX = -(1 << 63), (1 << 63) - 1

# For tests: bits of a hash that count. With few, keys collide.
hash_mask = cython.declare(u64, 0xFFFF_FFFF_FFFF_FFFF)


def weaken(bits):
    """Let only so many bits of a hash count, in this process, so that keys collide: for tests."""
    global hash_mask
    hash_mask = (1 << bits) - 1 if bits < 64 else 0xFFFF_FFFF_FFFF_FFFF


# --- the bytes of a key ---------------------------------------------------------------------------


@cython.cfunc
@cython.inline
@cython.exceptval(-1)
def _finish(out: cython.pointer(Key), kind: u64, seed: u64) -> cython.int:
    """The oid of a key whose bytes are known."""
    if out.length <= SHORT_KEY:
        hash_short(out.data, out.length, seed, out.oid)
    else:
        if out.length > KEY_MAX:
            raise ValueError(f"key: at most {KEY_MAX} bytes, not {out.length}")
        number = xxhash.xxh3_128_intdigest(out.data[:out.length], seed)
        out.oid[0] = number & 0xFFFF_FFFF_FFFF_FFFF
        out.oid[1] = number >> 64
    out.oid[0] &= hash_mask
    out.oid[1] &= hash_mask
    out.oid[2] = kind << KIND_SHIFT | (out.length if ~hash_mask == 0 else 0)
    return 0


@cython.cfunc
def _of_bytes(data: bytes, kind: u64, seed: u64, out: cython.pointer(Key)) -> object:
    out.data = PyBytes_AS_STRING(data)
    out.length = PyBytes_GET_SIZE(data)
    _finish(out, kind, seed)
    return data


def oid_from(data, length, kind, seed, oid):
    """The oid of a key whose bytes and kind are known."""
    made: Key
    made.data = data
    made.length = length
    _finish(cython.address(made), kind, seed)
    memcpy(oid, made.oid, 24)
    return 0


def read_key(key, seed, out):
    """The bytes of a key and its oid. What is returned has to be kept as long as they are used."""
    size: cython.Py_ssize_t
    overflow: cython.int
    number: cython.longlong
    if type(key) is str:
        try:
            out.data = PyUnicode_AsUTF8AndSize(key, cython.address(size))
        except UnicodeEncodeError:
            return _of_bytes(cython.cast(str, key).encode("utf-8", "surrogatepass"), KEY_STR, seed, out)
        out.length = size
        _finish(out, KEY_STR, seed)
        return key
    if type(key) is bytes:
        return _of_bytes(key, KEY_BYTES, seed, out)
    if type(key) is int:
        number = PyLong_AsLongLongAndOverflow(key, cython.address(overflow))
        if overflow != 0:
            return _of_bytes(_long_int(key), KEY_INT, seed, out)
        memcpy(out.room, cython.address(number), 8)
        out.data = out.room
        out.length = 8
        _finish(out, KEY_INT, seed)
        return key
    if type(key) is not tuple:
        plain = _plain(key)
        if plain is not key:
            return read_key(plain, seed, out)
    try:
        PyObject_Hash(key)
    except TypeError as error:
        raise TypeError(f"key: something hashable ({error})") from None
    return _of_bytes(form_of(key, 0), KEY_FORM, seed, out)


@cython.cfunc
def _long_int(number) -> bytes:
    return number.to_bytes(max(9, number.bit_length() // 8 + 1), "little", signed=True)


@cython.cfunc
def _plain(key: object) -> object:
    """The str, bytes, int or float that a key is equal to; itself, if there is none."""
    if isinstance(key, str):
        return key if type(key) is str else str.__str__(key)
    if isinstance(key, bytes):
        return key if type(key) is bytes else bytes.__getitem__(key, slice(None))
    if isinstance(key, bool):
        return 1 if key else 0
    if isinstance(key, int):
        return key if type(key) is int else int.__int__(key)
    if isinstance(key, memoryview):
        if not key.readonly or key.format not in ("B", "b", "c"):
            raise TypeError("key: of memoryviews only those of bytes that are read-only")
        return key.tobytes()
    if isinstance(key, numbers.Number) or (whole(key) is not None):
        return _number(key)
    return key


@cython.cfunc
def _number(key: object) -> object:
    """The int or the float that a number is equal to; itself, if there is none."""
    number = whole(key)
    if number is not None:
        return number
    try:
        if key != key:
            return key if type(key) is float or not isinstance(key, float) else float(key)
        real = key.real if isinstance(key, numbers.Complex) and key.imag == 0 else key
        if isinstance(real, numbers.Complex) and not isinstance(real, numbers.Real):
            return key
        number = int(real) if abs(real) < float("inf") else None
        if number is not None and number == real:
            return number
        number = float(real)
        return key if type(key) is float or number != real else number
    except (TypeError, ValueError, OverflowError, ArithmeticError):
        return key


# --- the canonical form ---------------------------------------------------------------------------


@cython.cfunc
@cython.exceptval(-1)
def _write(out: cython.pointer(Form), data: cython.p_const_char, length: cython.size_t) -> cython.int:
    """Append bytes to a form."""
    room: cython.size_t
    if out.length + length > out.room:
        room = 2 * (out.length + length)
        larger: cython.p_char = cython.cast(cython.p_char, realloc(out.heap, room))
        if larger == cython.NULL:
            raise MemoryError
        if out.heap == cython.NULL:
            memcpy(larger, out.stack, out.length)
        out.heap = out.data = larger
        out.room = room
    memcpy(out.data + out.length, data, length)
    out.length += length
    return 0


@cython.cfunc
@cython.exceptval(-1)
def _mark(mark: cython.char, count: cython.size_t, out: cython.pointer(Form)) -> cython.int:
    """What a part is, and its length or count."""
    number: cython.uint = cython.cast(cython.uint, count)
    if count >> 32 != 0:
        raise ValueError(f"key: at most {KEY_MAX} bytes")
    _write(out, cython.address(mark), 1)
    return _write(out, cython.cast(cython.p_char, cython.address(number)), 4)


@cython.cfunc
@cython.exceptval(-1)
def _sized(mark: cython.char, data: bytes, out: cython.pointer(Form)) -> cython.int:
    _mark(mark, PyBytes_GET_SIZE(data), out)
    return _write(out, PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data))


@cython.cfunc
@cython.exceptval(-1)
def _items(mark: cython.char, items: object, out: cython.pointer(Form), depth: cython.int) -> cython.int:
    _mark(mark, len(items), out)
    for item in items:
        _form(item, out, depth + 1)
    return 0


@cython.cfunc
@cython.exceptval(-1)
def _sorted(mark: cython.char, items: object, out: cython.pointer(Form), depth: cython.int) -> cython.int:
    forms: list = [form_of(item, depth + 1) for item in items]
    _mark(mark, len(forms), out)
    for form in sorted(forms):
        _write(out, PyBytes_AS_STRING(form), PyBytes_GET_SIZE(form))
    return 0


@cython.cfunc
def form_of(key: object, depth: cython.int) -> bytes:
    """The canonical form of a key, or of a part of one."""
    out: Form
    out.heap = cython.NULL
    out.data = out.stack
    out.length = 0
    out.room = FORM_ROOM
    try:
        _form(key, cython.address(out), depth)
        return PyBytes_FromStringAndSize(out.data, out.length)
    finally:
        free(out.heap)


@cython.cfunc
@cython.exceptval(-1)
def _text(text: str, out: cython.pointer(Form)) -> cython.int:
    size: cython.Py_ssize_t
    data: cython.p_const_char
    try:
        data = PyUnicode_AsUTF8AndSize(text, cython.address(size))
    except UnicodeEncodeError:
        return _sized(b"s", text.encode("utf-8", "surrogatepass"), out)
    _mark(b"s", size, out)
    return _write(out, data, size)


@cython.cfunc
@cython.exceptval(-1)
def _form(key: object, out: cython.pointer(Form), depth: cython.int) -> cython.int:
    """Append the canonical form of a key, or of a part of one."""
    if depth > DEPTH_MAX:
        raise ValueError(f"key: parts inside one another, more than {DEPTH_MAX} deep")
    if type(key) is str:
        return _text(key, out)
    if type(key) is tuple:
        return _items(b"t", key, out, depth)
    if key is None:
        return _write(out, b"N", 1)
    key = _plain(key)
    kind: type = type(key)
    if kind is str:
        return _text(key, out)
    if kind is bytes:
        return _sized(b"b", key, out)
    if kind is int:
        return _sized(b"i", key.to_bytes(key.bit_length() // 8 + 1, "little", signed=True), out)
    if kind is float:
        _write(out, b"f", 1)
        return _write(out, FLOAT.pack(key if key == key else float("nan")), 8)
    if key is Ellipsis:
        return _write(out, b".", 1)
    if isinstance(key, tuple):
        return _items(b"t", tuple(key), out, depth)
    if isinstance(key, list):
        return _items(b"l", key, out, depth)
    if isinstance(key, (frozenset, set)):
        return _sorted(b"z", key, out, depth)
    if isinstance(key, dict):
        return _sorted(b"d", key.items(), out, depth)
    if isinstance(key, (type, FunctionType, BuiltinFunctionType)):
        return _sized(b"c", _name(key).encode(), out)
    return _object(key, out, depth)


@cython.cfunc
def _name(thing: object) -> str:
    """The name of a class or a function, under which every process finds it."""
    module, name = getattr(thing, "__module__", None), getattr(thing, "__qualname__", "")
    found = sys.modules.get(module or "")
    try:
        for part in name.split("."):
            found = getattr(found, part)
    except AttributeError:
        found = None
    if found is not thing:
        raise TypeError(f"key: {thing!r} cannot be imported by its name, so other processes cannot have it as a key")
    return f"{module}:{name}"


@cython.cfunc
@cython.exceptval(-1)
def _object(key: object, out: cython.pointer(Form), depth: cython.int) -> cython.int:
    kind = type(key)
    if isinstance(key, enum.Enum) and not isinstance(key, enum.Flag):
        return _items(b"e", (kind, key.name), out, depth)
    if kind.__hash__ is object.__hash__:
        raise TypeError(
            f"key: an object of {kind.__name__} is equal to nothing but itself, so no other process can have the "
            "same key; give the class __eq__ and __hash__, or make a key of what it is known by"
        )
    if dataclasses.is_dataclass(key):
        compared = [(field.name, getattr(key, field.name)) for field in dataclasses.fields(key) if field.compare]
        return _items(b"a", (kind, *compared), out, depth)
    if isinstance(key, PurePath):
        return _items(b"o", (kind, (str(key),)), out, depth)
    if isinstance(key, datetime):
        # Times are equal wherever their clocks hang.
        key = key.replace(fold=0) if key.utcoffset() is None else key.astimezone(UTC)
    try:
        reduced = key.__reduce_ex__(4)
    except Exception as error:
        raise TypeError(f"key: an object of {kind.__name__}, which cannot be told in bytes ({error})") from error
    if not isinstance(reduced, tuple) or any(part is not None for part in reduced[3:]):
        raise TypeError(f"key: an object of {kind.__name__}, which is no plain value")
    return _items(b"o", reduced[:3], out, depth)


# --- the way back ---------------------------------------------------------------------------------


def is_key(last_word):
    return KEY_STR <= last_word >> KIND_SHIFT <= KEY_FORM


def key_of(last_word, data):
    """The key that some bytes stand for."""
    kind: u64 = last_word >> KIND_SHIFT
    if kind == KEY_STR:
        return data.decode("utf-8", "surrogatepass")
    if kind == KEY_BYTES:
        return data
    if kind == KEY_INT:
        return int.from_bytes(data, "little", signed=True)
    return _read(data, 0)[0]


@cython.cfunc
def _count(data: bytes, at: cython.Py_ssize_t) -> object:
    return int.from_bytes(data[at : at + 4], "little")


@cython.cfunc
def _read(data: bytes, at: cython.Py_ssize_t) -> tuple:
    """The part of a key whose form begins there, and where it ends."""
    mark = data[at : at + 1]
    if mark == b"N":
        return None, at + 1
    if mark == b".":
        return Ellipsis, at + 1
    if mark == b"f":
        return FLOAT.unpack_from(data, at + 1)[0], at + 9
    count: cython.Py_ssize_t = _count(data, at + 1)
    at += 5
    if mark in b"sbic":
        part = data[at : at + count]
        at += count
        if mark == b"s":
            return part.decode("utf-8", "surrogatepass"), at
        if mark == b"b":
            return part, at
        return int.from_bytes(part, "little", signed=True) if mark == b"i" else _named(part.decode()), at
    items: list = []
    for _ in range(count):
        item, at = _read(data, at)
        items.append(item)
    if mark == b"t":
        return tuple(items), at
    if mark == b"l":
        return items, at
    if mark == b"z":
        return frozenset(items), at
    if mark == b"d":
        return dict(items), at
    return _made(mark, items), at


@cython.cfunc
def _named(name: str) -> object:
    module, _, path = name.partition(":")
    found = sys.modules[module] if module in sys.modules else __import__(module, fromlist=["_"])
    for part in path.split("."):
        found = getattr(found, part)
    return found


@cython.cfunc
def _made(mark: bytes, items: list) -> object:
    if mark == b"e":
        return items[0][items[1]]
    if mark == b"a":
        made = object.__new__(items[0])
        for name, value in items[1:]:
            object.__setattr__(made, name, value)
        return made
    made = items[0](*items[1])
    if len(items) > 2 and items[2] is not None:
        _set_state(made, items[2])
    return made


@cython.cfunc
@cython.exceptval(-1)
def _set_state(made: object, state: object) -> cython.int:
    """What `copyreg` and `pickle` do with it."""
    if hasattr(made, "__setstate__"):
        made.__setstate__(state)
        return 0
    plain, slots = state if isinstance(state, tuple) and len(state) == 2 else (state, None)
    for names in (plain, slots):
        for name, value in (names or {}).items():
            object.__setattr__(made, name, value)
    return 0


def canonical(key):
    """(kind, bytes) of a key: for tests and those who look for many keys at once."""
    made: Key
    kept = read_key(key, 0, cython.address(made))
    data = made.data[: made.length]
    del kept
    return made.oid[2] >> KIND_SHIFT, data


def digest(data, seed):
    """The lower and the upper word of the hash of some bytes, as of a key: for tests."""
    made: Key
    kept = _of_bytes(data, KEY_BYTES, seed, cython.address(made))
    del kept
    return made.oid[0], made.oid[1]


def decoded(kind, data):
    """The key of `canonical`: for tests."""
    return key_of(cython.cast(u64, kind) << KIND_SHIFT, data)

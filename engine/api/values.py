# cython: binding=False, embedsignature=True, embedsignature.format=clinic
"""Owns the verbs of an object as one value: arguments in, bytes, bools and exceptions out.

A value is page 0 of its object, of any length, with a tail that holds its key and the user's word
(verbs/tail.pxd). Each call fills a Call and a Value, and hands them to the pool it is of.
"""
from collections import namedtuple

import cython
from cython.cimports.cpython.buffer import Py_buffer, PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_Release
from cython.cimports.cpython.bytes import PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cython.cimports.engine.api.ranges import get_range
from cython.cimports.engine.api.values import VALUE_CONFLICT, VALUE_PUT, VALUE_REFUSED
from cython.cimports.engine.api.views import View, view
from cython.cimports.engine.layout.call import (
    AGAIN,
    CONFLICT,
    MISS,
    OVERFLOW,
    RANGE_MAX,
    SIZE,
    Call,
    Done,
    Part,
    Value,
)
from cython.cimports.engine.layout.tail import KEY_MAX, TRAILER_BYTES, WORD_BYTES, is_key, write_tail
from cython.cimports.engine.layout.words import is_wrapped
from cython.cimports.engine.member.arguments import aim, buffer_of, word
from cython.cimports.engine.member.bound import Bound
from cython.cimports.engine.verbs.flush import flush_object
from cython.cimports.engine.verbs.value import incr, touch_object
from cython.cimports.libc.stdlib import calloc, free
from cython.cimports.libc.string import memcpy, memset
from cython.cimports.shm.clock import now
from cython.cimports.shm.layout import EXTENT_MAX, OK, Worker, mark_of, u64
from cython.cimports.shm.seal import seal
from engine.errors import ArenaFull, TmemError

U64_MAX = 0xFFFF_FFFF_FFFF_FFFF
LATEST_S = 1 << 33      # seconds: a time to live that is as good as for ever
SHORT_KEY = cython.declare(cython.Py_ssize_t, 200)
COUNT_MIN, COUNT_MAX = -(1 << 63), (1 << 63) - 1

ObjectInfo = namedtuple("ObjectInfo", "oid key length word version expires hits")
ObjectInfo.__doc__ = """What an object says of itself, as it was at one moment.

oid: three ints. key: the bytes that were put with it, or None. length: of the value, in bytes. word:
the user's, or None. version: never the same for two values ever put under it; one of more than 64
KiB gets another when it is moved. expires: seconds until it is dead, or None. hits: gets that found
it, as far as they are counted (at most 3)."""


@cython.cclass
class Falsy:
    """The type of CONFLICT: what a verb answers whose condition did not hold."""

    def __bool__(self):
        return False

    def __repr__(self):
        return "engine.CONFLICT"

    def __reduce__(self):
        return "CONFLICT"


CONFLICT_ANSWER = Falsy.__new__(Falsy)
ANSWERS = cython.declare(tuple, (False, True, CONFLICT_ANSWER))
seal(Falsy, "engine.CONFLICT")


# --- what is asked --------------------------------------------------------------------------------


@cython.cfunc
@cython.exceptval(check=False)
def _at_once(gone: cython.pointer(cython.bint)) -> u64:
    gone[0] = True
    return 1


def expiry(pool, ttl, v, gone):
    """When what lives for `ttl` seconds is dead, by the clock of the arena; 0: never. `gone`: it is
    dead at once."""
    gone[0] = False
    if ttl is None:
        return 0
    seconds: cython.double
    try:
        if type(ttl) is float or type(ttl) is int:
            seconds = ttl
        elif isinstance(ttl, (str, bytes, bytearray)):
            raise TypeError
        else:
            seconds = float(ttl.total_seconds() if hasattr(ttl, "total_seconds") else ttl)
    except OverflowError:
        return 0 if ttl > 0 else _at_once(gone)
    except (TypeError, ValueError):
        raise TypeError(f"ttl: None, seconds as a number, or a timedelta, not {type(ttl).__name__}") from None
    if seconds != seconds:
        raise ValueError("ttl: seconds as a number, not nan")
    if seconds <= 0:
        return _at_once(gone)
    if seconds >= LATEST_S:
        return 0
    v.time = now(cython.address(pool.engine.att.w))
    return v.time + cython.cast(u64, seconds * 1e9)


@cython.cfunc
def _tail(key, word_) -> bytes:
    """The tail of a value, b"" if it needs none."""
    data: bytes = b""
    made: bytes
    if key is None and word_ is None:
        return b""
    if key is not None:
        try:
            data = bytes(memoryview(key))
        except TypeError:
            raise TypeError(f"key: a bytes-like object or None, not {type(key).__name__}") from None
        if len(data) > KEY_MAX:
            raise ValueError(f"key: at most {KEY_MAX} bytes, not {len(data)}")
    number: u64 = 0 if word_ is None else word("word", word_)
    made = PyBytes_FromStringAndSize(cython.NULL, len(data) + TRAILER_BYTES + (0 if word_ is None else WORD_BYTES))
    at: cython.p_char = PyBytes_AS_STRING(made)
    write_tail(at, PyBytes_AS_STRING(data) if key is not None else cython.NULL, len(data), number, word_ is not None)
    return made


@cython.cfunc
@cython.exceptval(-1)
def _condition(v: cython.pointer(Value), if_absent, if_version) -> cython.int:
    if not isinstance(if_absent, bool):
        raise TypeError(f"if_absent: True or False, not {type(if_absent).__name__}")
    v.absent = if_absent
    v.version = 0
    if if_version is not None:
        v.version = word("if_version", if_version)
        if v.absent:
            raise ValueError("if_absent and if_version: one of them")
        v.absent = v.version == 0       # what is not there has no version
    return 0


@cython.cclass
class Pieces:
    """What is put, held until that is done: one buffer or several, and a tail."""

    def __dealloc__(self):
        i: cython.size_t
        for i in range(self.count):
            PyBuffer_Release(cython.address(self.views[i]))
        free(self.views)
        free(self.parts)

    def ask(self, pool, v, ttl, if_absent, if_version, word, key):
        """Let v say what a put is asked beside its data. True: what is put is dead at once."""
        gone: cython.bint
        memset(v, 0, cython.sizeof(Value))
        _condition(v, if_absent, if_version)
        self.tail = _tail(key, word)
        v.tail = PyBytes_GET_SIZE(self.tail)
        if key is not None:
            v.key = PyBytes_AS_STRING(self.tail)
            v.key_length = v.tail - TRAILER_BYTES - (0 if word is None else WORD_BYTES)
        v.expires = expiry(pool, ttl, v, cython.address(gone))
        return gone

    def hold(self, data):
        """Take hold of a buffer, or of all in a list or a tuple."""
        items: tuple = tuple(data) if isinstance(data, (list, tuple)) else (data,)
        count: cython.size_t = len(items)
        i: cython.size_t
        self.views = cython.cast(cython.pointer(Py_buffer), calloc(count + 1, cython.sizeof(Py_buffer)))
        self.parts = cython.cast(cython.pointer(Part), calloc(count + 1, cython.sizeof(Part)))
        if self.views == cython.NULL or self.parts == cython.NULL:
            raise MemoryError
        for i in range(count):
            buffer_of("data" if count == 1 and data is items[0] else f"data[{i}]", items[i],
                      cython.address(self.views[i]), PyBUF_SIMPLE)
            self.count = i + 1
            self.parts[i].data = cython.cast(cython.p_char, self.views[i].buf)
            self.parts[i].length = self.views[i].len
            self.length += self.parts[i].length
        self.parts[count].data = PyBytes_AS_STRING(self.tail)
        self.parts[count].length = PyBytes_GET_SIZE(self.tail)
        self.length += self.parts[count].length
        return 0


seal(Pieces, "Pool.put_object")


def new_pieces():
    return Pieces.__new__(Pieces)


# --- put ------------------------------------------------------------------------------------------


@cython.cfunc
@cython.inline
def _is_foreign(pool: Bound) -> cython.bint:
    """True if its pages are a back end's."""
    return pool.elsewhere and pool.ref.codec == 0


def put_value(pool, c, v, length):
    """Put the value whose parts v names, `length` bytes with its tail. VALUE_PUT, VALUE_REFUSED or
    VALUE_CONFLICT."""
    joined: bytes = None
    at: cython.p_char
    i: u64
    c.ask.value = v
    c.ask.length = length
    foreign: cython.bint = _is_foreign(pool)
    most: u64 = pool.ref.page_size if foreign else EXTENT_MAX
    if length > most:
        raise ValueError(f"data: at most {most} bytes with its key and word, not {length}")
    v.conflict = False
    if v.part_count == 1 or (v.part_count == 2 and v.parts[1].length == 0):
        c.ask.data = v.parts[0].data
        v.parts = cython.NULL
    elif foreign or pool.ref.codec != 0 or pool.ref.dedup:
        joined = PyBytes_FromStringAndSize(cython.NULL, length)
        at = PyBytes_AS_STRING(joined)
        for i in range(v.part_count):
            memcpy(at, v.parts[i].data, v.parts[i].length)
            at += v.parts[i].length
        c.ask.data = PyBytes_AS_STRING(joined)
        v.parts = cython.NULL
    if pool.put_pages(c):
        return VALUE_PUT
    return VALUE_CONFLICT if v.conflict else VALUE_REFUSED


def flush_value(pool, c, v):
    """Drop an object if it is as v says: a status of `flush_object`."""
    c.ask.value = v
    pool.enter()
    try:
        status: cython.int = pool.until_free(c, flush_object)
        if status != OK and status != MISS and status != CONFLICT:
            pool.fail(status)
        if pool.flushed(status):
            pool.engine.settle_quietly()
            pool.look_at_what_is_free()
        return status
    finally:
        pool.leave()


def flush_or_conflict(pool, c, v):
    """What a put comes to that is dead at once: drop the object. False: the condition does not
    hold."""
    status: cython.int = flush_value(pool, c, v)
    return status != CONFLICT and (status != MISS or v.version == 0)


@cython.cfunc
def _put_bytes(pool: Bound, c: cython.pointer(Call), data: bytes, ttl, if_absent, if_version, word_, key):
    """put_object of a bytes, with a key of a few bytes or none: nothing is made on the way."""
    v: Value
    part: Part[2]
    tail: cython.char[212]          # of a key of SHORT_KEY bytes and a word
    gone: cython.bint
    memset(cython.address(v), 0, cython.sizeof(Value))
    if if_absent is not False or if_version is not None:
        _condition(cython.address(v), if_absent, if_version)
    v.expires = 0 if ttl is None else expiry(pool, ttl, cython.address(v), cython.address(gone))
    if key is not None:
        v.key = PyBytes_AS_STRING(key)
        v.key_length = PyBytes_GET_SIZE(key)
    if key is not None or word_ is not None:
        v.tail = write_tail(tail, v.key, v.key_length, 0 if word_ is None else word("word", word_), word_ is not None)
    if ttl is not None and gone:
        # As if it were put, and dead a moment later.
        return ANSWERS[VALUE_PUT if flush_or_conflict(pool, c, cython.address(v)) else VALUE_CONFLICT]
    part[0].data = PyBytes_AS_STRING(data)
    part[0].length = PyBytes_GET_SIZE(data)
    part[1].data = tail
    part[1].length = v.tail
    v.parts = part
    v.part_count = 2
    return ANSWERS[put_value(pool, c, cython.address(v), part[0].length + v.tail)]


def put_object(pool, c, data, ttl, if_absent, if_version, word_, key):
    """Pool.put_object."""
    if type(data) is bytes and (key is None or (type(key) is bytes and len(key) <= SHORT_KEY)):
        return _put_bytes(pool, c, data, ttl, if_absent, if_version, word_, key)
    v: Value
    made: Pieces = new_pieces()
    gone: cython.bint = made.ask(pool, cython.address(v), ttl, if_absent, if_version, word_, key)
    made.hold(data)
    v.parts = made.parts
    v.part_count = made.count + 1
    if gone:
        # As if it were put, and dead a moment later.
        return ANSWERS[VALUE_PUT if flush_or_conflict(pool, c, cython.address(v)) else VALUE_CONFLICT]
    return ANSWERS[put_value(pool, c, cython.address(v), made.length)]


# --- get ------------------------------------------------------------------------------------------


def get_value(pool, c, v, with_tail):
    """The value of an object, or None; v and c.found have what else is known of it. `with_tail`:
    its tail too, of v.tail_found bytes."""
    c.ask.value = v
    v.with_tail = with_tail
    v.unhad = False
    c.ask.remove = False
    pool.enter()
    try:
        data: bytes = pool.get_bytes(c)
    finally:
        pool.leave()
    return pool.unpacked(c, data) if data is not None and is_wrapped(c.found.shape) else data


@cython.cfunc
def _info(pool: Bound, c: cython.pointer(Call), v: cython.pointer(Value), key, length):
    """The ObjectInfo of what was found."""
    w: cython.pointer(Worker) = cython.address(pool.engine.att.w)
    left = None
    if v.expires_found != 0:
        at: u64 = now(w)
        left = (v.expires_found - at) / 1e9 if v.expires_found > at else 0.0
    return ObjectInfo(
        (c.ask.oid[0], c.ask.oid[1], c.ask.oid[2]),
        key,
        length,
        v.word if v.has_word else None,
        c.found.gen,
        left,
        mark_of(w, c.found.page) if pool.ref.hits_max != 0 else 0,
    )


@cython.cfunc
@cython.exceptval(-1)
def _is_whole(pool: Bound, c: cython.pointer(Call), v: cython.pointer(Value), found: cython.bint) -> cython.int:
    """False: the object is more than the page that was looked for, or another one; then c is as it
    was before, but for what was found. Else that was all there is, or what can be had of it."""
    if v.unhad:
        return True
    if v.pages <= 1 and (found or v.pages == 0 or _is_foreign(pool)):
        return True
    if _is_foreign(pool):
        raise _no_value(pool, v.pages)
    memset(cython.address(c.did), 0, cython.sizeof(Done))
    return False


@cython.cfunc
def _pages_of(pool: Bound, c: cython.pointer(Call), v: cython.pointer(Value)) -> bytes:
    """The pages of an object that was put page by page, joined, as they were at one moment; None:
    it has changed since v was found, or, as v.unhad says, a page was not had. Whatever their keys
    and words are, they have none together."""
    d: Call
    pages: u64 = v.pages
    data: bytes = None
    if pages <= RANGE_MAX:
        aim(cython.address(d), c.ask.oid, c.ask.hash, 0)
        d.ask.value = v
        data = get_range(pool, cython.address(d), pages, False)
        if v.unhad or v.pages != pages or (data is not None and pages == 1):
            return None
    if data is None:
        raise _no_value(pool, pages)
    c.found.page = d.found.page
    c.found.gen = d.found.gen
    v.tail_found = 0
    v.has_key = v.has_word = False
    return data


def _no_value(pool, pages):
    return TmemError(
        f"pool {pool.name!r}: the object is no value: its {pages} pages do not lie at 0 and the indexes that follow, "
        "are too many, or are a back end's; get them by their indexes"
    )


@cython.cfunc
def _first_page(pool: Bound, c: cython.pointer(Call), v: cython.pointer(Value), with_tail: cython.bint) -> bytes:
    """get_value; but where there are more pages, and the first is far, nothing is asked for: it is
    had with the others."""
    c.ask.batched = True
    data: bytes = get_value(pool, c, v, with_tail)
    if not c.did.away or v.pages > 1:
        return data
    c.ask.batched = False
    memset(cython.address(c.did), 0, cython.sizeof(Done))
    return get_value(pool, c, v, with_tail)


def get_object(pool, c, info):
    """Pool.get_object."""
    v: Value
    memset(cython.address(v), 0, cython.sizeof(Value))
    while True:
        data: bytes = _first_page(pool, c, cython.address(v), info)
        if _is_whole(pool, c, cython.address(v), data is not None):
            break
        data = _pages_of(pool, c, cython.address(v))
        if data is not None or v.unhad:
            break
    if data is None or not info:
        return data
    key = None
    if v.tail_found != 0:
        length: cython.Py_ssize_t = len(data) - v.tail_found
        key = data[length : length + v.key_found] if v.has_key else None
        data = data[:length]
    return data, _info(pool, c, cython.address(v), key, len(data))


def get_object_into(pool, c, buffer):
    """Pool.get_object_into."""
    v: Value
    held: Py_buffer
    data: bytes
    memset(cython.address(v), 0, cython.sizeof(Value))
    buffer_of("buffer", buffer, cython.address(held), PyBUF_WRITABLE)
    try:
        if not pool.elsewhere:
            c.ask.room = held.len
            c.ask.into = cython.cast(cython.p_char, held.buf)
        while True:
            data = _first_page(pool, c, cython.address(v), False)
            if _is_whole(pool, c, cython.address(v), data is not None):
                if data is not None and c.ask.into != cython.NULL:
                    return c.found.length
                break
            data = _pages_of(pool, c, cython.address(v))
            if data is not None or v.unhad:
                break
        if data is None:
            return None
        if PyBytes_GET_SIZE(data) > held.len:
            raise ValueError(f"buffer: at least as long as the value, {PyBytes_GET_SIZE(data)} bytes, not {held.len}")
        memcpy(held.buf, PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data))
        return PyBytes_GET_SIZE(data)
    finally:
        PyBuffer_Release(cython.address(held))


def view_object(pool, c):
    """Pool.view_object."""
    v: Value
    memset(cython.address(v), 0, cython.sizeof(Value))
    c.ask.value = cython.address(v)
    while True:
        found: View = view(pool, c, None)
        if _is_whole(pool, c, cython.address(v), found.found):
            return found
        data: bytes = _pages_of(pool, c, cython.address(v))
        if data is not None:
            found.pages = memoryview(data)
        if data is not None or v.unhad:
            return found


# --- looking, counting, dropping ------------------------------------------------------------------


@cython.cfunc
@cython.exceptval(-1)
def _look(pool: Bound, c: cython.pointer(Call), v: cython.pointer(Value)) -> cython.int:
    """True if there is such an object; v says what is known of it. No page is copied, and no hit
    counted."""
    memset(v, 0, cython.sizeof(Value))
    c.ask.value = v
    return pool.look_call(c)


def has(pool, c):
    """Pool.has."""
    v: Value
    return _look(pool, c, cython.address(v)) != 0


def expires(pool, c):
    """Pool.expires."""
    v: Value
    if not _look(pool, c, cython.address(v)):
        raise KeyError((c.ask.oid[0], c.ask.oid[1], c.ask.oid[2]))
    if v.expires_found == 0:
        return None
    at: u64 = now(cython.address(pool.engine.att.w))
    return (v.expires_found - at) / 1e9 if v.expires_found > at else 0.0


def touch(pool, c, ttl):
    """Pool.touch."""
    v: Value
    gone: cython.bint
    memset(cython.address(v), 0, cython.sizeof(Value))
    c.ask.value = cython.address(v)
    v.expires = expiry(pool, ttl, cython.address(v), cython.address(gone))
    if gone:
        return flush_value(pool, c, cython.address(v)) == OK
    v.time = 0              # with the lock: what others have seen gone meanwhile does not come back
    pool.enter()
    try:
        return pool.attempt(c, touch_object) == OK
    finally:
        pool.leave()


def flush(pool, c, if_version):
    """Pool.flush_object."""
    v: Value
    status: cython.int
    if if_version is None:
        return pool.flush_object_call(c)
    memset(cython.address(v), 0, cython.sizeof(Value))
    _condition(cython.address(v), False, if_version)
    status = flush_value(pool, c, cython.address(v))
    return ANSWERS[VALUE_CONFLICT] if status == CONFLICT else status == OK


@cython.cfunc
def _count_anew(pool: Bound, c: cython.pointer(Call), delta, asked: cython.pointer(Value),
                another: cython.pointer(u64)):
    """Add to a value that cannot be changed where it lies, by putting another: what it came to, or
    None: it is another by now; or, of the version `another`, it is another key's, or was not
    had."""
    v: Value = asked[0]
    d: Call
    part: Part
    another[0] = 0
    v.key = cython.NULL         # whatever its key is
    aim(cython.address(d), c.ask.oid, c.ask.hash, 0)
    data: bytes = get_value(pool, cython.address(d), cython.address(v), True)
    if data is None and v.pages != 0 and _is_foreign(pool):
        raise TmemError(f"pool {pool.name!r}: its back end does not give the count")
    if data is None:
        another[0] = d.found.gen if v.unhad else 0      # a miss, whatever lies in the far tier
        return None
    length: cython.Py_ssize_t = len(data) - v.tail_found
    v.key = asked.key
    if v.key != cython.NULL and not is_key(cython.address(v), PyBytes_AS_STRING(data) + length):
        another[0] = d.found.gen
        return None
    if length != 8 or v.pages != 1:
        raise _no_count(length)
    count = int.from_bytes(data[:8], "little", signed=True) + delta
    if not COUNT_MIN <= count <= COUNT_MAX:
        raise _too_far()
    new: bytes = count.to_bytes(8, "little", signed=True) + data[8:]
    part.data = PyBytes_AS_STRING(new)
    part.length = PyBytes_GET_SIZE(new)
    v.parts = cython.address(part)
    v.part_count = 1
    v.tail = v.tail_found
    v.expires = v.expires_found
    v.version = d.found.gen
    aim(cython.address(d), c.ask.oid, c.ask.hash, 0)
    answer: cython.int = put_value(pool, cython.address(d), cython.address(v), part.length)
    if answer == VALUE_REFUSED:
        raise _no_room(pool)
    return count if answer == VALUE_PUT else None


def _no_count(length):
    return TypeError(f"delta: to be added to a value of 8 bytes, a signed little-endian int; this one has {length}")


def _too_far():
    return OverflowError("delta: the value would leave 64 signed bits")


def _no_room(pool):
    return ArenaFull(f"pool {pool.name!r}: there is no room for the count; nothing is under it now")


def count(pool, c, delta, initial, ttl, word_, key):
    """Pool.incr."""
    v: Value
    new: Value
    d: Call
    part: Part[2]
    gone: cython.bint
    status: cython.int
    answer: cython.int
    first: bytes
    memset(cython.address(v), 0, cython.sizeof(Value))
    for name, number in (("delta", delta), ("initial", initial if initial is not None else 0)):
        try:
            number = number.__index__()
        except AttributeError:
            raise TypeError(f"{name}: an int of 64 signed bits, not {type(number).__name__}") from None
        if not COUNT_MIN <= number <= COUNT_MAX:
            raise OverflowError(f"{name}: an int of 64 signed bits, not {number}")
    delta = delta.__index__()
    v.delta = delta
    tail: bytes = _tail(key, word_)
    if key is not None:
        v.key = PyBytes_AS_STRING(tail)
        v.key_length = PyBytes_GET_SIZE(tail) - TRAILER_BYTES - (0 if word_ is None else WORD_BYTES)
    new = v
    new.expires = expiry(pool, ttl, cython.address(new), cython.address(gone))
    new.time = 0            # each try has its own
    while True:
        c.ask.value = cython.address(v)
        pool.enter()
        try:
            status = pool.until_free(c, incr)
            if status not in (OK, MISS, SIZE, OVERFLOW, AGAIN):
                pool.fail(status)
        finally:
            pool.leave()
        if status == OK:
            return v.count
        if status == SIZE:
            raise _no_count(c.found.length)
        if status == OVERFLOW:
            raise _too_far()
        new.version = 0
        if status == AGAIN:
            answered = _count_anew(pool, c, delta, cython.address(v), cython.address(new.version))
            if answered is not None:
                return answered
            if new.version == 0:
                continue
        if initial is None:
            raise KeyError((c.ask.oid[0], c.ask.oid[1], c.ask.oid[2]))
        started = initial.__index__() + delta
        if not COUNT_MIN <= started <= COUNT_MAX:
            raise _too_far()
        if gone:
            return started
        first = started.to_bytes(8, "little", signed=True)
        part[0].data = PyBytes_AS_STRING(first)
        part[0].length = 8
        part[1].data = PyBytes_AS_STRING(tail)
        part[1].length = PyBytes_GET_SIZE(tail)
        new.parts = part
        new.part_count = 2
        new.tail = part[1].length
        new.absent = new.version == 0
        aim(cython.address(d), c.ask.oid, c.ask.hash, 0)
        answer = put_value(pool, cython.address(d), cython.address(new), 8 + part[1].length)
        if answer == VALUE_PUT:
            return started
        if answer == VALUE_REFUSED:
            raise _no_room(pool)

"""Owns batches: many pages put or got in one call, each by itself as the single verbs do it.

Arguments are read first, all of them, into tables of C structs; so a bad one changes nothing, and
nothing of Python's is looked at twice. Then the pages are worked off in runs: one enter and leave a
run, compressing before and decompressing after it. Between runs signal handlers and other threads
have a chance. A run is one page where the back end or the host is written in Python: what they
raise ends the batch at that page. A run also ends where the process has become another while it
waited for a lock (in a handler that forks).
Kill at any instruction: the page under way is as its verb leaves it, those before are done, those
behind are untouched.
"""
import cython
import cython.cimports.engine.tree.objnode as objnode
from cython.cimports.cpython.buffer import Py_buffer, PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cython.cimports.cpython.bytes import PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cython.cimports.cpython.exc import PyErr_CheckSignals
from cython.cimports.cpython.mem import PyMem_Calloc, PyMem_Free
from cython.cimports.cpython.sequence import PySequence_Check
from cython.cimports.engine.api.batch import Load, Place
from cython.cimports.engine.api.gather import GATHER_NAMES, Gather, new_gather
from cython.cimports.engine.layout.call import Aside, Call, PoolRef
from cython.cimports.engine.layout.regions import obj_at
from cython.cimports.engine.layout.words import ask_for, is_wrapped, target_of
from cython.cimports.engine.member.arguments import aim, buffer_of, free_flag, word, wrong_length
from cython.cimports.engine.member.bound import Bound
from cython.cimports.engine.member.registry import registry
from cython.cimports.engine.oid import hash_oid, oid_words
from cython.cimports.engine.tree.lookaside import ask_for_node
from cython.cimports.libc.string import memcpy
from cython.cimports.shm.atomics import load, prefetch, unlikely
from cython.cimports.shm.layout import Worker, u64
from cython.cimports.shm.memory import chunk_at
from engine.errors import FarError, FarLost

RUN = cython.declare(cython.Py_ssize_t, 256)        # pages between two looks at signals; some ten microseconds
FAR = cython.declare(cython.Py_ssize_t, 6)          # how many pages ahead memory is asked for what they need
MIDDLE = cython.declare(cython.Py_ssize_t, 4)
NEAR = cython.declare(cython.Py_ssize_t, 2)


@cython.cfunc
def _sequence(name: str, of: str, given: object) -> tuple:
    """An argument that is a sequence, as it is now: what the caller does with a list meanwhile does
    not matter."""
    if not PySequence_Check(given) or isinstance(given, str):
        raise TypeError(f"{name}: a sequence of {of}, not {type(given).__name__}")
    return tuple(given)


@cython.cfunc
def _places(name: str, of: str, given: object, oid: cython.pointer(u64), hash: u64) -> bytes:
    """A table of Place from a sequence of indexes of one oid, or of pairs (oid, index) if `oid` is
    NULL."""
    items: tuple = _sequence(name, of, given)
    n: cython.Py_ssize_t = len(items)
    i: cython.Py_ssize_t = 0
    table: bytes = PyBytes_FromStringAndSize(cython.NULL, n * cython.sizeof(Place))
    place: cython.pointer(Place) = cython.cast(cython.pointer(Place), PyBytes_AS_STRING(table))
    try:
        for i in range(n):
            item = items[i]
            if oid == cython.NULL:
                if type(item) is not tuple and not isinstance(item, (tuple, list)):
                    raise TypeError(f"a pair (oid, index), not {type(item).__name__}")
                if len(item) != 2:
                    raise ValueError(f"a pair (oid, index), not {len(item)} of them")
                oid_words(item[0], place[i].oid)
                place[i].hash = hash_oid(place[i].oid[0], place[i].oid[1], place[i].oid[2])
                item = item[1]
            else:
                memcpy(place[i].oid, oid, 24)
                place[i].hash = hash
            place[i].index = word("index", item)
    except TypeError as error:
        raise TypeError(f"{name}[{i}]: {error}") from None
    except ValueError as error:
        raise ValueError(f"{name}[{i}]: {error}") from None
    return table


def places_of(handles):
    """A table of Place from a sequence of pairs (oid, index)."""
    return _places("handles", "pairs (oid, index)", handles, cython.NULL, 0)


def places_in(oid, hash, indexes):
    """A table of Place from the oid of an object and a sequence of indexes."""
    return _places("indexes", "ints from 0 to 2**64-1", indexes, oid, hash)


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _foresee(
    w: cython.pointer(Worker), p: cython.pointer(PoolRef), place: cython.pointer(Place), left: cython.Py_ssize_t
) -> cython.void:
    """Ask for what the pages behind `place` will need from memory, of which `left` are left: bucket
    and lookaside entry of one, obj and node of a nearer one, descriptor and page of the nearest.
    Hints: no lock, and what is read here is believed by nobody."""
    a: cython.pointer(Aside)
    link: u64
    if left > FAR and place[FAR].hash != place[FAR - 1].hash:
        prefetch(p.buckets + (place[FAR].hash & p.mask))
        prefetch(p.asides + (place[FAR].hash & p.aside_mask))
    if left > MIDDLE and place[MIDDLE].hash != place[MIDDLE - 1].hash:
        a = p.asides + (place[MIDDLE].hash & p.aside_mask)
        if (a.obj ^ place[MIDDLE].hash) >> 37 == 0:
            prefetch(chunk_at(w, target_of(a.obj)))
            ask_for_node(w, a.top, place[MIDDLE].index)
    if left > NEAR:
        a = p.asides + (place[NEAR].hash & p.aside_mask)
        # Here the obj is read. What a stale entry leads to may have gone back to the system, and
        # must not be touched: see grace.py.
        if (
            (a.obj ^ place[NEAR].hash) >> 37 == 0
            and a.unlinked == load(cython.address(p.buckets[place[NEAR].hash & p.mask].unlinked))
        ):
            link = objnode.lookup(w, obj_at(w, target_of(a.obj)), place[NEAR].index)
            if link != 0:
                ask_for(w, link)
                prefetch(chunk_at(w, target_of(link)))
    w.fault = 0


@cython.cfunc
@cython.exceptval(-1)
def _between_runs() -> cython.int:
    """Nothing is held and it is nobody's turn: run signal handlers, let other threads run."""
    PyErr_CheckSignals()
    with cython.nogil:
        pass
    return 0


# --- put ------------------------------------------------------------------------------------------


@cython.cclass
class Loads:
    """The pages of a put_many: a table of Load, and the buffers it leads into, which are given back
    with this object."""

    pages: tuple
    table: bytes
    load: cython.pointer(Load)
    view: cython.pointer(Py_buffer)     # one a page, as soon as a page is no bytes object
    n: cython.Py_ssize_t

    def __dealloc__(self):
        i: cython.Py_ssize_t
        if self.view != cython.NULL:
            for i in range(self.n):
                PyBuffer_Release(cython.address(self.view[i]))      # one that was never filled is left alone
        PyMem_Free(self.view)

    @cython.cfunc
    def read(self, pages: tuple, page_size: u64) -> cython.int:
        page: object
        i: cython.Py_ssize_t
        n: cython.Py_ssize_t = len(pages)
        self.pages = pages
        self.table = PyBytes_FromStringAndSize(cython.NULL, n * cython.sizeof(Load))
        self.load = cython.cast(cython.pointer(Load), PyBytes_AS_STRING(self.table))
        for i in range(n):
            page = pages[i]
            self.load[i].packs = cython.NULL
            if type(page) is bytes:
                self.load[i].data = PyBytes_AS_STRING(page)
                self.load[i].length = PyBytes_GET_SIZE(page)
            else:
                if self.view == cython.NULL:
                    self.view = cython.cast(cython.pointer(Py_buffer), PyMem_Calloc(n, cython.sizeof(Py_buffer)))
                    if self.view == cython.NULL:
                        raise MemoryError
                    self.n = n
                try:
                    PyObject_GetBuffer(page, cython.address(self.view[i]), PyBUF_SIMPLE)
                except (TypeError, ValueError, BufferError):
                    buffer_of(f"pages[{i}]", page, cython.address(self.view[i]), PyBUF_SIMPLE)     # says what is wrong
                self.load[i].data = cython.cast(cython.p_char, self.view[i].buf)
                self.load[i].length = self.view[i].len
            if self.load[i].length > page_size:
                raise wrong_length(f"pages[{i}]", 0, page_size, self.load[i].length)
        return 0


def put_many(pool, places, name, pages):
    """Pool.put_many; `name` is what the caller calls the places."""
    c: Call
    n: cython.Py_ssize_t = PyBytes_GET_SIZE(places) // cython.sizeof(Place)
    place: cython.pointer(Place) = cython.cast(cython.pointer(Place), PyBytes_AS_STRING(places))
    given: tuple = _sequence("pages", "bytes-like objects", pages)
    loads: Loads = Loads()
    answers: list = []
    kept: list = []
    i: cython.Py_ssize_t = 0
    j: cython.Py_ssize_t
    stop: cython.Py_ssize_t
    if len(given) != n:
        raise ValueError(f"pages: as many as {name}, {n}, not {len(given)}")
    loads.read(given, pool.ref.page_size)
    while i < n:
        stop = min(i + RUN, n)
        if pool.ref.codec != 0 or pool.ref.dedup:
            kept.clear()
            for j in range(i, stop):
                aim(cython.address(c), place[j].oid, place[j].hash, place[j].index)
                c.ask.data = loads.load[j].data
                c.ask.length = loads.load[j].length
                kept.append(pool.packed(cython.address(c)))
                loads.load[j].packs = c.ask.packs
        pool.enter()
        try:
            if pool.ops.foreign or registry.host.careful:
                stop = i + 1
            while i < stop and pool.epoch == pool.engine.att.epoch:
                _foresee(cython.address(pool.engine.att.w), cython.address(pool.ref), place + i, stop - i)
                aim(cython.address(c), place[i].oid, place[i].hash, place[i].index)
                c.ask.data = loads.load[i].data
                c.ask.length = loads.load[i].length
                c.ask.packs = loads.load[i].packs
                answers.append(pool.put_inside(cython.address(c)))
                i += 1
        finally:
            pool.leave()
        _between_runs()
    return answers


# --- get ------------------------------------------------------------------------------------------


@cython.cclass
class Missed:
    """Pages of a batch that a far tier has not given, though it keeps them: raised at its end."""

    failed: list
    lost: object

    def __init__(self):
        self.failed = []

    @cython.cfunc
    def give(self, gather: Gather, c: cython.pointer(Call), i: cython.Py_ssize_t, value):
        """Gather.give; None, too, if the page is one of these."""
        try:
            return gather.give(c, i, value)
        except FarError as error:
            self.failed.append(((c.ask.oid[0], c.ask.oid[1], c.ask.oid[2]), c.ask.index))
            if self.lost is None or isinstance(error, FarLost):
                self.lost = error
            return None

    @cython.cfunc
    def tell(self, found: list):
        """Raise what is to be said of them, if there are any: FarLost, if one of them is lost."""
        if self.failed:
            text = f"{self.lost}; {len(self.failed)} of {len(found)} pages were not had: see `failed`, and `pages`"
            raise type(self.lost)(text, found, self.failed)


@cython.cfunc
@cython.exceptval(-1)
def _fetch(gather: Gather, place: cython.pointer(Place), remove: cython.bint, found: list,
           missed: Missed) -> cython.int:
    """Have the far pages of a batch, each into its place in `found`."""
    pool: Bound = gather.pool
    c: Call
    first: cython.Py_ssize_t = 0
    stop: cython.Py_ssize_t
    i: cython.Py_ssize_t
    at: cython.Py_ssize_t
    shapes: list = []
    while first < len(gather.places):
        stop = gather.piece(first)
        pool.enter()
        try:
            values: list = gather.values(first, stop)
            for i in range(first, stop):
                at = gather.places[i]
                aim(cython.address(c), place[at].oid, place[at].hash, place[at].index)
                c.ask.remove = remove
                found[at] = missed.give(gather, cython.address(c), i, values[i - first])
                shapes.append(c.found.shape)
            if remove:
                pool.look_at_what_is_free()
        finally:
            pool.leave()
        for i in range(first, stop):
            at = gather.places[i]
            c.found.shape = shapes[i]
            if found[at] is not None and is_wrapped(c.found.shape):
                found[at] = pool.unpacked(cython.address(c), found[at])
        _between_runs()
        first = stop
    return 0


def get_many(pool, places, free):
    """Pool.get_many."""
    c: Call
    n: cython.Py_ssize_t = PyBytes_GET_SIZE(places) // cython.sizeof(Place)
    place: cython.pointer(Place) = cython.cast(cython.pointer(Place), PyBytes_AS_STRING(places))
    remove: cython.bint = pool.exclusive if free is None else free_flag(free)
    shapes: u64[256]
    found: list = []
    gather: Gather = None
    missed: Missed = None
    i: cython.Py_ssize_t = 0
    j: cython.Py_ssize_t
    first: cython.Py_ssize_t
    stop: cython.Py_ssize_t
    while i < n:
        first = i
        stop = min(i + RUN, n)
        pool.enter()
        try:
            if pool.ops.foreign or registry.host.careful:
                stop = i + 1
            while i < stop and pool.epoch == pool.engine.att.epoch:
                _foresee(cython.address(pool.engine.att.w), cython.address(pool.ref), place + i, stop - i)
                aim(cython.address(c), place[i].oid, place[i].hash, place[i].index)
                c.ask.remove = remove
                c.ask.batched = True
                found.append(pool.get_bytes(cython.address(c)))
                shapes[i - first] = c.found.shape
                if unlikely(c.did.away):
                    gather = gather if gather is not None else new_gather(pool)
                    missed = missed if missed is not None else Missed()
                    gather.note(cython.address(c), i)
                i += 1
            if remove:
                pool.look_at_what_is_free()
        finally:
            pool.leave()
        if pool.elsewhere:
            for j in range(first, i):
                if found[j] is not None and is_wrapped(shapes[j - first]):
                    c.found.shape = shapes[j - first]
                    found[j] = pool.unpacked(cython.address(c), found[j])
        _between_runs()
        if gather is not None and (i == n or len(gather.places) >= GATHER_NAMES):
            _fetch(gather, place, remove, found, missed)
            gather = None
    if missed is not None:
        missed.tell(found)
    return found

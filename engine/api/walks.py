# cython: binding=False, embedsignature=True, embedsignature.format=clinic
"""Owns walks: the objects of a pool, and the indexes of an object, one after the other.

A walk has a buffer of its own. Some hundreds are read at once, between enter and leave, with the
GIL released; what they are in Python is made then, too, so that threads which share a walk share no
more than a list.
"""
import cython
from cython.cimports.cpython.bytes import PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cython.cimports.engine.layout.call import AGAIN, SIZE, Call, Value
from cython.cimports.engine.layout.structs import GETS_HIT, GETS_MISS
from cython.cimports.engine.layout.words import is_wrapped
from cython.cimports.engine.member.arguments import aim, handle, word
from cython.cimports.engine.member.bound import Bound
from cython.cimports.engine.oid import hash_oid, oid_words
from cython.cimports.engine.verbs.walk import SEEN_BYTES, SEEN_MAX, Seen, read_indexes, read_objects
from cython.cimports.libc.stdlib import free, malloc
from cython.cimports.libc.string import memset
from cython.cimports.shm.clock import now
from cython.cimports.shm.layout import BUSY, OK, Worker, u64
from cython.cimports.shm.seal import seal
from engine.api.values import ObjectInfo
from engine.errors import FarError

_make = cython.declare(object, tuple.__new__)


@cython.cfunc
def _limit(limit):
    """How many may come, or None."""
    return None if limit is None else word("limit", limit)


@cython.cfunc
@cython.exceptval(-1)
def _most(left) -> cython.int:
    return SEEN_MAX if left is None or left > SEEN_MAX else left


@cython.cfunc
def _unwrap(pool: Bound, oid, hits):
    """The ObjectInfo of an object whose tail only who has its bytes can see, or None: it has gone.
    Of one whose bytes cannot be had now it has neither key nor word, and the length of all. No hit
    is counted, but for those of other threads that are lost meanwhile."""
    c: Call
    v: Value
    data: bytes
    length: cython.Py_ssize_t
    most: u64 = pool.ref.hits_max
    handle(cython.address(c), oid, 0)
    memset(cython.address(v), 0, cython.sizeof(Value))
    c.ask.value = cython.address(v)
    v.with_tail = True
    pool.enter()
    try:
        pool.ref.hits_max = 0
        try:
            data = pool.get_bytes(cython.address(c))
        except FarError:
            data = None
        pool.ref.ledger[GETS_MISS if data is None else GETS_HIT] -= 1
        at: u64 = now(cython.address(pool.engine.att.w))
    finally:
        pool.ref.hits_max = most
        pool.leave()
    if data is None and not v.unhad:
        return None
    left = None
    if v.expires_found != 0:
        left = (v.expires_found - at) / 1e9 if v.expires_found > at else 0.0
    if data is None:
        return _make(ObjectInfo, (oid, None, c.found.length, None, c.found.gen, left, hits))
    if is_wrapped(c.found.shape):
        data = pool.unpacked(cython.address(c), data)
    length = PyBytes_GET_SIZE(data) - v.tail_found
    key = data[length : length + v.key_found] if v.has_key else None
    return _make(ObjectInfo, (oid, key, length, v.word if v.has_word else None, c.found.gen, left, hits))


@cython.cclass
class Objects:
    """An iterator over the objects of a pool: an ObjectInfo each. Made by Pool.objects."""

    def __dealloc__(self):
        free(self.walk.seen)
        free(self.walk.keys)

    def __iter__(self):
        return self

    def __next__(self):
        while True:
            try:
                found = self.ready.pop()
            except IndexError:
                if self.ended:
                    raise StopIteration from None
                self.read()
                continue
            if self.bare:
                return found[0]
            if type(found) is tuple:
                found = _unwrap(self.pool, found[0], found[1])
            if found is not None:
                return found

    def read(self):
        """Read some more."""
        self.pool.enter()
        try:
            if not self.ready and not self.ended:
                self.read_inside()
        finally:
            self.pool.leave()
        return 0

    def read_inside(self):
        w: cython.pointer(Worker) = cython.address(self.pool.engine.att.w)
        status: cython.int
        i: cython.int
        self.walk.most = _most(self.left)
        with cython.nogil:
            status = read_objects(w, cython.address(self.pool.ref), cython.address(self.walk))
        if status == SIZE:
            free(self.walk.keys)
            self.walk.keys_room = 0
            self.walk.keys = cython.cast(cython.p_char, malloc(self.walk.keys_needed))
            if self.walk.keys == cython.NULL:
                raise MemoryError
            self.walk.keys_room = self.walk.keys_needed
            return 0
        if status != OK and status != AGAIN and status != BUSY:
            self.pool.fail(status)
        at: u64 = now(w)
        found = [self.info_of(cython.address(self.walk.seen[i]), at) for i in range(self.walk.count - 1, -1, -1)]
        if self.left is not None:
            self.left -= len(found)
        self.ended = status == OK or self.left == 0
        self.ready = found
        if status == BUSY and not found:
            self.pool.pause()
        return 0

    def info_of(self, s, at):
        """The ObjectInfo of what was seen; of one whose tail is hidden its oid and hits."""
        oid = (s.oid[0], s.oid[1], s.oid[2])
        key = None
        if s.hidden:
            return (oid, s.hits)        # what else there is, is asked for when its turn comes
        if s.has_key:
            key = PyBytes_FromStringAndSize(self.walk.keys + s.key, s.key_length)
        left = None
        if s.expires != 0:
            left = (s.expires - at) / 1e9 if s.expires > at else 0.0
        return _make(ObjectInfo, (oid, key, s.length, s.word if s.has_word else None, s.gen, left, s.hits))


def walk_objects(pool, after, limit):
    """Pool.objects."""
    walk: Objects = Objects.__new__(Objects)
    walk.pool = pool
    walk.ready = []
    walk.left = _limit(limit)
    walk.ended = walk.left == 0
    if after is not None:
        oid_words(after, walk.walk.after)
        walk.walk.inside = True
        walk.walk.bucket = hash_oid(walk.walk.after[0], walk.walk.after[1], walk.walk.after[2]) & pool.ref.mask
    walk.walk.seen = cython.cast(cython.pointer(Seen), malloc(SEEN_MAX * cython.sizeof(Seen)))
    walk.walk.keys = cython.cast(cython.p_char, malloc(SEEN_BYTES))
    if walk.walk.seen == cython.NULL or walk.walk.keys == cython.NULL:
        raise MemoryError
    walk.walk.keys_room = SEEN_BYTES
    return walk


def walk_oids(pool):
    """The oids alone: no tail is asked for, wherever it is."""
    walk: Objects = walk_objects(pool, None, None)
    walk.bare = True
    return walk


@cython.cclass
class Indexes:
    """An iterator over the indexes of an object's pages. Made by Object.indexes."""

    def __iter__(self):
        return self

    def __next__(self):
        while True:
            try:
                return self.ready.pop()
            except IndexError:
                if self.ended:
                    raise StopIteration from None
            self.read()

    def read(self):
        """Read some more."""
        found: u64[256]
        c: Call
        w: cython.pointer(Worker)
        count: cython.int = 0
        most: cython.int
        i: cython.int
        status: cython.int = BUSY
        self.pool.enter()
        try:
            if self.ready or self.ended:
                return 0
            w = cython.address(self.pool.engine.att.w)
            most = _most(self.left)
            aim(cython.address(c), self.words, self.hash, 0)
            while status == BUSY:
                with cython.nogil:
                    status = read_indexes(w, cython.address(self.pool.ref), cython.address(c), self.next,
                                          cython.address(found[0]), cython.NULL, most, cython.address(count))
                if status == BUSY:
                    self.pool.pause()
            if status != OK:
                self.pool.fail(status)
            if self.left is not None:
                self.left -= count
            self.ended = count < most or self.left == 0 or found[count - 1] + 1 == 0
            if count != 0:
                self.next = found[count - 1] + 1
            self.ready = [found[i] for i in range(count - 1, -1, -1)]
        finally:
            self.pool.leave()
        return 0


def walk_indexes(pool, oid, hash, after, limit):
    """Object.indexes."""
    walk: Indexes = Indexes.__new__(Indexes)
    walk.pool = pool
    walk.words[0] = oid[0]
    walk.words[1] = oid[1]
    walk.words[2] = oid[2]
    walk.hash = hash
    walk.ready = []
    walk.left = _limit(limit)
    walk.ended = walk.left == 0
    if after is not None:
        walk.next = word("after", after) + 1
        walk.ended = walk.ended or walk.next == 0
    return walk


seal(Objects, "Pool.objects")
seal(Indexes, "Object.indexes")

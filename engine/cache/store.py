"""Owns Store: where a cache's values are, and each thing that is done to one, once.

It opens what it needs at the first call: an attachment that all caches of this process on one arena
share, and the pool. A pool that was destroyed, and an arena that was removed and made again, are
opened anew.

The hash of a key begins with a secret of the arena, and the key is kept with the value: a value
under another key of the same hash is no value of this one. A value that was computed may have time
beyond its own (`stale`); all but those who compute see it end when its own time does.
"""
import contextlib
import math
import os
import sys
import threading
import weakref
from datetime import datetime

import cython
import cython.cimports.engine.verbs.fetch as fetch
from cython.cimports.cpython.bytes import PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cython.cimports.cpython.long import PyLong_AsLongLongAndOverflow
from cython.cimports.engine.api.values import (
    VALUE_PUT,
    VALUE_REFUSED,
    Pieces,
    count,
    flush_or_conflict,
    flush_value,
    get_value,
    new_pieces,
    put_value,
)
from cython.cimports.engine.api.views import view
from cython.cimports.engine.cache.keys import KIND_SHIFT, OWN_COUNTER
from cython.cimports.engine.cache.values import COUNTER, stale_of
from cython.cimports.engine.layout.call import CONFLICT, MISS, Call, Part, Value
from cython.cimports.engine.layout.regions import is_live
from cython.cimports.engine.layout.structs import GETS_HIT, GETS_MISS, PUTS_OK
from cython.cimports.engine.layout.tail import TRAILER_BYTES, WORD_BYTES, write_tail
from cython.cimports.engine.layout.words import is_wrapped
from cython.cimports.engine.member.bound import PEEKS, Bound
from cython.cimports.engine.member.member import Member
from cython.cimports.engine.verbs.value import incr, touch_object
from cython.cimports.shm.clock import now
from cython.cimports.shm.kernel.system import clock_gettime, timespec
from cython.cimports.shm.layout import OK, Worker, u64
from cython.cimports.shm.workers import LOST
from engine.api.opening import open
from engine.cache.times import seconds_of
from engine.errors import FarError, PoolExists, PoolNotFound, TmemError, TooMuchPinned
from shm.kernel.liveness import SHM_DIR

LOOK_NS = cython.declare(cython.ulonglong, 50_000_000)      # between two looks whether the arena is another by now
FOREVER = cython.declare(cython.double, math.inf)
LATEST_S = cython.declare(cython.double, 1 << 33)   # seconds: a time to live that is as good as for ever

# Without it, another thread may just have read which pool there is.
HAS_GIL = getattr(sys, "_is_gil_enabled", lambda: True)()

_engines: "weakref.WeakValueDictionary[str, object]" = weakref.WeakValueDictionary()
_users: "weakref.WeakKeyDictionary[object, weakref.WeakSet]" = weakref.WeakKeyDictionary()
_guard = threading.RLock()
_opener = 0                 # the thread that is opening something


def _new_guard():
    global _guard, _opener
    _guard = threading.RLock()      # the one who had it may be a thread of the parent
    _opener = 0


os.register_at_fork(after_in_child=_new_guard)


def _is_there(engine):
    """Whether the arena that has an engine's name is the one that it is attached to."""
    try:
        found = os.stat(f"{SHM_DIR}/{engine.name}")
    except OSError:
        return False
    arena = cython.cast(Member, engine).att.arena
    return cython.cast(u64, found.st_ino) == arena.ino and cython.cast(u64, found.st_dev) == arena.dev


def _shared_engine(arena, options):
    """The attachment that the caches of this process share."""
    found = _engines.get(arena)
    if found is None or found.closed or cython.cast(Member, found).att.bars(LOST) or not _is_there(found):
        found = _engines[arena] = open(arena, **options)
    return found


@cython.cclass
class Store:
    """Values under keys, in a pool that is opened when it is needed."""

    def describe(self, arena, name, ttl, serializer, options):
        """What it is, from what callers say."""
        if serializer is not None and not (hasattr(serializer, "dumps") and hasattr(serializer, "loads")):
            raise TypeError(f"serializer: an object with dumps and loads, not {type(serializer).__name__}")
        self.arena = arena
        self.name = name
        self.ttl = ttl
        self.serializer = serializer
        self.options = options
        self.dated = isinstance(ttl, datetime)
        self.life = FOREVER
        if ttl is not None and not self.dated:
            self.life = self.life_of(ttl)
        return 0

    # --- opening ----------------------------------------------------------------------------------

    def ready(self):
        """Begin a call: the pool is open, lives, and is of the arena that has its name now."""
        if self.pool is None or self.shut or self.is_destroyed() or (self.given is None and self.is_replaced()):
            self.open_slow()
        return 0

    def is_destroyed(self):
        """Looks at the pool's record, where this process may: not after a fork, before its first
        call, nor after the engine was closed. An attachment of its own whose descriptors are lost
        is no better than a pool that is gone: the call that found it out has said so."""
        att = self.pool.engine.att
        if self.pool.epoch != att.epoch or att.is_barred():
            return self.given is None and att.bars(LOST)
        return not is_live(self.pool.ref.record, self.pool.ref.gen)

    def is_replaced(self):
        """Looks at the arena's entry, if that was long ago."""
        at: timespec
        clock_gettime(CLOCK_MONOTONIC_COARSE, cython.address(at))
        now: cython.ulonglong = at.tv_sec * 1_000_000_000 + at.tv_nsec
        if now - self.looked < LOOK_NS:
            return False
        self.looked = now
        return not _is_there(self.engine)

    def open_slow(self):
        """Open the arena and the pool. What a signal handler wants of a cache that the call below
        it is opening, it cannot have."""
        global _opener
        if _opener == threading.get_ident():
            raise TmemError(f"cache {self.name!r}: a call that is opening it, or another, is interrupted by this one")
        with _guard:
            _opener = threading.get_ident()
            try:
                self.open_guarded()
            finally:
                _opener = 0
        return 0

    def open_guarded(self):
        arena = {key: value for key, value in self.options.items() if key in ("capacity", "exact")}
        made_as = {key: value for key, value in self.options.items() if key not in arena}
        engine = self.given or _shared_engine(self.arena, arena)
        pool = None
        while pool is None:
            try:
                pool = engine.pool(self.name, far=made_as.get("far"))
            except PoolNotFound:
                with contextlib.suppress(PoolExists):       # somebody else was faster
                    pool = engine.new_pool(self.name, **made_as)
        self.former = None if HAS_GIL else self.pool
        if self.given is None:
            _users.setdefault(engine, weakref.WeakSet()).add(self)
        self.engine = engine
        self.seed = cython.cast(Member, engine).att.arena.geometry["secret"]
        self.pool = pool
        self.shut = False
        return 0

    def let_go(self):
        """Forget the arena, until the next call; close the attachment if nobody else has it."""
        with _guard:
            if self.given is None and self.engine is not None:
                users = _users.get(self.engine, ())
                if all(one is self for one in users):
                    self.engine.close()
                users.discard(self)
            self.shut = True        # the pool stays: another call may be about it
        return 0

    def life_of(self, ttl):
        """Seconds to live, infinity for ever; None: as the cache says."""
        if ttl is None:
            if not self.dated:
                return self.life
            ttl = self.ttl
        if (type(ttl) is int or type(ttl) is float) and -LATEST_S < ttl < LATEST_S:
            return ttl
        seconds = seconds_of(ttl)
        return FOREVER if seconds is None else seconds

    # --- looking ----------------------------------------------------------------------------------

    def moment(self, life, v):
        """When what lives so long is dead, by the clock of the arena; 0: never."""
        if life >= LATEST_S:
            return 0
        v.time = now(cython.address(self.pool.engine.att.w))
        return v.time + cython.cast(u64, life * 1e9)

    def left(self, seen):
        """Seconds until what was seen is past its own time."""
        if seen.expires == 0:
            return FOREVER
        at: u64 = now(cython.address(self.pool.engine.att.w))
        return (cython.cast(cython.double, seen.expires) - cython.cast(cython.double, at)) / 1e9 - stale_of(seen.word)

    def is_stale(self, seen):
        """True in the time beyond a value's own."""
        return seen.word >> 32 != 0 and self.left(seen) <= 0

    def own_end(self, seen):
        """When a value that may have time beyond its own is past that; 0: the engine knows."""
        if seen.expires == 0 or seen.word >> 32 == 0:
            return 0
        return max(1, seen.expires - cython.cast(u64, stale_of(seen.word) * 1e9))

    def version_of(self, seen):
        """The version for callers: below 0 where time beyond its own must be looked for."""
        return seen.version if seen.word >> 32 == 0 else -cython.cast(object, seen.version)

    def find(self, key, seen):
        """What is kept under a key, or None: also in the time beyond its own."""
        c: Call
        v: Value
        ask(key, cython.address(c), cython.address(v))
        data: bytes = None
        try:
            data = get_value(self.pool, cython.address(c), cython.address(v), False)
        except FarError:
            v.unhad = True      # to a cache a miss, as of any pool
        if data is not None:
            note_seen(cython.address(c), cython.address(v), seen)
        else:
            note_miss(cython.address(c), cython.address(v), seen)
        return data

    def find_or_note(self, key, seen, gather, place):
        """As find_fresh, in a batch: of a value that is far, None, and it is noted as the one in
        this place."""
        c: Call
        v: Value
        ask(key, cython.address(c), cython.address(v))
        c.ask.batched = True
        data: bytes = get_value(self.pool, cython.address(c), cython.address(v), False)
        if c.did.away:
            gather.note(cython.address(c), place)
        if data is None:
            return None
        note_seen(cython.address(c), cython.address(v), seen)
        return None if self.is_stale(seen) else data

    def find_noted(self, key, seen, gather, i, value):
        """As find_fresh, of what was noted as number i, for which the tier has given a value."""
        c: Call
        v: Value
        pool: Bound = gather.pool
        ask(key, cython.address(c), cython.address(v))
        pool.enter()
        try:
            data: bytes = gather.give(cython.address(c), i, value)
        except FarError:
            return None         # to a cache a miss
        finally:
            pool.leave()
        if data is not None and is_wrapped(c.found.shape):
            data = pool.unpacked(cython.address(c), data)
        if data is None:
            return None
        note_seen(cython.address(c), cython.address(v), seen)
        return None if self.is_stale(seen) else data

    def find_fresh(self, key, seen):
        """What is kept under a key, or None."""
        data: bytes = self.find(key, seen)
        return None if data is None or self.is_stale(seen) else data

    def find_page(self, key, seen):
        """What is kept under a key, as a read-only memoryview: of where it lies, or, if as much is
        pinned as may be, of a copy. None if there is nothing."""
        c: Call
        v: Value
        page: object
        ask(key, cython.address(c), cython.address(v))
        try:
            # The pin goes with the last buffer of the page, and not with the view.
            page = view(self.pool, cython.address(c), None).pages
        except TooMuchPinned:
            data = self.find(key, seen)
            page = None if data is None else memoryview(data)
        except FarError:
            return None
        else:
            note_seen(cython.address(c), cython.address(v), seen)
        return None if page is None or self.is_stale(seen) else page

    def look(self, key, seen):
        """Whether there is something under a key, and what is known of it: also in the time beyond
        its own. It is not copied, where it lies in the arena as it was put. False with seen.unhad:
        there is something that cannot be had now, which who drops it or puts over it must know."""
        pool: Bound = self.pool         # ours, also if another thread opens the cache anew
        c: Call
        v: Value
        tries: cython.int
        status: cython.int
        if pool.elsewhere:
            return self.find(key, seen) is not None
        w: cython.pointer(Worker) = cython.address(pool.engine.att.w)
        ask(key, cython.address(c), cython.address(v))
        seen.unhad = False
        pool.enter()
        try:
            for tries in range(PEEKS):
                status = fetch.peek(w, cython.address(pool.ref), cython.address(c))
                if status == MISS:
                    return False
                if status != OK:
                    break
                if fetch.peek_valid(w, cython.address(pool.ref), cython.address(c)):
                    note_seen(cython.address(c), cython.address(v), seen)
                    return True
        finally:
            pool.leave()
        # Somebody is writing all the time, or something is wrong: a get knows.
        return self.find(key, seen) is not None

    def look_fresh(self, key, seen):
        return self.look(key, seen) and not self.is_stale(seen)

    # --- changing ---------------------------------------------------------------------------------

    def put(self, key, data, word, life, absent, version, until=0):
        """Keep something under a key: STORED, REFUSED or CHANGED; with a version, not from `until`
        on."""
        c: Call
        v: Value
        parts: Part[2]
        room: Tail
        long: bytes = None
        pieces: Pieces = None
        tail: cython.p_char = room.data
        size: u64 = key.length + WORD_BYTES + TRAILER_BYTES
        ask(key, cython.address(c), cython.address(v))
        v.absent = absent
        v.version = version
        v.until = until
        if life <= 0:
            return STORED if flush_or_conflict(self.pool, cython.address(c), cython.address(v)) else CHANGED
        if size > TAIL_ROOM:
            long = PyBytes_FromStringAndSize(cython.NULL, size)
            tail = PyBytes_AS_STRING(long)
        v.tail = write_tail(tail, key.data, key.length, word, True)
        v.expires = self.moment(life, cython.address(v))
        if type(data) is bytes:
            parts[0].data = PyBytes_AS_STRING(data)
            parts[0].length = PyBytes_GET_SIZE(data)
            parts[1].data = tail
            parts[1].length = size
            v.parts = parts
            v.part_count = 2
            size += parts[0].length
        else:
            pieces = new_pieces()
            pieces.tail = tail[:size]
            pieces.hold(data)
            v.parts = pieces.parts
            v.part_count = pieces.count + 1
            size = pieces.length
        answer: cython.int = put_value(self.pool, cython.address(c), cython.address(v), size)
        return STORED if answer == VALUE_PUT else REFUSED if answer == VALUE_REFUSED else CHANGED

    def put_absent(self, key, data, word, life):
        """Keep something under a key if nothing is there, or only what is past its own time."""
        seen: Seen
        done: cython.int = CHANGED
        while done == CHANGED:
            done = self.put(key, data, word, life, True, 0)
            if done == CHANGED and (self.look(key, cython.address(seen)) or seen.unhad):
                if not seen.unhad and not self.is_stale(cython.address(seen)):
                    break
                done = self.put(key, data, word, life, False, seen.version)
        return done

    def drop_version(self, key, version):
        """Drop what is under a key if it is of that version. True if so."""
        c: Call
        v: Value
        ask(key, cython.address(c), cython.address(v))
        v.version = version
        return flush_value(self.pool, cython.address(c), cython.address(v)) == OK

    def drop(self, key):
        """Drop what is under a key. True if there was something."""
        seen: Seen
        while self.look(key, cython.address(seen)) or seen.unhad:
            if self.drop_version(key, seen.version):
                return not self.is_stale(cython.address(seen))
        return False

    def date(self, key, life):
        """Let what is under a key live so long from now on. True if there is something."""
        pool: Bound = self.pool         # ours, also if another thread opens the cache anew
        c: Call
        v: Value
        seen: Seen
        status: cython.int
        if life <= 0:
            return self.drop(key)
        while self.look_fresh(key, cython.address(seen)):
            ask(key, cython.address(c), cython.address(v))
            v.version = seen.version
            v.until = self.own_end(cython.address(seen))
            v.expires = self.moment(life + stale_of(seen.word), cython.address(v))
            pool.enter()
            try:
                status = pool.until_free(cython.address(c), touch_object)
                if status != OK and status != MISS and status != CONFLICT:
                    pool.fail(status)
            finally:
                pool.leave()
            if status == OK:
                return True
        return False

    def count(self, key, delta, initial, life):
        """Add to a counter: what it comes to. One that is there, and lies as it was put, takes one
        call of the engine; the rest is as ever."""
        pool: Bound = self.pool         # ours, also if another thread opens the cache anew
        c: Call
        v: Value
        seen: Seen
        status: cython.int
        overflow: cython.int = 1
        ask(key, cython.address(c), cython.address(v))
        if type(delta) is int:
            v.delta = PyLong_AsLongLongAndOverflow(delta, cython.address(overflow))
        if overflow == 0:
            pool.enter()
            try:
                status = pool.until_free(cython.address(c), incr)
            finally:
                pool.leave()
            if status == OK and v.word >> 32 == 0:
                return v.count
            if status == OK:
                note_seen(cython.address(c), cython.address(v), cython.address(seen))
                if not self.is_stale(cython.address(seen)):
                    return v.count
        if self.look(key, cython.address(seen)) and self.is_stale(cython.address(seen)):
            self.drop_version(key, seen.version)
        ttl = None if life == FOREVER else life
        while True:
            ask(key, cython.address(c), cython.address(v))
            try:
                return count(pool, cython.address(c), delta, initial, ttl, COUNTER, key.data[: key.length])
            except FarError:
                if initial is None:
                    raise KeyError from None
            if not self.look(key, cython.address(seen)) and seen.unhad:
                self.drop_version(key, seen.version)

    # --- counters of the cache's own --------------------------------------------------------------

    def note(self, counter, delta):
        """Best effort: it is no reason to fail."""
        with contextlib.suppress(TmemError):
            cython.cast(object, self.pool).incr((counter, 0, cython.cast(u64, OWN_COUNTER) << KIND_SHIFT), delta, 0)
            self.uncount(PUTS_OK)
        return 0

    def uncount(self, counted):
        """Take back one that the pool has counted and the caller's cache should not."""
        pool: Bound = self.pool         # ours, also if another thread opens the cache anew
        pool.enter()
        pool.ref.ledger[counted] -= 1
        pool.leave()
        return 0

    def own_counters(self):
        """How many there are of them."""
        here: cython.Py_ssize_t = 0
        for counter in range(OWN_COUNTERS):
            here += cython.cast(object, self.pool).has((counter, 0, cython.cast(u64, OWN_COUNTER) << KIND_SHIFT))
        return here

    def noted(self, counter):
        """Looking at it counts as no hit and no miss of the cache."""
        data = cython.cast(object, self.pool).get_object((counter, 0, cython.cast(u64, OWN_COUNTER) << KIND_SHIFT))
        self.uncount(GETS_MISS if data is None else GETS_HIT)
        return 0 if data is None else int.from_bytes(data, "little", signed=True)

    def is_value(self, info):
        """Whether what is listed is a value, and not past its own time. What no cache has put has
        no key or no word."""
        word = info.word
        if word is None or info.key is None:
            return False
        return info.expires is None or word >> 32 == 0 or info.expires > stale_of(word)

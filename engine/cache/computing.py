"""Owns computing what is missing: one who does it, whoever else wants it, and what they get
meanwhile.

Who finds nothing takes the lease of the key, one a machine. The others wait for it; then the value
is there, or, after an exception or a death, it is their turn to compute. Nobody who has something
waits: who finds a value past its own time, with time left beyond it (`stale`), or who is to refresh
one early, computes if nobody does, and otherwise takes what there is.

Early refreshing is XFetch: A. Vattani, F. Chierichetti, K. Lowenstein, "Optimal Probabilistic Cache
Stampede Prevention", PVLDB 8(8), 2015. A value that took d seconds to compute is computed anew when
-d * beta * log(r) is more than the seconds it has left, for an r between 0 and 1 drawn at each
call: the more likely, the nearer its end and the longer it takes. d is kept with the value.

Who asks, in computing the value of a key, for that very key, would wait for himself: RuntimeError.
That is known by a context variable, so also in tasks and in threads that asyncio.to_thread starts.
"""
import contextlib
import contextvars
import inspect
import math
import os
import random
import threading
import time

import cython
from cython.cimports.engine.cache.keys import KIND_SHIFT, OWN_LEASE, Key, read_key
from cython.cimports.engine.cache.store import Seen, Store
from cython.cimports.engine.cache.values import load_form, store_form, timed, took_of
from cython.cimports.engine.layout.structs import GETS_HIT, GETS_MISS
from cython.cimports.shm.layout import u64
from engine.cache.times import seconds_of
from engine.errors import ArenaBusy, ArenaFull, TmemError

COMPUTED, WAITED = 0, 1             # counters of a cache's own
NAP, NAP_MAX = 0.0005, 0.01         # of a coroutine that waits, in seconds

_missing = object()
_mine = contextvars.ContextVar("tmem_computing", default=())    # tokens of what this context computes
_computing: dict = {}               # of this process: {(pid, thread, lease): token}


class _Wish:
    """A call that has found nothing good. `value` is what there is nevertheless, or _missing."""

    __slots__ = ("store", "key", "value", "version", "lease", "place")

    def __init__(self, store: Store, key, value, version):
        self.store = store
        self.key = key
        self.value = value
        self.version = version
        oid = lease_of(store, key, OWN_LEASE)
        self.lease = _engine_of(store).lease(oid)
        self.place = (os.getpid(), threading.get_ident(), store.arena, oid)
        if value is _missing and any(
            place[0] == self.place[0] and place[2:] == self.place[2:] and _computing.get(place) is token
            for place, token in _mine.get()
        ):
            raise RuntimeError(f"key {key!r} is computed by this very call: its function asks for it")

    def is_thread_busy(self):
        """True if another task of this thread, or a caller of this one, computes it."""
        return self.place in _computing

    def try_lease(self):
        try:
            return not self.is_thread_busy() and self.lease.try_acquire()
        except (ArenaBusy, ArenaFull):
            # Too many are held, or there is no memory for one more: two who compute are better than
            # none.
            self.lease = None
            return True

    def wait(self):
        try:
            self.lease.acquire()
        except (ArenaBusy, ArenaFull):
            self.lease = None

    def give_lease(self):
        # A process that was forked in the middle holds none, and one that has closed the engine has
        # given it back.
        if self.lease is not None and os.getpid() == self.place[0]:
            with contextlib.suppress(TmemError):
                self.lease.release()

    def begin(self):
        """With the lease: False if somebody has computed it meanwhile."""
        value, version, _ = _look(self.store, self.key)
        store: Store = self.store
        store.uncount(GETS_MISS if value is _missing else GETS_HIT)     # the first look is the one that counts
        if value is not _missing and version != self.version:
            self.value = value
            return False
        _computing[self.place] = token = object()
        _mine.set((*_mine.get(), (self.place, token)))
        return True

    def end(self):
        _computing.pop(self.place, None)
        _mine.set(tuple([one for one in _mine.get() if one[0] is not self.place]))


@cython.cfunc
@cython.exceptval(-1)
def beta_of(beta: object) -> cython.double:
    if type(beta) is int and beta == 0:
        return 0
    if isinstance(beta, bool) or not isinstance(beta, (int, float)):
        raise TypeError(f"beta: a number, not {type(beta).__name__}")
    if not 0 <= beta < math.inf:
        raise ValueError(f"beta: 0 or more, not {beta}")
    return float(beta)


def _stale_of(stale):
    seconds = seconds_of(stale, "stale")
    if seconds is None or seconds < 0:
        raise ValueError(f"stale: 0 or more, and not for ever, not {stale}")
    return seconds


@cython.cfunc
@cython.exceptval(-1)
def _check_ttl(store: Store, ttl: object) -> cython.int:
    """A bad one is told before anything is computed."""
    store.life_of(ttl)
    return 0


@cython.cfunc
def _engine_of(store: Store) -> object:
    return store.engine


def lease_of(store, key, kind):
    """The name of a key's lease."""
    read: Key
    _kept = read_key(key, store.seed, cython.address(read))
    last: u64 = cython.cast(u64, kind) << KIND_SHIFT | cython.cast(u64, store.pool.id)
    return (read.oid[0], read.oid[1] ^ read.oid[2], last)


def find_good(store, key, beta, good, version):
    """What is there, good or not, and its version, 0 if nothing is: then _missing. Early refreshing
    is drawn here."""
    read: Key
    seen: Seen
    left: cython.double
    store.ready()
    good[0] = False
    version[0] = 0
    _kept = read_key(key, store.seed, cython.address(read))
    data = store.find(cython.address(read), cython.address(seen))
    if data is None:
        return _missing
    version[0] = seen.version
    good[0] = not store.is_stale(cython.address(seen))
    if good[0] and beta > 0:
        left = store.left(cython.address(seen))
        if left < math.inf:
            good[0] = -took_of(seen.word) * beta * math.log(1.0 - random.random()) < left
    return load_form(data, seen.word, store.serializer)


@cython.cfunc
def _look(store: Store, key: object, beta: object = 0) -> tuple:
    """(what is there or _missing, its version, whether it is good)."""
    good: cython.bint
    version: u64
    value = find_good(store, key, beta_of(beta), cython.address(good), cython.address(version))
    return value, version, good


@cython.cfunc
@cython.exceptval(-1)
def _keep(
    store: Store, key: object, value: object, ttl: object, stale: cython.double, took: cython.double
) -> cython.int:
    read: Key
    word: u64 = 0
    life: cython.double = store.life_of(ttl)
    data = store_form(value, store.serializer, cython.address(word))
    store.ready()
    _kept = read_key(key, store.seed, cython.address(read))
    if life < math.inf:
        word = timed(word, stale if life > 0 else 0, took)
        life = life + stale if life > 0 else life
    store.put(cython.address(read), data, word, life, False, 0)
    store.note(COMPUTED, 1)
    return 0


@cython.cfunc
@cython.exceptval(-1)
def _count_wait(store: Store) -> cython.int:
    return store.note(WAITED, 1)


def compute(store: Store, key, fn, ttl=None, stale=0, beta=0):
    """The value of a key; fn() if there is none."""
    good: cython.bint
    number: u64
    value = find_good(store, key, beta_of(beta), cython.address(good), cython.address(number))
    if good:
        return value
    version = number
    stale = _stale_of(stale)
    _check_ttl(store, ttl)
    wish = _Wish(store, key, value, version)
    if not wish.try_lease():
        if value is not _missing:
            return value
        if wish.is_thread_busy():
            raise RuntimeError(f"key {key!r} is computed by another task of this thread, which would never go on")
        _count_wait(store)
        wish.wait()
    try:
        if not wish.begin():
            return wish.value
        try:
            began = time.perf_counter()
            value = fn()
            _keep(store, key, value, ttl, stale, time.perf_counter() - began)
            return value
        finally:
            wish.end()
    finally:
        wish.give_lease()


async def acompute(store: Store, key, fn, ttl=None, stale=0, beta=0):
    """The same for asyncio: fn may be a coroutine function, and who waits does not hold up the
    loop. A lease is a thread's, and all tasks of a loop are one thread: among them the table
    says who computes."""
    import asyncio  # a fifth of the time that `import engine` would take

    value, version, good = _look(store, key, beta)
    if good:
        return value
    stale = _stale_of(stale)
    _check_ttl(store, ttl)
    wish = _Wish(store, key, value, version)
    nap = 0.0
    while not wish.try_lease():
        if value is not _missing:
            return value
        if nap == 0.0:
            nap = NAP
            _count_wait(store)
        await asyncio.sleep(nap)
        nap = min(nap * 1.5, NAP_MAX)
        value, version, good = _look(store, key)
    try:
        if not wish.begin():
            return wish.value
        try:
            began = time.perf_counter()
            value = fn()
            if inspect.isawaitable(value):
                value = await value
            _keep(store, key, value, ttl, stale, time.perf_counter() - began)
            return value
        finally:
            wish.end()
    finally:
        wish.give_lease()

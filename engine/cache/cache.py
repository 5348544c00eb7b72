# cython: binding=False, embedsignature=True, embedsignature.format=clinic
"""Owns Cache, what callers hold: keys, values and times to live in, values and bools out.

What is done to a value is in its base, Store. binding=False: as in pool.py.
"""
import importlib
import math
from collections.abc import ItemsView, KeysView, MutableMapping, ValuesView
from types import ModuleType

import cython
from cython.cimports.engine.api.gather import GATHER_NAMES, Gather, new_gather
from cython.cimports.engine.cache.computing import lease_of
from cython.cimports.engine.cache.keys import KEY_FORM, KEY_LEASE, KIND_SHIFT, Key, is_key, key_of, read_key
from cython.cimports.engine.cache.store import CHANGED, STORED, Seen, Store
from cython.cimports.engine.cache.values import load_form, load_in_place, store_form
from cython.cimports.shm.layout import u64
from engine.api import session
from engine.cache.computing import COMPUTED, WAITED, acompute, compute
from engine.cache.keys import canonical
from engine.cache.memo import memoize

EXACT = cython.declare(cython.Py_ssize_t, 10_000)       # values that are counted one by one

_missing = object()


def _options(persistent, pam, policy, cap, client, allow, far, far_max, far_persistent):
    """Arguments of new_pool."""
    said = dict(persistent=persistent, pam=pam, policy=policy, cap=cap, client=client, allow=allow, far=far,
                far_max=far_max, far_persistent=far_persistent)
    return {key: value for key, value in said.items() if value is not None}


def open_cache(
    engine, name, *, ttl=None, serializer=None, persistent=False, pam="raw", policy="s3fifo", cap=0, client=None,
    allow=None, far=None, far_max=None, far_persistent=False
):
    """Engine.cache."""
    options = _options(persistent, pam, policy, cap, client, allow, far, far_max, far_persistent)
    return _open(engine, engine.name, name, ttl, serializer, options)


def _reopened(arena, name, ttl, serializer, options):
    """A cache from its pickle, in which a module goes by its name."""
    if isinstance(serializer, str):
        serializer = importlib.import_module(serializer)
    return _open(None, arena, name, ttl, serializer, options)


def _open(engine, arena, name, ttl, serializer, options):
    cache: Cache = Cache.__new__(Cache)
    cache.describe(arena, name, ttl, serializer, options)
    if engine is not None:
        cache.given = engine
        cache.open_slow()
    return cache


session.give("cache", open_cache)


@cython.cfunc
def _told(done: cython.int) -> object:
    """What callers of cas are told, who try again if something has changed, and only then."""
    return True if done == STORED else False if done == CHANGED else None


class _Items(ItemsView):
    """Those that are still there when their turn comes."""

    def __iter__(self):
        for key in self._mapping:
            value = self._mapping.get(key, _missing)
            if value is not _missing:
                yield key, value


class _Values(ValuesView):
    def __iter__(self):
        for _, value in _Items(self._mapping):
            yield value


@cython.cclass
class Cache(Store):
    """Values under keys, for all processes of the machine. Made by Engine.cache, or as
    Cache(arena), which opens the arena at the first call, and makes it if it is not there.

    Keys: str, bytes, int, tuples of these, and whatever else is hashable and equal to its copy in
    another process; keys that are equal are one key. Values: whatever can be pickled; bytes are
    kept as they are, arrays without a copy more than needed. ttl, of each call and of the cache:
    seconds, a timedelta, or the datetime at which it ends (without a zone: local time); None: as
    the cache says, and if that says nothing, for ever, as math.inf does; 0 and less: gone at once.
    Values may go at any time when memory is short, unless the cache is persistent. far, far_max,
    far_persistent: as of Engine.new_pool; a value that the far tier does not give, for whatever
    reason, is a miss, and is computed, or set, anew. A cache pickles,
    survives a fork, and may be shared by threads. It is a MutableMapping.
    Every call may raise TypeError and ValueError, naming the argument, and what the engine raises.
    """

    def __init__(
        self, arena, name="cache", *, ttl=None, serializer=None, capacity="64MiB", exact=False, persistent=False,
        pam="raw", policy="s3fifo", cap=0, client=None, allow=None, far=None, far_max=None, far_persistent=False
    ):
        if not isinstance(arena, str):
            raise TypeError(f"arena: the name of one, a str, not {type(arena).__name__} (Engine.cache takes an engine)")
        if not isinstance(name, str):
            raise TypeError(f"name: a str, not {type(name).__name__}")
        options = _options(persistent, pam, policy, cap, client, allow, far, far_max, far_persistent)
        options["capacity"] = capacity
        options["exact"] = exact
        self.describe(arena, name, ttl, serializer, options)

    # --- one value --------------------------------------------------------------------------------

    def get(self, key, default=None, with_version=False, copy=True):
        """The value of a key; `default` if there is none.

        with_version: a pair, of the value and its version, which `cas` wants; None: there is no
        value. copy=False: bytes come as a read-only memoryview of where they lie, and so do the
        buffers in anything else (an array of NumPy is read-only then); their memory is kept until
        the last of them is gone (max_pinned of engine.create says how much), and does not change.
        A value that cannot be unpickled raises what pickle raises."""
        k: Key
        seen: Seen
        self.ready()
        _kept = read_key(key, self.seed, cython.address(k))
        if copy:
            data = self.find_fresh(cython.address(k), cython.address(seen))
        else:
            data = self.find_page(cython.address(k), cython.address(seen))
        if data is None:
            return (default, None) if with_version else default
        if copy:
            value = load_form(data, seen.word, self.serializer)
        else:
            value = load_in_place(data, seen.word, self.serializer)
        return (value, self.version_of(cython.address(seen))) if with_version else value

    @cython.cfunc
    def _put(self, key: object, value: object, ttl: object, absent: cython.bint) -> cython.int:
        k: Key
        word: u64 = 0
        life: cython.double = self.life_of(ttl)
        data = store_form(value, self.serializer, cython.address(word))
        self.ready()
        _kept = read_key(key, self.seed, cython.address(k))
        if absent:
            return self.put_absent(cython.address(k), data, word, life)
        return self.put(cython.address(k), data, word, life, False, 0)

    def set(self, key, value, ttl=None):
        """Keep a value under a key. True; False: there is no memory for it, and nothing is under
        the key now. What cannot be pickled raises what pickle raises, and nothing has changed."""
        return self._put(key, value, ttl, False) == STORED

    def add(self, key, value, ttl=None):
        """Keep a value under a key if there is none. True if so. Of all that do it at once one
        does."""
        return self._put(key, value, ttl, True) == STORED

    def replace(self, key, value, ttl=None):
        """Keep a value under a key if there is one already. True if so."""
        k: Key
        seen: Seen
        word: u64 = 0
        life: cython.double = self.life_of(ttl)
        done: cython.int = CHANGED
        data = store_form(value, self.serializer, cython.address(word))
        self.ready()
        _kept = read_key(key, self.seed, cython.address(k))
        while done == CHANGED:
            if not self.look_fresh(cython.address(k), cython.address(seen)):
                return False
            done = self.put(
                cython.address(k), data, word, life, False, seen.version, self.own_end(cython.address(seen))
            )
        return done == STORED

    def cas(self, key, value, version, ttl=None):
        """Keep a value under a key if what is there is still of that version (see `get`); None: if
        nothing is there. True if so; False: something else is there by now, or nothing is; None:
        there is no memory for it, and nothing is under the key now."""
        k: Key
        seen: Seen
        word: u64 = 0
        life: cython.double = self.life_of(ttl)
        if version is None:
            return _told(self._put(key, value, ttl, True))
        if not isinstance(version, int) or isinstance(version, bool):
            raise TypeError(f"version: what get(with_version=True) gave, not {type(version).__name__}")
        data = store_form(value, self.serializer, cython.address(word))
        self.ready()
        _kept = read_key(key, self.seed, cython.address(k))
        until: u64 = 0
        if version < 0:
            if not self.look_fresh(cython.address(k), cython.address(seen)) or seen.version != -version:
                return False
            version = -version
            until = self.own_end(cython.address(seen))
        return version != 0 and _told(self.put(cython.address(k), data, word, life, False, version, until))

    def delete(self, key):
        """Drop the value of a key. True if there was one."""
        k: Key
        self.ready()
        _kept = read_key(key, self.seed, cython.address(k))
        return self.drop(cython.address(k))

    def pop(self, key, default=...):
        """The value of a key, which is dropped: one caller gets it. `default` if there is none;
        without that KeyError. One that cannot be unpickled stays."""
        k: Key
        seen: Seen
        self.ready()
        _kept = read_key(key, self.seed, cython.address(k))
        while True:
            data = self.find_fresh(cython.address(k), cython.address(seen))
            if data is None:
                break
            value = load_form(data, seen.word, self.serializer)     # before it goes: this may raise
            if self.drop_version(cython.address(k), seen.version):
                return value
        if default is ...:
            raise KeyError(key)
        return default

    def has(self, key):
        """Whether there is a value under a key. It is not read."""
        k: Key
        seen: Seen
        self.ready()
        _kept = read_key(key, self.seed, cython.address(k))
        return self.look_fresh(cython.address(k), cython.address(seen))

    def touch(self, key, ttl=None):
        """Let the value of a key live so long from now on. True if there is one."""
        k: Key
        life: cython.double = self.life_of(ttl)
        self.ready()
        _kept = read_key(key, self.seed, cython.address(k))
        return self.date(cython.address(k), life)

    def expires(self, key):
        """Seconds that the value of a key has left; None: it stays. KeyError if there is none."""
        k: Key
        seen: Seen
        self.ready()
        _kept = read_key(key, self.seed, cython.address(k))
        if not self.look_fresh(cython.address(k), cython.address(seen)):
            raise KeyError(key)
        left: cython.double = self.left(cython.address(seen))
        return None if left == math.inf else max(0.0, left)

    def incr(self, key, delta=1, initial=0, ttl=None):
        """Add to an int of 64 bits, where it lies: what it comes to.

        One that is missing starts from `initial`, and lives so long; with initial=None that is a
        KeyError. TypeError if what is there is no such int, OverflowError if it would leave 64
        bits."""
        k: Key
        life: cython.double = self.life_of(ttl)
        self.ready()
        _kept = read_key(key, self.seed, cython.address(k))
        try:
            return self.count(cython.address(k), delta, initial, life)
        except KeyError:
            raise KeyError(key) from None

    def decr(self, key, delta=1, initial=0, ttl=None):
        """The same as incr with -delta."""
        return self.incr(key, -delta, initial, ttl)

    # --- many values ------------------------------------------------------------------------------

    def get_many(self, keys):
        """{key: value} of those keys that have one. Each is got by itself."""
        found = {}
        wanted: tuple = tuple(keys)
        first: cython.Py_ssize_t
        for first in range(0, len(wanted), GATHER_NAMES):
            self._get_batch(wanted[first : first + GATHER_NAMES], found)
        return found

    @cython.cfunc
    @cython.exceptval(-1)
    def _get_batch(self, keys: tuple, found: dict) -> cython.int:
        """get_many of a few keys, into `found`: those that are far, in calls of the tier for many
        at once."""
        k: Key
        seen: Seen
        i: cython.Py_ssize_t
        first: cython.Py_ssize_t = 0
        stop: cython.Py_ssize_t
        self.ready()
        values: list = [_missing] * len(keys)
        gather: Gather = new_gather(self.pool)
        for i in range(len(keys)):
            _kept = read_key(keys[i], self.seed, cython.address(k))
            data = self.find_or_note(cython.address(k), cython.address(seen), gather, i)
            if data is not None:
                values[i] = load_form(data, seen.word, self.serializer)
        while first < len(gather.places):
            stop = gather.piece(first)
            answers: list = gather.ask(first, stop)
            for i in range(first, stop):
                _kept = read_key(keys[gather.places[i]], self.seed, cython.address(k))
                data = self.find_noted(cython.address(k), cython.address(seen), gather, i, answers[i - first])
                if data is not None:
                    values[gather.places[i]] = load_form(data, seen.word, self.serializer)
            first = stop
        for key, value in zip(keys, values, strict=True):
            if value is not _missing:
                found[key] = value
        return 0

    def set_many(self, items, ttl=None):
        """Keep the values of a mapping, or of pairs (key, value), each by itself. A list of the
        keys for which there was no memory."""
        pairs = items.items() if hasattr(items, "items") else items
        return [key for key, value in pairs if not self.set(key, value, ttl)]

    def delete_many(self, keys):
        """Drop the values of keys, each by itself: how many there were."""
        return sum(1 for key in keys if self.delete(key))

    def clear(self):
        """Drop all values at one moment, in constant time. Namespaces are caches of their own, and
        stay."""
        self.ready()
        computed, waited = self.noted(COMPUTED), self.noted(WAITED)
        cython.cast(object, self.pool).clear()
        for counter, count in ((COMPUTED, computed), (WAITED, waited)):
            if count:
                self.note(counter, count)

    # --- computing --------------------------------------------------------------------------------

    def get_or_compute(self, key, fn, ttl=None, stale=0, beta=0):
        """The value of a key; if there is none, fn(), which is kept.

        On the whole machine one computes a value at a time. The others wait for it; when fn raises,
        its caller has the exception, and the next one computes; so it is when a process dies.
        stale: seconds, or a timedelta, that a value may be used after its time: then nobody waits,
        one computes, and the others have the old value. beta: more than 0 lets one compute it
        early, by chance, the more likely the nearer its end and the longer it takes (XFetch); 1 is
        a good choice. None is a value. RuntimeError if fn asks for the same key."""
        return compute(self, key, fn, ttl, stale, beta)

    def aget_or_compute(self, key, fn, ttl=None, stale=0, beta=0):
        """The same for asyncio, to be awaited: fn may be a coroutine function, and who waits does
        not hold up the loop."""
        return acompute(self, key, fn, ttl, stale, beta)

    def memoize(self, ttl=None, key=None, typed=False, stale=0, beta=0):
        """A decorator that keeps the answers of a function, a method or a coroutine function here,
        in the shape of functools.lru_cache: with cache_info, cache_clear, cache_key and
        __wrapped__.

        The key of an answer is the function's name with its arguments, of which `self` is one: an
        object must be a key (see Cache), or `key`, a function of the same arguments, makes one.
        typed: 1 and 1.0 are two. ttl, stale, beta: as of get_or_compute. cache_clear and cache_info
        walk through the cache."""
        if callable(ttl):
            return memoize(self, ttl, None, key, typed, stale, beta)
        return lambda function: memoize(self, function, ttl, key, typed, stale, beta)

    def lease(self, key, timeout=None, any_thread=False):
        """A lock for all processes, under a key of this cache: see Engine.lease. It has nothing to
        do with the value of the key, and passes on when its holder dies.

        It is of the arena that is there now: when that is removed and made again, another call
        gives another lease."""
        self.ready()
        return self.engine.lease(lease_of(self, key, KEY_LEASE), timeout, any_thread)

    # --- the whole cache --------------------------------------------------------------------------

    def namespace(self, name):
        """A cache beside this one, with keys, statistics and a `clear` of its own; otherwise as
        this one was made; not beside a cache whose far tier is a file, which is one pool's alone.
        Each takes a pool of the arena (max_pools of engine.create): for a few
        kinds of values, not for each user."""
        if not isinstance(name, str) or not name:
            raise TypeError(f"name: a str that is not empty, not {name!r}")
        return _open(self.given, self.arena, f"{self.name}:{name}", self.ttl, self.serializer, self.options)

    def stats(self):
        """Counts of all processes: hits, misses, sets, evicted, expired, of the pool; computed and
        waited, of get_or_compute, as long as memory is not short."""
        self.ready()
        counts = self.engine.stats()["pools"][self.name]
        return {
            "hits": counts["gets_hit"],
            "misses": counts["gets_miss"],
            "expired": counts.get("expired", 0),
            "sets": counts["puts_ok"],
            "evicted": counts["evicted"],
            "computed": self.noted(COMPUTED),
            "waited": self.noted(WAITED),
        }

    def expire(self):
        """Give back the memory of what has expired now, rather than when it is needed."""
        self.ready()
        self.engine.tend()

    @cython.cfunc
    def _infos(self) -> object:
        self.ready()
        return cython.cast(object, self.pool).objects()

    def keys(self):
        """The keys, in no order. Those that come or go meanwhile may or may not be among them;
        all others come once."""
        return KeysView(self)

    def values(self):
        """The values, as `keys`."""
        return _Values(self)

    def items(self):
        """Pairs of key and value, as `keys`."""
        return _Items(self)

    def _keys_of(self, name):
        """The keys of a memoized function."""
        mark = canonical((name, None))[1].removesuffix(b"N")
        for info in self._infos():
            if info.oid[2] >> KIND_SHIFT == KEY_FORM and info.key is not None and info.key.startswith(mark):
                yield key_of(info.oid[2], info.key)

    def __iter__(self):
        for info in self._infos():
            if is_key(info.oid[2]) and self.is_value(info):
                yield key_of(info.oid[2], info.key)

    def __len__(self):
        """How many values there are. Of a cache with more than 10,000, about: those that have
        expired or were cleared, and wait to be taken apart, count."""
        self.ready()
        here: cython.Py_ssize_t = cython.cast(object, self.pool).obj_count
        if here > EXACT:
            return max(0, here - self.own_counters())
        here = 0
        for info in self._infos():
            here += is_key(info.oid[2]) and self.is_value(info)
        return here

    def __bool__(self):
        return True

    def __contains__(self, key):
        return self.has(key)

    def __getitem__(self, key):
        value = self.get(key, _missing)
        if value is _missing:
            raise KeyError(key)
        return value

    def __setitem__(self, key, value):
        self._put(key, value, None, False)

    def __delitem__(self, key):
        if not self.delete(key):
            raise KeyError(key)

    def setdefault(self, key, default=None):
        """The value of a key; `default`, which is kept, if there is none."""
        while True:
            value = self.get(key, _missing)
            if value is not _missing:
                return value
            if self.add(key, default) or not self.has(key):
                return default

    def popitem(self):
        """Some pair of key and value, which is dropped. KeyError if there is none."""
        for key in self:
            value = self.pop(key, _missing)
            if value is not _missing:
                return key, value
        raise KeyError("the cache is empty")

    def update(self, items=(), /, **more):
        """Keep the values of a mapping, or of pairs, and of keywords."""
        self.set_many(items)
        self.set_many(more)

    def close(self):
        """Let go of the arena, where the cache has opened it itself; the attachment is closed when
        no other cache of this process uses it. The next call opens it again. BufferError while
        something that was got with copy=False is held."""
        self.let_go()

    def __enter__(self):
        return self

    def __exit__(self, kind, value, traceback):
        self.close()

    def __reduce__(self):
        serializer = self.serializer.__name__ if isinstance(self.serializer, ModuleType) else self.serializer
        return (_reopened, (self.arena, self.name, self.ttl, serializer, self.options))

    def __repr__(self):
        return f"<tmem cache {self.name!r} of arena {self.arena!r}>"


MutableMapping.register(Cache)

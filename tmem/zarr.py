"""Owns the adapter to zarr: what is read of a store is kept in an arena, for all processes.

Who writes through it, in whatever process, is seen by all who read through it, at once. Each key of
the store has a counter in the cache, its generation, and so has the store; a value is kept under
its key and both generations. A writer counts itself in before it writes, and out when it has
written, into the next generation. While somebody is counted in, readers go by the cache: so nobody
keeps an older value, whenever he reads and whoever is killed. A counter that was evicted starts
anew from a random generation, which no value is kept under.
"""
import asyncio
import copy
import math
import os
import secrets
import uuid
import weakref
from pathlib import PurePath

from zarr.abc.store import OffsetByteRequest, RangeByteRequest, Store, SuffixByteRequest
from zarr.core.buffer import default_buffer_prototype
from zarr.storage import FsspecStore, LocalStore, LoggingStore, WrapperStore

from engine import ArenaFull
from tmem.opening import open_cache
from tmem.places import digest, text_of

PLAIN = (str, bytes, int, float, PurePath, type(None))
OF_ZARR = {"_store", "_is_open", "_read_only", "root", "fs", "path", "allowed_exceptions"}

GENERATION = 1 << 16        # of a counter; below it are the writers who are counted in
WRITING_S = 600             # that a counter lives while somebody is counted in: he may have been killed
_absent = object()
_tokens = {}                # {id of a store of this process alone: (weak reference to it, its token)}


class _Missing(Exception):
    """The store has no such key."""


def _token_of(store):
    """What tells a store of this process from all others, dead ones too."""
    number = id(store)
    known, token = _tokens.get(number, (None, None))
    if known is None or known() is not store:
        token = uuid.uuid4().hex
        _tokens[number] = (weakref.ref(store, lambda _: _tokens.pop(number, None)), token)
    return token


def _text_of_store(store):
    """Which store this is: a text, and whether it is one of this process alone. (None, True):
    nothing tells it in another process, as of a MemoryStore, whose name is an address.

    A class that is derived from one of zarr's may have other bytes under a key: its name counts,
    and so do the plain values that its object has. One that stands in front of another store, and
    has more than such, is told by nothing."""
    if type(store) in (LoggingStore, TmemStore):
        return _text_of_store(store._store)     # they hand on what they read, as it is
    own, all_plain = _own_of(store)
    if isinstance(store, WrapperStore):
        text, bound = _text_of_store(store._store) if all_plain else (None, True)
        return text and f"{own} in front of {text}", bound
    if isinstance(store, LocalStore):
        return f"{own} local {store.root.resolve()}", False
    if isinstance(store, FsspecStore):
        text, bound = text_of(store.fs)
        return text and f"{own} fsspec {text} {store.path}", bound
    return None, True


def _own_of(store):
    """What tells a store from others of another class, or with other values: a text, and whether it
    has nothing but plain values."""
    if type(store) in (LocalStore, FsspecStore, WrapperStore):
        return "", True
    values = {name: value for name, value in vars(store).items() if name not in OF_ZARR}
    plain = sorted((name, str(value)) for name, value in values.items() if isinstance(value, PLAIN))
    return f"{type(store).__module__}.{type(store).__qualname__} {plain}", len(plain) == len(values)


def _is_folder(store, key):
    """Whether deleting a key deletes others, too: a LocalStore takes folders for keys."""
    while isinstance(store, WrapperStore):
        store = store._store
    return isinstance(store, LocalStore) and (store.root / key).is_dir()


def _cut(data, byte_range):
    """The part of a value that a request is for."""
    if byte_range is None:
        return data
    if isinstance(byte_range, RangeByteRequest):
        return data[byte_range.start:byte_range.end]
    if isinstance(byte_range, OffsetByteRequest):
        return data[byte_range.offset:]
    return data[max(len(data) - byte_range.suffix, 0):]


class TmemStore(WrapperStore):
    """A store in front of another, which keeps what is read in an arena.

    arena: the name of one. namespace: a str that says which data the store has, the same in all
    processes; None: what is known of a LocalStore and an FsspecStore; any other store then shares
    with no other process. ttl: seconds that a value lives: say it when others write the data, past
    this store. missing_ttl: seconds that a key is known to be missing; 0: it is looked for each
    time. name: of the cache in the arena. capacity: of an arena that has to be made. options: as of
    engine.Cache."""

    def __init__(
        self, store, *, arena=None, namespace=None, ttl=None, missing_ttl=5, name="zarr", capacity=None, **options
    ):
        if not isinstance(store, Store):
            raise TypeError(f"store: a store of zarr, not {type(store).__name__}")
        if namespace is not None and (not isinstance(namespace, str) or not namespace):
            raise TypeError(f"namespace: a str that is not empty, or None, not {namespace!r}")
        super().__init__(store)
        self._cache = open_cache(arena, name, ttl=ttl, capacity=capacity, **options)
        self._missing_ttl = missing_ttl
        self._namespace, self._bound = (namespace, False) if namespace else _text_of_store(store)
        self._token = None if self._namespace else _token_of(store)

    @classmethod
    async def open(cls, store_cls, *args, arena=None, **kwargs):
        """A TmemStore, which is open, with what the constructor takes, on a new store of a class,
        which gets everything else."""
        taken = ("namespace", "ttl", "missing_ttl", "name", "capacity")
        own = {name: kwargs.pop(name) for name in taken if name in kwargs}
        store = store_cls(*args, **kwargs)
        await store._open()
        return cls(store, arena=arena, **own)

    def _with_store(self, store):
        made = copy.copy(self)
        made._store = store
        return made

    def __eq__(self, other):
        return super().__eq__(other) and self._cache.arena == other._cache.arena

    __hash__ = None

    def __str__(self):
        return f"tmem-{self._store}"

    def __repr__(self):
        return f"TmemStore({self._store!r}, arena={self._cache.arena!r})"

    def __setstate__(self, state):
        self.__dict__.update(state)
        if self._namespace is None:
            self._token = _token_of(self._store)    # a copy: what is written to one is not in the other

    # --- reading ----------------------------------------------------------------------------------

    def _place(self):
        return digest(self._namespace, self._token, os.getpid() if self._bound else 0)

    def _generation(self, counter):
        """The generation of a store or a key; None: somebody is writing, or there is no memory."""
        count = self._cache.get(counter)
        if count is None:
            self._cache.add(counter, secrets.randbits(40) * GENERATION, ttl=math.inf)
            count = self._cache.get(counter)
        return None if count is None or count % GENERATION else count // GENERATION

    async def get(self, key, prototype=None, byte_range=None):
        prototype = prototype or default_buffer_prototype()
        place = self._place()
        whole, one = self._generation(place), self._generation((place, key))
        ranged = byte_range is not None
        if whole is None or one is None or ranged and not isinstance(
            byte_range, (RangeByteRequest, OffsetByteRequest, SuffixByteRequest)
        ):
            return await self._store.get(key, prototype, byte_range)
        kept = (place, key, whole, one)
        data = self._cache.get(kept, _absent, copy=False)
        if data is not _absent:
            return data if data is None else prototype.buffer.from_bytes(_cut(data, byte_range))
        part = (*kept, byte_range) if ranged else kept
        data = self._cache.get(part, _absent, copy=False) if ranged else _absent
        if data is _absent:
            try:
                data = await self._cache.aget_or_compute(part, lambda: self._fetch(key, prototype, byte_range, kept))
            except _Missing:
                return None
        return data if data is None else prototype.buffer.from_bytes(data)

    async def _fetch(self, key, prototype, byte_range, kept):
        found = await self._store.get(key, prototype, byte_range)
        if found is not None:
            return found.to_bytes()
        if self._missing_ttl:
            self._cache.set(kept, None, ttl=self._missing_ttl)
        raise _Missing

    async def get_partial_values(self, prototype, key_ranges):
        return list(await asyncio.gather(*(self.get(key, prototype, part) for key, part in key_ranges)))

    async def _get_many(self, requests):
        async for pair in Store._get_many(self, requests):
            yield pair

    async def getsize(self, key):
        return await self._store.getsize(key)

    async def getsize_prefix(self, prefix):
        return await self._store.getsize_prefix(prefix)

    # --- writing ----------------------------------------------------------------------------------

    def _count(self, counter, step):
        start = secrets.randbits(40) * GENERATION       # of one that is not there; who is counted out was in
        try:
            count = self._cache.incr(counter, step, initial=start if step == 1 else start + 1, ttl=WRITING_S)
        except ArenaFull:       # then there is no counter, and who makes one finds nothing of before
            return
        self._cache.touch(counter, WRITING_S if count % GENERATION else math.inf)

    async def _changing(self, counter, change):
        """Await a change of what a counter is of."""
        self._count(counter, 1)
        try:
            return await change
        finally:
            self._count(counter, GENERATION - 1)

    async def set(self, key, value):
        await self._changing((self._place(), key), self._store.set(key, value))

    async def set_if_not_exists(self, key, value):
        await self._changing((self._place(), key), self._store.set_if_not_exists(key, value))

    async def _set_many(self, values):
        await asyncio.gather(*(self.set(key, value) for key, value in values))

    async def delete(self, key):
        place = self._place()
        await self._changing(place if _is_folder(self._store, key) else (place, key), self._store.delete(key))

    async def delete_dir(self, prefix):
        await self._changing(self._place(), self._store.delete_dir(prefix))

    async def clear(self):
        await self._changing(self._place(), self._store.clear())

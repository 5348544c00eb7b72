"""Owns the backend of dogpile.cache in an arena: make_region().configure("dogpile.cache.tmem",
arguments={"arena": ...}). dogpile.cache finds it by an entry point; nothing has to be imported.

dogpile locks a key while its value is made. That lock is a lease, so one process of all makes the
value, and when it dies the next one does. It is held by the process and not by a thread, since with
an `async_creation_runner` another thread gives it back.
"""
from contextlib import suppress

from dogpile.cache.api import NO_VALUE, CacheBackend, CacheMutex

from engine import ArenaBusy, TmemError
from tmem.opening import open_cache

OPTIONS = ("capacity", "exact", "persistent", "pam", "policy", "cap", "client", "allow")


class TmemMutex(CacheMutex):
    """The lock of a key. dogpile.cache shares one of these between the threads of a process."""

    def __init__(self, cache, key):
        self.cache = cache
        self.key = key
        self.taken = []         # what acquire has taken and release has not given back

    def acquire(self, wait=True):
        lease = self.cache.lease(self.key, any_thread=True)
        try:
            if not lease.acquire(blocking=bool(wait)):
                return False
        except ArenaBusy:
            lease = None        # too many are held: the value is made without, and perhaps twice
        self.taken.append(lease)
        return True

    def release(self):
        if not self.taken:
            raise RuntimeError(f"release: nobody of this process has locked the key {self.key!r} by this mutex")
        lease = self.taken.pop()
        if lease is not None:
            with suppress(TmemError):       # it went with its engine
                lease.release()

    def locked(self):
        return self.cache.lease(self.key, any_thread=True).locked()


class TmemBackend(CacheBackend):
    """The backend "dogpile.cache.tmem".

    arguments: arena, the name of one; name, of the cache in it ("dogpile"); tmem_expiration_time,
    seconds after which the arena drops a value, to be longer than the region's expiration_time
    (None: when it needs the room); distributed_lock, False for a lock of each process by itself;
    and those of engine.Cache. Others are left to other backends, as dogpile.cache has it."""

    def __init__(self, arguments):
        if not arguments.get("arena"):
            raise TypeError(f'arguments: {{"arena": "<name of an arena>"}} at least, not {dict(arguments)!r}')
        self.distributed_lock = arguments.get("distributed_lock", True)
        self.cache = open_cache(
            arguments["arena"], arguments.get("name", "dogpile"), ttl=arguments.get("tmem_expiration_time"),
            **{name: arguments[name] for name in OPTIONS if name in arguments},
        )

    def get_mutex(self, key):
        return TmemMutex(self.cache, key) if self.distributed_lock else None

    def get(self, key):
        return self.cache.get(key, NO_VALUE)

    def get_multi(self, keys):
        return [self.cache.get(key, NO_VALUE) for key in keys]

    def set(self, key, value):
        self.cache.set(key, value)

    def set_multi(self, mapping):
        self.cache.set_many(mapping)

    def delete(self, key):
        self.cache.delete(key)

    def delete_multi(self, keys):
        self.cache.delete_many(keys)

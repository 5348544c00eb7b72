"""Owns the store of joblib's Memory in an arena: Memory("name", backend="tmem",
backend_options={"arena": ...}). Importing this module registers it.

joblib thinks of folders: of a location, of functions in it, and of their calls. Here a path is the
first half of a key, and the second half says what of it is kept: the code of a function, the output
of a call, or what is known about the call. Each is kept whole by one put, so nobody sees half of
one, and nothing is written under a name that it has only for a while, and renamed.
"""
import io
import os
import pickle
import time
import warnings
from datetime import datetime

from joblib._store_backends import CacheItemInfo, CacheWarning, StoreBackendBase, StoreBackendMixin
from joblib.logger import format_time
from joblib.memory import register_store_backend

from tmem.opening import open_cache

OUTPUT, ABOUT, CODE = "output", "about", "code"     # second halves of keys
# What is said about a call whose record has just gone: it is as old as can be.
LOST = {"duration": 0.0, "input_args": {}, "time": 0.0}
_missing = object()


def pool_of(compress):
    """The name and the back end of the cache for what joblib calls `compress`: all values of a
    cache are kept alike."""
    if not compress:
        return "joblib", "raw"
    pam = "lz4" if isinstance(compress, (tuple, list)) and compress[0] == "lz4" else "zstd"
    return f"joblib-{pam}", pam


def pack(item):
    """An object as a tuple of its pickle and the buffers that are no part of it, such as those of
    arrays: they are copied once, into the arena."""
    buffers = []
    return (pickle.dumps(item, protocol=5, buffer_callback=buffers.append), *buffers)


def unpack(packed):
    return pickle.loads(packed[0], buffers=packed[1:])


class TmemStoreBackend(StoreBackendBase, StoreBackendMixin):
    """The store "tmem".

    backend_options: arena, the name of one, and those of engine.Cache; others are not looked at, as
    in joblib's own store. compress: values are kept compressed, by zstd or lz4. mmap_mode="r":
    arrays lie in the arena, read-only; with any other, as without, they come as copies."""

    __slots__ = ("cache",)      # and not an attribute: joblib compares those by ==, and caches are not

    def configure(self, location, verbose=1, backend_options=None):
        options = dict(backend_options or {})
        if not options.get("arena"):
            raise TypeError(f'backend_options: {{"arena": "<name of an arena>"}} at least, not {options!r}')
        self.location = location
        self.verbose = verbose
        self.mmap_mode = options.get("mmap_mode")
        self.unkept = {}        # {path: output} for which there was no room, until joblib loads it
        name, pam = pool_of(options.get("compress"))
        self.cache = open_cache(
            options["arena"], options.get("name", name), pam=pam,
            **{key: options[key] for key in ("capacity", "exact", "persistent", "policy", "cap", "client", "allow")
               if key in options},
        )

    def path_of(self, call_id):
        return os.path.join(self.location, *call_id)

    # --- outputs ----------------------------------------------------------------------------------

    def load_item(self, call_id, verbose=1, timestamp=None, metadata=None):
        """The output of a call; KeyError if there is none."""
        path = self.path_of(call_id)
        if verbose > 1:
            since = "" if timestamp is None else format_time(time.time() - timestamp)
            print(f"[Memory]{since: <16}: Loading {call_id[0]} from {self.cache!r}")
        packed = self.cache.get((path, OUTPUT), copy=self.mmap_mode != "r")
        if packed is None:
            output = self.unkept.pop(path, _missing)
            if output is _missing:
                raise KeyError(f"there is no output of {path}: it may have been cleared, or made room for others")
            return output
        about, version = self.cache.get((path, ABOUT), with_version=True)
        if about is not None:
            self.cache.cas((path, ABOUT), (time.time(), about[1]), version)
        return unpack(packed)

    def dump_item(self, call_id, item, verbose=1):
        """Keep the output of a call; a warning if that cannot be."""
        path = self.path_of(call_id)
        if verbose > 10:
            print(f"Persisting {path} in {self.cache!r}")
        try:
            kept = self.cache.set((path, OUTPUT), pack(item))
            why = "there is no room in the arena"
        except Exception as error:      # as of pickling, which may raise anything
            kept, why = False, error
        if not kept:
            warnings.warn(f"The output of {path} is not cached: {why}.", CacheWarning, stacklevel=2)
            if self.mmap_mode is not None:      # joblib is about to load it
                self.unkept[path] = item

    def clear_item(self, call_id):
        self.clear_location(self.path_of(call_id))

    def contains_item(self, call_id):
        """Whether there is an output and what is known about it."""
        path = self.path_of(call_id)
        return self.cache.has((path, OUTPUT)) and self.cache.has((path, ABOUT))

    def get_metadata(self, call_id):
        about = self.cache.get((self.path_of(call_id), ABOUT))
        return LOST if about is None else about[1]

    def store_metadata(self, call_id, metadata):
        self.cache.set((self.path_of(call_id), ABOUT), (time.time(), metadata))

    # --- functions --------------------------------------------------------------------------------

    def contains_path(self, call_id):
        return self._item_exists(self.path_of(call_id))

    def clear_path(self, call_id):
        self.clear_location(self.path_of(call_id))

    def store_cached_func_code(self, call_id, func_code=None):
        if func_code is not None:
            self.cache.set((self.path_of(call_id), CODE), func_code)

    def get_cached_func_code(self, call_id):
        """The code of a function; FileNotFoundError, which joblib knows, if there is none."""
        path = self.path_of(call_id)
        code = self.cache.get((path, CODE))
        if code is None:
            # It may have made room, and joblib is about to keep the code that the function has now:
            # nothing would tell that the outputs are of other code.
            self.cache.delete_many(self.keys_below(path))
            raise FileNotFoundError(f"there is no code of {path}")
        return code

    # --- locations --------------------------------------------------------------------------------

    def keys_below(self, location):
        """The keys of a location and of all below it. Walks through the cache."""
        below = os.path.join(location, "")
        return [key for key in self.cache if key[0] == location or key[0].startswith(below)]

    def clear_location(self, location):
        # A call has nothing below it: that is all that a walk would find.
        if not self.cache.delete_many([(location, OUTPUT), (location, ABOUT)]):
            self.cache.delete_many(self.keys_below(location))

    def get_items(self):
        """What is there of each call. An output counts with its buffers, and the rest with what a
        pickle of it takes."""
        items = []
        for path, kind in self.keys_below(self.location):
            if kind == OUTPUT:
                packed, about = self.cache.get((path, OUTPUT), copy=False), self.cache.get((path, ABOUT))
                if packed is not None and about is not None:
                    size = sum(memoryview(part).nbytes for part in packed) + len(pickle.dumps(about))
                    items.append(CacheItemInfo(path, size, datetime.fromtimestamp(about[0])))
        return items

    def create_location(self, location):
        """Nothing: a location is there when something is in it."""

    def _item_exists(self, location):
        return any(self.cache.has((location, kind)) for kind in (OUTPUT, CODE))

    def _open_item(self, f, mode):
        raise io.UnsupportedOperation(f"{f} is kept whole in an arena, and cannot be opened")

    def _move_item(self, src, dst):
        raise io.UnsupportedOperation(f"{src} is kept whole in an arena, and needs no other name for a while")


register_store_backend("tmem", TmemStoreBackend)

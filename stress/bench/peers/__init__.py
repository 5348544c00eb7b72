"""Owns the list of stores that are measured, one file each, this engine's in `own`. A store that is
not installed is reported, not an error.

Calls the files beside it. Called by the harness, which knows peers only through `base.Peer`.
"""
from __future__ import annotations

from importlib import import_module

from stress.bench.peers.base import Peer

MODULES = ("own.ours", "raw", "lmdb", "redis", "memcached", "diskcache", "sqlite", "files", "manager",
           "shared_memory_dict", "ultradict")
# Those that keep values under keys, for whoever holds a cache.
CACHES = ("own.cache", "own.single", "own.objects", "diskcache", "pylibmc", "memcached", "redis", "manager",
          "dictionary")
OURS, RAW = "tmem", "raw copy"
CACHE, PAGES, OBJECTS = "tmem Cache", "tmem pages", "tmem objects"


def all_peers() -> dict[str, type[Peer]]:
    """Every peer by its name, installed or not."""
    return _named(MODULES)


def all_caches() -> dict[str, type[Peer]]:
    """The same of every cache."""
    return _named(CACHES)


def _named(modules: tuple[str, ...]) -> dict[str, type[Peer]]:
    classes = [import_module(f"stress.bench.peers.{module}").Subject for module in modules]
    return {one.name: one for one in classes}

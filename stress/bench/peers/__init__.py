"""Owns the list of stores that are measured, one file each. A store that is not installed is
reported, not an error.

Calls the files beside it. Called by the harness, which knows peers only through `base.Peer`.
"""
from __future__ import annotations

from importlib import import_module

from stress.bench.peers.base import Peer

MODULES = ("ours", "raw", "lmdb", "redis", "memcached", "diskcache", "sqlite", "files", "manager", "shared_memory_dict",
           "ultradict")
OURS, RAW = "tmem", "raw copy"


def all_peers() -> dict[str, type[Peer]]:
    """Every peer by its name, installed or not."""
    classes = [import_module(f"stress.bench.peers.{module}").Subject for module in MODULES]
    return {one.name: one for one in classes}

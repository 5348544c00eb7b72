"""Owns diskcache as a peer: its folder in shared memory, nothing synced, nothing evicted."""
from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterable
from typing import Any

from stress.bench.peers.base import Peer


class Subject(Peer):
    name = "diskcache"
    about = "in /dev/shm, synchronous off, no eviction"
    packages = modules = ("diskcache",)
    keeps_objects = True

    def connect(self, handle: Any = None) -> None:
        from diskcache import Cache

        self._cache = Cache(
            str(self.place.folder / "diskcache"),
            timeout=60,
            sqlite_synchronous=0,
            eviction_policy="none",
            size_limit=self.capacity * 4,
        )
        self.put, self.get, self.drop = self._cache.set, self._cache.get, self._cache.delete
        self.add, self.incr, self.cas = self._cache.add, self._cache.incr, self._swap

    def _swap(self, key: Any, value: Any, old: Any) -> bool:
        """As its users do it: it has no such call."""
        with self._cache.transact():
            return self.get(key) == old and self.put(key, value)

    def token(self, *key: Any) -> Any:
        return self.get(*key)

    def close(self) -> None:
        self._cache.close()

    def key(self, number: int) -> tuple:
        return (number,)

    def memory(self) -> int:
        # As with SQLite, which it is built on: without the log that the fill made.
        with contextlib.closing(sqlite3.connect(self.place.folder / "diskcache" / "cache.db")) as db:
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return super().memory()

    def fill(self, pages: Iterable[tuple[int, bytes]]) -> None:
        with self._cache.transact():
            super().fill(pages)

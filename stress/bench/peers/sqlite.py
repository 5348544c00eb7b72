"""Owns SQLite as a peer: one table by integer key, write-ahead log, synchronous off, the file in
shared memory."""
from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from typing import Any

from stress.bench.peers.base import Peer

PUT = "INSERT OR REPLACE INTO pages VALUES (?, ?)"


class Subject(Peer):
    name = "SQLite"
    about = "one statement a call, write-ahead log, synchronous off, in /dev/shm"

    @classmethod
    def version(cls) -> str:
        return f"sqlite {sqlite3.sqlite_version}"

    def connect(self, handle: Any = None) -> None:
        self._db = db = sqlite3.connect(self.place.folder / "sqlite", isolation_level=None, timeout=60)
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("PRAGMA synchronous=OFF")
        db.execute("CREATE TABLE IF NOT EXISTS pages (number INTEGER PRIMARY KEY, page BLOB)")

        def put(number: int, page: bytes) -> None:
            db.execute(PUT, (number, page))

        def get(number: int) -> bytes | None:
            row = db.execute("SELECT page FROM pages WHERE number = ?", (number,)).fetchone()
            return row and row[0]

        def drop(number: int) -> None:
            db.execute("DELETE FROM pages WHERE number = ?", (number,))
        self.put, self.get, self.drop = put, get, drop

    def close(self) -> None:
        self._db.close()

    def key(self, number: int) -> tuple:
        return (number,)

    def memory(self) -> int:
        # The log is as long as the longest transaction was; of that the fill is to blame, not the
        # store.
        self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return super().memory()

    def fill(self, pages: Iterable[tuple[int, bytes]]) -> None:
        with self._db:
            self._db.execute("BEGIN")
            self._db.executemany(PUT, pages)

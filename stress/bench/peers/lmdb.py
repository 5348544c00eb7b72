"""Owns LMDB as a peer: one transaction for each put and get, never synced to disk, the file in
shared memory."""
from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from stress.bench.peers.base import Peer


class Subject(Peer):
    name = "LMDB"
    about = "one transaction a call, sync=False, writemap, in /dev/shm"
    packages = modules = ("lmdb",)

    def connect(self, handle: Any = None) -> None:
        import lmdb
        # A page of 4 KiB with its header takes two pages of the file; freed ones are used again
        # only later.
        self._env = env = lmdb.open(
            str(self.place.folder / "lmdb"),
            map_size=self.capacity * 4 + (256 << 20),
            sync=False,
            metasync=False,
            writemap=True,
            max_readers=64,
        )

        def put(key: bytes, page: bytes) -> bool:
            with env.begin(write=True) as txn:
                return txn.put(key, page)

        def get(key: bytes) -> bytes | None:
            with env.begin() as txn:
                return txn.get(key)

        def look(key: bytes) -> None:
            with env.begin(buffers=True) as txn:
                txn.get(key)

        def drop(key: bytes) -> bool:
            with env.begin(write=True) as txn:
                return txn.delete(key)
        self.put, self.get, self.look, self.drop = put, get, look, drop

    def close(self) -> None:
        self._env.close()

    def fill(self, pages: Iterable[tuple[int, bytes]]) -> None:
        with self._env.begin(write=True) as txn:
            for number, page in pages:
                txn.put(self.key(number)[0], page)

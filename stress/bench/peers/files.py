"""Owns a file per page as a peer: in shared memory, 256 folders; a put writes beside and renames,
so that no reader sees half."""
from __future__ import annotations

import os
from typing import Any

from stress.bench.peers.base import Peer

WRITE = os.O_WRONLY | os.O_CREAT | os.O_TRUNC


class Subject(Peer):
    name = "file per page"
    about = "in /dev/shm, a put writes beside and renames"

    def create(self) -> None:
        for number in range(256):
            (self.place.folder / "files" / f"{number:02x}").mkdir(parents=True)

    def connect(self, handle: Any = None) -> None:
        self._root = root = str(self.place.folder / "files")
        beside = f"{root}/{os.getpid()}.new"

        def put(path: str, page: bytes) -> None:
            fd = os.open(beside, WRITE, 0o600)
            os.write(fd, page)
            os.close(fd)
            os.rename(beside, path)

        def get(path: str) -> bytes | None:
            try:
                fd = os.open(path, os.O_RDONLY)
            except FileNotFoundError:
                return None
            page = os.read(fd, os.fstat(fd).st_size)        # a larger buffer would cost more than the read
            os.close(fd)
            return page
        self.put, self.get, self.drop = put, get, os.unlink

    def key(self, number: int) -> tuple:
        return (f"{self._root}/{number & 255:02x}/{number}",)

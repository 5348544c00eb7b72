"""Owns shared-memory-dict as a peer: the whole dict pickled into one block at every put, without a
lock between processes."""
from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from stress.bench.peers.base import Peer


class Subject(Peer):
    name = "shared-memory-dict"
    about = "pickles the whole dict at every call; no lock between processes"
    packages, modules = ("shared-memory-dict",), ("shared_memory_dict",)
    pages_max = 256
    shares = False
    _dict: Any = None

    def connect(self, handle: Any = None) -> None:
        from shared_memory_dict import SharedMemoryDict
        pages = self._dict = SharedMemoryDict(name=self.place.name, size=self.capacity * 2 + (4 << 20))
        self.put, self.get, self.drop = pages.__setitem__, pages.get, pages.__delitem__

    def remove(self) -> None:
        if self._dict is not None:
            del self.put, self.get, self.drop
            self._dict.shm.close()
            self._dict.shm.unlink()

    def key(self, number: int) -> tuple:
        return (str(number),)

    def fill(self, pages: Iterable[tuple[int, bytes]]) -> None:
        for number, page in pages:
            self._dict[str(number)] = page

    def memory(self) -> int:
        return self._dict.shm.size

"""Owns the bound no store can pass: slices copied into and out of a shared mapping, without keys,
locks or bounds.

A put is the slice assignment itself, called without a Python function around it; a get needs one
(`bytes(view[a:b])`).
"""
from __future__ import annotations

import mmap
import os
from typing import Any

from stress.bench.peers.base import Peer

PAGE = 4096


class Subject(Peer):
    name = "raw copy"
    about = "memoryview slices of a shared mapping, nothing else"

    def create(self) -> None:
        with open(self.place.folder / "raw", "xb") as file:
            os.posix_fallocate(file.fileno(), 0, self.capacity)

    def connect(self, handle: Any = None) -> None:
        with open(self.place.folder / "raw", "r+b") as file:
            self._map = mmap.mmap(file.fileno(), self.capacity)
        view = self._view = memoryview(self._map)
        for at in range(0, self.capacity, PAGE):            # a page fault is not part of a copy
            view[at]
        self.put = view.__setitem__
        self._ends: dict[int, int] = {}

        def get(part: slice) -> bytes:
            return bytes(view[part])

        def get_into(part: slice, buffer: Any) -> None:
            buffer[:] = view[part]

        def look(part: slice) -> None:
            with view[part]:
                pass
        self.get, self.get_into, self.look = get, get_into, look

    def close(self) -> None:
        del self.put, self.get, self.get_into, self.look
        self._view.release()
        self._map.close()

    def key(self, number: int) -> tuple:
        at = number % self.pages * PAGE
        return (slice(at, at + PAGE),)

    def span(self, number: int, pages: int) -> tuple:
        at = (self.pages + number * pages) * PAGE % (self.capacity - pages * PAGE) // PAGE * PAGE
        return (slice(at, at + pages * PAGE),)

"""Owns UltraDict as a peer: a dict in every process, changes sent through a stream in shared
memory.

A get gives the object of this process's own dict: nothing is copied, and every process has all of
it.
"""
from __future__ import annotations

from multiprocessing import resource_tracker
from typing import Any

from stress.bench.peers.base import Peer


class Subject(Peer):
    name = "UltraDict"
    about = "a copy of the dict in every process: a get copies nothing"
    packages, modules = ("UltraDict", "atomics"), ("UltraDict", "atomics")
    pages_max = 256
    shares = False
    _dict: Any = None
    _made = False

    def create(self) -> None:
        self._made = True

    def connect(self, handle: Any = None) -> None:
        # Its import takes shared memory out of the care of Python's resource tracker, for all of
        # the process: put that back.
        kept = resource_tracker.register, resource_tracker.unregister
        cleanups: dict = getattr(resource_tracker, "_CLEANUP_FUNCS")    # noqa: B009
        funcs = dict(cleanups)
        from UltraDict import UltraDict
        resource_tracker.register, resource_tracker.unregister = kept
        cleanups.update(funcs)
        pages = self._dict = UltraDict(
            name=self.place.name,
            buffer_size=8 << 20,
            full_dump_size=self.capacity * 2 + (4 << 20),
            shared_lock=True,
            auto_unlink=False,
        )
        self.put, self.get, self.drop = pages.__setitem__, pages.get, pages.__delitem__

    def close(self) -> None:
        if self._dict is not None:
            del self.put, self.get, self.drop
            self._dict.close(unlink=self._made)
            self._dict = None

    def remove(self) -> None:
        self.close()

    def key(self, number: int) -> tuple:
        return (number,)

    def memory(self) -> int:
        return self._dict.buffer_size + (self._dict.full_dump_size or 0)

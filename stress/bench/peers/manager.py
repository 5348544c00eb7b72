"""Owns `multiprocessing.Manager().dict()` as a peer: one server process, every call pickled through
a socket."""
from __future__ import annotations

import itertools
import multiprocessing
import signal
from collections.abc import Iterable
from multiprocessing.managers import SyncManager
from typing import Any

from stress.bench.peers.base import Peer
from stress.bench.peers.server import resident


def deaf() -> None:
    """In the server: an interrupt at the terminal is for the benchmark, which ends the server."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


class Subject(Peer):
    name = "Manager().dict()"
    about = "of multiprocessing"
    keeps_objects = True
    manager: SyncManager | None = None

    def create(self) -> None:
        # Its socket goes where everything of this run is.
        manager = SyncManager(str(self.place.folder / "manager"), ctx=multiprocessing.get_context("spawn"))
        manager.start(deaf)
        self.manager = manager
        self._dict = self.manager.dict()
        self._empty = resident(self._pid())

    def _pid(self) -> int:
        process = getattr(self.manager, "_process", None)
        assert process is not None
        return process.pid

    def handle(self) -> Any:
        return self._dict

    def connect(self, handle: Any = None) -> None:
        if handle is not None:
            self._dict = handle
        pages = self._dict
        self.put, self.get = pages.__setitem__, pages.get
        self.drop, self.add = pages.__delitem__, pages.setdefault

    def close(self) -> None:
        del self._dict, self.put, self.get, self.drop, self.add

    def servers(self) -> list[int]:
        return [self._pid()]

    def remove(self) -> None:
        if self.manager is not None:
            self.manager.shutdown()

    def key(self, number: int) -> tuple:
        return (number,)

    def fill(self, pages: Iterable[tuple[int, bytes]]) -> None:
        pages = iter(pages)
        while batch := dict(itertools.islice(pages, 500)):
            self._dict.update(batch)

    def memory(self) -> int:
        return resident(self._pid()) - self._empty

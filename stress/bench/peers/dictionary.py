"""Owns a plain `dict` as a peer: what a program has that needs no other process."""
from __future__ import annotations

from typing import Any

from stress.bench.peers.base import Peer


class Subject(Peer):
    name = "dict"
    about = "of this process alone; a get copies nothing"
    shares = False
    keeps_objects = True

    def connect(self, handle: Any = None) -> None:
        values: dict[str, Any] = {}

        def incr(key: str) -> None:
            values[key] += 1
        self.put, self.get, self.drop = values.__setitem__, values.get, values.__delitem__
        self.add, self.incr = values.setdefault, incr

"""Owns this engine as a store of values of one page: an object for each, as a caller would keep a
cache over pages. Calls `engine`."""
from __future__ import annotations

from typing import Any

import engine
from stress.bench.peers.own import ours


class Subject(ours.Subject):
    name = "tmem pages"
    about = "pool.put and pool.get of this engine, one page of an object for each value; its add is a put of a new one"
    object_pages = 1
    value_max = 4096

    def connect(self, handle: Any = None) -> None:
        super().connect(handle)
        self.add = self.pool.put

    def word(self, number: int) -> tuple:
        return engine.oid(f"bench {number}"), 0

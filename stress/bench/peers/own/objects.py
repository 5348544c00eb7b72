"""Owns this engine as a store of whole values: an object for each. Calls `engine`."""
from __future__ import annotations

from typing import Any

import engine
from stress.bench.peers.base import Peer
from stress.bench.peers.own import single


class Subject(single.Subject):
    name = "tmem objects"
    about = "pool.put_object and pool.get_object of this engine"
    value_max = Peer.value_max

    def connect(self, handle: Any = None) -> None:
        super().connect(handle)
        pool = self.pool
        put = pool.put_object
        self.put, self.get, self.drop, self.incr = put, pool.get_object, pool.flush_object, pool.incr
        self.add = lambda oid, value: put(oid, value, if_absent=True)
        self.cas = lambda oid, value, version: put(oid, value, if_version=version)

    def word(self, number: int) -> tuple:
        return (engine.oid(f"bench {number}"),)

    def token(self, *word: Any) -> Any:
        return self.pool.get_object(*word, info=True)[1].version

    def start(self, *word: Any) -> None:
        self.incr(*word)

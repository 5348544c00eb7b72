"""Owns `engine.Cache` as a peer. Calls `engine`."""
from __future__ import annotations

from typing import Any

from stress.bench.peers.base import Peer
from stress.bench.peers.own import single


class Subject(single.Subject):
    name = "tmem Cache"
    about = "engine.Cache, over an arena of this engine"
    value_max = Peer.value_max
    keeps_objects = True
    word = Peer.word

    def connect(self, handle: Any = None) -> None:
        super().connect(handle)
        cache = self.cache = self.eng.cache("cache")
        self.put, self.get, self.drop = cache.set, cache.get, cache.delete
        self.add, self.incr, self.cas = cache.add, cache.incr, cache.cas

    def token(self, *word: Any) -> Any:
        return self.cache.get(*word, with_version=True)[1]

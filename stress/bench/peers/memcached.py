"""Owns memcached as a peer: a server on a unix socket, the client `pymemcache`; puts wait for their
answer, as ours do."""
from __future__ import annotations

import functools
import itertools
from collections.abc import Iterable
from typing import Any

from stress.bench.peers.server import Server, ServerPeer


class Subject(ServerPeer):
    name = "memcached"
    about = "unix socket, values up to 2 MiB, puts wait for their answer"
    packages = modules = ("pymemcache",)
    programs = ("memcached",)

    def create(self) -> None:
        socket = self.place.folder / "memcached"
        # Half as much again: its slabs round a page up, and it must not evict.
        self.server = Server(
            ["memcached", "-u", "root", "-s", str(socket), "-m", str((self.capacity * 3 // 2 >> 20) + 128), "-I", "2m"],
            socket,
            self.place.folder,
        )

    def connect(self, handle: Any = None) -> None:
        from pymemcache.client.base import Client
        self._client = Client(f"unix:{self.place.folder / 'memcached'}", default_noreply=False)
        self.put, self.get, self.drop = self._client.set, self._client.get, self._client.delete
        self.add, self.cas = self._client.add, self._client.cas
        self.incr = functools.partial(self._client.incr, value=1)

    def token(self, *key: Any) -> Any:
        return self._client.gets(*key)[1]

    def fill(self, pages: Iterable[tuple[int, bytes]]) -> None:
        pages = iter(pages)
        while batch := list(itertools.islice(pages, 500)):
            self._client.set_many({self.key(number)[0]: page for number, page in batch}, noreply=False)

"""Owns Redis as a peer: a server without persistence on a unix socket, the client `redis` with its
C parser `hiredis`."""
from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import Any

from stress.bench.peers.server import Server, ServerPeer


class Subject(ServerPeer):
    name = "Redis"
    about = "unix socket, no persistence, parser hiredis"
    packages, modules = ("redis", "hiredis"), ("redis", "hiredis")
    programs = ("redis-server",)

    def create(self) -> None:
        socket = self.place.folder / "redis"
        self.server = Server(
            [
                "redis-server",
                "--port",
                "0",
                "--unixsocket",
                str(socket),
                "--save",
                "",
                "--appendonly",
                "no",
                "--dir",
                str(self.place.folder),
            ],
            socket,
            self.place.folder,
        )

    def connect(self, handle: Any = None) -> None:
        import redis
        self._client = redis.Redis(unix_socket_path=str(self.place.folder / "redis"))
        self.put, self.get, self.drop = self._client.set, self._client.get, self._client.delete

    def fill(self, pages: Iterable[tuple[int, bytes]]) -> None:
        pages = iter(pages)
        while batch := list(itertools.islice(pages, 500)):
            pipe = self._client.pipeline(transaction=False)
            for number, page in batch:
                pipe.set(*self.key(number), page)
            pipe.execute()

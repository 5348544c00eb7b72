"""Owns Redis as a peer: a server without persistence on a unix socket, the client `redis` with its
C parser `hiredis`."""
from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import Any

from stress.bench.peers.server import Server, ServerPeer

# It has no such command: a script that it keeps compares the values.
SWAP = """
if redis.call("get", KEYS[1]) == ARGV[2] then
    redis.call("set", KEYS[1], ARGV[1])
    return 1
end
return 0
"""


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
        self.add, self.incr = self._client.setnx, self._client.incr
        swap = self._client.register_script(SWAP)
        self.cas = lambda key, value, old: swap(keys=[key], args=[value, old])

    def token(self, *key: Any) -> Any:
        return self.get(*key)

    def fill(self, pages: Iterable[tuple[int, bytes]]) -> None:
        pages = iter(pages)
        while batch := list(itertools.islice(pages, 500)):
            pipe = self._client.pipeline(transaction=False)
            for number, page in batch:
                pipe.set(*self.key(number), page)
            pipe.execute()

"""Owns memcached with the client in C as a peer, `pylibmc`."""
from __future__ import annotations

from typing import Any

from stress.bench.peers import memcached


class Subject(memcached.Subject):
    name = "memcached, pylibmc"
    about = "unix socket, the client in C"
    packages = modules = ("pylibmc",)
    keeps_objects = True

    def connect(self, handle: Any = None) -> None:
        import pylibmc
        where = [str(self.place.folder / "memcached")]
        self._client = client = pylibmc.Client(where)
        # With tokens every get carries one: another client has those.
        self._tokens = pylibmc.Client(where, behaviors={"cas": True})
        self.put, self.get, self.drop = client.set, client.get, client.delete
        self.add, self.incr, self.cas = client.add, client.incr, self._tokens.cas

    def close(self) -> None:
        self._client.disconnect_all()
        self._tokens.disconnect_all()

    def token(self, *key: Any) -> Any:
        return self._tokens.gets(*key)[1]

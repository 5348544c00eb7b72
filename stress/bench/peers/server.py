"""Owns what peers with a server have in common: its process, started on a unix socket in the
place's folder, dead when the benchmark is.

The server inherits the core the benchmark is pinned to.
"""
from __future__ import annotations

import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

from stress.bench.peers.base import Peer

START_S = 10.0


class Server:
    """One process. `memory` is what it took beyond what it had when it was ready."""

    def __init__(self, command: list[str], socket: Path, folder: Path):
        # The kernel ends the server should this process be killed.
        guard = ["setpriv", "--pdeathsig", "KILL"] if shutil.which("setpriv") else []
        self._process = subprocess.Popen([*guard, *command], cwd=folder, stdin=subprocess.DEVNULL,
                                         stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until = time.monotonic() + START_S
        while not socket.exists():
            if self._process.poll() is not None or time.monotonic() > until:
                self.stop()
                raise RuntimeError(f"{command[0]} did not start")
            time.sleep(0.005)
        self.pid = self._process.pid
        self._empty = resident(self.pid)

    def memory(self) -> int:
        return resident(self.pid) - self._empty

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()


class ServerPeer(Peer):
    """A peer with a server; `create` starts it and `connect` makes the client."""

    server: Server | None = None
    _client: Any

    def close(self) -> None:
        self._client.close()

    def servers(self) -> list[int]:
        return [] if self.server is None else [self.server.pid]

    def remove(self) -> None:
        if self.server is not None:
            self.server.stop()

    def memory(self) -> int:
        assert self.server is not None
        return self.server.memory()


def resident(pid: int) -> int:
    """Bytes of memory a process has to itself."""
    with open(f"/proc/{pid}/smaps_rollup") as file:
        return sum(int(line.split()[1]) << 10 for line in file if line.startswith(("Private_Clean", "Private_Dirty")))

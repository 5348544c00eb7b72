"""Owns when a client of a far tier is made: in a thread of its own, so that no call waits for it
longer than it would for an answer.

One is made when the pool is opened, and again when the cluster has changed or a node has not
answered, at most once a second; if none can be had, more and more seldom. Meanwhile the one there
is serves on, and is closed when the last call that uses it has let it go. A forked child makes its
own.
"""
import contextlib
import os
import threading
import time
from collections.abc import Callable

from engine.errors import TmemError
from engine.far.client import Client

PAUSE_S = 1.0
PAUSE_MAX_S = 8.0


class _Process:
    """What one process knows: a forked child begins with a new one, since any of these locks may
    have been held by a thread that it has not."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.lock = threading.Lock()
        self.made: Client | None = None
        self.trouble: str | None = None
        self.at_work = False
        self.first = threading.Event()      # the first attempt is over
        self.next = 0.0                     # when another may begin
        self.pause = PAUSE_S
        self.users: dict[int, int] = {}     # calls that use a client, by its id


class Connector:
    """make(addresses): a client, given the nodes that were known last; raises TmemError,
    ValueError, OSError."""

    def __init__(self, make: Callable[[list[str]], Client]) -> None:
        self.make = make
        self.process = _Process()

    def _mine(self) -> _Process:
        process = self.process
        if process.pid != os.getpid():
            kept = process.made
            process = self.process = _Process()
            if kept is not None and kept.survives_fork:
                process.made = kept
        return process

    @property
    def trouble(self) -> str | None:
        """Why there is no client, if an attempt has failed; None if there is one."""
        process = self._mine()
        return process.trouble if process.made is None else None

    def wait(self, patience: float) -> bool:
        """Wait that many seconds for a client, if there is none: whether there is one."""
        process = self._mine()
        if process.made is None:
            self.renew()
            process.first.wait(patience)
        return process.made is not None

    def take(self, patience: float) -> Client | None:
        """The client, to be given back with `give`; if there is none yet, it is waited for."""
        if not self.wait(patience):
            return None
        process = self.process
        with process.lock:
            client = process.made
            process.users[id(client)] = process.users.get(id(client), 0) + 1
        return client

    def give(self, client: Client) -> None:
        """A call has used a client."""
        process = self._mine()
        with process.lock:
            left = process.users.pop(id(client), 1) - 1
            if left:
                process.users[id(client)] = left
            unused = not left and client is not process.made
        if unused:
            _close(client)

    def close(self) -> None:
        """Let the client go; the connector is of no use any more."""
        process, self.process = self.process, _Process()
        if process.made is not None and (process.pid == os.getpid() or process.made.survives_fork):
            _close(process.made)

    def renew(self) -> None:
        """Have another client made, if it is time."""
        process = self._mine()
        with process.lock:
            if process.at_work or time.monotonic() < process.next:
                return
            process.at_work = True
        try:
            threading.Thread(target=self._work, args=(process,), name="tmem-far", daemon=True).start()
        except RuntimeError:        # the interpreter ends
            process.at_work = False

    def _work(self, process: _Process) -> None:
        """The thread: one attempt."""
        before = process.made
        try:
            made = self.make(before.nodes() if before is not None else [])
            with process.lock:
                process.made = made
                unused = before is not None and id(before) not in process.users
            if unused and before is not None:
                _close(before)
            process.trouble, process.pause = None, PAUSE_S
        except (TmemError, ValueError, OSError) as error:
            process.trouble, process.pause = str(error), min(2 * process.pause, PAUSE_MAX_S)
        finally:
            process.next = time.monotonic() + process.pause
            process.at_work = False
            process.first.set()


def _close(client: Client) -> None:
    """Close a client, whatever it says: nobody uses it any more."""
    with contextlib.suppress(Exception):
        client.close()

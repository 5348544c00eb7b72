"""Owns what a Valkey or Redis tier needs of a client library, and which library is taken.

A client sends commands to one node at a time, each batch bounded in time, and never tries again by
itself: who asks knows when an answer is worth waiting for. The libraries' own defaults are for
those who would rather wait: a minute for a get from a node that stands still.
"""
import binascii
import importlib
from collections.abc import Sequence
from typing import Any, Protocol

from engine.errors import TmemError
from engine.far.target import CLIENTS, Target

# By library: the module that adapts it, and the name it is imported by.
ADAPTERS = {
    "glide": ("engine.far.glide", "glide_sync"),
    "valkey": ("engine.far.pyclient", "valkey"),
    "redis": ("engine.far.pyclient", "redis"),
}


SLOTS = 16384


def slot_of(key: bytes) -> int:
    """The slot of a key, by its CRC16, as the cluster specification has it. Names of pages have no
    braces, which would mark a part of them."""
    return binascii.crc_hqx(key, 0) % SLOTS


class Unanswered(Exception):
    """No answer to a batch. late: it did not come in time; else the connection was refused, or
    broke."""

    def __init__(self, text: str, late: bool) -> None:
        super().__init__(text)
        self.late = late


class Refusal:
    """What a node says that does not do a command. moved: another node has that page."""

    def __init__(self, text: str, moved: bool = False) -> None:
        self.text = text
        self.moved = moved


class Client(Protocol):
    """Connections to the nodes of a cluster, or to a server alone. Any thread may use it. What was
    begun is either finished or dropped."""

    survives_fork: bool

    def nodes(self) -> list[str]:
        """The nodes that have pages, as host:port, when the client was made."""

    def node_of(self, key: bytes) -> str:
        """The node that has a key, as far as this client knows."""

    def begin(self, node: str, commands: Sequence[tuple[Any, ...]], more: bool) -> Any:
        """Send commands to a node, one batch: what `finish` or `drop` wants of it. more: others are
        sent before this one is finished. Raises Unanswered."""

    def finish(self, begun: Any, patience: float) -> list[Any]:
        """What it answers to each, if the first answer comes within so many seconds; a Refusal
        where it does not do it. Raises Unanswered. Where a key is elsewhere the client may have
        gone there."""

    def drop(self, begun: Any) -> None:
        """Nobody wants these answers."""

    def follow(self, command: tuple[Any, ...]) -> Any:
        """Send one command whose key is its second word, wherever that leads. Raises
        Unanswered."""

    def close(self) -> None:
        """Let the connections go."""


def run(client: Client, node: str, commands: Sequence[tuple[Any, ...]], patience: float) -> list[Any]:
    """Send commands to a node, one batch, and wait for its answers."""
    return client.finish(client.begin(node, commands, False), patience)


def connect(target: Target, more: Sequence[str] = ()) -> Client:
    """A client of the servers of a target; more: addresses of nodes that were known before.
    TmemError: no library is installed, or no server answers, or it wants other credentials.
    ValueError, OSError."""
    libraries = [target.client] if target.client else CLIENTS
    for library in libraries:
        module, package = ADAPTERS[library]
        try:
            importlib.import_module(package)
        except ImportError:
            continue
        made: Client = importlib.import_module(module).connect(target, library, more)
        return made
    raise TmemError(f"far: needs {' or '.join(ADAPTERS[library][1] for library in libraries)}, which is not installed "
                    f"here: pip install 'tmem[far]'")

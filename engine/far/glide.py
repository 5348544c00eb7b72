"""Owns how Valkey GLIDE is asked: a library whose core connects by itself, and anew in a forked
child.

Each node has a client of its own, which knows of no cluster: the core's client of a cluster lets
all requests wait while it looks for one node that does not answer, so the others would be late,
too. That client says who has which slot, and follows a page whose slot has moved.
"""
import re
from collections.abc import Sequence
from typing import Any

import glide_sync

from engine.errors import TmemError
from engine.far.client import SLOTS, Refusal, Unanswered, slot_of
from engine.far.helpers import answers_of, helpers
from engine.far.target import Target, credentials_of

HELPERS = 16

def _settings(target: Target, hosts: Sequence[tuple[str, int]], cluster: bool) -> dict[str, Any]:
    """What both kinds of client are told: our bounds, and no second try."""
    tls: Any = None
    if target.tls:
        tls = glide_sync.TlsAdvancedConfiguration(
            root_pem_cacerts=_read(target.ca), client_cert_pem=_read(target.cert), client_key_pem=_read(target.key))
    kind = (glide_sync.AdvancedGlideClusterClientConfiguration if cluster
            else glide_sync.AdvancedGlideClientConfiguration)
    signed = credentials_of(target)
    return {
        "addresses": [glide_sync.NodeAddress(host, port) for host, port in hosts],
        "use_tls": target.tls,
        "credentials": glide_sync.ServerCredentials(signed[1], signed[0]) if signed is not None else None,
        "request_timeout": target.timeout,
        "protocol": glide_sync.ProtocolVersion.RESP2,
        # Tries to connect again go on for ever, and soon: how often a node is asked is ours to say.
        "reconnect_strategy": glide_sync.BackoffStrategy(num_of_retries=2, factor=100, exponent_base=2),
        "advanced_config": kind(connection_timeout=target.timeout, tls_config=tls),
    }


def _read(path: str | None) -> bytes | None:
    if path is None:
        return None
    with open(path, "rb") as file:
        return file.read()


def _alone(target: Target, host: str, port: int, lazy: bool) -> Any:
    """A client of one node."""
    return glide_sync.GlideClient.create(
        glide_sync.GlideClientConfiguration(**_settings(target, [(host, port)], False), lazy_connect=lazy))


def connect(target: Target, library: str, more: Sequence[str]) -> "GlideClient":
    """A client. TmemError if no server can be had."""
    glide_sync.Logger.init(glide_sync.LogLevel.OFF)     # or as the program has said before
    known = [(host, int(port)) for host, _, port in (address.rpartition(":") for address in more)]
    wrong = "no host"
    for host, port in dict.fromkeys((*target.hosts, *known)):
        try:
            alone = _alone(target, host, port, False)
            if b"cluster_enabled:1" not in alone.info([glide_sync.InfoSection.CLUSTER]):
                return GlideClient(target, None, f"{host}:{port}", alone)
            # Whoever answers says who is there: the others are asked for that no more.
            return GlideClient(target, glide_sync.GlideClusterClient.create(
                glide_sync.GlideClusterClientConfiguration(**_settings(target, [(host, port)], True))),
                f"{host}:{port}", alone)
        except (glide_sync.GlideError, OSError) as error:
            wrong = f"{host}:{port}: {error}"
    raise TmemError(f"far: no server can be had: {wrong}")


class GlideClient:
    """Connections by GLIDE. `cluster`: the client that follows, of a cluster; address and first:
    of one of its nodes, or of a server that is no cluster."""

    survives_fork = True

    def __init__(self, target: Target, cluster: Any, address: str, first: Any) -> None:
        self.target = target
        self.cluster = cluster
        self.address = address
        self.clients = {address: first}
        self.slots = self._slots(first) if cluster is not None else []

    def _slots(self, client: Any) -> list[str]:
        """The address of the node of each slot; "" where none has it."""
        found = [""] * SLOTS
        for begin, end, (host, port, *_), *_ in client.custom_command(["CLUSTER", "SLOTS"]):
            name = host.decode() or self.address.rpartition(":")[0]     # "": as the one that was asked
            found[begin:end + 1] = [f"{name}:{port}"] * (end + 1 - begin)
        return found

    def nodes(self) -> list[str]:
        """The nodes that have slots."""
        return sorted(set(self.slots) - {""}) or [self.address]

    def node_of(self, key: bytes) -> str:
        """The node that has a key."""
        if self.cluster is None:
            return self.address
        node = self.slots[slot_of(key)]
        if not node:
            raise Unanswered("no node has the slot", False)
        return node

    def begin(self, node: str, commands: Sequence[tuple[Any, ...]], more: bool) -> Any:
        """A call of the library sends and waits at once: in a thread if there are more."""
        return helpers.submit(self._run, node, commands) if more else (node, commands)

    def finish(self, begun: Any, patience: float) -> list[Any]:
        """Wait for the thread, or call here; the library itself has the bound."""
        if isinstance(begun, tuple):
            return self._run(*begun)
        return answers_of(begun, patience)

    def drop(self, begun: Any) -> None:
        """The thread ends by itself."""

    def _run(self, node: str, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
        """One batch."""
        try:
            client = self.clients.get(node)
            if client is None:
                host, _, port = node.rpartition(":")
                client = self.clients.setdefault(node, _alone(self.target, host, int(port), True))
            if len(commands) == 1:
                return [self._one(client, commands[0], node)]
            batch = glide_sync.Batch(is_atomic=False)
            for command in commands:
                batch.custom_command(list(command))
            answers = client.exec(batch, False, glide_sync.BatchOptions(timeout=self.target.timeout))
        except (glide_sync.GlideError, OSError) as error:
            raise Unanswered(str(error), isinstance(error, glide_sync.TimeoutError)) from error
        if any(isinstance(answer, (glide_sync.ConnectionError, glide_sync.TimeoutError)) for answer in answers):
            raise Unanswered(f"{node}: the connection broke", False)
        return [_refusal(answer, node) if isinstance(answer, Exception) else answer for answer in answers]

    def follow(self, command: tuple[Any, ...]) -> Any:
        """One command, by the library's own way through the cluster."""
        return self._one(self.cluster, command, self.address)

    def _one(self, client: Any, command: tuple[Any, ...], node: str) -> Any:
        """What is answered to one command."""
        try:
            return client.get(command[1]) if command[0] == "GET" else client.custom_command(list(command))
        except (glide_sync.TimeoutError, glide_sync.ConnectionError, glide_sync.ClosingError, OSError) as error:
            raise Unanswered(str(error), isinstance(error, glide_sync.TimeoutError)) from error
        except glide_sync.RequestError as error:
            return _refusal(error, node)

    def close(self) -> None:
        """Let the connections go."""
        for client in (*self.clients.values(), *((self.cluster,) if self.cluster is not None else ())):
            client.close()


def _refusal(error: Exception, node: str) -> Refusal:
    """What a server has said. Unanswered: it was no server's word."""
    said = re.search(r"signalled by the server: - (\w+)", str(error))
    if said is None:
        raise Unanswered(f"{node}: {error}", False)
    return Refusal(str(error), said.group(1).upper() in ("MOVED", "ASK"))

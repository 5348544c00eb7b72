"""Owns how Valkey GLIDE is asked: a library whose core follows a cluster by itself.

It has one connection to each node, for all threads, and connects anew in a forked child. A batch is
sent to the node that has its keys, and commands whose key is elsewhere by now are followed there by
the core. Which node that is stands in a map of slots of our own, since the library keeps its.
"""
import binascii
from collections.abc import Sequence
from typing import Any

import glide_sync
from glide_sync import ByAddressRoute

from engine.errors import TmemError
from engine.far.client import Refusal, Unanswered
from engine.far.target import Target, credentials_of

CONNECT_MS = 2000       # what the first connection may take, beyond which a server counts as absent
SLOTS = 16384


def _settings(target: Target, hosts: Sequence[tuple[str, int]], cluster: bool) -> dict[str, Any]:
    """What both kinds of client are told: our bounds, and no second try."""
    advanced = {"connection_timeout": CONNECT_MS}
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
        "advanced_config": kind(tls_config=tls, **advanced),
    }


def _read(path: str | None) -> bytes | None:
    if path is None:
        return None
    with open(path, "rb") as file:
        return file.read()


def connect(target: Target, library: str, more: Sequence[str]) -> "GlideClient":
    """A client. TmemError if no server can be had."""
    hosts = list(target.hosts)
    try:
        alone = glide_sync.GlideClient.create(
            glide_sync.GlideClientConfiguration(**_settings(target, hosts[:1], False)))
        said = alone.info([glide_sync.InfoSection.CLUSTER])
        if b"cluster_enabled:1" not in said:
            return GlideClient(target, alone, f"{hosts[0][0]}:{hosts[0][1]}")
        alone.close()
    except (glide_sync.GlideError, OSError) as error:
        if len(hosts) + len(more) == 1:
            raise TmemError(f"far: no server can be had: {hosts[0][0]}:{hosts[0][1]}: {error}") from error
    known = [(host, int(port)) for host, _, port in (address.rpartition(":") for address in more)]
    try:
        return GlideClient(target, glide_sync.GlideClusterClient.create(glide_sync.GlideClusterClientConfiguration(
            **_settings(target, list(dict.fromkeys((*hosts, *known))), True))), None)
    except (glide_sync.GlideError, OSError) as error:
        raise TmemError(f"far: no server can be had: {error}") from error


class GlideClient:
    """Connections by GLIDE. `alone`: the address of a server that is no cluster."""

    survives_fork = True

    def __init__(self, target: Target, client: Any, alone: str | None) -> None:
        self.client = client
        self.alone = alone
        self.timeout = target.timeout
        self.slots: list[str] = []
        if alone is None:
            try:
                self.slots = self._slots()
            except (glide_sync.GlideError, OSError) as error:
                raise TmemError(f"far: no server says who has which slot: {error}") from error

    def _slots(self) -> list[str]:
        """The address of the node of each slot; "" where none has it."""
        found = [""] * SLOTS
        for begin, end, (host, port, *_), *_ in self.client.custom_command(["CLUSTER", "SLOTS"]):
            found[begin:end + 1] = [f"{host.decode()}:{port}"] * (end + 1 - begin)
        return found

    def nodes(self) -> list[str]:
        """The nodes that have slots."""
        return [self.alone] if self.alone is not None else sorted(set(self.slots) - {""})

    def node_of(self, key: bytes) -> str:
        """The node that has a key: by its CRC16, as the cluster specification has it."""
        if self.alone is not None:
            return self.alone
        node = self.slots[binascii.crc_hqx(key, 0) % SLOTS]
        if not node:
            raise Unanswered("no node has the slot", False)
        return node

    def run(self, node: str, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
        """One batch."""
        if self.alone is not None:
            batch = glide_sync.Batch(is_atomic=False)
            options = glide_sync.BatchOptions(timeout=self.timeout)
        else:
            batch = glide_sync.ClusterBatch(is_atomic=False)
            host, _, port = node.rpartition(":")
            options = glide_sync.ClusterBatchOptions(timeout=self.timeout, route=ByAddressRoute(host, int(port)))
        for command in commands:
            batch.custom_command(list(command))
        try:
            answers = self.client.exec(batch, raise_on_error=False, options=options)
        except (glide_sync.GlideError, OSError) as error:
            raise Unanswered(str(error), isinstance(error, glide_sync.TimeoutError)) from error
        if any(isinstance(answer, (glide_sync.ConnectionError, glide_sync.TimeoutError)) for answer in answers):
            raise Unanswered(f"{node}: the connection broke", False)
        return [Refusal(str(answer)) if isinstance(answer, Exception) else answer for answer in answers]

    def follow(self, command: tuple[Any, ...]) -> Any:
        """One command, by the library's own way through the cluster."""
        try:
            return self.client.custom_command(list(command))
        except glide_sync.TimeoutError as error:
            raise Unanswered(str(error), True) from error
        except glide_sync.ConnectionError as error:
            raise Unanswered(str(error), False) from error
        except glide_sync.RequestError as error:
            return Refusal(str(error))
        except (glide_sync.GlideError, OSError) as error:
            raise Unanswered(str(error), False) from error

    def close(self) -> None:
        """Let the connections go."""
        self.client.close()

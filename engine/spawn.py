"""Owns starting worker processes: Engine.spawn and the Crew it gives.

May call: multiprocessing, session (attach, through pickling). Called by session. Every process attaches first (its
arguments are unpickled, and the arena opened by name), says that it is ready, and waits; when all have, all run.
"""
import multiprocessing
import multiprocessing.connection
import threading
import time
from collections.abc import Sequence

from engine.errors import TmemError

METHODS = ("spawn", "fork", "forkserver")
READY_S = 120.0


def _run(engine, client, ready, go, target, args):
    # `engine` and `args` were unpickled, or inherited by fork: touching the engine makes this process a worker.
    engine._act_for(client)
    engine.stats()
    ready.release()
    go.poll(None)       # one message for all: nobody reads it, so nobody can take it away, or die holding a lock
    try:
        target(*args)
    finally:
        engine.close()


def spawn(engine, n, target, args, restart, method, client):
    """See Engine.spawn."""
    if isinstance(n, bool) or not isinstance(n, int):
        raise TypeError(f"n: a number of processes, not {type(n).__name__}")
    if n < 1:
        raise ValueError(f"n: at least one process, not {n}")
    if not callable(target):
        raise TypeError(f"target: a callable, not {type(target).__name__}")
    if not isinstance(restart, bool):
        raise TypeError(f"restart: True or False, not {type(restart).__name__}")
    if method is not None and method not in METHODS:
        raise ValueError(f"method: None or one of {', '.join(METHODS)}, not {method!r}")
    if engine.closed:
        raise TmemError(f"arena {engine.name!r}: this engine is closed")
    return Crew(engine, client, n, target, args, restart, multiprocessing.get_context(method or "spawn"))


class Crew(Sequence):
    """Worker processes that started together: a sequence of them. A context manager that joins (terminates on error).

    restarts: how many were replaced so far (restart=True)."""

    def __init__(self, engine, client, n, target, args, restart, context):
        self._engine = engine
        self._client = client
        self._target = target
        self._args = args
        self._context = context
        self._closing = False
        self._keeper = None
        self.restarts = 0
        # Kept: multiprocessing drops their semaphores with the parent's objects, before slow children have them.
        self._ready = context.Semaphore(0)
        self._go, self._gate = context.Pipe(duplex=False)
        self._processes = []
        try:
            self._processes += (self._start() for _ in range(n))
            self._release(n)
        except BaseException:
            self._end("kill")
            raise
        if restart:
            self._keeper = threading.Thread(target=self._keep, name="tmem-crew", daemon=True)
            self._keeper.start()

    def _start(self):
        process = self._context.Process(
            target=_run, args=(self._engine, self._client, self._ready, self._go, self._target, self._args)
        )
        process.start()
        return process

    def _release(self, n):
        """Let all go once each is attached, or has died before it was."""
        deadline = time.monotonic() + READY_S
        while n > 0 and time.monotonic() < deadline:
            if self._ready.acquire(timeout=0.05):
                n -= 1
            elif n <= sum(p.exitcode is not None for p in self._processes):
                break
        self._gate.send(True)

    def _keep(self):
        while not self._closing:
            alive = [p for p in self._processes if p.exitcode is None]
            if not alive:
                if all(p.exitcode == 0 for p in self._processes):
                    return
            else:
                multiprocessing.connection.wait([p.sentinel for p in alive], timeout=0.2)
            for i, process in enumerate(self._processes):
                if not self._closing and process.exitcode not in (None, 0):
                    self._processes[i] = self._start()
                    self.restarts += 1

    def __len__(self):
        return len(self._processes)

    def __getitem__(self, i):
        return self._processes[i]

    @property
    def exitcodes(self):
        """Exit code of each process, None while it runs."""
        return [p.exitcode for p in self._processes]

    def join(self, timeout=None):
        """Wait for all to end (with restart=True: to end well). True if they did within `timeout` seconds."""
        if self._keeper is not None and not self._closing:
            self._keeper.join(timeout)
            return not self._keeper.is_alive()
        deadline = None if timeout is None else time.monotonic() + timeout
        for process in self._processes:
            process.join(None if deadline is None else max(0.0, deadline - time.monotonic()))
        return all(p.exitcode is not None for p in self._processes)

    def _end(self, how):
        self._closing = True
        if self._keeper is not None:
            self._keeper.join()
        for process in self._processes:
            if process.exitcode is None:
                getattr(process, how)()
        for process in self._processes:
            process.join()

    def terminate(self):
        """End all with SIGTERM, and wait for them; none is replaced."""
        self._end("terminate")

    def kill(self):
        """End all with SIGKILL, and wait for them; none is replaced."""
        self._end("kill")

    def __enter__(self):
        return self

    def __exit__(self, kind, value, traceback):
        if kind is not None:
            self.terminate()
        else:
            self.join()

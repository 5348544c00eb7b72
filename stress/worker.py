"""Owns a guest process: its seeded randomness, its clock, its counters, and the calls that verify
what they read.

A workload's `guest(g)` gets a `Guest` and does everything through it: `g.put`, `g.read` and the
rest time the call, count it and verify every byte. Whatever goes wrong is a `Violation`, written to
the run's folder at once, where it outlives the process; then everybody is told to stop.

Calls the public API of `engine` through the engine it is given. Started by the supervisor with
`eng.spawn`.
"""
from __future__ import annotations

import faulthandler
import fcntl
import importlib
import json
import marshal
import os
import random
import signal
import traceback
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic_ns
from typing import Any

import engine
from stress import board as words
from stress.board import Board, Row
from stress.content import Content, Oid, describe
from stress.sabotage import sabotaged, sabotaged_cache
from stress.violation import Violation

STOP_TIME, STOP_VIOLATION = 1, 2


@dataclass(frozen=True)
class Plan:
    """Everything a guest is told; the same for all guests of a run."""

    scenario: str
    workload: str
    seed: int
    workers: int
    seconds: float
    ops: int                            # of each guest, 0: no limit
    folder: str
    page_size: int
    settings: dict[str, Any] = field(default_factory=dict)
    bug: str = ""                       # a planted bug of `stress.sabotage`

    def module(self):
        return importlib.import_module(f"stress.workloads.{self.workload}")


def guest_main(eng, plan: Plan) -> None:
    """The target of every process of the crew."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)        # Ctrl-C is for the supervisor, which ends its guests
    board = Board(plan.folder)
    index, claim = claim_index(plan.folder, plan.workers)
    trace = open(Path(plan.folder) / f"guest-{index}.trace", "a")
    faulthandler.enable(trace)
    faulthandler.register(signal.SIGUSR1, file=trace, all_threads=True)
    guest = Guest(eng, plan, index, board)
    try:
        guard(guest, plan.module().guest)
        guest.finish()
    finally:
        faulthandler.unregister(signal.SIGUSR1)
        faulthandler.disable()
        trace.close()
        os.close(claim)


def guard(guest: Guest, work, *args) -> bool:
    """Run `work(guest, *args)`; a violation or an exception is reported. True if all went well."""
    try:
        work(guest, *args)
        return True
    except Violation as violation:
        guest.report(violation)
    except Exception:
        guest.report(Violation("exception", f"guest {guest.index}", traceback.format_exc()))
    return False


def claim_index(folder: str, count: int) -> tuple[int, int]:
    """The lowest number that no living process of this run has; the kernel gives it back when the
    process dies."""
    for index in range(count):
        fd = os.open(Path(folder) / f"guest-{index}.claim", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return index, fd
        except BlockingIOError:
            os.close(fd)
    raise RuntimeError(f"more than {count} guests at once")


class Guest:
    """One guest: what it may do, and for how long."""

    def __init__(self, eng, plan: Plan, index: int, board: Board, stream: int = 0,
                 content: Content | None = None):
        self.eng, self.plan, self.index, self.board = eng, plan, index, board
        self.settings, self.workers = plan.settings, plan.workers
        self.row: Row = board.rows[index]
        self.rng = random.Random(f"{plan.seed}/{plan.scenario}/{index}/{stream}")
        self.content = content or Content(plan.seed, plan.page_size)
        self.facts: dict[str, float] = {}
        self.history: list[tuple] = []
        self.began = self.ended = 0             # monotonic ns of the last timed call
        self._version = 0
        self.row[words.PID] = os.getpid()
        if not board.control[words.START]:
            board.control[words.START] = monotonic_ns()
        self._deadline = board.control[words.START] + int(plan.seconds * 1e9)
        self._ops_limit = plan.ops or 1 << 62

    # -- how long ---------------------------------------------------------------------------------

    def running(self) -> bool:
        """False when the time is up, the operations are done, or somebody found a violation."""
        return (monotonic_ns() < self._deadline and self.row.words[words.OPS] < self._ops_limit
                and not self.board.control[words.STOP])

    def fresh(self) -> int:
        """A version no other put of this run has: unique over guests, growing within one."""
        self._version += 1
        return self._version * 1024 + self.index + 1

    # -- timed calls ------------------------------------------------------------------------------

    def call(self, kind: str, function, *args):
        """Call, time and count."""
        self.began = monotonic_ns()
        result = function(*args)
        self.ended = monotonic_ns()
        self.row.count(kind, self.ended - self.began)
        return result

    def put(self, pool, oid: Oid, index: int, version: int, length: int = 0) -> bool:
        data = self.content.page(oid, index, version, length)
        accepted = self.call("put", pool.put, oid, index, data)
        if accepted is not True:
            self._refused(accepted)
        return accepted

    def read(self, pool, oid: Oid, index: int, free: bool | None = None) -> int:
        """Get and verify every byte; the answer is the version, 0 for a miss. Now and then through
        a view, if the page stays."""
        if (
            isinstance(pool, engine.Pool)
            and (free is False or pool.persistent or pool.shared)
            and not free
            and self.rng.randrange(8) == 0
        ):
            try:
                return self.look(pool, oid, index)
            except engine.TooMuchPinned:
                pass                    # of dead workers, whom nobody has inherited yet
        data = self.call("get", pool.get, oid, index, free)
        return self._got(pool, data, oid, index)

    def look(self, pool, oid: Oid, index: int) -> int:
        """The same through a view, whose bytes must not change while it is held, whatever becomes
        of the page."""
        with self.call("view", pool.view, oid, index) as page:
            data = None if page is None else bytes(page)
            version = self._got(pool, data, oid, index)
            os.sched_yield()
            self.expect(
                data is None or page == data,
                "torn",
                f"pool {pool.name} {describe(oid, index)}",
                "a page changed while it was viewed",
            )
            return version

    def read_into(self, pool, oid: Oid, index: int, buffer: bytearray) -> int:
        """The same through `get_into`."""
        count = self.call("get", pool.get_into, oid, index, buffer)
        return self._got(pool, None if count < 0 else bytes(buffer[:count]), oid, index)

    def _got(self, pool, data, oid, index) -> int:
        if data is None:
            self.row.words[words.MISSES] += 1
            return 0
        self.row.words[words.HITS] += 1
        self.row.words[words.BYTES] += len(data)
        return self.content.verify(data, oid, index, f"pool {pool.name} {describe(oid, index)}")

    def put_range(self, pool, oid: Oid, index: int, count: int, version: int, last: int = 0) -> bool:
        data = self.content.pages(oid, index, count, version, last)
        accepted = self.call("put_range", pool.put_range, oid, index, data)
        if accepted is not True:
            self._refused(accepted)
        return accepted

    def read_range(self, pool, oid: Oid, index: int, count: int, free: bool | None = None) -> int:
        """Get a range, verify every byte and that it is of one version; 0 for a miss."""
        data = self.call("get_range", pool.get_range, oid, index, count, free)
        if data is None:
            self.row.words[words.MISSES] += 1
            return 0
        self.row.words[words.HITS] += 1
        self.row.words[words.BYTES] += len(data)
        return self.content.verify_pages(data, oid, index, count, f"pool {pool.name} {describe(oid, index)}")

    def flush(self, pool, oid: Oid, index: int) -> bool:
        return self.call("flush", pool.flush_page, oid, index)

    def flush_object(self, pool, oid: Oid) -> bool:
        return self.call("flush", pool.flush_object, oid)

    def pool(self, name: str):
        """A pool by name, with the planted bug in front of it if the plan has one."""
        pool = self.eng.pool(name)
        return sabotaged(pool, self.plan.bug, self.rng) if self.plan.bug else pool

    def cache(self, name: str):
        """The cache in a pool, with the planted bug in front of it if there is one of caches."""
        cache = self.eng.cache(name)
        return sabotaged_cache(cache, self.plan.bug, self.rng) if self.plan.bug else cache

    def _refused(self, accepted) -> None:
        if accepted is not False:
            raise Violation("exception", f"guest {self.index}", f"a put answered {accepted!r}, not True or False")
        self.row.words[words.REFUSED] += 1

    # -- what is left behind ----------------------------------------------------------------------

    def expect(self, truth, kind: str, where: str, what: str) -> None:
        if not truth:
            raise Violation(kind, where, what)

    def report(self, violation: Violation) -> None:
        """Write it where it outlives us, and stop everybody."""
        self._append({"violation": violation.as_dict()})
        self.board.control[words.STOP] = STOP_VIOLATION

    def finish(self) -> None:
        """Leave facts and history for the supervisor."""
        if self.history:
            with open(Path(self.plan.folder) / f"guest-{self.index}.history", "wb") as file:
                marshal.dump(self.history, file)
        self._append({"facts": self.facts})

    def _append(self, line: dict) -> None:
        fd = os.open(Path(self.plan.folder) / f"guest-{self.index}.jsonl",
                     os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.write(fd, json.dumps(line).encode() + b"\n")
        finally:
            os.close(fd)

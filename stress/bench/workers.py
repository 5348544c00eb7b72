"""Owns the cases of several processes: workers attached to every store, released together for a
window of time.

All workers live through the whole measurement and hold every store open; the parent says over a
pipe which store and case the next window is for, when it starts and ends, and how many take part,
so that one worker and several alternate within each round. A worker counts its calls and its CPU
time. Workers and servers are not pinned. Calls `rounds` and the peers.
"""
from __future__ import annotations

import gc
import multiprocessing
import random
import signal
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from statistics import median
from typing import Any

from stress.bench import rounds as shared
from stress.bench.peers import OURS, RAW, all_peers
from stress.bench.peers.base import OBJECT_PAGES, Peer, Place

PAGES = 200_000
WINDOW_S = 0.08
LEAD_S = 0.004                  # from the command to the common start
CHUNK = 32                      # calls between two looks at the clock
STEPS = CHUNK * 512             # before a worker begins again; their pages are more than a cache holds
CASES = {
    "put spread": "each worker over pages of its own objects",
    "get spread": "each worker of its own objects",
    "get hot": "all workers of one object",
}
Window = tuple[int, float, float]       # calls, calls per second of CPU time, CPU time as a part of the window
Steps = tuple[Any, list[tuple]]         # the call, and arguments for it


@dataclass(frozen=True)
class Work:
    """What is measured; a worker gets it too."""

    ours: str
    cases: dict[str, str]
    kinds: Callable[[], dict[str, type[Peer]]]
    # (stack, names, pages, absent): the stores, filled
    open: Callable[[ExitStack, list[str], int, dict[str, str]], dict[str, Peer]]
    # (peer, case, number of the worker, of so many, pages, rng); None: it has no such call
    prepare: Callable[[Peer, str, int, int, int, random.Random], Steps | None]
    pages: int = PAGES


def run(counts: list[int], rounds: int, seed: int, names: list[str], smoke: bool, work: Work | None = None) -> dict:
    """Calls per second by store, case and number of workers."""
    work = work or PAGE_WORK
    pages = 512 if smoke else work.pages
    window = 0.005 if smoke else WINDOW_S
    names = [name for name in names if work.kinds()[name].shares]
    absent: dict[str, str] = {}
    context = multiprocessing.get_context("spawn")
    rng = random.Random(seed)
    with ExitStack() as stack:
        peers = work.open(stack, names, pages, absent)
        tickets = {name: (peer.place, peer.pages, peer.capacity, peer.handle()) for name, peer in peers.items()}
        crew = [Worker(context, number, max(counts), pages, seed, tickets, work) for number in range(max(counts))]
        for worker in crew:
            stack.callback(worker.stop)
        for worker in crew:
            worker.pipe.recv()                      # ready
        turns = [(name, case, count) for name, peer in peers.items() for case in work.cases for count in counts
                 if work.prepare(peer, case, 0, max(counts), pages, rng)]
        rates: dict[tuple, list[float]] = {turn: [] for turn in turns}
        by_cpu: dict[tuple, list[float]] = {turn: [] for turn in turns}
        shares: dict[tuple, list[float]] = {turn: [] for turn in turns}
        for turn in range(rounds + 1):              # the first warms up
            rng.shuffle(turns)
            for name, case, count in turns:
                found = _window(crew[:count], name, case, window)
                if turn:
                    rates[name, case, count].append(sum(calls for calls, _, _ in found) / window)
                    by_cpu[name, case, count].append(sum(rate for _, rate, _ in found))
                    shares[name, case, count].append(sum(share for _, _, share in found))
    return {"pages": pages, "window_s": window, "counts": counts, "rounds": rounds, "absent": absent,
            "cases": {case: {name: {str(count): shared.figures(rates[name, case, count]) | {
                "cores": round(median(shares[name, case, count]), 3)}
                | _ratios(rates, by_cpu, work.ours, name, case, count) for count in counts}
                             for name in peers if (name, case, counts[0]) in rates} for case in work.cases}}


def _ratios(rates: dict, by_cpu: dict, ours: str, name: str, case: str, count: int) -> dict[str, float]:
    """Within the rounds: against one worker, by CPU time too; ours against it; it against the raw
    copy."""
    def ratio(mine: list[float], other: list[float] | None) -> float | None:
        return round(median(a / b for a, b in zip(mine, other, strict=True) if b), 3) if other else None
    mine = rates[name, case, count]
    found = {
        "to_one_worker": ratio(mine, rates.get((name, case, 1))),
        "to_one_worker_by_cpu_time": ratio(by_cpu[name, case, count], by_cpu.get((name, case, 1))),
        "ours_is_times": ratio(rates[ours, case, count], mine) if (ours, case, count) in rates else None,
        "to_raw": ratio(mine, rates.get((RAW, case, count))),
    }
    return {key: value for key, value in found.items() if value is not None}


def _window(crew: list[Worker], name: str, case: str, seconds: float) -> list[Window]:
    start = time.monotonic() + LEAD_S
    for worker in crew:
        worker.pipe.send((name, case, start, start + seconds))
    return [worker.pipe.recv() for worker in crew]


class Worker:
    """A worker process, seen from the parent."""

    def __init__(self, context: Any, number: int, of: int, pages: int, seed: int, tickets: dict[str, tuple],
                 work: Work):
        self.pipe, theirs = context.Pipe()
        self._process = context.Process(target=main, args=(theirs, number, of, pages, seed, tickets, work), daemon=True)
        self._process.start()
        theirs.close()

    def stop(self) -> None:
        """Closing the pipe ends it."""
        self.pipe.close()
        self._process.join(10)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
        self._process.close()


# -- in the worker
# ----------------------------------------------------------------------------------


def main(pipe: Any, number: int, of: int, pages: int, seed: int, tickets: dict[str, tuple], work: Work) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)        # at a terminal the parent gets it too, and ends us in order
    peers = {name: attach(work.kinds()[name], *ticket) for name, ticket in tickets.items()}
    rng = random.Random(seed * 1000 + number)
    walks = {
        (name, case): steps
        for name, peer in peers.items()
        for case in work.cases
        if (steps := work.prepare(peer, case, number, of, pages, rng))
    }
    gc.freeze()
    gc.disable()
    try:
        pipe.send("ready")
        while True:
            name, case, start, end = pipe.recv()
            pipe.send(call_for(*walks[name, case], start, end))
    except (EOFError, OSError):
        pass
    finally:
        walks.clear()
        for peer in peers.values():
            peer.close()


def attach(kind: type[Peer], place: Place, pages: int, capacity: int, handle: Any) -> Peer:
    peer = kind(place, pages, capacity)
    peer.connect(handle)
    return peer


def prepare(peer: Peer, case: str, number: int, of: int, pages: int, rng: random.Random) -> Steps:
    page = rng.randbytes(shared.PAGE)
    objects = range(1) if case == "get hot" else range(number, max(of, pages // OBJECT_PAGES), of)
    numbers = [rng.choice(objects) * OBJECT_PAGES + rng.randrange(OBJECT_PAGES) for _ in range(STEPS)]
    keys = [peer.key(number % pages) for number in numbers]
    if case == "put spread":
        return peer.put, [(*key, page) for key in keys]
    return peer.get, keys


PAGE_WORK = Work(OURS, CASES, all_peers, shared.open_peers, prepare)


def call_for(call: Any, steps: list[tuple], start: float, end: float) -> Window:
    chunks = [steps[at:at + CHUNK] for at in range(0, len(steps), CHUNK)]
    clock = time.monotonic
    while clock() < start:
        pass
    cpu = time.process_time()
    done = 0
    while True:
        for chunk in chunks:
            for arguments in chunk:
                call(*arguments)
            done += CHUNK
            if clock() >= end:
                # Over the end by part of a chunk: only what fits into the window counts.
                took = clock() - start
                used = time.process_time() - cpu
                return int(done * (end - start) / took), done / max(used, 1e-9), used / took

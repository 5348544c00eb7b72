"""Owns the comparison of `engine.Cache` with other caches: whole values under keys of 30
characters.

`python -m stress.bench.caches` measures this part alone. What is timed is CPU time, of this process
and of the server together, all pinned to one core: other programs on the machine disturb it less
than the time by the clock. A round does each case of each cache once, in a shuffled order; ratios
are taken within a round. Two processes against one are measured by `workers`. Calls `rounds`,
`workers` and the peers.
"""
from __future__ import annotations

import gc
import json
import os
import pickle
import random
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from statistics import median
from typing import Any

from stress.bench import rounds as shared
from stress.bench import workers
from stress.bench.peers import CACHE, PAGES, all_caches
from stress.bench.peers.base import Peer

BUDGET_NS = 8_000_000           # of one case of one cache in one round
STEPS_MIN, STEPS_MAX = 3, 4000
TRIAL_STEPS = 64
ROUNDS = 20
KIND_NUMBERS = 1_000_000        # numbers of keys of a kind
SIZES = {"100 B": 100, "1 KiB": 1 << 10, "1 MiB": 1 << 20}
RECORD, COUNTER = "record", "counter"
# How many values: few, so that they are in cache, and the caches are compared, not the memory.
KINDS = {"100 B": 1000, "1 KiB": 1000, "1 MiB": 8, RECORD: 1000, COUNTER: 1000}
CAPACITY = 128 << 20
MEMORY_VALUES = 100_000
LOADS = "pickle.loads alone"
CASES = [f"{verb} {size}" for size in SIZES for verb in ("get", "set")] + [f"get {RECORD}", "add", "incr", "cas"]
WORKER_CASES = {f"{verb} spread": "each worker over keys of its own" for verb in ("get", "set", "incr")}
Steps = tuple[Callable[..., Any], list[tuple]]
Times = dict[str, dict[str, list[float]]]           # of a cache and case: nanoseconds a call, of each round


def record() -> dict[str, Any]:
    return {"id": 17, "name": "Ada Lovelace", "mail": "ada@example.org", "age": 36, "active": True, "score": 0.75,
            "tags": ["a", "b", "c"], "parent": None, "city": "London", "visits": 123456}


class Values:
    """What is put, and the lists of calls, all from one seed."""

    def __init__(self, seed: int, smoke: bool):
        self.rng = random.Random(seed)
        self.bytes = {size: self.rng.randbytes(length) for size, length in SIZES.items()}
        self.counts = {kind: min(count, 64) if smoke else count for kind, count in KINDS.items()}
        self.pickled = pickle.dumps(record(), protocol=5)

    def words(self, peer: Peer, kind: str, numbers: Any) -> list[tuple]:
        first = list(KINDS).index(kind) * KIND_NUMBERS
        return [peer.word(first + number) for number in numbers]

    def fill(self, peer: Peer) -> None:
        """Every value once; a cache that does not give it back is not measured."""
        for kind, count in self.counts.items():
            if SIZES.get(kind, 0) > peer.value_max:
                continue
            for word in self.words(peer, kind, range(count)):
                if kind != COUNTER:
                    peer.put(*word, self.value(peer, kind))
                elif peer.incr:
                    peer.start(*word)
            if kind != COUNTER and peer.get(*word) != self.value(peer, kind):
                raise RuntimeError(f"a get did not give the value of {kind} that was put")

    def value(self, peer: Peer, kind: str) -> Any:
        if kind == RECORD:
            return record() if peer.keeps_objects else self.pickled
        return self.bytes[kind]

    def steps(self, peer: Peer, case: str, count: int) -> Steps | None:
        """None: this cache has no such call."""
        verb, _, kind = case.partition(" ")
        if SIZES.get(kind, 0) > peer.value_max or verb in ("add", "incr", "cas") and getattr(peer, verb) is None:
            return None
        kind = kind or (COUNTER if verb == "incr" else "100 B")
        if verb in ("add", "cas"):                  # each key once
            numbers: Any = self.rng.sample(range(self.counts[kind]), min(count, self.counts[kind]))
        else:
            numbers = self.rng.choices(range(self.counts[kind]), k=count)
        words = self.words(peer, kind, numbers)
        if verb == "incr":
            return peer.incr, words
        if verb == "get":
            get = peer.get
            return (lambda *word: pickle.loads(get(*word))) if kind == RECORD and not peer.keeps_objects else get, words
        value = self.value(peer, kind)
        if verb == "add":
            for word in words:
                peer.drop(*word)
        if verb == "cas":
            return peer.cas, [(*word, value, peer.token(*word)) for word in words]
        return (peer.add if verb == "add" else peer.put), [(*word, value) for word in words]


def cpu_ns(servers: list[int]) -> int:
    """CPU time of this process and of those; the number of a process's clock is made as
    clock_getcpuclockid(3) does it."""
    return time.process_time_ns() + sum(time.clock_gettime_ns(~pid << 3 | 2) for pid in servers)


def walk(steps: Steps, servers: list[int]) -> float:
    """Nanoseconds of CPU time a call."""
    call, words = steps
    begun = cpu_ns(servers)
    for word in words:
        call(*word)
    return (cpu_ns(servers) - begun) / len(words)


def run(rounds: int, seed: int, names: list[str], smoke: bool) -> dict:
    """Everything in the answer can be written as JSON."""
    values, absent = Values(seed, smoke), dict[str, str]()
    kinds = all_caches()
    with ExitStack() as stack:
        stack.enter_context(shared.one_core())
        peers = shared.open_all(stack, {name: kinds[name] for name in names}, sum(values.counts.values()), CAPACITY,
                                values.fill, absent)
        versions = {name: {"version": peer.version(), "about": peer.about} for name, peer in peers.items()}
        times = one_process(values, peers, rounds, BUDGET_NS // 40 if smoke else BUDGET_NS)
    cases = {case: {name: shared.figures(found[case]) | against(times, name, case)
                    for name, found in times.items() if case in found} for case in CASES}
    work = workers.Work(CACHE, WORKER_CASES, all_caches, open_for_workers, prepare, KINDS["100 B"])
    several = workers.run([1, 2], 1 if smoke else max(5, rounds // 2), seed, names, smoke, work)
    return {"rounds": rounds, "peers": versions, "absent": absent, "cases": cases, "against_put": against_put(times),
            "workers": several, "memory": memory(names, smoke)}


def one_process(values: Values, peers: dict[str, Peer], rounds: int, budget: int) -> Times:
    alone: Steps = pickle.loads, [(values.pickled,)]
    # One after the other: what a list of steps prepares holds until the next is made.
    costs = {(name, case): walk(steps, peer.servers()) for name, peer in peers.items() for case in CASES
             if (steps := values.steps(peer, case, TRIAL_STEPS))}
    times: Times = {name: {} for name in [*peers, LOADS]}
    turns = [*costs, (LOADS, f"get {RECORD}")]
    for turn in range(rounds + 1):                  # the first round warms up and is not counted
        values.rng.shuffle(turns)
        gc.collect()
        gc.disable()
        try:
            for name, case in turns:
                if name == LOADS:
                    took = walk((alone[0], alone[1] * STEPS_MAX), [])
                else:
                    count = int(max(STEPS_MIN, min(STEPS_MAX, budget / max(costs[name, case], 1))))
                    steps = values.steps(peers[name], case, count)
                    assert steps is not None
                    took = walk(steps, peers[name].servers())
                if turn:
                    times[name].setdefault(case, []).append(took)
        finally:
            gc.enable()
    return times


def ratio(mine: list[float], other: list[float]) -> float:
    """The median of those within the rounds."""
    return round(median(a / b for a, b in zip(mine, other, strict=True)), 3)


def against(times: Times, name: str, case: str) -> dict[str, float]:
    """How many times as long as ours it took, and ours as it."""
    ours, mine = times.get(CACHE, {}).get(case), times[name][case]
    return {"times_ours": ratio(mine, ours), "ours_is_times": ratio(ours, mine)} if ours else {}


def against_put(times: Times) -> dict[str, float]:
    """Ours against a put of a page."""
    put = times.get(PAGES, {}).get("set 100 B")
    ours = times.get(CACHE, {})
    return {case: ratio(ours[case], put) for case in ("add", "incr", "cas") if put and case in ours}


def memory(names: list[str], smoke: bool) -> dict:
    """Bytes that so many values of 100 B take, beyond what is there when there is none."""
    count = 500 if smoke else MEMORY_VALUES
    found: dict[str, float] = {}
    value, kinds = os.urandom(100), all_caches()
    for name in (name for name in names if kinds[name].shares and not kinds[name].absent()):
        with ExitStack() as stack:
            peer = shared.open_peer(stack, kinds[name], count, count * 1024)
            empty = peer.memory()
            for number in range(count):
                peer.put(*peer.word(number), value)
            found[name] = round((peer.memory() - empty) / count, 1)
    return {"values": count, "bytes_a_value": found}


# -- several processes
# ------------------------------------------------------------------------------


def open_for_workers(stack: ExitStack, names: list[str], pages: int, absent: dict[str, str]) -> dict[str, Peer]:
    values, kinds = Values(1, pages < KINDS["100 B"]), all_caches()
    return shared.open_all(stack, {name: kinds[name] for name in names}, sum(values.counts.values()), CAPACITY,
                           values.fill, absent)


def prepare(peer: Peer, case: str, number: int, of: int, pages: int, rng: random.Random) -> Steps | None:
    values = Values(1, pages < KINDS["100 B"])
    verb = case.split()[0]
    kind = COUNTER if verb == "incr" else "100 B"
    mine = range(number, values.counts[kind], of)
    words = values.words(peer, kind, rng.choices(mine, k=workers.STEPS))
    if verb == "incr":
        return (peer.incr, words) if peer.incr else None
    return (peer.get, words) if verb == "get" else (peer.put, [(*word, values.bytes[kind]) for word in words])


def main() -> None:
    from stress.bench import limits, tables
    found = run(ROUNDS, 1, list(all_caches()), "--smoke" in sys.argv[1:])
    if "--json" in sys.argv[1:]:
        print(json.dumps(found))
    else:
        print(tables.limits_of(limits.judge({"caches": found}, limits.CACHE_LIMITS)), tables.caches(found), sep="\n\n")


if __name__ == "__main__":
    main()

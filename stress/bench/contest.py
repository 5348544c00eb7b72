"""Owns the cases in which every store does the same, by one process: interleaved rounds over one
working set.

A round runs each case of each store once, stores and cases in a shuffled order, and each for about
the same time. All walk a list of `(call, arguments)` prepared outside the timing, so the loop costs
each store the same; nothing is subtracted. Ratios are taken within a round. Everything is pinned to
one core, servers too. Calls `rounds` and the peers.
"""
from __future__ import annotations

import gc
import random
from collections.abc import Callable
from contextlib import ExitStack
from statistics import median
from time import perf_counter_ns
from typing import Any

from stress.bench import rounds as shared
from stress.bench.peers import OURS
from stress.bench.peers.base import OBJECT_PAGES, Peer

BUDGET_NS = 8_000_000           # of one case of one store in one round
STEPS_MIN, STEPS_MAX = 2, 4000
TRIAL_STEPS = 16
OBJECTS = 8                     # put to be flushed, in a round

# case: what it says in the table
CASES = {
    "put over": "the key holds a page",
    "put new": "the key holds none: the pages that were just flushed",
    "get hit": "",
    "get miss": "",
    "get into": "into a buffer of the caller's; stores that have such a call",
    "get view": "the page where it lies, entered and left; stores that have such a call",
    "flush page": "the page is there",
    "flush object": f"{OBJECT_PAGES} pages; stores that have such a call",
    "mixed 50/50": "gets / puts over, uniform",
    "mixed 90/10": "gets / puts over, uniform",
    "Zipf 90/10": "gets / puts over, Zipf 0.99",
    "put 64 KiB": "one call; a range of ours, one value elsewhere",
    "get 64 KiB": "",
    "put 1 MiB": "",
    "get 1 MiB": "",
}
Steps = list[tuple[Callable[..., Any], tuple]]


def run(pages: int, rounds: int, seed: int, names: list[str], smoke: bool) -> dict:
    """One working set; everything in the answer can be written as JSON."""
    absent: dict[str, str] = {}
    with ExitStack() as stack:
        stack.enter_context(shared.one_core())
        peers = shared.open_peers(stack, names, pages, absent)
        versions = {name: {"version": peer.version(), "about": peer.about} for name, peer in peers.items()}
        walker = Walker(pages, seed)
        budget = BUDGET_NS // 40 if smoke else BUDGET_NS
        costs = {name: trial(walker, peer) for name, peer in peers.items()}
        times: dict[str, dict[str, list[float]]] = {name: {case: [] for case in found} for name, found in costs.items()}
        order = list(peers)
        for turn in range(rounds + 1):              # the first round warms up and is not counted
            walker.rng.shuffle(order)
            for name in order:
                found = one_round(
                    walker, peers[name], {case: steps_for(budget, cost) for case, cost in costs[name].items()}
                )
                for case, ns in found.items() if turn else ():
                    times[name][case].append(ns)
        latency = {name: latencies(walker, peer, costs[name], smoke) for name, peer in peers.items()}
    return {"pages": pages, "rounds": rounds, "peers": versions, "absent": absent, "latency_ns": latency,
            "cases": {case: {name: shared.figures(times[name][case]) | against(times, name, case)
                             for name in peers if case in times[name]} for case in CASES}}


def against(times: dict[str, dict[str, list[float]]], name: str, case: str) -> dict[str, float]:
    """How many times as long as ours it took: the median of the ratios within the rounds."""
    ours = times.get(OURS, {}).get(case)
    if not ours:
        return {}
    return {"times_ours": round(median(one / base for one, base in zip(times[name][case], ours, strict=True)), 3)}


def steps_for(budget: int, cost: float) -> int:
    return int(max(STEPS_MIN, min(STEPS_MAX, budget / max(cost, 1))))


class Walker:
    """Makes the lists of steps, all from one seed."""

    def __init__(self, pages: int, seed: int):
        self.pages, self.rng = pages, random.Random(seed)
        self.page = self.rng.randbytes(shared.PAGE)
        self.buffer = memoryview(bytearray(shared.PAGE))
        self.zipf = shared.Zipf(pages, 0.99, self.rng)
        self.spans = {"64 KiB": shared.spans(pages)[0], "1 MiB": shared.spans(pages)[1]}
        self.blocks = {size: self.rng.randbytes(shared.PAGE * each) for size, (each, _, _) in self.spans.items()}

    def steps(self, peer: Peer, case: str, count: int) -> Steps:
        numbers = [self.rng.randrange(self.pages) for _ in range(count)]
        if case == "put over":
            return [(peer.put, (*peer.key(number), self.page)) for number in numbers]
        if case == "get hit":
            return [(peer.get, peer.key(number)) for number in numbers]
        if case == "get miss":
            return [(peer.get, peer.key(self.pages * 2 + number)) for number in numbers]
        if case == "get into":
            return [(peer.get_into, (*peer.key(number), self.buffer)) for number in numbers]
        if case == "get view":
            return [(peer.look, peer.key(number)) for number in numbers]
        if case.startswith(("mixed", "Zipf")):
            gets = int(case.split()[1].partition("/")[0])
            numbers = self.zipf.draw(count) if case.startswith("Zipf") else numbers
            return [(peer.get, peer.key(number)) if self.rng.randrange(100) < gets else
                    (peer.put, (*peer.key(number), self.page)) for number in numbers]
        verb, _, size = case.partition(" ")
        each, below, first = self.spans[size]
        keys = [peer.span(first + self.rng.randrange(below), each) for _ in range(count)]
        return [(peer.put_span, (*key, self.blocks[size])) if verb == "put" else (peer.get_span, key) for key in keys]


def walk(steps: Steps) -> float:
    """Nanoseconds a step."""
    began = perf_counter_ns()
    for call, arguments in steps:
        call(*arguments)
    return (perf_counter_ns() - began) / len(steps)


def one_round(walker: Walker, peer: Peer, counts: dict[str, int]) -> dict[str, float]:
    """Each of these cases once. What is flushed is put again, which is the case "put new"."""
    cases = [case for case in counts if case not in ("put new", "flush page", "flush object")]
    walker.rng.shuffle(cases)
    found = {}
    gc.collect()
    gc.disable()
    try:
        for case in cases:
            found[case] = walk(walker.steps(peer, case, counts[case]))
        if "flush page" in counts:
            count = min(counts["flush page"], counts["put new"], walker.pages // 2)
            keys = [peer.key(number) for number in walker.rng.sample(range(walker.pages), count)]
            found["flush page"] = walk([(peer.drop, key) for key in keys])
            found["put new"] = walk([(peer.put, (*key, walker.page)) for key in keys])
        if "flush object" in counts:
            found["flush object"] = _flush_objects(walker, peer)
    finally:
        gc.enable()
    return found


def _flush_objects(walker: Walker, peer: Peer) -> float:
    first = walker.pages * 4 // OBJECT_PAGES
    for number in range(first * OBJECT_PAGES, (first + OBJECTS) * OBJECT_PAGES):
        peer.put(*peer.key(number), walker.page)
    return walk([(peer.drop_object, peer.object_key(number)) for number in range(first, first + OBJECTS)])


def trial(walker: Walker, peer: Peer) -> dict[str, float]:
    """The cases this store has, each with about what a step costs."""
    wanted = set(CASES)
    if peer.get_into is None:
        wanted.discard("get into")
    if peer.look is None:
        wanted.discard("get view")
    if peer.drop_object is None:
        wanted.discard("flush object")
    if peer.drop is None:
        wanted -= {"flush page", "put new", "get miss"}
    first = one_round(walker, peer, {case: STEPS_MIN for case in CASES if case in wanted})
    # The first call of each tells little; of what is slow it tells enough.
    return (
        first
        if max(first.values()) > BUDGET_NS / 16
        else one_round(walker, peer, {case: TRIAL_STEPS for case in first})
    )


def latencies(walker: Walker, peer: Peer, costs: dict[str, float], smoke: bool) -> dict[str, dict[str, int]]:
    """Quantiles of single calls, with two looks at the clock in each."""
    found = {}
    for case in ("put over", "get hit"):
        count = int(max(10, min(50 if smoke else 20_000, 1e9 / costs[case])))
        times = []
        steps = walker.steps(peer, case, count)
        for call, arguments in steps:
            began = perf_counter_ns()
            call(*arguments)
            times.append(perf_counter_ns() - began)
        found[case] = shared.quantiles(times)
    return found

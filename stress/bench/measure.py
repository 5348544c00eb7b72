"""Owns the order of the whole benchmark, and the rounds of this engine against the raw copy.

Every round times every case once, a few thousand steps each, in a shuffled order; a figure is the
median over the rounds of nanoseconds a step, with the lowest and highest round beside it. A ratio
is the median over the rounds of the ratio within the round, so that a slow moment hits both sides.
Calls `cases`, `caches`, `contest`, `growth`, `workers`, `room`, `snapshots`, `limits`, `engine`.
"""
from __future__ import annotations

import gc
import os
import platform
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import median
from time import perf_counter_ns
from typing import Any

import engine
from stress.bench import caches, cases, contest, growth, limits, room, snapshots, workers
from stress.bench import rounds as shared
from stress.bench.cases import Bench

RAW_PAGES_MAX = 200_000       # beyond, a raw mapping beside the arena might not fit into memory

# case: (loop, what it walks, the raw case it is measured against, what it says in the table)
CASES = {
    "raw write": (cases.raw_write, "slices", "", "view[a:b] = page"),
    "raw read": (cases.raw_read, "slices", "", "bytes(view[a:b])"),
    "raw read into": (cases.raw_read_into, "slices", "", "target[:] = view[a:b]"),
    "raw write 64 KiB": (cases.raw_write_range, "long slices", "", "view[a:b] = block"),
    "raw read 64 KiB": (cases.raw_read, "long slices", "", "bytes(view[a:b])"),
    "raw view": (cases.raw_view, "slices", "", "view[a:b], entered and left"),
    "put over": (cases.put, "handles", "raw write", "the handle holds a page"),
    "put new": (cases.put, "flushed", "raw write", "the handle holds none; its object exists or not"),
    "get hit": (cases.get, "handles", "raw read", ""),
    "get miss": (cases.get, "absent", "raw read", "half of them in objects that exist"),
    "get_into hit": (cases.get_into, "handles", "raw read into", ""),
    "get view": (cases.view, "handles", "raw view", "entered and left, the page is not read"),
    "put_range 64 KiB": (cases.put_range, "bases", "raw write 64 KiB", "over pages that are there"),
    "get_range 64 KiB": (cases.get_range, "bases", "raw read 64 KiB", ""),
    "flush page": (cases.flush, "distinct", "raw write", "the page is there"),
}


@dataclass
class Plan:
    """What the command line chooses."""

    sizes: list[int]                    # working sets of this engine against the raw copy
    contests: list[int]                 # working sets of every store
    peers: list[str]
    caches: list[str]
    workers: list[int] = field(default_factory=lambda: [1, 2, 4])
    rounds: int = 30
    seed: int = 1
    shapes: list[int] = field(
        default_factory=lambda: [1000, 64]
    )  # pages of an object; all but the first for 200,000 pages alone
    buckets: int = 0
    smoke: bool = False


# What the parts of a benchmark weigh, about as seconds: for the time that is left.
SET, GROWTH, STORE, WORKERS, SMALL, PAGES_A_SECOND = 10, 120, 6, 15, 8, 20_000


class _Steps:
    """Says which part begins, and how long the rest will take by how long the others took."""

    def __init__(self, plan: Plan, log: Callable[[str], None]):
        self._log, self._began, self._done, self._now = log, perf_counter_ns(), 0.0, 0.0
        self._all = (sum(SET + pages / PAGES_A_SECOND for pages in plan.sizes)
                     + STORE * len(plan.peers) * len(plan.contests) + STORE * len(plan.caches)
                     + WORKERS * len(plan.workers) + 3 * SMALL
                     + (GROWTH if limits.SPREAD in plan.sizes and limits.LARGE in plan.sizes else 0))

    def __call__(self, what: str, weight: float) -> None:
        self._done, self._now = self._done + self._now, weight
        left = ""
        if self._done:
            seconds = (perf_counter_ns() - self._began) / 1e9 * (self._all - self._done) / self._done
            left = f" (about {seconds:.0f} s left)" if seconds < 120 else f" (about {seconds / 60:.0f} min left)"
        self._log(f"{what} ...{left}")


def run(plan: Plan, log: Callable[[str], None] = lambda line: None) -> dict:
    """The whole benchmark; everything in the answer can be written as JSON."""
    smoke, rounds = plan.smoke, plan.rounds
    result: dict[str, Any] = {
        "machine": machine(),
        "seed": plan.seed,
        "rounds": rounds,
        "smoke": smoke,
        "sets": [],
        "contests": [],
    }
    for pages in plan.sizes:
        needed = (pages + min(pages, RAW_PAGES_MAX)) * cases.PAGE_BYTES * 1.06
        if needed > shared.available():
            raise MemoryError(
                f"{pages:,} pages need {needed / 2**30:.1f} GiB, and this machine has not that much to spare"
            )
    step = _Steps(plan, log)
    for pages in plan.sizes:
        step(f"{pages:,} pages: this engine against the raw copy", SET + pages / PAGES_A_SECOND)
        with shared.one_core():
            for object_pages in plan.shapes if pages == limits.SPREAD else plan.shapes[:1]:
                result["sets"].append(one_set(pages, rounds, plan.seed, object_pages, plan.buckets, smoke))
    if limits.SPREAD in plan.sizes and limits.LARGE in plan.sizes:
        step(f"{limits.LARGE:,} pages against {limits.SPREAD:,}", GROWTH)
        with shared.one_core():
            result["growth"] = growth.measure(
                limits.SPREAD, limits.LARGE, rounds, plan.seed, plan.shapes[0], plan.buckets
            )
    for pages in plan.contests:
        step(f"{pages:,} pages: {', '.join(plan.peers)}", STORE * len(plan.peers))
        result["contests"].append(
            contest.run(pages, 2 if smoke else max(5, rounds * 2 // 3), plan.seed, plan.peers, smoke)
        )
    step("workers", WORKERS * len(plan.workers))
    result["workers"] = workers.run(plan.workers, 1 if smoke else max(5, rounds // 3), plan.seed, plan.peers, smoke)
    step(f"caches: {', '.join(plan.caches)}", STORE * len(plan.caches))
    result["caches"] = caches.run(2 if smoke else max(5, rounds * 2 // 3), plan.seed, plan.caches, smoke)
    step("many small objects", SMALL)
    result["objects"] = room.small_objects(rounds, plan.seed, smoke)
    step("memory", SMALL)
    result["memory"] = room.memory(plan.peers, smoke)
    step("snapshots", SMALL)
    result["snapshots"] = snapshots.measure(300, max(3, rounds // 3), smoke)
    result["limits"] = limits.judge(result)
    return result


def one_set(pages: int, rounds: int, seed: int, object_pages: int, buckets: int, smoke: bool) -> dict:
    """All cases on one working set."""
    name = f"tmem-bench-{os.getpid()}"
    subject = Bench(name, pages, min(pages, RAW_PAGES_MAX), seed, object_pages, buckets)
    try:
        fill_ns = subject.fill()
        steps = 100 if smoke else 4000  # also of 256 pages: what is in cache is met there several times in a row
        order = random.Random(seed)
        times: dict[str, list[float]] = {case: [] for case in CASES}
        enabled = gc.isenabled()
        for turn in range(rounds + 1):                  # the first round warms up and is not counted
            found = _round(subject, steps, order)
            if turn:
                for case, ns in found.items():
                    times[case].append(ns)
        single = _latencies(subject, steps if smoke else 20_000)
        gc.enable() if enabled else gc.disable()
        figures: dict[str, dict] = {}
        for case, (_, _, raw, note) in CASES.items():
            figures[case] = {"median_ns": round(median(times[case]), 1), "min_ns": round(min(times[case]), 1),
                             "max_ns": round(max(times[case]), 1), "note": note}
            if raw:
                ratios = [mine / other for mine, other in zip(times[case], times[raw], strict=True)]
                figures[case] |= {"against": raw, "ratio": round(median(ratios), 3)}
        return {"pages": subject.pages, "object_pages": subject.object_pages, "buckets": subject.buckets,
                "raw_pages": subject.raw_pages, "page_size": subject.size, "steps": steps,
                "fill_ns": round(fill_ns, 1), "cases": figures, "latency_ns": single,
                "memory": memory(subject), "create_ms": round(subject.create_ns / 1e6, 3),
                "attach_ms": attach_ms(name, 3 if smoke else 15)}
    finally:
        subject.close()


def _round(subject: Bench, steps: int, order: random.Random) -> dict[str, float]:
    """Every case once. "flush page" comes right before "put new", which puts back what it
    flushed."""
    few = max(16, steps // 8)
    walks = {"slices": subject.slices(steps), "long slices": subject.slices(few, cases.RANGE_PAGES),
             "handles": subject.handles(steps), "absent": subject.absent(steps), "bases": subject.bases(few),
             "distinct": subject.distinct(steps)}
    walks["flushed"] = walks["distinct"]
    names = [case for case in CASES if case != "put new"]
    order.shuffle(names)
    names.insert(names.index("flush page") + 1, "put new")
    found = {}
    gc.collect()
    gc.disable()
    for case in names:
        loop, walk = CASES[case][:2]
        found[case] = loop(subject, walks[walk]) / len(walks[walk])
    gc.enable()
    return found


def _latencies(subject: Bench, count: int) -> dict[str, dict[str, int]]:
    """Percentiles of single calls."""
    pool, page, view = subject.pool, subject.page, subject.raw.view

    def write(start, end):
        view[start:end] = page

    def read(start, end):
        bytes(view[start:end])

    def put(oid, index):
        pool.put(oid, index, page)

    calls = {"raw write": (write, subject.slices(count)), "raw read": (read, subject.slices(count)),
             "put over": (put, subject.handles(count)), "get hit": (pool.get, subject.handles(count)),
             "get miss": (pool.get, subject.absent(count))}
    found = {}
    for case, (call, steps) in calls.items():
        times = sorted(cases.each(call, steps))
        found[case] = {label: times[min(len(times) - 1, int(fraction * len(times)))]
                       for label, fraction in (("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999))}
    return found


def memory(subject: Bench) -> dict:
    """What the arena takes for the pages it holds."""
    stats = subject.eng.stats()
    backed, pages = stats["arena"]["bytes_backed"], stats["total"]["pages"]
    content = pages * subject.size
    used = stats["total"]["bytes_used"]
    return {"capacity": subject.eng.capacity, "pages": pages, "page_bytes": content, "bytes_backed": backed,
            "bytes_used": used, "metadata_bytes": backed - content,
            "metadata_percent": round(100 * (backed - content) / content, 2)}


def attach_ms(name: str, times: int) -> float:
    """Median time of `engine.attach` and nothing else."""
    found = []
    for _ in range(times):
        began = perf_counter_ns()
        other = engine.attach(name)
        found.append(perf_counter_ns() - began)
        other.close()
    return round(median(found) / 1e6, 3)


def machine() -> dict:
    """What the figures were taken on."""
    cpu = platform.processor()
    try:
        with open("/proc/cpuinfo") as file:
            cpu = next(line.split(":", 1)[1].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    return {"cpu": cpu, "cores": len(os.sched_getaffinity(0)), "system": f"{platform.system()} {platform.release()}",
            "memory_gib": round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2 ** 30, 1),
            "python": platform.python_version(), "load": round(os.getloadavg()[0], 2)}

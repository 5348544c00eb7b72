"""Owns the question what more pages cost: two working sets of this engine and of the raw copy, in
turns within each round.

The raw copy grows too, since more memory needs more of the tables that translate addresses: it is
measured in a run of rounds of its own, over mappings of the same sizes, because both do not fit
into memory together. Calls `cases`.
"""
from __future__ import annotations

import gc
import os
import random
from contextlib import ExitStack
from statistics import median

from stress.bench import cases
from stress.bench import rounds as shared
from stress.bench.cases import Bench, Raw

STEPS = 4000


def measure(small: int, large: int, rounds: int, seed: int, object_pages: int, buckets: int) -> dict:
    """Nanoseconds a call over so many pages and over so many more; the ratio is the median of those
    within the rounds."""
    sizes, rng = (small, large), random.Random(seed)
    found = _ours(sizes, rounds, rng, seed, object_pages, buckets) | _raw(sizes, rounds, rng)
    return {"small": small, "large": large, "object_pages": object_pages, "rounds": rounds, "cases": found}


def _ours(
    sizes: tuple[int, int], rounds: int, rng: random.Random, seed: int, object_pages: int, buckets: int
) -> dict[str, dict]:
    with ExitStack() as stack:
        subjects: dict[int, Bench] = {}
        for pages in sizes:
            subjects[pages] = Bench(f"tmem-bench-{os.getpid()}-{pages}", pages, 0, seed, object_pages, buckets)
            stack.callback(subjects[pages].close)
            subjects[pages].fill()
        return _rounds(
            {
                "put over": lambda pages: cases.put(subjects[pages], subjects[pages].handles(STEPS)),
                "get hit": lambda pages: cases.get(subjects[pages], subjects[pages].handles(STEPS)),
            },
            sizes,
            rounds,
            rng,
        )


def _raw(sizes: tuple[int, int], rounds: int, rng: random.Random) -> dict[str, dict]:
    page = rng.randbytes(cases.PAGE_BYTES)
    with ExitStack() as stack:
        maps: dict[int, Raw] = {}
        for pages in sizes:
            maps[pages] = Raw(f"/tmem-bench-{os.getpid()}-raw-{pages}", pages, cases.PAGE_BYTES)
            stack.callback(maps[pages].close)

        def slices(pages: int) -> list[tuple]:
            starts = [rng.randrange(pages) * cases.PAGE_BYTES for _ in range(STEPS)]
            return [(start, start + cases.PAGE_BYTES) for start in starts]
        return _rounds(
            {
                "raw write": lambda pages: cases.write_slices(maps[pages].view, page, slices(pages)),
                "raw read": lambda pages: cases.read_slices(maps[pages].view, slices(pages)),
            },
            sizes,
            rounds,
            rng,
        )


def _rounds(calls: dict, sizes: tuple[int, int], rounds: int, rng: random.Random) -> dict[str, dict]:
    times: dict[str, dict[int, list[float]]] = {case: {pages: [] for pages in sizes} for case in calls}
    turns = [(case, pages) for case in calls for pages in sizes]
    gc.collect()
    gc.disable()
    try:
        for turn in range(rounds + 1):              # the first warms up
            rng.shuffle(turns)
            for case, pages in turns:
                took = calls[case](pages) / STEPS
                if turn:
                    times[case][pages].append(took)
    finally:
        gc.enable()
    small, large = sizes
    return {case: {"small": shared.figures(both[small]), "large": shared.figures(both[large]),
                   "ratio": round(median(b / a for a, b in zip(both[small], both[large], strict=True)), 3)}
            for case, both in times.items()}

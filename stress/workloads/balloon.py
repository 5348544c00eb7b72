"""Guests of the scenario pressure, in an arena that is full at first and whose capacity goes down
and up all the while.

The supervisor resizes. After each step down the arena file may take no more of the system's memory
than the new capacity and the arena's tables, which is what it took beyond its segments when it was
full.

Settings: those of pressure, and small, rest. Facts: those of pressure, resizes, given_back_mib (by
the first step down), down_ms_max, up_ms_max.
"""
from __future__ import annotations

import time

from stress.content import Content
from stress.workloads import pressure
from stress.workloads.pressure import guest

__all__ = ["guest", "prepare", "tick", "verdict"]
FILLER = "filler"
RANGE = 256                     # pages put at once
EACH_BYTES = 8192               # what the tables grow by with each guest: a page of counters, and one of pins
AGAIN_S = 15.0                  # for so long a step down is asked for again, while guests keep huge pages in use
LEFT_BYTES = 1 << 20            # parts of huge pages that somebody was using as long as the resize tried


def prepare(eng, plan) -> None:
    pressure.prepare(eng, plan)
    filler = eng.new_pool(FILLER, persistent=False, shared=True)
    batch = Content(plan.seed, eng.page_size).pages((0, 0, 0), 0, RANGE, 1)
    # A tenth more than fits, so that something has been evicted from every shard: its ghosts have
    # memory then, which is no segment's.
    for n in range(int(1.1 * eng.capacity / len(batch))):
        filler.put_range((n, 0, 0), 0, batch)


def tick(run) -> None:
    """A step, when it is time for one."""
    at = run.scratch
    if not at:
        at.update(
            large=run.eng.capacity,
            next=0.0,
            tables=_backed(run) - run.eng.stats()["arena"]["bytes_in_segments"],
            down=0.0,
            up=0.0,
            resizes=0,
            given_back=0,
        )
    if time.monotonic() < at["next"]:
        return
    down = run.eng.capacity == at["large"]
    before = _backed(run)
    began = time.monotonic()
    capacity = run.eng.resize(run.plan.settings["small"] if down else at["large"])
    spent = time.monotonic() - began
    at["resizes"] += 1
    if down:
        at["down"] = max(at["down"], spent)
        at["given_back"] = at["given_back"] or before - _backed(run)
        allowed, backed = LEFT_BYTES + EACH_BYTES * run.plan.workers, _backed(run)
        while backed > capacity + at["tables"] + allowed and time.monotonic() < began + AGAIN_S:
            run.eng.resize(capacity)        # what the system kept of huge pages in use goes with the next resize
            backed = _backed(run)
        run.expect(backed <= capacity + at["tables"] + allowed, "unbounded", "arena file",
                   f"{backed} bytes have memory after a step down to {capacity}; tables took {at['tables']}")
    else:
        at["up"] = max(at["up"], spent)
    at["next"] = time.monotonic() + run.plan.settings["rest"]


def _backed(run) -> int:
    return run.eng.stats()["arena"]["bytes_backed"]


def verdict(run) -> None:
    pressure.verdict(run)
    at = run.scratch
    if at:
        run.facts.update(
            resizes=at["resizes"],
            given_back_mib=at["given_back"] >> 20,
            down_ms_max=round(at["down"] * 1000),
            up_ms_max=round(at["up"] * 1000),
        )

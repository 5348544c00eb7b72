"""One worker against several, in alternating windows of one run, each with objects of its own.

Time is cut into windows by the monotonic clock that all share. Worker 0 works in every window, the others only in the
odd ones. The ratio is the median number of operations in the windows of all over the median in the windows of one, so a
slow moment of the machine hits both sides alike.

Settings: objects, pages, window_ms, wanted. Facts: ratio, ops_per_second_alone, ops_per_second_together.
"""
from __future__ import annotations

from collections import Counter
from statistics import median
from time import monotonic_ns, sleep

from stress.worker import Guest

BATCH = 16                      # operations between two looks at the clock


def prepare(eng, plan) -> None:
    eng.new_pool("scaling", persistent=True, shared=True)


def guest(g: Guest) -> None:
    pool, window_ns = g.pool("scaling"), int(g.settings["window_ms"] * 1e6)
    oids = [(g.index, number, 11) for number in range(g.settings["objects"])]
    for oid in oids:                                # so that no window pays for the first touch
        for index in range(g.settings["pages"]):
            g.put(pool, oid, index, g.fresh())
    windows: Counter = Counter()
    choice, randrange, pages = g.rng.choice, g.rng.randrange, g.settings["pages"]
    while g.running():
        number, within = divmod(monotonic_ns(), window_ns)
        if g.index and not number & 1:
            sleep((window_ns - within) / 1e9)
            continue
        for _ in range(BATCH // 2):
            g.put(pool, choice(oids), randrange(pages), g.fresh())
            got = g.read(pool, choice(oids), randrange(pages))
            g.expect(got, "lost", "pool scaling", "a page is missing")
        windows[number] += BATCH
    g.history = [(number, count) for number, count in windows.items()]


def verdict(run) -> None:
    counts: Counter = Counter()
    guests: Counter = Counter()
    for number, count in run.history:
        counts[number] += count
        guests[number] += 1
    run.history = []
    inner = sorted(counts)[1:-1]                    # the first and the last window are cut
    alone = [counts[number] for number in inner if not number & 1]
    together = [counts[number] for number in inner if number & 1 and guests[number] == run.plan.workers]
    if not alone or not together:
        return
    per_second = 1000 / run.plan.settings["window_ms"]
    run.facts.update(ratio=round(median(together) / median(alone), 2), ratio_wanted=run.plan.settings["wanted"],
                     ops_per_second_alone=int(median(alone) * per_second),
                     ops_per_second_together=int(median(together) * per_second))

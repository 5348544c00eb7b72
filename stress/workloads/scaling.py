"""One worker against several, in alternating windows of one run, each with objects of its own.

Time is cut into windows by the monotonic clock that all share. Worker 0 works in every window, the others only in the
odd ones. The ratio is the median number of operations in the windows of all over the median in the windows of one, so a
slow moment of the machine hits both sides alike. Where other programs take the cores, two workers can't do twice as
much; `ratio_by_cpu_time` is what it would be if each had a core: workers times the operations a CPU second of all, over one's.

Settings: objects, pages, window_ms, wanted. Facts: ratio, ratio_by_cpu_time, ops_per_second_alone,
ops_per_second_together.
"""
from __future__ import annotations

from collections import Counter
from statistics import median
from time import monotonic_ns, process_time_ns, sleep

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
    windows: list[list[int]] = []                   # [window, operations, CPU ns]
    choice, randrange, pages = g.rng.choice, g.rng.randrange, g.settings["pages"]
    cpu_ns = process_time_ns()
    while g.running():
        number, within = divmod(monotonic_ns(), window_ns)
        if g.index and not number & 1:
            sleep((window_ns - within) / 1e9)
            continue
        if not windows or windows[-1][0] != number:
            windows.append([number, 0, 0])
            cpu_ns = process_time_ns()
        for _ in range(BATCH // 2):
            g.put(pool, choice(oids), randrange(pages), g.fresh())
            got = g.read(pool, choice(oids), randrange(pages))
            g.expect(got, "lost", "pool scaling", "a page is missing")
        windows[-1][1] += BATCH
        windows[-1][2] = process_time_ns() - cpu_ns
    g.history = [tuple(window) for window in windows]


def verdict(run) -> None:
    guests: Counter = Counter()
    ops: Counter = Counter()
    cpu_ns: Counter = Counter()
    for number, count, spent in run.history:
        guests[number] += 1
        ops[number] += count
        cpu_ns[number] += spent
    run.history = []
    inner = sorted(ops)[1:-1]                       # the first and the last window are cut
    alone = [number for number in inner if not number & 1]
    together = [number for number in inner if number & 1 and guests[number] == run.plan.workers]
    if not alone or not together:
        return
    one, all_ = (median(ops[number] for number in numbers) for numbers in (alone, together))
    each_alone, each_together = (sum(ops[number] for number in numbers) / max(1, sum(cpu_ns[number] for number in numbers))
                                 for numbers in (alone, together))
    per_second = 1000 / run.plan.settings["window_ms"]
    run.facts.update(ratio=round(all_ / one, 2), ratio_wanted=run.plan.settings["wanted"],
                     ratio_by_cpu_time=round(run.plan.workers * each_together / each_alone, 2),
                     ops_per_second_alone=int(one * per_second), ops_per_second_together=int(all_ * per_second))

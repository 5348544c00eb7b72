"""One worker against two, four and so on up to the cores, and against as many that copy without an
engine.

Time is cut into windows by the monotonic clock that all share, and windows take turns: of one
guest, of two, of every power of two there is a core for, first through the engine, then the same
again as a raw copy to and from memory of the guest's own. Contents are made and verified in both. A
ratio is the median number of operations in the windows of so many guests over the median in those
of one. A slow moment of the machine hits all alike, and where other programs take the cores the raw
copy does no better: a ratio is judged by the raw copy's. Guests for whom there is no core have
nothing to do.

Settings: objects, pages, window_ms, windows_min (of a kind: with fewer nothing is judged), wanted
(of the raw copy's ratio). Facts: for each number of guests ratio_N, raw_ratio_N, by_cpu_time_N
(what the ratio would be if each had a core to itself), and ops_per_second of one and of the most.
"""
from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Callable
from statistics import median
from time import monotonic_ns, process_time_ns, sleep

from stress.worker import Guest

BATCH = 16                      # operations between two looks at the clock
POOL = "scaling"


def counts(workers: int) -> list[int]:
    """Numbers of guests that are measured: powers of two up to the guests there are and the
    cores."""
    most = min(workers, len(os.sched_getaffinity(0)))
    return [1 << n for n in range(most.bit_length())]


def prepare(eng, plan) -> None:
    eng.new_pool(POOL, persistent=True, shared=True)


def guest(g: Guest) -> None:
    numbers, window_ns = counts(g.workers), int(g.settings["window_ms"] * 1e6)
    if g.index >= numbers[-1]:
        return
    ways = _through_the_engine(g), _raw(g)
    windows: list[list[int]] = []                   # [window, operations, CPU ns]
    cpu_ns = process_time_ns()
    while g.running():
        number, within = divmod(monotonic_ns(), window_ns)
        way, step = divmod(number % (2 * len(numbers)), len(numbers))
        if g.index >= numbers[step]:
            sleep((window_ns - within) / 1e9)
            continue
        if not windows or windows[-1][0] != number:
            windows.append([number, 0, 0])
            cpu_ns = process_time_ns()
        ways[way]()
        windows[-1][1] += BATCH
        windows[-1][2] = process_time_ns() - cpu_ns
    g.history = [tuple(window) for window in windows]


def _through_the_engine(g: Guest) -> Callable[[], None]:
    """A batch of puts and gets of pages that are all there: no window pays for the first touch."""
    pool, pages = g.pool(POOL), g.settings["pages"]
    oids = [(g.index, number, 11) for number in range(g.settings["objects"])]
    for oid in oids:
        for index in range(pages):
            g.expect(g.put(pool, oid, index, g.fresh()), "refused", f"pool {POOL}", "there is room for all")
    choice, randrange = g.rng.choice, g.rng.randrange

    def batch() -> None:
        for _ in range(BATCH // 2):
            g.put(pool, choice(oids), randrange(pages), g.fresh())
            g.expect(g.read(pool, choice(oids), randrange(pages)), "lost", f"pool {POOL}", "a page is missing")
    return batch


def _raw(g: Guest) -> Callable[[], None]:
    """The same through nothing but a copy."""
    size, pages, objects = g.plan.page_size, g.settings["pages"], g.settings["objects"]
    memory = memoryview(bytearray(objects * pages * size))
    oid, content, randrange = (g.index, 0, 12), g.content, g.rng.randrange
    for at in range(objects * pages):
        memory[at * size:(at + 1) * size] = content.page(oid, at, 1)

    def put(at: int, data: bytes) -> None:
        memory[at * size:(at + 1) * size] = data

    def get(at: int) -> bytes:
        return bytes(memory[at * size:(at + 1) * size])

    def batch() -> None:
        for _ in range(BATCH // 2):
            at = randrange(objects * pages)
            g.call("copy", put, at, content.page(oid, at, g.fresh()))
            at = randrange(objects * pages)
            content.verify(g.call("copy", get, at), oid, at, "raw copy")
    return batch


def verdict(run) -> None:
    numbers, settings = counts(run.plan.workers), run.plan.settings
    ops: Counter = Counter()
    cpu_ns: Counter = Counter()
    guests: Counter = Counter()
    for number, count, spent in run.history:
        ops[number] += count
        cpu_ns[number] += spent
        guests[number] += 1
    run.history = []
    kinds: dict[tuple[int, int], list[int]] = defaultdict(list)         # 0 engine or 1 raw, guests -> windows
    for number in sorted(ops)[1:-1]:                # the first and the last one are cut
        way, step = divmod(number % (2 * len(numbers)), len(numbers))
        if guests[number] == numbers[step]:
            kinds[way, numbers[step]].append(number)
    medians = {kind: median(ops[number] for number in windows) for kind, windows in kinds.items()}
    if (0, 1) not in medians or (1, 1) not in medians:
        return
    each = {kind: sum(ops[number] for number in windows) / max(1, sum(cpu_ns[number] for number in windows))
            for kind, windows in kinds.items()}
    for count in numbers[1:]:
        if (0, count) not in medians or (1, count) not in medians:
            continue
        ratio, raw = (medians[way, count] / medians[way, 1] for way in (0, 1))
        run.facts.update({f"ratio_{count}": round(ratio, 2), f"raw_ratio_{count}": round(raw, 2),
                          f"by_cpu_time_{count}": round(count * each[0, count] / each[0, 1], 2)})
        few = min(len(kinds[way, number]) for way in (0, 1) for number in (1, count)) < settings["windows_min"]
        run.expect(few or ratio >= settings["wanted"] * raw, "slow", f"{count} guests",
                   f"did {ratio:.2f} times as much as one, and {raw:.2f} times where they only copied")
    for count in (1, numbers[-1]):
        if (0, count) in medians:
            run.facts[f"ops_per_second_{count}"] = int(medians[0, count] * 1000 / settings["window_ms"])

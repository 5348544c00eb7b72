"""Owns the benchmark of long values, by one process: `python -m stress.bench.values`.

Values of 64 KiB, 1 MiB and 16 MiB are put over and got in random order: as pages of this engine, in
huge pages and in small ones; by a copy into and out of a private mapping; and with LMDB, as the
other benchmarks set it up, and as its users mostly have it: without `writemap`, synced or not. A
round does each case of each store once, in a shuffled order; ratios are taken within a round.
Everything is pinned to one core. Calls `engine` and `rounds`.
"""
from __future__ import annotations

import json
import mmap
import random
import sys
from collections.abc import Callable
from contextlib import ExitStack
from statistics import median
from time import perf_counter_ns
from typing import Any

import engine
from stress.bench import rounds as shared
from stress.bench.peers.base import Place

KIB, MIB = 1 << 10, 1 << 20
LENGTHS = {"64 KiB": 64 * KIB, "1 MiB": MIB, "16 MiB": 16 * MIB}
TOTAL = 128 * MIB               # bytes of all values of a store
BUDGET_NS = 30_000_000          # of one case of one store in one round
CALLS_MIN = 2
ROUNDS = 40
OURS, SMALL, RAW = "tmem", "tmem, small pages", "private copy"
LMDB = {
    "LMDB, writemap, sync=False": {"writemap": True, "sync": False, "metasync": False},
    "LMDB, sync=False": {"sync": False},
    "LMDB, defaults": {},
}
Calls = dict[str, Callable[[int], Any]]
Store = tuple[Callable, Callable, Callable | None]     # put, get, get into


def open_ours(stack: ExitStack, length: int, huge: bool) -> Store:
    place = Place.make(stack)
    eng = engine.create(place.name, capacity=2 * TOTAL, huge_pages=huge)
    stack.callback(engine.unlink, place.name)
    stack.callback(eng.close)
    pool = eng.new_pool("values", persistent=True, page_size=length)
    oid = (1, 2, 3)
    return (lambda n, value: pool.put(oid, n, value), lambda n: pool.get(oid, n),
            lambda n, buffer: pool.get_into(oid, n, buffer))


def open_raw(stack: ExitStack, length: int, count: int) -> Store:
    view = memoryview(stack.enter_context(mmap.mmap(-1, count * length, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)))
    stack.callback(view.release)

    def put(n: int, value: bytes) -> None:
        view[n * length : (n + 1) * length] = value

    def get_into(n: int, buffer: memoryview) -> None:
        buffer[:] = view[n * length : (n + 1) * length]
    return put, lambda n: bytes(view[n * length : (n + 1) * length]), get_into


def open_lmdb(stack: ExitStack, settings: dict[str, Any]) -> Store:
    import lmdb
    env = lmdb.open(str(Place.make(stack).folder / "lmdb"), map_size=8 * TOTAL, **settings)
    stack.callback(env.close)

    def put(n: int, value: bytes) -> None:
        with env.begin(write=True) as txn:
            txn.put(b"%d" % n, value)

    def get(n: int) -> bytes | None:
        with env.begin() as txn:
            return txn.get(b"%d" % n)
    return put, get, None


def calls_of(store: Store, values: list[bytes]) -> Calls:
    """The cases of a store, each a function of the value's number."""
    put, get, get_into = store
    buffer = memoryview(bytearray(len(values[0])))
    calls: Calls = {"put": lambda n: put(n, values[n & 1]), "get": get}
    if get_into is not None:
        calls["get into"] = lambda n: get_into(n, buffer)
    return calls


def measure(length: int, rounds: int, total: int = TOTAL) -> dict[str, dict[str, list[float]]]:
    """{store: {case: microseconds a call, of each round}}"""
    rng, count = random.Random(length), total // length
    values = [rng.randbytes(length) for _ in range(2)]
    with ExitStack() as stack:
        stack.enter_context(shared.one_core())
        stores = {OURS: open_ours(stack, length, True), SMALL: open_ours(stack, length, False),
                  RAW: open_raw(stack, length, count)}
        try:
            stores |= {name: open_lmdb(stack, settings) for name, settings in LMDB.items()}
        except ImportError:
            print("LMDB is not installed: pip install lmdb", file=sys.stderr)
        cases = {(name, case): call for name, store in stores.items() for case, call in calls_of(store, values).items()}
        for name in stores:
            for n in range(count):
                cases[name, "put"](n)
            assert cases[name, "get"](1) == values[1]
        steps = {key: max(CALLS_MIN, int(BUDGET_NS / time_of(call, range(CALLS_MIN)))) for key, call in cases.items()}
        found: dict[str, dict[str, list[float]]] = {name: {} for name in stores}
        for turn in range(rounds + 1):              # the first round warms up and is not counted
            for name, case in rng.sample(sorted(cases), len(cases)):
                walk = [rng.randrange(count) for _ in range(steps[name, case])]
                took = time_of(cases[name, case], walk) / 1000
                if turn:
                    found[name].setdefault(case, []).append(took)
    return found


def time_of(call: Callable[[int], Any], walk) -> float:
    """Nanoseconds a call."""
    begun = perf_counter_ns()
    for n in walk:
        call(n)
    return (perf_counter_ns() - begun) / len(walk)


def table(found: dict[str, dict[str, list[float]]], label: str) -> str:
    """A row a case and store: microseconds, and the medians of the ratios within the rounds."""
    lines = [f"| {label} | us a call | times tmem | times a private copy |", "|---|--:|--:|--:|"]
    for case in sorted(found[OURS], reverse=True):
        for name in found:
            if times := found[name].get(case):
                ratios = [median(one / base for one, base in zip(times, found[to][case], strict=True))
                          for to in (OURS, RAW)]
                lines.append(f"| {case}: {name} | {median(times):,.1f} | {ratios[0]:.2f} | {ratios[1]:.2f} |")
    return "\n".join(lines)


def main() -> None:
    results = {label: measure(length, ROUNDS) for label, length in LENGTHS.items()}
    if "--json" in sys.argv[1:]:
        print(json.dumps(results))
    else:
        print("\n\n".join(table(found, label) for label, found in results.items()))


if __name__ == "__main__":
    main()

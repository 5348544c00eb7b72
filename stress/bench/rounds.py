"""Owns what every measurement shares: pinning to one core, opening peers, seeded walks,
percentiles, and how much memory there is.

Calls the peers.
"""
from __future__ import annotations

import bisect
import contextlib
import itertools
import os
import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from statistics import median
from typing import Any

from stress.bench.peers import all_peers
from stress.bench.peers.base import Peer, Place

PAGE = 4096
SPARE_BYTES = 2 << 30           # of the machine's memory, which a benchmark leaves alone
QUANTILES = (0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.995, 0.999)


@contextlib.contextmanager
def one_core() -> Iterator[None]:
    """This process, and every server it starts meanwhile, on one core: to wake another idle core
    costs more than a call."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(before)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def available() -> int:
    """Bytes of memory that a new store may take."""
    with open("/proc/meminfo") as file:
        found = next((int(line.split()[1]) << 10 for line in file if line.startswith("MemAvailable")), 0)
    space = os.statvfs("/dev/shm")
    return min(found - SPARE_BYTES, space.f_bavail * space.f_frsize)


def spans(pages: int) -> list[tuple[int, int, int]]:
    """(pages of a span, number of spans, first number) for 64 KiB and 1 MiB, beside a working set
    of so many pages."""
    small, large = max(16, pages // 16 // 16), max(4, pages // 16 // 256)
    return [(16, small, 0), (256, large, small)]


def capacity_for(pages: int) -> int:
    """Bytes for the working set, its spans, and the objects that are put to be flushed."""
    return PAGE * (pages + sum(each * count for each, count, _ in spans(pages)) + 1024)


def open_peer(stack: ExitStack, kind: type[Peer], pages: int, capacity: int) -> Peer:
    """A new store, with the stack to remove it; also when making it fails by half."""
    place = Place.make(stack)
    peer = kind(place, pages, capacity)
    stack.callback(peer.remove)
    peer.create()
    peer.connect()
    stack.callback(peer.close)
    return peer


def open_peers(stack: ExitStack, names: list[str], pages: int, absent: dict[str, str]) -> dict[str, Peer]:
    """The stores of these names that can be had, filled with pages and spans."""
    kinds = all_peers()

    def prepare(peer: Peer) -> None:
        check(peer)
        fill(peer, pages)
    return open_all(stack, {name: kinds[name] for name in names}, pages, capacity_for(pages), prepare, absent)


def open_all(
    stack: ExitStack, kinds: dict[str, type[Peer]], pages: int, capacity: int, prepare: Callable[[Peer], None],
    absent: dict[str, str]
) -> dict[str, Peer]:
    """Those of these stores that can be had, prepared; `absent` gets the others with the reason."""
    found: dict[str, Peer] = {}
    for name, kind in kinds.items():
        if missing := kind.absent():
            absent[name] = f"not installed: {missing}"
        elif pages > kind.pages_max:
            absent[name] = f"not for more than {kind.pages_max:,} pages"
        elif available() < 2 * capacity:
            absent[name] = "not enough memory on this machine"
        else:
            with ExitStack() as part:
                try:
                    peer = open_peer(part, kind, pages, capacity)
                    prepare(peer)
                except Exception as error:      # a store that does not work is no reason to stop measuring the others
                    absent[name] = f"failed: {type(error).__name__}: {error}"
                    continue
                stack.push(part.pop_all())
            found[name] = peer
    return found


def check(peer: Peer) -> None:
    """A store that does not give back what it was given is not measured."""
    page = os.urandom(PAGE)
    key = peer.key(0)
    peer.put(*key, page)
    if peer.get(*key) != page:
        raise RuntimeError("a get did not give what was put")


def fill(peer: Peer, pages: int) -> None:
    page = random.Random(1).randbytes(PAGE)
    peer.fill((number, page) for number in range(pages))
    for each, count, first in spans(pages):
        block = page * each
        for number in range(first, first + count):
            peer.put_span(*peer.span(number, each), block)


class Zipf:
    """Numbers below `count`, the n-th most frequent with weight 1 / n ** skew, scattered over the
    range."""

    def __init__(self, count: int, skew: float, rng: random.Random):
        self._rng = rng
        self._sums = list(itertools.accumulate(1 / rank ** skew for rank in range(1, count + 1)))
        self._numbers = list(range(count))
        rng.shuffle(self._numbers)

    def draw(self, count: int) -> list[int]:
        rng, sums, numbers = self._rng, self._sums, self._numbers
        return [numbers[bisect.bisect(sums, rng.random() * sums[-1], hi=len(sums) - 1)] for _ in range(count)]


def quantiles(times: list[int]) -> dict[str, int]:
    times = sorted(times)
    return {f"{100 * part:g}": times[min(len(times) - 1, int(part * len(times)))] for part in QUANTILES}


def figures(rounds: list[float]) -> dict[str, Any]:
    """What is said about the rounds of one case; the rounds themselves stay in the raw result."""
    ordered = sorted(rounds)
    return {"median": round(median(rounds), 1), "p10": round(ordered[len(ordered) // 10], 1),
            "p90": round(ordered[-1 - len(ordered) // 10], 1), "rounds": [round(one, 1) for one in rounds]}

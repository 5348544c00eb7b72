"""Guests whose pages have 4 KiB to 16 MiB, in one arena, while the supervisor kills guests and
resizes it.

All use one ephemeral pool as a cache. In each turn most bytes are of one length, which changes from
turn to turn. A page is put, or written in place piece by piece; it is read by get, by get_into, by
a view, and into an array where NumPy is installed; each byte is verified. What comes back is what
this guest put last, and a put is always taken. Each guest also keeps persistent pages of any
length, which it puts over, flushes and reads; what they may be is known from a ledger that outlives
the guest (`stress/ledger.py`).

When so many arenas full of bytes were put since the last resize (`turnover`), pages must take a
certain part of the capacity.

Settings: those of `stress/unrest.py`, and lengths, most, over, kept_bytes, kept_part, turnover,
used. Facts: turns, samples, used_percent_min, used_percent_mean, kills, resizes, written, put,
kept_back.
"""
from __future__ import annotations

import random
import statistics
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import engine
from stress import unrest
from stress.content import MIN_BYTES, Content, describe
from stress.unrest import Keeper, turn_now
from stress.worker import Guest

numpy: Any = import_module("numpy") if find_spec("numpy") else None

CACHE = "cache"
LOOKS = 5
PIECE = 262144              # bytes that are written in place at once
VIEWED_MAX = 4 << 20        # longer pages are viewed seldom: what is viewed has a bound


def prepare(eng, plan) -> None:
    eng.new_pool(CACHE, page_size=max(plan.settings["lengths"]))
    unrest.prepare(eng, plan, page_size=plan.settings["kept_bytes"])


def guest(g: Guest) -> None:
    Sizer(g).run()


class Sizer:
    """One guest, from its start to its end or death."""

    def __init__(self, g: Guest):
        self.g = g
        g.content = Content(g.plan.seed, max(g.settings["lengths"]))
        self.life = unrest.new_life(g)
        self.cache, self.kept = g.pool(CACHE), Keeper(g)
        self.put: dict[tuple, int] = {}         # handle -> version put last in this life
        self.buffer = bytearray(max(g.settings["lengths"]))
        self.counts = {"written": 0, "put": 0}

    def run(self) -> None:
        g = self.g
        self.kept.settle()
        while g.running():
            if g.rng.random() < g.settings["kept_part"] and self.kept.own:
                self.kept.use(self.kept_length)
            else:
                self.use_cache(turn_now(g.plan, g.board))
        self.kept.read_all()
        g.facts.update(self.counts, kept_back=self.kept.back)

    def kept_length(self) -> int:
        return round(MIN_BYTES * (self.g.settings["kept_bytes"] / MIN_BYTES) ** self.g.rng.random())

    # --- the cache --------------------------------------------------------------------------------

    def length(self, turn: int) -> int:
        """A length, each with its share of the bytes of the turn."""
        lengths, most = self.g.settings["lengths"], self.g.settings["most"]
        favourite = random.Random(f"{self.g.plan.seed}/sizes/{turn}").randrange(len(lengths))
        rest = (1 - most) / (len(lengths) - 1)
        shares = [(most if n == favourite else rest) / length for n, length in enumerate(lengths)]
        return self.g.rng.choices(lengths, shares)[0]

    def use_cache(self, turn: int) -> None:
        g, rng = self.g, self.g.rng
        length = self.length(turn)
        bytes_of_it = g.settings["over"] * g.eng.capacity / len(g.settings["lengths"]) / g.workers
        number = rng.randrange(max(2, int(bytes_of_it / length)))
        oid, index = (g.index + 1, length, number // 8), number % 8
        got, wanted = self.read(oid, index, length), self.put.get((oid, index))
        where = f"pool {CACHE} {describe(oid, index)}"
        if wanted is not None:
            g.expect(got in (0, wanted), "stale", where,
                     f"version {got} came back, {wanted} was put last (0: no page)")
        if not got:
            version = self.life + g.fresh()
            self.put[oid, index] = version
            shorter = length - rng.randrange(length // 8) if rng.random() < 0.5 else length
            if rng.random() < 0.5:
                self.write(oid, index, version, shorter)
            else:
                self.counts["put"] += 1
                g.expect(g.put(self.cache, oid, index, version, shorter), "refused", where,
                         f"an ephemeral put of {shorter} bytes was refused")

    def write(self, oid, index: int, version: int, length: int) -> None:
        """Write the page in place, in pieces; now and then give up half-way first."""
        g = self.g
        data = memoryview(g.content.page(oid, index, version, length))
        try:
            if g.rng.random() < 0.1:
                with self.cache.writing(oid, index, length) as buffer:
                    buffer[: length // 2] = data[: length // 2]
                    buffer.abort()
            with self.cache.writing(oid, index, length) as buffer:
                for at in range(0, length, PIECE):
                    buffer[at : at + PIECE] = data[at : at + PIECE]
        except engine.TooMuchPinned:        # of dead workers, whom nobody has inherited yet
            g.put(self.cache, oid, index, version, length)
        self.counts["written"] += 1

    def read(self, oid, index: int, length: int) -> int:
        g, how = self.g, self.g.rng.random()
        if how < 0.3:
            return g.read_into(self.cache, oid, index, self.buffer)
        if numpy is not None and how < 0.5 and length <= VIEWED_MAX:
            return self.read_array(oid, index)
        return g.read(self.cache, oid, index, None if length <= VIEWED_MAX else False)

    def read_array(self, oid, index: int) -> int:
        """A page as an array, which is of no use when its view is left."""
        g = self.g
        try:
            with g.call("view", self.cache.view, oid, index) as page:
                if page is None:
                    return 0
                array = numpy.frombuffer(page, dtype=numpy.uint8)
                g.expect(array.ctypes.data % 64 == 0, "damaged", describe(oid, index), "a view that is not aligned")
                version = g.content.verify(array.tobytes(), oid, index)
                del array
                return version
        except engine.TooMuchPinned:
            return g.read(self.cache, oid, index, False)


def tick(run) -> None:
    before = run.scratch.get("resizes")
    if unrest.disturb(run) is None:
        return
    if run.scratch["resizes"] != before:        # also at the start
        run.scratch["put_at_change"] = _bytes_put(run)
    _look(run)


def _bytes_put(run) -> float:
    """Bytes that were ever put into the cache, about: those there are, and those that went."""
    counters = run.eng.stats()["pools"][CACHE]
    return (counters["pages"] + counters["evicted"]) / max(1, counters["pages"]) * counters["bytes_used"]


def _look(run) -> None:
    """How much of the memory pages take, if enough was put since the last change."""
    stats = run.eng.stats()
    capacity = stats["arena"]["capacity"]
    if _bytes_put(run) - run.scratch["put_at_change"] < run.plan.settings["turnover"] * capacity:
        return
    taken = sum(each["bytes_used"] for each in stats["pools"].values()) + stats["arena"]["bytes_overhead"]
    samples = run.scratch["samples"]
    samples.append(taken / capacity)
    # Not one look alone: each guest may be making room for a long page just then.
    usual = statistics.median(samples[-LOOKS:])
    run.expect(len(samples) < LOOKS or usual >= run.plan.settings["used"], "idle",
               f"arena, turn {run.scratch['turn']}", f"in the median of {LOOKS} looks pages take {usual:.0%} of it")


verdict = unrest.verdict

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

Settings: small, turn, resize_every, kill_every, lengths, most, over, kept, kept_bytes, kept_part,
turnover, used. Facts: turns, samples, used_percent_min, used_percent_mean, kills, resizes, written,
put, kept_back.
"""
from __future__ import annotations

import random
import statistics
from importlib import import_module
from importlib.util import find_spec
from time import monotonic_ns
from typing import Any

import engine
from stress import board as words
from stress.content import MIN_BYTES, Content, describe
from stress.ledger import Ledger
from stress.worker import Guest
from stress.workloads.drift import INCARNATION, KILLS_UNTIL, SHORT_LIFE_S, turn_now

numpy: Any = import_module("numpy") if find_spec("numpy") else None

CACHE, KEEP = "cache", "keep"
LOOKS = 5
PIECE = 262144              # bytes that are written in place at once
VIEWED_MAX = 4 << 20        # longer pages are viewed seldom: what is viewed has a bound


def prepare(eng, plan) -> None:
    eng.new_pool(CACHE, page_size=max(plan.settings["lengths"]))
    eng.new_pool(KEEP, persistent=True, page_size=plan.settings["kept_bytes"])
    Ledger(plan.folder, plan.settings["kept"]).close()


def guest(g: Guest) -> None:
    Sizer(g).run()


class Sizer:
    """One guest, from its start to its end or death."""

    def __init__(self, g: Guest):
        self.g = g
        g.content = Content(g.plan.seed, max(g.settings["lengths"]))
        g.row[words.INCARNATIONS] += 1
        self.life = g.row[words.INCARNATIONS] * INCARNATION
        self.cache, self.keep, self.ledger = g.pool(CACHE), g.pool(KEEP), Ledger(g.plan.folder)
        self.own = range(g.index, g.settings["kept"], g.workers)
        self.put: dict[tuple, int] = {}         # handle -> version put last in this life
        self.buffer = bytearray(max(g.settings["lengths"]))
        self.counts = {"written": 0, "put": 0, "kept_back": 0}

    def run(self) -> None:
        g = self.g
        for entry in self.own:
            self.ledger.settle(entry, g.read(self.keep, *self.handle(entry)), f"after a kill, entry {entry}")
        while g.running():
            if g.rng.random() < g.settings["kept_part"] and self.own:
                self.use_kept()
            else:
                self.use_cache(turn_now(g.plan, g.board))
        for entry in self.own:
            self.read_kept(entry)
        g.facts.update(self.counts)

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

    # --- what is kept -----------------------------------------------------------------------------

    def handle(self, entry: int) -> tuple:
        return (entry, 0, 31), entry % 3

    def read_kept(self, entry: int) -> None:
        before = self.ledger.before(entry)
        oid, index = self.handle(entry)
        got = self.g.read(self.keep, oid, index)
        self.ledger.judge(entry, before, got, f"pool {KEEP} {describe(oid, index)}")
        self.counts["kept_back"] += bool(got)

    def use_kept(self) -> None:
        g = self.g
        entry, what = g.rng.choice(self.own), g.rng.random()
        if what < 0.4:
            self.read_kept(entry)
        elif what < 0.5:
            self.ledger.begin(entry, False)
            g.flush(self.keep, *self.handle(entry))
            self.ledger.end(entry, False)
        else:
            version = self.ledger.begin(entry, True)
            oid, index = self.handle(entry)
            length = round(MIN_BYTES * (g.settings["kept_bytes"] / MIN_BYTES) ** g.rng.random())
            taken = g.put(self.keep, oid, index, version, length)
            self.ledger.end(entry, taken)
            g.expect(taken, "refused", f"pool {KEEP}, entry {entry}",
                     f"a persistent put of {length} bytes was refused, and there are ephemeral pages to evict")


def tick(run) -> None:
    """What the supervisor does in a turn: once it resizes, once it kills, and it looks."""
    board, settings = run.board, run.plan.settings
    if not board.control[words.START] or board.control[words.STOP]:
        return
    number = turn_now(run.plan, board)
    at = run.scratch
    if not at:
        at.update(turn=-1, large=run.eng.capacity, kills=0, resizes=0, samples=[], killed=False, put_at_change=0)
    if number != at["turn"]:
        at.update(turn=number, killed=False)
        if number % settings["resize_every"] == settings["resize_every"] - 1:
            run.eng.resize(int(settings["small"] * at["large"]) if run.eng.capacity == at["large"] else at["large"])
            at["resizes"] += 1
            at["put_at_change"] = _bytes_put(run)
    since = (monotonic_ns() - board.control[words.START]) / 1e9
    part = since / settings["turn"] - number
    every = max(settings["kill_every"], -(-int(SHORT_LIFE_S / settings["turn"]) // run.plan.workers))
    if part > 0.3 and not at["killed"] and number % every == 0 and number and since <= KILLS_UNTIL * run.plan.seconds:
        at["killed"] = True
        process = run.crew[at["kills"] % run.plan.workers]
        if process.pid in {row[words.PID] for row in board.rows[:run.plan.workers]} and process.is_alive():
            process.kill()
            at["kills"] += 1
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


def verdict(run) -> None:
    at = run.scratch
    if at:
        samples = at["samples"]
        run.facts.update(turns=at["turn"] + 1, samples=len(samples), kills=at["kills"], resizes=at["resizes"])
        if samples:
            run.facts.update(used_percent_min=round(100 * min(samples), 1),
                             used_percent_mean=round(100 * sum(samples) / len(samples), 1))

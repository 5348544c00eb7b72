"""Guests whose pages leave for a file and come back, beside persistent pages that stay, while the
supervisor kills guests and resizes the arena.

All use one ephemeral pool with a far tier as a cache: they get pages of a set that is larger than
the arena and fits into the file, by one or several at once, flush some, and put those that are not
there. What comes back is what this guest put last. Each of them spills now and then, and so does
the supervisor: one does at a time, and is killed as everybody. Each guest also keeps persistent
pages; what they may be is known from a ledger that outlives the guest (`stress/ledger.py`).

At the end pages must have left, and some of them must have been had from the file.

Settings: those of `stress/unrest.py`, and over, file, short, spill_part, flush_part, range_part,
kept_part. Facts: turns, kills, resizes, kept_back, spilled, far_hits, far_misses_gone,
checksum_bad, localified, far_skipped.
"""
from __future__ import annotations

from pathlib import Path

from stress import unrest
from stress.content import MIN_BYTES, describe
from stress.unrest import Keeper
from stress.worker import Guest

CACHE = "away"
OBJECT_PAGES = 16
AT_ONCE = 8
FACTS = ("spilled", "far_hits", "far_misses_gone", "checksum_bad", "localified", "far_skipped")


def prepare(eng, plan) -> None:
    path = (Path(plan.folder) / "far").absolute()
    eng.new_pool(CACHE, far=f"file://{path}?size={int(plan.settings['file'] * eng.capacity) + (8 << 20)}")
    unrest.prepare(eng, plan)


def guest(g: Guest) -> None:
    Traveller(g).run()


class Traveller:
    """One guest, from its start to its end or death."""

    def __init__(self, g: Guest):
        self.g = g
        self.life = unrest.new_life(g)
        self.pool, self.kept = g.pool(CACHE), Keeper(g)
        self.put: dict[tuple, int] = {}         # handle -> version put last in this life; 0: flushed
        self.pages = max(AT_ONCE, int(g.settings["over"] * g.eng.capacity / g.plan.page_size / g.workers))

    def run(self) -> None:
        g = self.g
        self.kept.settle()
        while g.running():
            what, settings = g.rng.random(), g.settings
            for part, act in (("spill_part", g.eng.spill), ("flush_part", self.flush), ("range_part", self.read_range)):
                if what < settings[part]:
                    act()
                    break
                what -= settings[part]
            else:
                if what < settings["kept_part"] and self.kept.own:
                    self.kept.use(self.length)
                else:
                    self.use()
        self.kept.read_all()
        g.facts.update(kept_back=self.kept.back)

    def length(self) -> int:
        rng, most = self.g.rng, self.g.plan.page_size
        return rng.randrange(MIN_BYTES, most) if rng.random() < self.g.settings["short"] else most

    def handle(self, number: int) -> tuple:
        return (self.g.index + 1, number // OBJECT_PAGES, 0), number % OBJECT_PAGES

    def judge(self, oid, index: int, got: int) -> None:
        wanted = self.put.get((oid, index))
        if wanted is not None:
            self.g.expect(got in (0, wanted), "stale", f"pool {CACHE} {describe(oid, index)}",
                          f"version {got} came back, {wanted} was put last (0: no page)")

    def use(self) -> None:
        g = self.g
        oid, index = self.handle(g.rng.randrange(self.pages))
        got = g.read(self.pool, oid, index, g.rng.random() < 0.05)
        self.judge(oid, index, got)
        if not got:
            version = self.life + g.fresh()
            self.put[oid, index] = version
            g.expect(g.put(self.pool, oid, index, version, self.length()), "refused",
                     f"pool {CACHE} {describe(oid, index)}", "an ephemeral put was refused")

    def flush(self) -> None:
        oid, index = self.handle(self.g.rng.randrange(self.pages))
        self.g.flush(self.pool, oid, index)
        self.put[oid, index] = 0

    def read_range(self) -> None:
        """Several pages in one batch."""
        first = self.g.rng.randrange(self.pages - AT_ONCE + 1)
        handles = [self.handle(number) for number in range(first, first + AT_ONCE)]
        found = self.g.call("get", self.pool.get_many, handles, False)
        for (oid, index), data in zip(handles, found, strict=True):
            where = f"pool {CACHE} {describe(oid, index)}"
            self.judge(oid, index, 0 if data is None else self.g.content.verify(data, oid, index, where))


def tick(run) -> None:
    run.eng.spill()
    unrest.disturb(run)


def verdict(run) -> None:
    unrest.verdict(run)
    said = run.eng.stats()["pools"][CACHE]
    run.facts.update({name: said[name] for name in FACTS})
    run.expect(said["spilled"] > 0 and said["far_hits"] > 0, "idle", f"pool {CACHE}",
               f"{said['spilled']} pages left, and {said['far_hits']} gets were answered by the file")

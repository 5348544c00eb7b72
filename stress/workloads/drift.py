"""Guests whose sizes, pools and hot sets change every turn, beside persistent pages whose sizes
change as well, while the supervisor kills guests and resizes the arena.

In each turn all guests use one new ephemeral pool as a cache: they get pages of a set that is
larger than the arena, half of the time few of them, and put those that are not there. A page that
comes back is the one put last, and a put is always taken. Each guest also keeps persistent pages,
which it puts over with the length of the turn, flushes and reads; what they may be is known from a
ledger that outlives the guest (`stress/ledger.py`).

At the end of a turn in which so many arenas full of bytes were put (`turnover`), the memory must
hold what was asked for in this turn: the turn's pool and what is persistent, with all that
describes them, take a certain part of the capacity at least. Not after one: a pool is idle when
half an arena went without a call of it, and then its pages go.

Settings: those of `stress/unrest.py`, and pools, over, short, kept_part, turnover, used. Facts:
turns, samples, used_percent_min, used_percent_mean, kills, resizes, kept_back.
"""
from __future__ import annotations

import contextlib
import random
from functools import partial

import engine
from stress import unrest
from stress.content import MIN_BYTES, describe
from stress.unrest import KEEP, Keeper, turn_now
from stress.worker import Guest

OBJECT_PAGES = 8
DESCRIPTOR, OBJECT, NODE = 64, 128, 576     # bytes of what describes pages
SAMPLE_FROM = 0.8               # of a turn, before it is looked where memory is


def prepare(eng, plan) -> None:
    unrest.prepare(eng, plan)


class Turn:
    """What is asked for in one turn: the same for all guests."""

    def __init__(self, plan, capacity: int, number: int):
        rng = random.Random(f"{plan.seed}/turn/{number}")
        self.number = number
        self.name = f"drift-{number}"
        self.policy = rng.choice(["s3fifo", "s3fifo", "sieve", "clock"])
        low, high = MIN_BYTES, plan.page_size
        self.lengths = [round(low * (high / low) ** rng.random()) for _ in range(2)]
        self.pages = int(plan.settings["over"] * capacity / (self.lengths[0] + DESCRIPTOR + OBJECT / OBJECT_PAGES))

    def length(self, rng, short: float) -> int:
        return self.lengths[rng.random() < short]


def guest(g: Guest) -> None:
    Drifter(g).run()


class Drifter:
    """One guest, from its start to its end or death."""

    def __init__(self, g: Guest):
        self.g = g
        self.life = unrest.new_life(g)
        self.kept = Keeper(g)
        self.put: dict[tuple, int] = {}         # handle of the turn's pool -> version put last in this life

    def run(self) -> None:
        g = self.g
        self.kept.settle()
        number = -1
        while g.running():
            if turn_now(g.plan, g.board) != number:
                number = turn_now(g.plan, g.board)
                turn = Turn(g.plan, g.eng.capacity, number)
                pool = self.begin(turn)
            if g.rng.random() < g.settings["kept_part"] and self.kept.own:
                self.kept.use(partial(turn.length, g.rng, g.settings["short"]))
                continue
            with contextlib.suppress(engine.PoolDestroyed):     # this guest has slept for some turns
                self.use_cache(pool, turn)
        self.kept.read_all()
        g.facts.update(kept_back=self.kept.back)

    def begin(self, turn: Turn):
        g = self.g
        self.put.clear()
        with contextlib.suppress(engine.PoolNotFound, engine.PoolDestroyed):
            g.call("pool", g.eng.pool(f"drift-{turn.number - g.settings['pools']}").destroy)
        with contextlib.suppress(engine.PoolExists):
            g.call("pool", lambda: g.eng.new_pool(turn.name, policy=turn.policy))
        return g.pool(turn.name)

    def use_cache(self, pool, turn: Turn) -> None:
        g, rng = self.g, self.g.rng
        number = (int(rng.paretovariate(0.7)) if rng.random() < 0.5 else rng.randrange(1 << 30)) % turn.pages
        oid, index = (g.index + 1, number // OBJECT_PAGES, turn.number), number % OBJECT_PAGES
        got, wanted = g.read(pool, oid, index), self.put.get((oid, index))
        if wanted is not None:
            g.expect(got in (0, wanted), "stale", f"pool {turn.name} {describe(oid, index)}",
                     f"version {got} came back, {wanted} was put last (0: no page)")
        if not got:
            version = self.life + g.fresh()
            self.put[oid, index] = version
            g.expect(g.put(pool, oid, index, version, turn.length(rng, g.settings["short"])), "refused",
                     f"pool {turn.name} {describe(oid, index)}", "an ephemeral put was refused")


def tick(run) -> None:
    turn = unrest.disturb(run)
    if turn is not None and turn[1] > SAMPLE_FROM:
        _look(run, turn[0])


def _taken(counters) -> int:
    return (counters["bytes_used"] + counters["pages"] * DESCRIPTOR + counters["objects"] * OBJECT
            + counters["objnodes"] * NODE)


def _look(run, number: int) -> None:
    """Where memory is, if an arena full of bytes was put since the last change."""
    stats = run.eng.stats()
    turns, kept = stats["pools"].get(f"drift-{number}"), stats["pools"][KEEP]
    if turns is None or not turns["pages"] or turn_now(run.plan, run.board) != number:
        return
    capacity = stats["arena"]["capacity"]
    put = (turns["pages"] + turns["evicted"]) / turns["pages"] * _taken(turns)
    if put >= run.plan.settings["turnover"] * capacity:
        mine = _taken(turns) + _taken(kept)
        others = sum(_taken(each) for each in stats["pools"].values()) - mine
        run.scratch["samples"].append(mine / capacity)
        run.expect(mine >= run.plan.settings["used"] * capacity, "idle", f"arena, turn {number}",
                   f"{mine / capacity:.0%} of it is persistent, or was asked for since {put / capacity:.1f} arenas "
                   f"full of bytes were put; other pools have {others / capacity:.0%}, and "
                   f"{stats['arena']['bytes_stuck'] / capacity:.0%} is stuck")


verdict = unrest.verdict

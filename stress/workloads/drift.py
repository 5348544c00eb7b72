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

Settings: small, turn, resize_every, kill_every, pools, over, short, kept, kept_part, turnover,
used. Facts: turns, samples, used_percent_min, used_percent_mean, kills, resizes.
"""
from __future__ import annotations

import contextlib
import random
from time import monotonic_ns

import engine
from stress import board as words
from stress.content import MIN_BYTES, describe
from stress.ledger import Ledger
from stress.worker import Guest

KEEP = "keep"
OBJECT_PAGES = 8
DESCRIPTOR, OBJECT, NODE = 64, 128, 576     # bytes of what describes pages
SAMPLE_FROM = 0.8               # of a turn, before it is looked where memory is
SHORT_LIFE_S = 6.0              # a crew gives up a place whose processes live less than 5 s, eight times in a row
KILLS_UNTIL = 0.9               # of the run: who is killed must come back
INCARNATION = 1 << 44           # versions of a guest's next life begin so much higher


def prepare(eng, plan) -> None:
    eng.new_pool(KEEP, persistent=True)
    Ledger(plan.folder, plan.settings["kept"]).close()


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


def turn_now(plan, board) -> int:
    return int((monotonic_ns() - board.control[words.START]) / (plan.settings["turn"] * 1e9))


def guest(g: Guest) -> None:
    Drifter(g).run()


class Drifter:
    """One guest, from its start to its end or death."""

    def __init__(self, g: Guest):
        self.g = g
        g.row[words.INCARNATIONS] += 1
        self.life = g.row[words.INCARNATIONS] * INCARNATION
        self.keep, self.ledger = g.pool(KEEP), Ledger(g.plan.folder)
        self.own = range(g.index, g.settings["kept"], g.workers)
        self.put: dict[tuple, int] = {}         # handle of the turn's pool -> version put last in this life
        self.back = 0

    def run(self) -> None:
        g = self.g
        for entry in self.own:
            self.ledger.settle(entry, g.read(self.keep, *self.handle(entry)), f"after a kill, entry {entry}")
        number = -1
        while g.running():
            if turn_now(g.plan, g.board) != number:
                number = turn_now(g.plan, g.board)
                turn = Turn(g.plan, g.eng.capacity, number)
                pool = self.begin(turn)
            if g.rng.random() < g.settings["kept_part"] and self.own:
                self.use_kept(turn)
                continue
            with contextlib.suppress(engine.PoolDestroyed):     # this guest has slept for some turns
                self.use_cache(pool, turn)
        for entry in self.own:
            self.read_kept(entry)
        g.facts.update(kept_back=self.back)

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

    def handle(self, entry: int) -> tuple:
        return (entry // OBJECT_PAGES, 0, 31), entry % OBJECT_PAGES

    def read_kept(self, entry: int) -> None:
        before = self.ledger.before(entry)
        oid, index = self.handle(entry)
        got = self.g.read(self.keep, oid, index)
        self.ledger.judge(entry, before, got, f"pool {KEEP} {describe(oid, index)}")
        self.back += bool(got)

    def use_kept(self, turn: Turn) -> None:
        g = self.g
        entry, what = g.rng.choice(self.own), g.rng.random()
        if what < 0.3:
            self.read_kept(entry)
        elif what < 0.4:
            self.ledger.begin(entry, False)
            g.flush(self.keep, *self.handle(entry))
            self.ledger.end(entry, False)
        else:
            version = self.ledger.begin(entry, True)
            oid, index = self.handle(entry)
            taken = g.put(self.keep, oid, index, version, turn.length(g.rng, g.settings["short"]))
            self.ledger.end(entry, taken)
            g.expect(taken, "refused", f"pool {KEEP}, entry {entry}", "a persistent put was refused, and there are "
                     "ephemeral pages to evict")


def tick(run) -> None:
    """What the supervisor does in a turn: once it resizes, once it kills, and at the end it
    looks."""
    board, settings = run.board, run.plan.settings
    if not board.control[words.START] or board.control[words.STOP]:
        return
    number = turn_now(run.plan, board)
    at = run.scratch
    if not at:
        at.update(turn=-1, large=run.eng.capacity, kills=0, resizes=0, samples=[], changed=False)
    if number != at["turn"]:
        at.update(turn=number, killed=False)
        if number % settings["resize_every"] == settings["resize_every"] - 1:
            run.eng.resize(int(settings["small"] * at["large"]) if run.eng.capacity == at["large"] else at["large"])
            at["resizes"] += 1
    since = (monotonic_ns() - board.control[words.START]) / 1e9
    part = since / settings["turn"] - number
    late = since > KILLS_UNTIL * run.plan.seconds
    # In turn, and each seldom enough that its crew goes on replacing it.
    every = max(settings["kill_every"], -(-int(SHORT_LIFE_S / settings["turn"]) // run.plan.workers))
    if part > 0.3 and not at["killed"] and number % every == 0 and number and not late:
        at["killed"] = True
        process = run.crew[at["kills"] % run.plan.workers]
        if process.pid in {row[words.PID] for row in board.rows[:run.plan.workers]} and process.is_alive():
            process.kill()
            at["kills"] += 1
    if part > SAMPLE_FROM:
        _look(run, number)


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


def verdict(run) -> None:
    at = run.scratch
    if at:
        samples = at["samples"]
        run.facts.update(turns=at["turn"] + 1, samples=len(samples), kills=at["kills"], resizes=at["resizes"])
        if samples:
            run.facts.update(used_percent_min=round(100 * min(samples), 1),
                             used_percent_mean=round(100 * sum(samples) / len(samples), 1))

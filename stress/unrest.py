"""Owns what keeps a run from coming to rest: turns, in which guests want other things than before,
resizes and kills; and persistent pages that a guest keeps through them.

A scenario that uses it has the settings turn (seconds), resize_every, kill_every (turns), small
(part of the capacity that is left by every other resize) and kept (persistent pages, of all guests
together).
"""
from __future__ import annotations

from collections.abc import Callable
from time import monotonic_ns

from stress import board as words
from stress.content import describe
from stress.ledger import Ledger
from stress.worker import Guest

KEEP = "keep"                   # the pool of what is kept
OBJECT_PAGES = 8
SHORT_LIFE_S = 6.0              # a crew gives up a place whose processes live less than 5 s, eight times in a row
KILLS_UNTIL = 0.9               # of the run: who is killed must come back
KILL_FROM = 0.3                 # of a turn
INCARNATION = 1 << 44           # versions of a guest's next life begin so much higher
READS, FLUSHES = 0.35, 0.1      # parts of what is done with what is kept; the rest are puts


def prepare(eng, plan, **pool) -> None:
    """Make the pool of what is kept, and its ledger."""
    eng.new_pool(KEEP, persistent=True, **pool)
    Ledger(plan.folder, plan.settings["kept"]).close()


def turn_now(plan, board) -> int:
    return int((monotonic_ns() - board.control[words.START]) / (plan.settings["turn"] * 1e9))


def handle(entry: int) -> tuple:
    return (entry // OBJECT_PAGES, 0, 31), entry % OBJECT_PAGES


def new_life(g: Guest) -> int:
    """Where the versions of a guest's new life begin."""
    g.row[words.INCARNATIONS] += 1
    return g.row[words.INCARNATIONS] * INCARNATION


class Keeper:
    """The persistent pages of one guest, which it reads, flushes and puts over."""

    def __init__(self, g: Guest):
        self.g = g
        self.pool, self.ledger = g.pool(KEEP), Ledger(g.plan.folder)
        self.own = range(g.index, g.settings["kept"], g.workers)
        self.back = 0           # pages that were read

    def settle(self) -> None:
        """What the guest before this one may have been about when it was killed."""
        for entry in self.own:
            self.ledger.settle(entry, self.g.read(self.pool, *handle(entry)), f"after a kill, entry {entry}")

    def read(self, entry: int) -> None:
        before = self.ledger.before(entry)
        got = self.g.read(self.pool, *handle(entry))
        self.ledger.judge(entry, before, got, f"pool {KEEP} {describe(*handle(entry))}")
        self.back += bool(got)

    def read_all(self) -> None:
        for entry in self.own:
            self.read(entry)

    def use(self, length: Callable[[], int]) -> None:
        """Do something with one of them; a page that is put has the length that is told then."""
        entry, what = self.g.rng.choice(self.own), self.g.rng.random()
        if what < READS:
            self.read(entry)
        elif what < READS + FLUSHES:
            self.ledger.begin(entry, False)
            self.g.flush(self.pool, *handle(entry))
            self.ledger.end(entry, False)
        else:
            size, version = length(), self.ledger.begin(entry, True)
            oid, index = handle(entry)
            taken = self.g.put(self.pool, oid, index, version, size)
            self.ledger.end(entry, taken)
            self.g.expect(taken, "refused", f"pool {KEEP}, entry {entry}",
                          f"a persistent put of {size} bytes was refused, and there are ephemeral pages to evict")


def disturb(run) -> tuple[int, float] | None:
    """What the supervisor does in a turn: once it resizes, once it kills, in some of them. The
    number of the turn, and how much of it is over; None if the guests do not work."""
    board, settings = run.board, run.plan.settings
    if not board.control[words.START] or board.control[words.STOP]:
        return None
    at, number = run.scratch, turn_now(run.plan, board)
    if not at:
        at.update(turn=-1, large=run.eng.capacity, kills=0, resizes=0, samples=[], killed=False)
    if number != at["turn"]:
        at.update(turn=number, killed=False)
        if number % settings["resize_every"] == settings["resize_every"] - 1:
            run.eng.resize(int(settings["small"] * at["large"]) if run.eng.capacity == at["large"] else at["large"])
            at["resizes"] += 1
    since = (monotonic_ns() - board.control[words.START]) / 1e9
    part = since / settings["turn"] - number
    # In turn, and each seldom enough that its crew goes on replacing it.
    every = max(settings["kill_every"], -(-int(SHORT_LIFE_S / settings["turn"]) // run.plan.workers))
    late = since > KILLS_UNTIL * run.plan.seconds
    if part > KILL_FROM and not at["killed"] and number % every == 0 and number and not late:
        at["killed"] = True
        process = run.crew[at["kills"] % run.plan.workers]
        if process.pid in {row[words.PID] for row in board.rows[:run.plan.workers]} and process.is_alive():
            process.kill()
            at["kills"] += 1
    return number, part


def verdict(run) -> None:
    at = run.scratch
    if at:
        samples = at["samples"]
        run.facts.update(turns=at["turn"] + 1, samples=len(samples), kills=at["kills"], resizes=at["resizes"])
        if samples:
            run.facts.update(used_percent_min=round(100 * min(samples), 1),
                             used_percent_mean=round(100 * sum(samples) / len(samples), 1))

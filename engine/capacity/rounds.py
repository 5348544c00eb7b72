"""Owns the rounds of tending an arena: what each says, and how long is rested between two."""
import time
from collections.abc import Callable
from dataclasses import astuple, dataclass
from typing import Any

PAUSE_S = 0.1           # after a round in which there was something to do
PAUSE_MAX_S = 3.2       # twice as long after each in which there was not, up to this


@dataclass
class Tended:
    """The answer of Engine.tend: what was done, in so many rounds.

    dead: workers that had died and were settled. inherited: workers whose garbage was taken apart
    for them. buried: objects that had expired or were cleared with their pool, and were taken out.
    merged: segments that were emptied by moving what was in them. given: segments whose
    memory went back to the system. spilled: pages that are far since.
    """

    rounds: int = 0
    dead: int = 0
    inherited: int = 0
    buried: int = 0
    merged: int = 0
    given: int = 0
    spilled: int = 0

    @property
    def idle(self) -> bool:
        """True if there was nothing to do."""
        return not any(astuple(self)[1:])

    def __add__(self, other: "Tended") -> "Tended":
        return Tended(*(mine + its for mine, its in zip(astuple(self), astuple(other), strict=True)))


def follow(eng: Any, seconds: float, on_round: Callable[[Any], object] | None = None) -> Tended:
    """Rounds for so many seconds, one at least: what was done in all of them.

    eng: an Engine. on_round(done): told of each."""
    end = time.monotonic() + seconds
    pause = PAUSE_S
    total: Tended = Tended()
    rested = 0
    while True:
        done: Tended = eng.tend()
        done.spilled += rested
        total = total + done
        if on_round is not None:
            on_round(done)
        pause = 0 if done.spilled else min(2 * pause, PAUSE_MAX_S) if done.idle else PAUSE_S
        rested = _rest(eng, min(end, time.monotonic() + pause))
        if time.monotonic() >= end:
            total.spilled += rested
            return total


def _rest(eng: Any, until: float) -> int:
    """Rest, but for pages that are to leave: puts fill a large arena within a second. How many are
    far since; then there is no rest any more."""
    spilled: int = 0
    while spilled == 0 and (left := until - time.monotonic()) > 0:
        time.sleep(min(PAUSE_S, left))
        spilled = eng.spill()
    return spilled

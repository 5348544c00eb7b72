"""Owns what tending an arena says: Tended."""
from dataclasses import astuple, dataclass


@dataclass
class Tended:
    """The answer of Engine.tend: what was done, in so many rounds.

    dead: workers that had died and were settled. inherited: workers whose garbage was taken apart
    for them. merged: segments that were emptied by moving what was in them. given: segments whose
    memory went back to the system.
    """

    rounds: int = 0
    dead: int = 0
    inherited: int = 0
    merged: int = 0
    given: int = 0

    @property
    def idle(self):
        """True if there was nothing to do."""
        return not any(astuple(self)[1:])

    def __add__(self, other):
        return Tended(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))

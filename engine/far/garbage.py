"""Owns Garbage: what is said of a search for names in far tiers that no page has."""
from dataclasses import dataclass


@dataclass
class Garbage:
    """The answer of Engine.far_gc.

    names: how many of this arena's were seen in its far tiers. dropped: how many of them no page
    had. silent: nodes that did not answer, whose names were not looked at.
    """

    names: int = 0
    dropped: int = 0
    silent: tuple[str, ...] = ()

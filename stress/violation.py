"""Owns what a broken promise looks like: a kind, a place and a sentence.

Calls nothing. Raised by guests, content and workloads; collected and printed by the supervisor.
"""
from __future__ import annotations

KINDS = {
    "damaged": "bytes that nobody put",
    "foreign": "a page of another handle",
    "stale": "content older than a put that had returned",
    "lost": "a page of a persistent pool that is gone",
    "refused": "a put that was refused, and there was room to be made",
    "unfair": "a client that has more than is its own, or was pushed below",
    "zombie": "a page that had left and came back",
    "torn": "a range made of pages of two puts",
    "taken twice": "two exclusive gets of one put",
    "history": "answers that no order of the operations explains",
    "idle": "memory that stays with what nobody asks for",
    "unbounded": "memory that the arena should have given back",
    "leaked": "pages, objects, pools or files that outlive their owner",
    "exception": "an exception nobody expects",
    "died": "a process that ended on its own",
    "hang": "a call that does not return",
    "slow": "guests that together do less than their copies would",
    "check": "eng.check() found a problem",
    "canary": "a planted bug that nobody noticed",
}


class Violation(Exception):
    """One broken promise. `where` names pool and handle, `what` says what was seen and what was
    allowed."""

    def __init__(self, kind: str, where: str, what: str):
        assert kind in KINDS, kind
        super().__init__(kind, where, what)
        self.kind, self.where, self.what = kind, where, what

    def __str__(self) -> str:
        return f"{self.kind}: {self.where}: {self.what}"

    def as_dict(self) -> dict[str, str]:
        return {"kind": self.kind, "where": self.where, "what": self.what}

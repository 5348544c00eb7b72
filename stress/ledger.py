"""Owns what is known of each handle of one writer, in a mapped file that outlives the writer.

Three words per handle: `last`, the newest version ever attempted; `begun`, the state the operation
in hand would bring; `done`, the state that is certain. A state is `2 * version + present`. Only the
one living writer of a handle stores; the order is last, begun, the operation, done. So whatever a
writer dies in, the page must be as `done` or as `begun` says, and a reader that loads `done` before
its get and `begun` after it knows the bounds of a right answer.

Calls nothing.
"""
from __future__ import annotations

from pathlib import Path

from stress.board import Words
from stress.violation import Violation

LAST, BEGUN, DONE, WORDS = range(4)


def state(version: int, present) -> int:
    return version << 1 | bool(present)


def tell(value: int) -> str:
    return f"version {value >> 1}" if value & 1 else f"no page (since version {value >> 1})"


class Ledger(Words):
    NAME = "ledger"

    def __init__(self, folder: str, handles: int = 0):
        super().__init__(Path(folder) / self.NAME, handles * WORDS)

    # -- the writer of the handle -----------------------------------------------------------------

    def begin(self, handle: int, present: bool) -> int:
        """An operation is about to begin; the answer is its version."""
        words, at = self.words, handle * WORDS
        version = words[at + LAST] + 1
        words[at + LAST] = version
        words[at + BEGUN] = state(version, present)
        return version

    def end(self, handle: int, present: bool) -> None:
        """The operation has answered; `present` False: the page was flushed or the put was
        refused."""
        words, at = self.words, handle * WORDS
        certain = state(words[at + LAST], present)
        words[at + BEGUN] = certain
        words[at + DONE] = certain

    def settle(self, handle: int, got: int, where: str) -> None:
        """A new writer found version `got` (0: no page) where the one before it left off."""
        words, at = self.words, handle * WORDS
        begun, done = words[at + BEGUN], words[at + DONE]
        for certain in (done, begun):
            if got == (certain >> 1 if certain & 1 else 0):
                words[at + BEGUN] = certain
                words[at + DONE] = certain
                return
        raise Violation("stale" if got else "lost", where,
                        f"{f'version {got}' if got else 'no page'} came back; its writer, now dead, had certainly left "
                        f"{tell(done)}, and was about to make it {tell(begun)}")

    # -- readers ----------------------------------------------------------------------------------

    def before(self, handle: int) -> int:
        return self.words[handle * WORDS + DONE]

    def judge(self, handle: int, before: int, got: int, where: str) -> None:
        """`before` was loaded before the get; may it have answered version `got` (0: no page)?"""
        begun = self.words[handle * WORDS + BEGUN]
        if got:
            good = (before == state(got, True)) or before >> 1 < got <= begun >> 1
            kind = "stale" if got <= before >> 1 else "zombie"
        else:
            good = not before & 1 or begun != before
            kind = "lost"
        if not good:
            raise Violation(kind, where, f"{f'version {got}' if got else 'no page'} came back; before the get it was "
                                         f"{tell(before)}, after it at most {tell(begun)}")

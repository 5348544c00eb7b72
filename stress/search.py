"""Owns the textbook answer to "does some order of these operations explain every answer?": a search
over one raw history of one handle.

The search is that of J. M. Wing and C. Gong, *Testing and verifying concurrent objects* (Journal of
Parallel and Distributed Computing 17, 1993): of the operations that were called before the first
one that is left has answered, carry out one that may have answered so, and go on with the rest; go
back where none may. As G. Lowe has it in *Testing for linearizability* (Concurrency and Computation
29(4), 2017), a pair (set of operations carried out, state) that was seen before is not searched
again.

What an operation in flight at a kill may have done follows M. K. Aguilera and S. Frolund, *Strict
linearizability and the power of aborting* (HP Laboratories, 2003): it took effect between its call
and the death of its worker, or never. So it is an operation like any other, whose answer is the
death, and which may have done nothing.

`stress/history.py` judges the same question another way: forward in time, on long histories, with
short cuts for reads. This one takes none, knows operations by what was called and said, and shares
no line with it; each is a check on the other (`tests/stress/test_search.py`). An ephemeral pool may
drop a page at any time.

A value that lives for a while ends at a moment of its own: the moment at which its time was looked
up, which lies within its put, and its life after that. So each such put brings along one more
operation, which nobody calls, and which takes effect in that interval: the value goes if it is
still dated by that put. The clock of these histories has to go as the arena's does. Calls nothing.
"""
from __future__ import annotations

from typing import Any, NamedTuple

# take: a get with which the page leaves; swap: a put if a version is there, or nothing; drop: a
# flush if a version is there; incr: the register holds a count, which is 1 more than it was;
# replace: a put if anything is there; look: is anything there; touch: it lives so long from now on;
# clear: the whole pool; expire: called by nobody.
PUT, GET, TAKE, FLUSH, SWAP, DROP, INCR, REPLACE, LOOK, TOUCH, CLEAR, EXPIRE = range(12)
NAMES = ("put", "get", "exclusive get", "flush", "swap", "drop", "incr", "replace", "look", "touch", "clear", "expiry")
DIFFERS, DONE, FAILED = 0, 1, 2         # answers of a swap or a drop: it failed for want of memory, or of anything
UNSURE = 3                              # of a swap: one of the two; of a put: it may have been refused
EXPECTED_SHIFT = 64                     # of a swap or a drop, `version` has the one that it expects above the new one
NOTHING = 0                             # the register holds no page; other states are a version and, above it,
DATE_SHIFT = 64                         # which operation has said when it ends, 0: none has
VERSION = (1 << DATE_SHIFT) - 1
SLACK_NS = 2000                         # a time to live is a float on its way into the arena
PAIRS_MAX = 200_000                     # a second or so
UNKNOWN = -1                            # the answer of an operation whose worker was killed in it


class Raw(NamedTuple):
    """One call: of a put `version` is what it put; `answer` is True or False (put, flush), or the
    version or count that was got, 0 for none."""

    handle: Any
    kind: int
    called_ns: int
    ended_ns: int
    version: int
    answer: int
    worker: int
    life_ns: int = 0        # of what is put, or touched; 0: it stays


def date_of(op: Raw) -> int:
    """What an operation that gives a life is known by: nobody has called two at once."""
    return (op.called_ns << 16 | op.worker) + 1 if op.life_ns else 0


def with_expiries(history: list[Raw]) -> list[Raw]:
    """The history, and what each life in it comes to."""
    last = max((op.ended_ns for op in history), default=0)
    ends = [
        Raw(op.handle, EXPIRE, op.called_ns + op.life_ns - SLACK_NS, op.ended_ns + op.life_ns + SLACK_NS, date_of(op),
            DONE, op.worker)
        for op in history
        if op.life_ns and op.called_ns + op.life_ns - SLACK_NS <= last
    ]
    return history + ends


def outcomes(op: Raw, held: int, ephemeral: bool) -> tuple[int, ...]:
    """What the register may hold after an operation that answered so, if it held `held`; empty if
    it cannot have."""
    kind, there, date = op.kind, held & VERSION, held >> DATE_SHIFT
    if kind == EXPIRE:
        return (NOTHING,) if held and date == op.version else (held,)
    if kind == TOUCH:
        return _touched(op, held, ephemeral)
    if kind == INCR:
        starts = (held, NOTHING) if ephemeral and held else (held,)
        return tuple(after for one in starts for after in _counted(op, one))
    own, after = date_of(op), _undated(op, there, ephemeral)
    if not (own or date):
        return after
    return tuple(held if one == there else one and one | own << DATE_SHIFT for one in after)


def _touched(op: Raw, held: int, ephemeral: bool) -> tuple[int, ...]:
    done = (held & VERSION | date_of(op) << DATE_SHIFT,) if held else ()
    if op.answer == UNKNOWN:
        return held, *done
    return done if op.answer else (NOTHING,) if ephemeral or not held else ()


def _undated(op: Raw, held: int, ephemeral: bool) -> tuple[int, ...]:
    """The same of the versions alone."""
    _, kind, _, _, version, answer, _, _ = op
    if kind == CLEAR:
        return (held, NOTHING) if answer == UNKNOWN and held else (NOTHING,)
    if kind > FLUSH:
        there = (held, NOTHING) if ephemeral and held else (held,)
        return tuple(after for one in there for after in _RULES[kind](op, one))
    if answer == UNKNOWN:
        if kind == PUT:
            return held, version, NOTHING       # undone, done, or refused
        return (held,) if kind == GET else (held, NOTHING)
    if kind == PUT:
        return (version, NOTHING) if answer == UNSURE else (version if answer else NOTHING,)
    if kind == FLUSH:
        return (NOTHING,) if bool(answer) == bool(held) or (ephemeral and not answer) else ()
    if answer == NOTHING:
        return (NOTHING,) if held == NOTHING or ephemeral else ()
    return () if answer != held else (held,) if kind == GET else (NOTHING,)


def _counted(op: Raw, held: int) -> tuple[int, ...]:
    more = held + 1 if held else 1 | date_of(op) << DATE_SHIFT      # a count that goes on keeps its life
    if op.answer == UNKNOWN:
        return held, more
    if op.answer == NOTHING:
        return (NOTHING,) if held == NOTHING else ()        # there was no room for the first
    return (more,) if op.answer == more & VERSION else ()


def _compared(op: Raw, held: int) -> tuple[int, ...]:
    expected, new = op.version >> EXPECTED_SHIFT, op.version & (1 << EXPECTED_SHIFT) - 1
    same = held == expected
    if op.answer == UNKNOWN:
        return (held, new, NOTHING) if same else (held,)
    if op.answer == DONE:
        return (new if op.kind == SWAP else NOTHING,) if same else ()
    if op.answer == UNSURE:
        return (NOTHING,) if same else (held,)
    if op.answer == FAILED:
        return (NOTHING,) if (same if op.kind == SWAP else held == NOTHING) else ()
    return () if same or (op.kind == DROP and held == NOTHING) else (held,)


def _replaced(op: Raw, held: int) -> tuple[int, ...]:
    if op.answer == UNKNOWN:
        return (held, op.version, NOTHING) if held else (NOTHING,)
    if op.answer:
        return (op.version,) if held else ()
    return (NOTHING,)                   # there was nothing, or no memory


def _looked(op: Raw, held: int) -> tuple[int, ...]:
    return (held,) if op.answer == UNKNOWN or bool(op.answer) == bool(held) else ()


_RULES = {SWAP: _compared, DROP: _compared, REPLACE: _replaced, LOOK: _looked}


class Refusal(NamedTuple):
    """A history that nothing explains: as far as any order came, and the operation that no order
    got past."""

    op: Raw
    held: int
    done: list[Raw]
    history: list[Raw]

    def __str__(self) -> str:
        lines = [
            f"handle {self.op.handle}: no order of {len(self.history)} operations explains: "
            f"{tell(self.op)}; the longest order leaves "
            + (f"version {self.held & VERSION}" if self.held else "no page")
        ]
        return "\n".join(
            [
                *lines,
                *(f"    before:   {tell(op)}" for op in self.done[-6:]),
                *(f"    not yet:  {tell(op)}" for op in self.history if op not in self.done and op is not self.op),
            ][:24]
        )


def tell(op: Raw) -> str:
    """An operation in words."""
    versions = {
        PUT: f" of version {op.version}",
        REPLACE: f" by version {op.version}",
        SWAP: f" of {op.version >> EXPECTED_SHIFT} for {op.version & (1 << EXPECTED_SHIFT) - 1}",
        DROP: f" of {op.version >> EXPECTED_SHIFT}",
    }
    life = f" for {op.life_ns / 1e6:.3f} ms" if op.life_ns else ""
    what = f"{NAMES[op.kind]}{versions.get(op.kind, '')}{life} by worker {op.worker}"
    said = ("was cut off by a kill" if op.answer == UNKNOWN
            else f"said {bool(op.answer)}" if op.kind in (PUT, FLUSH, REPLACE, LOOK, TOUCH, CLEAR, EXPIRE)
            else f"said {('it differs', 'done', 'failed', 'it differs, or failed')[op.answer]}"
            if op.kind in (SWAP, DROP)
            else f"got version {op.answer}" if op.answer else "got nothing")
    return f"{what} {said} [{op.called_ns} .. {op.ended_ns}]"


class Undecided(Exception):
    """A history of which too many operations were under way at once: it has too many orders to be
    searched."""


def search(history: list[Raw], ephemeral: bool = False, most: int = PAIRS_MAX) -> Refusal | None:
    """Judge the operations on one handle that held nothing before; None is good. Raises Undecided
    when more than `most` pairs of operations carried out and state had to be looked at."""
    history = with_expiries(history)
    count = len(history)
    for op in history:
        if op.ended_ns < op.called_ns:
            raise ValueError(f"answered before it was called: {tell(op)}")
    # A list of calls and answers in the order of time, from which what was carried out is taken
    # out; calls come first at the same instant.
    events = sorted(
        [(op.called_ns, 0, n) for n, op in enumerate(history)] + [(op.ended_ns, 1, n) for n, op in enumerate(history)]
    )
    after, before = (
        list(range(1, 2 * count + 2)),
        list(range(-1, 2 * count + 1)),
    )  # linked; 0 is the head, 2 * count + 1 the end
    place = [[0, 0] for _ in history]
    for at, (_, answers, n) in enumerate(events, 1):
        place[n][answers] = at

    carried: list[tuple[int, int, int, int]] = []      # (operation, state before, which of its outcomes, how many)
    state, bits, at, which = NOTHING, 0, after[0], 0
    seen = {(0, NOTHING)}
    furthest = -1
    best: tuple[int, int, list[Raw]] = (0, NOTHING, [])
    while bits.bit_count() < count:
        _, answers, n = events[at - 1]
        choices = () if answers else outcomes(history[n], state, ephemeral)
        while which < len(choices) and (bits | 1 << n, choices[which]) in seen:
            which += 1
        if which < len(choices):
            carried.append((n, state, which, len(choices)))
            state, bits = choices[which], bits | 1 << n
            seen.add((bits, state))
            if len(seen) > most:
                raise Undecided(f"{count} operations, and more than {most} pairs")
            for one in place[n]:
                after[before[one]], before[after[one]] = after[one], before[one]
            at, which = after[0], 0
            continue
        if not answers:
            at, which = after[at], 0
            continue
        # The first that is left to answer has answered and was not carried out: go back.
        if len(carried) > furthest:
            furthest, best = len(carried), (n, state, [history[m] for m, *_ in carried])
        if not carried:
            return Refusal(history[best[0]], best[1], best[2], history)
        n, state, which, _ = carried.pop()
        bits &= ~(1 << n)
        for one in reversed(place[n]):
            after[before[one]] = before[after[one]] = one
        at, which = place[n][0], which + 1
    return None


def swapped(history: list[Raw]) -> list[Raw] | None:
    """The history with the answers of two gets exchanged so that one got what was put only after it
    had answered; None if it has no such two."""
    puts = {op.version: op for op in history if op.kind == PUT}
    gets = [(n, op) for n, op in enumerate(history) if op.kind == GET and op.answer > 0]
    for n, early in gets:
        for m, late in gets:
            if late.answer in puts and early.ended_ns < puts[late.answer].called_ns:
                wrong = list(history)
                wrong[n], wrong[m] = early._replace(answer=late.answer), late._replace(answer=early.answer)
                return wrong
    return None


def revived(history: list[Raw]) -> list[Raw] | None:
    """The history with one get that got a value after it had certainly gone: its time was over, or
    its pool was cleared. None if it has no such get."""
    ends = [op for op in with_expiries(history) if op.kind == EXPIRE or (op.kind == CLEAR and op.answer == DONE)]
    touched = any(op.kind == TOUCH for op in history)
    for put in history:
        if put.kind != PUT or put.answer != DONE:
            continue
        gone = [
            op.ended_ns
            for op in ends
            if op.called_ns > put.ended_ns and (op.kind == CLEAR or (not touched and op.version == date_of(put) != 0))
        ]
        for n, op in enumerate(history):
            if gone and op.kind == GET and op.answer == NOTHING and op.called_ns > min(gone):
                wrong = list(history)
                wrong[n] = op._replace(answer=put.version)
                return wrong
    return None

"""Owns the question "may this get return that?": the definition of the allowed answers, and the
checker.

**Which answers are allowed.** A handle is a register that holds no page (0) or one version (every
put writes a version that no other put writes). An operation is invoked at one instant and answers
at a later one, both read from CLOCK_MONOTONIC, which all processes of a machine share. The answers
to a set of operations are allowed if and only if each operation can be given one instant between
its own invocation and its own answer such that, carried out alone in that order, starting from "no
page", every operation answers what it did answer (linearizability, per handle):

    put v     True    the register holds v
    put v     False   refused: the register holds no page; the older content never comes back
    get       v       only if the register holds v; it keeps it, or loses it if the get is exclusive
    get       None    only if the register holds no page
    flush     True    only if the register holds a page; it holds none after
    flush     False   only if the register holds no page
    flush     ?       (a whole object: the answer is about its pages together) it holds none after
    anything  never answered (the process died): it took effect once after its invocation, or never

In an ephemeral pool the engine may drop a page between any two operations, so "no page" may be
answered at any time; but a dropped page is gone, and no later get may return it. An operation on
several pages counts as one operation on each, with the instants of the whole. That a range is never
torn is judged elsewhere (`content.verify_pages`).

**How it is checked.** Just-in-time linearization (Wing and Gong's search, in the order of Lowe and
Porcupine): walk the invocations and answers of one handle in time order, holding every possible
pair (register, which of the operations in flight have taken effect). At an answer, keep the pairs
in which the operation has taken or can now take effect with that answer. No pair left: nothing
explains this answer. A get that keeps the page, and an answer "no page", take effect as soon as
they may, which is never a loss. Cost: about 5 us an operation; memory: the operations in flight.

Calls nothing.
"""
from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any, NamedTuple

ANY = -1                # needs: whatever the register holds; becomes: what it held
PRESENT = -2            # needs: some page
NONE = 0                # no page
NEVER = 1 << 63         # the answer of an operation that never answered

_TAKES = 1              # order of events at the same instant: an invocation first, then answers
_INVOKED = 0


class Op(NamedTuple):
    """One operation on one handle: what the register must hold before it, and what it holds
    after."""

    handle: Any
    invoked_ns: int
    answered_ns: int
    needs: int
    becomes: int
    worker: int


def put(handle, invoked_ns, answered_ns, version, accepted, worker=0) -> Op:
    return Op(handle, invoked_ns, answered_ns, ANY, version if accepted else NONE, worker)


def get(handle, invoked_ns, answered_ns, version, exclusive=False, worker=0) -> Op:
    """`version` 0 is a miss. An exclusive get that never answered is recorded as `flush(..., NEVER,
    None)`."""
    return Op(handle, invoked_ns, answered_ns, version, NONE if exclusive or not version else ANY, worker)


def flush(handle, invoked_ns, answered_ns, found, worker=0) -> Op:
    """`found` None: the answer says nothing about this page."""
    needs = ANY if found is None else PRESENT if found else NONE
    return Op(handle, invoked_ns, answered_ns, needs, NONE, worker)


class Problem(NamedTuple):
    """An answer nothing explains, with the operations in flight and the last ones before it."""

    handle: Any
    op: Op
    held: list[int]
    in_flight: list[Op]
    before: list[Op]

    def __str__(self) -> str:
        lines = [f"handle {self.handle}: {tell(self.op)}; the register could hold only "
                 + " or ".join(_version(v) for v in self.held)]
        lines += [f"    in flight: {tell(op)}" for op in self.in_flight]
        lines += [f"    before:    {tell(op)}" for op in self.before]
        return "\n".join(lines)


def check(ops: Iterable[Op], ephemeral=frozenset(), limit: int = 10) -> list[Problem]:
    """Judge a whole history; at most one problem per handle and `limit` in all.

    `ephemeral` holds the handles of ephemeral pools, or is a function from a handle to a truth
    value.
    """
    drops = ephemeral if callable(ephemeral) else ephemeral.__contains__
    by_handle: dict[Any, list[Op]] = defaultdict(list)
    for op in ops:
        by_handle[op[0]].append(Op(*op))
    problems: list[Problem] = []
    for handle, history in by_handle.items():
        problem = check_handle(history, bool(drops(handle)))
        if problem:
            problems.append(problem)
            if len(problems) >= limit:
                break
    return problems


def check_handle(history: list[Op], ephemeral: bool = False) -> Problem | None:
    """Judge the operations on one handle; None is good."""
    _assert_unique(history)
    events = []
    for number, op in enumerate(history):
        events.append((op.invoked_ns, _INVOKED, number))
        if op.answered_ns != NEVER:
            if op.answered_ns < op.invoked_ns:
                raise ValueError(f"answered before it was invoked: {op}")
            events.append((op.answered_ns, _TAKES, number))
    events.sort()

    flying: dict[int, int] = {}                     # number of an operation in flight -> its bit
    free_bits: list[int] = []
    states = {(NONE, 0)}                            # (register, bits of the operations in flight that took effect)
    for at, (_, kind, number) in enumerate(events):
        if kind == _INVOKED:
            flying[number] = free_bits.pop() if free_bits else 1 << len(flying)
            continue
        bit = flying[number]
        after = set()
        for held, done in states:
            if done & bit:
                after.add((held, done & ~bit))
        missing = [state for state in states if not state[1] & bit]
        if missing:
            after |= _explain(missing, bit, [(b, history[n]) for n, b in flying.items()], ephemeral)
        if not after:
            return _problem(history, events, at, flying, states)
        del flying[number]
        free_bits.append(bit)
        states = after
    return None


def _explain(starts, wanted: int, flying: list[tuple[int, Op]], ephemeral: bool) -> set[tuple[int, int]]:
    """Every (register, done) in which the wanted operation has just taken effect, its bit taken
    off."""
    found: set[tuple[int, int]] = set()
    seen = set(starts)
    stack = list(starts)
    while stack:
        held, done = stack.pop()
        branches = []
        for bit, op in flying:
            if done & bit:
                continue
            needs = op.needs
            if not (needs == ANY or needs == held or (needs == PRESENT and held)
                    or (needs == NONE and ephemeral)):
                continue
            becomes = held if op.becomes == ANY else op.becomes
            if becomes == held and needs != ANY:
                done |= bit                         # a read: it takes effect as soon as it may
            else:
                branches.append((bit, becomes))
        if done & wanted:
            found.add((held, done & ~wanted))
            continue
        for bit, becomes in branches:
            state = (becomes, done | bit)
            if bit == wanted:
                found.add((becomes, done))
            elif state not in seen:
                seen.add(state)
                stack.append(state)
    return found


def _assert_unique(history: list[Op]) -> None:
    versions = [op.becomes for op in history if op.needs == ANY and op.becomes > 0]
    if len(versions) != len(set(versions)):
        raise ValueError("two puts wrote the same version: the history can't be judged")


def _problem(history, events, at, flying, states) -> Problem:
    number = events[at][2]
    answered = [history[n] for _, kind, n in events[:at] if kind == _TAKES]
    return Problem(history[number].handle, history[number], sorted({held for held, _ in states}),
                   [history[n] for n in flying if n != number], answered[-6:])


def tell(op: Op) -> str:
    """An operation in words."""
    if op.needs == ANY:
        verb = f"put of version {op.becomes}" if op.becomes > 0 else "refused put or flush of the object"
    elif op.needs == PRESENT:
        verb = "flush that found a page"
    elif op.needs == NONE:
        verb = "get or flush that found no page"
    else:
        verb = ("exclusive get" if op.becomes == NONE else "get") + f" that returned version {op.needs}"
    end = "never answered" if op.answered_ns == NEVER else f"{op.answered_ns}"
    return f"{verb} by worker {op.worker} [{op.invoked_ns} .. {end}]"


def _version(held: int) -> str:
    return f"version {held}" if held else "no page"

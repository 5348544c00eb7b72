"""Owns which ends an interleaving may have: what each verb may answer, and what may be in the arena
afterwards.

The state is a dictionary: `("pool", name)` for every pool that lives, and `(pool, object, index)`
-> tag for every page, where a tag is a number that no two puts share. A verb is a row of steps,
each of which happens at one instant between the verb's call and its answer (a put is one step, a
put_many one a page). An end is allowed if some order of all steps that respects time explains every
answer and leaves what was found. A verb that was killed has done its first steps, some, all or
none; one that a handler's exception ended has done none of a single step. Where memory is short, a
page of an ephemeral pool may go between any two steps. Calls nothing.
"""
from dataclasses import dataclass, field

GONE = "gone"               # the pool was destroyed, or is not there
RAISED = "raised"           # a signal handler's exception came out of the verb
EPHEMERAL = ("e", "x")
FOREVER = 1 << 62


class Unknown:
    """The answer of a verb that never gave one."""

    def __repr__(self):
        return "?"


UNKNOWN = Unknown()


@dataclass(frozen=True)
class Rules:
    """What the arena allows beside the plain answers."""

    refuses: bool = False       # it is full of pages that may not go: a put may be refused
    drops: bool = False         # pages of ephemeral pools may go


@dataclass
class Op:
    """One verb that ran: its steps, when it was called and answered, and what it said."""

    text: str
    steps: list
    began: int
    ended: int = FOREVER
    answer: object = UNKNOWN
    pool: str = ""
    optional: bool = field(default=False)       # it may have done any number of its first steps
    begun: bool = field(default=False)          # its worker has read it: a signal from now on comes to the verb


def droppable(cell, rules):
    return rules.drops and cell[0] in EPHEMERAL


def lives(state, pool):
    return ("pool", pool) in state


def changed(state, cells):
    """A copy in which each cell holds what `cells` says, None: nothing."""
    after = {**state, **cells}
    for cell, tag in cells.items():
        if tag is None:
            del after[cell]
    return after


def wants(said, answer):
    return said is UNKNOWN or said == answer


# --- steps: from a state and what was said to the states that may follow, none if it can't be -----


def put(cells):
    """Pages put at one moment, one or a range: `cells` says which and what."""
    def step(state, said, rules):
        found = []
        if lives(state, next(iter(cells))[0]):
            if wants(said, True):
                found.append(changed(state, cells))
            if rules.refuses and wants(said, False):
                found.append(changed(state, {cell: None for cell in cells}))
        return found
    return step


def get(cells, leaves=False):
    """Pages got at one moment: their tags, or None if one is missing; `leaves`: they go with it."""
    def step(state, said, rules):
        found = []
        if not lives(state, cells[0][0]):
            return found
        tags = [state.get(cell) for cell in cells]
        if None not in tags and wants(said, tags):
            found.append(changed(state, dict.fromkeys(cells)) if leaves else state)
        if said is UNKNOWN or said is None:
            if None in tags:
                found.append(state)
            else:
                found += [changed(state, {cell: None}) for cell in cells if droppable(cell, rules)]
        return found
    return step


def flush(cells):
    """Pages dropped at one moment: True if one of them was there."""
    def step(state, said, rules):
        found = []
        if not lives(state, cells[0][0]):
            return found
        there = [cell for cell in cells if cell in state]
        after = changed(state, dict.fromkeys(cells))
        if there and wants(said, True):
            found.append(after)
        if wants(said, False) and all(droppable(cell, rules) for cell in there):
            found.append(after)
        return found
    return step


def put_value(cells, old, condition=False):
    """An object put as a value: `cells` says its only page, `old` all that it may have had;
    `condition`: only if there was nothing."""
    def step(state, said, rules):
        if not lives(state, old[0][0]):
            return []
        after = changed({**state, **dict.fromkeys(old, 0)}, dict.fromkeys(old))
        there = [cell for cell in old if cell in state]
        if condition and there and not all(droppable(cell, rules) for cell in there):
            return [state] if wants(said, "conflict") else []
        found = [state] if condition and there and wants(said, "conflict") else []
        if wants(said, True):
            found.append({**after, **cells})
        if rules.refuses and wants(said, False):
            found.append(after)
        if rules.refuses and wants(said, "full"):       # before or after what was there had gone
            found += [state, after]
        return found
    return step


def incr(cell):
    """A count of one more, from nothing on."""
    def step(state, said, rules):
        if not lives(state, cell[0]):
            return []
        counts = [state.get(cell, 0)] + [0] * droppable(cell, rules)
        found = [{**state, cell: count + 1} for count in counts if wants(said, count + 1)]
        if rules.refuses and cell not in state and wants(said, "full"):
            found.append(state)
        return found
    return step


def get_whole(cells):
    """All pages of an object, at indexes that follow one another or not."""
    def step(state, said, rules):
        if not lives(state, cells[0][0]):
            return []
        found = []
        gone = [cell for cell in cells if cell in state and droppable(cell, rules)]
        for choice in range(1 << len(gone)):
            after = changed(state, {cell: None for i, cell in enumerate(gone) if choice >> i & 1})
            there = [cell for cell in cells if cell in after]
            dense = [cell[2] for cell in there] == list(range(len(there)))
            answer = "no value" if not dense else [after[cell] for cell in there] or None
            if wants(said, answer):
                found.append(after)
        return found
    return step


def destroy(pool):
    def step(state, said, rules):
        if lives(state, pool) and wants(said, None):
            return [{cell: tag for cell, tag in state.items() if cell[0] != pool and cell != ("pool", pool)}]
        return []
    return step


def new_pool(pool):
    def step(state, said, rules):
        if lives(state, pool):
            return [state] if wants(said, "exists") else []
        return [{**state, ("pool", pool): True}] if wants(said, True) else []
    return step


def nothing(*answers):
    """What changes nothing that a caller sees, and answers one of these, or anything if there are
    none."""
    def step(state, said, rules):
        return [state] if said is UNKNOWN or not answers or said in answers else []
    return step


def either(one, other):
    def step(state, said, rules):
        return [*one(state, said, rules), *other(state, said, rules)]
    return step


def _gone(pool):
    def step(state, said, rules):
        return [] if lives(state, pool) else [state]
    return step


# --- the search -----------------------------------------------------------------------------------


def _as_steps(op):
    """[(step, what it said)], and from how many of them on the verb may be over."""
    if op.answer == GONE:
        # Of a batch, its first pages may have been had before the pool went.
        first = [(either(step, _gone(op.pool)), UNKNOWN) for step in op.steps] if len(op.steps) > 1 else []
        return [*first, (_gone(op.pool), GONE)], len(first) + 1
    if op.answer is UNKNOWN:
        return [(step, UNKNOWN) for step in op.steps], 0
    if op.answer == RAISED:
        done = op.steps if op.optional else []
        return [(step, UNKNOWN) for step in done], 0
    said = op.answer if len(op.steps) > 1 else [op.answer]
    return list(zip(op.steps, said, strict=True)), len(op.steps)


def matches(state, found, rules):
    """Whether the arena may look like `found` when the state is this."""
    return all(found.get(cell) == state.get(cell) or (cell not in found and droppable(cell, rules))
               for cell in state.keys() | found.keys())


def explained(ops, state, found, rules):
    """True if some order of the steps explains all answers and what was found at the end."""
    rows = [_as_steps(op) for op in ops]

    def go(at, state):
        if all(n >= need for n, (_, need) in zip(at, rows, strict=True)) and matches(state, found, rules):
            return True
        for i, (steps, _) in enumerate(rows):
            if at[i] == len(steps):
                continue
            if any(ops[j].ended < ops[i].began and at[j] < rows[j][1] for j in range(len(ops)) if j != i):
                continue                    # somebody answered before this one was called, and is not through
            step, said = steps[at[i]]
            for after in step(state, said, rules):
                if go((*at[:i], at[i] + 1, *at[i + 1:]), after):
                    return True
        return False

    return go((0,) * len(ops), state)

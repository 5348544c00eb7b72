"""The search over raw histories: by hand, against all orders, against `stress/history.py`, and that
one wrong answer is refused."""
import itertools
import random

import pytest

from stress import history
from stress.search import (
    DIFFERS,
    DONE,
    DROP,
    EXPECTED_SHIFT,
    FAILED,
    FLUSH,
    GET,
    INCR,
    NOTHING,
    PUT,
    SWAP,
    TAKE,
    UNKNOWN,
    Raw,
    Undecided,
    outcomes,
    search,
    swapped,
    tell,
)


def op(kind, called, ended, answer, version=0, worker=0):
    return Raw("h", kind, called, ended, version, answer, worker)


def put(called, ended, version, answer=True):
    return op(PUT, called, ended, answer, version)


def get(called, ended, answer):
    return op(GET, called, ended, answer)


def swap(called, ended, expected, version, answer=DONE):
    return op(SWAP, called, ended, answer, version | expected << EXPECTED_SHIFT)


def drop(called, ended, expected, answer=DONE):
    return op(DROP, called, ended, answer, expected << EXPECTED_SHIFT)


def incr(called, ended, answer):
    return op(INCR, called, ended, answer)


LEGAL = {
    "empty": [],
    "one-after-the-other": [put(0, 1, 7), get(2, 3, 7), put(4, 5, 8), get(6, 7, 8)],
    "at-once": [put(0, 9, 7), get(1, 2, 0), get(3, 4, 7)],
    "two-writers": [put(0, 9, 7), put(0, 9, 8), get(10, 11, 7)],
    "refused": [put(0, 1, 7), put(2, 3, 8, False), get(4, 5, 0)],
    "touching": [put(0, 5, 7), get(5, 6, 0)],
    "taken": [put(0, 1, 7), op(TAKE, 2, 9, 7), op(FLUSH, 3, 4, False)],
    "killed-and-done": [put(0, 1, 7), put(2, 5, 8, UNKNOWN), get(6, 7, 8)],
    "killed-and-undone": [put(0, 1, 7), put(2, 5, 8, UNKNOWN), get(6, 7, 7)],
    "killed-take": [put(0, 1, 7), op(TAKE, 2, 5, UNKNOWN), get(6, 7, 0)],
    "added-once": [swap(0, 9, 0, 7), swap(0, 9, 0, 8, DIFFERS), get(10, 11, 7)],
    "swapped": [put(0, 1, 7), swap(2, 9, 7, 8), swap(2, 9, 8, 5, DIFFERS), get(10, 11, 8)],
    "swap-refused": [put(0, 1, 7), swap(2, 3, 7, 8, FAILED), get(4, 5, 0)],
    "swap-killed": [put(0, 1, 7), swap(2, 3, 7, 8, UNKNOWN), swap(4, 5, 7, 9)],
    "dropped": [put(0, 1, 7), drop(2, 3, 8, DIFFERS), drop(4, 5, 7), drop(6, 7, 7, FAILED)],
    "counted": [incr(0, 9, 2), incr(0, 9, 1), op(FLUSH, 10, 11, True), incr(12, 13, 1)],
    "count-killed": [incr(0, 1, 1), incr(2, 3, UNKNOWN), incr(4, 5, 3), incr(6, 7, UNKNOWN), get(8, 9, 3)],
}
ILLEGAL = {
    "stale": [put(0, 1, 7), put(2, 3, 8), get(4, 5, 7)],
    "lost": [put(0, 1, 7), get(2, 3, 0)],
    "nobody-put-it": [put(0, 1, 7), get(2, 3, 9)],
    "back-and-forth": [put(0, 9, 7), get(1, 2, 7), get(3, 4, 0)],
    "seen-in-two-orders": [put(0, 9, 7), put(0, 9, 8), get(10, 11, 7), get(12, 13, 8)],
    "came-back-after-a-refusal": [put(0, 1, 7), put(2, 3, 8, False), get(4, 5, 7)],
    "taken-twice": [put(0, 1, 7), op(TAKE, 2, 9, 7), op(TAKE, 2, 9, 7)],
    "flushed-twice": [put(0, 1, 7), op(FLUSH, 2, 9, True), op(FLUSH, 2, 9, True)],
    "added-twice": [swap(0, 9, 0, 7), swap(0, 9, 0, 8)],
    "swapped-from-another": [put(0, 1, 7), swap(2, 3, 8, 9)],
    "swapped-twice": [put(0, 1, 7), swap(2, 9, 7, 8), swap(2, 9, 7, 9)],
    "differs-from-itself": [put(0, 1, 7), swap(2, 3, 7, 8, DIFFERS)],
    "dropped-another": [put(0, 1, 7), drop(2, 3, 8)],
    "dropped-nothing": [drop(0, 1, 7)],
    "differs-from-nothing": [drop(0, 1, 7, DIFFERS)],
    "counted-twice": [incr(0, 9, 1), incr(0, 9, 1)],
    "count-lost": [incr(0, 1, 1), incr(2, 3, 2), get(4, 5, 1)],
    "count-left-out": [incr(0, 1, 1), incr(2, 3, 3)],
    "done-long-after-the-death": [put(0, 1, 7), put(2, 5, 8, UNKNOWN), get(6, 7, 7), get(8, 9, 8)],
}


@pytest.mark.parametrize("name", list(LEGAL))
def test_legal(name):
    assert search(LEGAL[name]) is None


@pytest.mark.parametrize("name", list(ILLEGAL))
def test_illegal(name):
    refusal = search(ILLEGAL[name])
    assert refusal is not None and "no order of" in str(refusal)


def test_a_page_of_an_ephemeral_pool_may_go_but_not_come_back():
    gone = [put(0, 1, 7), get(2, 3, 0)]
    assert search(gone, True) is None
    assert search([*gone, get(4, 5, 7)], True) is not None


def test_what_can_not_be_judged_is_refused():
    with pytest.raises(ValueError, match="before it was called"):
        search([get(5, 1, 0)])


def test_every_operation_can_be_told():
    for kind, answer in itertools.product(range(7), (0, 1, UNKNOWN)):
        assert "worker 3" in tell(op(kind, 0, 1, answer, 5, 3))


def brute(ops, ephemeral):
    """True if any order that respects time explains all answers."""
    for order in itertools.permutations(ops):
        if any(b.ended_ns < a.called_ns for a, b in itertools.combinations(order, 2)):
            continue
        states = {NOTHING}
        for one in order:
            states = {after for held in states for after in outcomes(one, held, ephemeral)}
        if states:
            return True
    return False


def random_op(rng, versions, cut_off=True, others=()):
    called = rng.randrange(12)
    ended = called + rng.randrange(1, 8)
    kind = rng.choice((PUT, PUT, GET, GET, TAKE, FLUSH, *others))
    answer = UNKNOWN if cut_off and rng.random() < 0.1 else rng.randrange(3)
    if kind == SWAP:
        versions.append(len(versions) + 1)
        return swap(called, ended, rng.randrange(3), versions[-1], answer)
    if kind == DROP:
        return drop(called, ended, rng.randrange(1, 4), answer)
    if kind == PUT:
        versions.append(len(versions) + 1)
        return put(called, ended, versions[-1], UNKNOWN if cut_off and rng.random() < 0.2 else rng.random() < 0.9)
    if cut_off and rng.random() < 0.1:
        return op(kind, called, ended, UNKNOWN)
    return op(kind, called, ended, rng.random() < 0.5 if kind == FLUSH else rng.randrange(4))


@pytest.mark.parametrize("seed", range(6))
def test_agrees_with_all_orders(seed):
    rng, seen = random.Random(seed), {True: 0, False: 0}
    for _ in range(250):
        versions: list[int] = []
        others = (SWAP, SWAP, DROP) if rng.randrange(2) else ()
        ops = [random_op(rng, versions, others=others) for _ in range(rng.randrange(1, 7))]
        ephemeral = rng.random() < 0.3
        expected = brute(ops, ephemeral)
        assert (search(ops, ephemeral) is None) == expected, ops
        seen[expected] += 1
    assert min(seen.values()) > 20


def as_history(one):
    """The same operation for the other checker."""
    if one.kind == PUT:
        return history.put("h", one.called_ns, one.ended_ns, one.version, one.answer)
    if one.kind == FLUSH:
        return history.flush("h", one.called_ns, one.ended_ns, bool(one.answer))
    return history.get("h", one.called_ns, one.ended_ns, one.answer, one.kind == TAKE)


@pytest.mark.parametrize("seed", range(4))
def test_agrees_with_the_other_checker_on_longer_histories(seed):
    rng, seen = random.Random(seed), {True: 0, False: 0}
    for _ in range(150):
        ops, ephemeral = played(rng, rng.randrange(10, 40)), rng.random() < 0.3
        if rng.random() < 0.6:
            at = rng.choice([n for n, one in enumerate(ops) if one.kind == GET] or [0])
            ops[at] = ops[at]._replace(answer=rng.choice([one.version for one in ops]))
        expected = history.check_handle([as_history(one) for one in ops], ephemeral) is None
        assert (search(ops, ephemeral) is None) == expected
        seen[expected] += 1
    assert min(seen.values()) > 10


def played(rng, count):
    """Operations of five workers that take effect at a random instant of their own interval, on one
    register."""
    clocks, effects = [0] * 5, []
    for _ in range(count):
        worker = rng.randrange(5)
        called = clocks[worker] + rng.randrange(1, 20)
        clocks[worker] = ended = called + rng.randrange(2, 40)
        effects.append((rng.uniform(called, ended), called, ended, worker))
    held, ops = NOTHING, []
    for version, (_, called, ended, worker) in enumerate(sorted(effects), 1):
        kind = rng.choice((PUT, PUT, GET, GET, GET, TAKE, FLUSH))
        if kind == PUT:
            held = version
            ops.append(op(PUT, called, ended, True, version, worker))
        else:
            ops.append(op(kind, called, ended, bool(held) if kind == FLUSH else held, 0, worker))
            held = held if kind == GET else NOTHING
    rng.shuffle(ops)
    return ops


def test_one_swapped_answer_is_refused():
    rng, swaps = random.Random(5), 0
    for _ in range(60):
        ops = played(rng, 45)
        assert search(ops) is None
        wrong = swapped(ops)
        if wrong is not None:
            swaps += 1
            assert search(wrong) is not None
    assert swaps > 10
    assert swapped([put(0, 1, 7), get(2, 3, 7)]) is None


def test_a_history_that_is_too_wide_is_told_and_does_not_take_for_ever():
    """Forty puts at once, and an answer that none of their orders explains."""
    wide = [put(0, 100, n) for n in range(1, 41)] + [get(101, 102, 99)]
    with pytest.raises(Undecided, match="41 operations"):
        search(wide, most=20_000)
    assert search(wide[:-1], most=20_000) is None

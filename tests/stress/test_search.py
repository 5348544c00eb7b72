"""The search over raw histories: by hand, against all orders, against `stress/history.py`, and that
one wrong answer is refused."""
import itertools
import random

import pytest

from stress import history
from stress.search import (
    CLEAR,
    DIFFERS,
    DONE,
    DROP,
    EXPECTED_SHIFT,
    FAILED,
    FLUSH,
    GET,
    INCR,
    LOOK,
    NOTHING,
    PUT,
    REPLACE,
    SLACK_NS,
    SWAP,
    TAKE,
    TOUCH,
    UNKNOWN,
    UNSURE,
    VERSION,
    Raw,
    Undecided,
    outcomes,
    revived,
    search,
    swapped,
    tell,
    with_expiries,
)
from stress.workloads.linearizable import ALL, by_handles


def op(kind, called, ended, answer, version=0, worker=0, life=0):
    return Raw("h", kind, called, ended, version, answer, worker, life)


def put(called, ended, version, answer=True, life=0):
    return op(PUT, called, ended, answer, version, life=life)


def touch(called, ended, life=0, answer=True):
    return op(TOUCH, called, ended, answer, life=life)


def get(called, ended, answer):
    return op(GET, called, ended, answer)


def swap(called, ended, expected, version, answer=DONE):
    return op(SWAP, called, ended, answer, version | expected << EXPECTED_SHIFT)


def drop(called, ended, expected, answer=DONE):
    return op(DROP, called, ended, answer, expected << EXPECTED_SHIFT)


def incr(called, ended, answer):
    return op(INCR, called, ended, answer)


LIFE = 10 * SLACK_NS
OVER = LIFE + 2 * SLACK_NS      # after a put that has ended at 1
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
    "lives": [put(0, 1, 7, life=LIFE), get(2, 3, 7), op(LOOK, 4, 5, True)],
    "expired": [put(0, 1, 7, life=LIFE), get(OVER, OVER + 1, 0), swap(OVER + 2, OVER + 3, 0, 8)],
    "expires-about-now": [put(0, 1, 7, life=LIFE), get(LIFE - 9, LIFE - 8, 0), op(LOOK, LIFE, LIFE + 1, False)],
    "touched": [put(0, 1, 7, life=LIFE), touch(2, 3), get(OVER, OVER + 1, 7)],
    "touched-shorter": [put(0, 1, 7), touch(2, 3, LIFE), get(OVER + 9, OVER + 10, 0)],
    "touched-too-late": [put(0, 1, 7, life=LIFE), touch(OVER, OVER + 1, 0, False), get(OVER + 2, OVER + 3, 0)],
    "put-over-what-is-dated": [put(0, 1, 7, life=LIFE), put(2, 3, 8), get(OVER, OVER + 1, 8)],
    "refused-over-what-is-dated": [put(0, 1, 7, life=LIFE), swap(2, 3, 9, 8, DIFFERS), get(OVER, OVER + 1, 0)],
    "killed-with-a-life": [put(0, 9, 7, UNKNOWN, LIFE), get(10, 11, 7), get(OVER + 9, OVER + 10, 0)],
    "count-with-a-life": [op(INCR, 0, 1, 1, life=LIFE), op(INCR, 2, 3, 2, life=9 * LIFE), incr(OVER, OVER + 1, 1)],
    "cleared": [put(0, 1, 7), op(CLEAR, 2, 9, DONE), get(3, 4, 7), get(5, 6, 0), get(10, 11, 0)],
    "clear-killed": [put(0, 1, 7), op(CLEAR, 2, 3, UNKNOWN), get(4, 5, 7)],
    "replaced": [op(REPLACE, 0, 1, False, 6), put(2, 3, 7), op(REPLACE, 4, 5, True, 8), get(6, 7, 8)],
    "replace-refused": [put(0, 1, 7), op(REPLACE, 2, 3, False, 8), get(4, 5, 0)],
    "added-or-refused": [swap(0, 1, 0, 7, UNSURE), put(2, 3, 8), swap(4, 5, 0, 9, UNSURE), get(6, 7, 8)],
    "put-or-refused": [put(0, 1, 7, UNSURE), get(2, 3, 7), put(4, 5, 8, UNSURE), get(6, 7, 0)],
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
    "comes-back-after-its-time": [put(0, 1, 7, life=LIFE), get(OVER, OVER + 1, 7)],
    "seen-gone-and-back": [put(0, 1, 7, life=LIFE), touch(2, OVER + 9, 9 * LIFE), get(OVER, OVER + 1, 0),
                           get(OVER + 10, OVER + 11, 7)],
    "gone-before-its-time": [put(0, 1, 7, life=LIFE), get(2, 3, 0)],
    "gone-though-touched": [put(0, 1, 7, life=LIFE), touch(2, 3), get(OVER, OVER + 1, 0)],
    "touched-what-is-gone": [put(0, 1, 7, life=LIFE), touch(OVER, OVER + 1)],
    "life-of-another": [put(0, 1, 7, life=LIFE), put(2, 3, 8), get(OVER, OVER + 1, 0)],
    "life-of-one-that-was-not-put": [put(0, 1, 7), swap(2, 3, 9, 8, DIFFERS)._replace(life_ns=LIFE),
                                     get(OVER, OVER + 1, 0)],
    "count-lives-on": [op(INCR, 0, 1, 1, life=LIFE), op(INCR, 2, 3, 2, life=9 * LIFE), incr(OVER, OVER + 1, 3)],
    "added-over-what-lives": [put(0, 1, 7, life=LIFE), swap(2, 3, 0, 8)],
    "swapped-what-is-gone": [put(0, 1, 7, life=LIFE), swap(OVER, OVER + 1, 7, 8)],
    "not-cleared": [put(0, 1, 7), op(CLEAR, 2, 3, DONE), get(4, 5, 7)],
    "cleared-and-back": [put(0, 1, 7), op(CLEAR, 2, 9, DONE), get(3, 4, 0), get(5, 6, 7)],
    "replaced-nothing": [op(REPLACE, 0, 1, True, 7)],
    "not-replaced-and-there": [put(0, 1, 7), op(REPLACE, 2, 3, False, 8), get(4, 5, 7)],
    "looked-wrong": [put(0, 1, 7), op(LOOK, 2, 3, False)],
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


def test_a_count_that_went_and_began_anew_has_the_life_of_its_beginning():
    anew = [op(INCR, 0, 1, 1, life=LIFE), incr(2, 3, 1), incr(OVER, OVER + 1, 2)]
    assert search(anew, True) is None and search(anew) is not None


def test_what_can_not_be_judged_is_refused():
    with pytest.raises(ValueError, match="before it was called"):
        search([get(5, 1, 0)])


def test_every_operation_can_be_told():
    for kind, answer in itertools.product(range(12), (0, 1, UNKNOWN)):
        assert "worker 3" in tell(op(kind, 0, 1, answer, 5, 3))


def brute(ops, ephemeral):
    """True if any order that respects time explains all answers."""
    ops = with_expiries(ops)
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
    life = rng.choice((0, 0, SLACK_NS + 3, SLACK_NS + 9)) if LOOK in others else 0
    if kind in (LOOK, CLEAR, REPLACE, TOUCH):
        versions.append(len(versions) + 1)
        version = versions[-1] if kind == REPLACE else 0
        return op(kind, called, ended, min(answer, 1) if kind != CLEAR or answer < 0 else DONE, version, len(versions),
                  life if kind in (REPLACE, TOUCH) else 0)
    if kind == SWAP:
        versions.append(len(versions) + 1)
        one = swap(called, ended, rng.randrange(3), versions[-1], answer)
        return one._replace(worker=len(versions), life_ns=life)
    if kind == DROP:
        return drop(called, ended, rng.randrange(1, 4), answer)
    if kind == PUT:
        versions.append(len(versions) + 1)
        one = put(called, ended, versions[-1], UNKNOWN if cut_off and rng.random() < 0.2 else rng.random() < 0.9)
        return one._replace(worker=len(versions), life_ns=life)
    if cut_off and rng.random() < 0.1:
        return op(kind, called, ended, UNKNOWN)
    return op(kind, called, ended, rng.random() < 0.5 if kind == FLUSH else rng.randrange(4))


OTHERS = ((), (SWAP, SWAP, DROP), (SWAP, LOOK, TOUCH, TOUCH, REPLACE, CLEAR))


@pytest.mark.parametrize("seed", range(6))
def test_agrees_with_all_orders(seed):
    rng, seen = random.Random(seed), {True: 0, False: 0}
    for _ in range(300):
        versions: list[int] = []
        others = rng.choice(OTHERS)
        ops = [random_op(rng, versions, others=others) for _ in range(rng.randrange(1, 5 if LOOK in others else 7))]
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


def lived(rng, count):
    """Operations one after the other on one register, with lives, touches and clears. What is dated
    ends where no operation is under way, or in the middle of one."""
    clock, held, gone, ops = 0, NOTHING, 0, []
    for version in range(1, count + 1):
        called = clock + rng.randrange(1, SLACK_NS)
        clock = ended = called + rng.randrange(2, SLACK_NS)
        at = rng.randrange(called, ended)
        held = held if not gone or at < gone else NOTHING
        kind, life = rng.choice((PUT, GET, GET, LOOK, TOUCH, SWAP, CLEAR)), rng.choice((0, 4, 9)) * SLACK_NS
        if kind == PUT or (kind == TOUCH and held):
            gone = at + life if life else 0
        if kind == PUT:
            held = version
            ops.append(put(called, ended, version, life=life))
        elif kind == TOUCH:
            ops.append(touch(called, ended, life, bool(held)))
        elif kind == SWAP:
            ops.append(swap(called, ended, 0, version, DIFFERS if held else DONE))
            held, gone = held or version, gone if held else 0
        elif kind == CLEAR:
            held = NOTHING
            ops.append(op(CLEAR, called, ended, DONE))
        else:
            ops.append(op(kind, called, ended, held if kind == GET else bool(held)))
    return ops


def test_what_has_gone_and_comes_back_is_refused():
    rng, changed = random.Random(6), 0
    for _ in range(80):
        ops = lived(rng, 30)
        assert search(ops) is None
        wrong = revived(ops)
        if wrong is not None:
            changed += 1
            assert search(wrong) is not None
    assert changed > 20
    assert revived([put(0, 1, 7), get(2, 3, 0)]) is None


def test_a_clear_is_in_every_history_of_its_pool_that_it_may_have_met():
    """And in none that had not begun, or had ended."""

    def one(which, page, kind, called, ended):
        return Raw((which, 5, page), kind, called, ended, 1, DONE, 0)

    clears = [one(0, ALL, CLEAR, *when) for when in ((0, 40), (1, 3), (6, 8), (20, 21), (31, 32))]
    found = by_handles([one(0, 1, PUT, 5, 10), one(0, 1, GET, 29, 30), one(1, 1, PUT, 5, 30), *clears])
    assert sorted(op.called_ns for op in found[0, 5, 1] if op.kind == CLEAR) == [0, 6, 20]
    assert all(op.handle == handle for handle, ops in found.items() for op in ops)
    assert len(found[1, 5, 1]) == 1 and len(found) == 2


def test_states_keep_a_version_and_a_date_apart():
    (state,) = outcomes(put(5, 6, 7, life=9), NOTHING, False)
    assert state & VERSION == 7 and state != 7
    assert outcomes(get(8, 9, 7), state, False) == (state,)
    assert outcomes(touch(8, 9), state, False) == (7,)


def test_a_history_that_is_too_wide_is_told_and_does_not_take_for_ever():
    """Forty puts at once, and an answer that none of their orders explains."""
    wide = [put(0, 100, n) for n in range(1, 41)] + [get(101, 102, 99)]
    with pytest.raises(Undecided, match="41 operations"):
        search(wide, most=20_000)
    assert search(wide[:-1], most=20_000) is None

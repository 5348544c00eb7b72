"""The history checker on hand-made histories, legal and illegal, and against brute force on small
random ones."""
import itertools
import random

import pytest

from stress import history
from stress.history import ANY, NEVER, NONE, PRESENT, check, check_handle, flush, get, put

H = "h"


def legal(*ops, ephemeral=False):
    return check_handle(list(ops), ephemeral) is None


# --- one after the other --------------------------------------------------------------------------


def test_a_get_returns_the_last_put():
    assert legal(put(H, 0, 1, 7, True), get(H, 2, 3, 7), put(H, 4, 5, 8, True), get(H, 6, 7, 8))


def test_older_content_after_a_newer_put_is_illegal():
    assert not legal(put(H, 0, 1, 7, True), put(H, 2, 3, 8, True), get(H, 4, 5, 7))


def test_a_refused_put_leaves_no_page():
    assert legal(put(H, 0, 1, 7, True), put(H, 2, 3, 8, False), get(H, 4, 5, 0))
    assert not legal(put(H, 0, 1, 7, True), put(H, 2, 3, 8, False), get(H, 4, 5, 7))
    assert not legal(put(H, 0, 1, 7, True), put(H, 2, 3, 8, False), get(H, 4, 5, 8))


def test_a_page_nobody_put_is_illegal():
    assert not legal(get(H, 0, 1, 7))


def test_a_miss_where_a_page_must_be_is_illegal_only_if_pages_are_not_dropped():
    ops = put(H, 0, 1, 7, True), get(H, 2, 3, 0)
    assert not legal(*ops)
    assert legal(*ops, ephemeral=True)


def test_a_dropped_page_does_not_come_back():
    assert not legal(put(H, 0, 1, 7, True), get(H, 2, 3, 0), get(H, 4, 5, 7), ephemeral=True)


def test_an_exclusive_get_takes_the_page():
    assert legal(put(H, 0, 1, 7, True), get(H, 2, 3, 7, True), get(H, 4, 5, 0))
    assert not legal(put(H, 0, 1, 7, True), get(H, 2, 3, 7, True), get(H, 4, 5, 7))


def test_two_exclusive_gets_of_one_put_are_illegal_even_at_once():
    assert not legal(put(H, 0, 1, 7, True), get(H, 2, 9, 7, True), get(H, 3, 8, 7, True))


def test_flush_answers_whether_there_was_a_page():
    assert legal(put(H, 0, 1, 7, True), flush(H, 2, 3, True), flush(H, 4, 5, False), get(H, 6, 7, 0))
    assert not legal(put(H, 0, 1, 7, True), flush(H, 2, 3, False))
    assert not legal(flush(H, 0, 1, True), ephemeral=True)


def test_a_flush_of_unknown_answer_still_flushes():
    assert legal(put(H, 0, 1, 7, True), flush(H, 2, 3, None), get(H, 4, 5, 0))
    assert not legal(put(H, 0, 1, 7, True), flush(H, 2, 3, None), get(H, 4, 5, 7), ephemeral=True)


# --- at once --------------------------------------------------------------------------------------


def test_a_get_beside_a_put_may_see_either():
    old, new = put(H, 0, 1, 7, True), put(H, 10, 20, 8, True)
    assert legal(old, new, get(H, 12, 15, 7))
    assert legal(old, new, get(H, 12, 15, 8))


def test_gets_beside_one_put_may_not_go_back():
    old, new = put(H, 0, 1, 7, True), put(H, 10, 20, 8, True)
    assert legal(old, new, get(H, 11, 12, 7), get(H, 13, 14, 8))
    assert not legal(old, new, get(H, 11, 12, 8), get(H, 13, 14, 7))


def test_two_puts_at_once_leave_one_of_both():
    both = put(H, 0, 10, 7, True), put(H, 0, 10, 8, True)
    assert legal(*both, get(H, 11, 12, 7), get(H, 13, 14, 7))
    assert not legal(*both, get(H, 11, 12, 7), get(H, 13, 14, 8))


def test_a_pending_flush_may_wait_for_a_put():
    """The flush is invoked while there is no page; it may still take the page that is put later."""
    assert legal(flush(H, 0, 9, None), put(H, 1, 2, 7, True), get(H, 3, 4, 7), get(H, 5, 6, 0))


def test_an_operation_that_never_answered_happened_once_or_never():
    killed = put(H, 10, NEVER, 8, True)
    old = put(H, 0, 1, 7, True)
    assert legal(old, killed, get(H, 20, 21, 7))
    assert legal(old, killed, get(H, 20, 21, 7), get(H, 30, 31, 8))
    assert not legal(old, killed, get(H, 20, 21, 8), get(H, 30, 31, 7))
    assert legal(old, flush(H, 10, NEVER, None), get(H, 20, 21, 7), get(H, 30, 31, 0))


def test_touching_instants_count_as_at_once():
    assert legal(put(H, 0, 5, 7, True), get(H, 5, 6, 0))
    assert not legal(put(H, 0, 5, 7, True), get(H, 6, 7, 0))


# --- the whole check ------------------------------------------------------------------------------


def test_handles_are_judged_apart_and_problems_name_them():
    ops = [put("a", 0, 1, 7, True, 1), get("a", 2, 3, 7), get("b", 2, 3, 7, False, 2)]
    problems = check(ops)
    assert [problem.handle for problem in problems] == ["b"]
    assert "no page" in str(problems[0]) and "worker 2" in str(problems[0])


def test_plain_tuples_do():
    assert check([tuple(put("a", 0, 1, 7, True)), tuple(get("a", 2, 3, 7))]) == []


def test_ephemeral_handles_are_named():
    ops = [put("a", 0, 1, 7, True), get("a", 2, 3, 0)]
    assert check(ops) and not check(ops, ephemeral={"a"}) and not check(ops, lambda handle: handle == "a")


def test_the_number_of_problems_is_limited():
    ops = [get(handle, 0, 1, 9) for handle in range(50)]
    assert len(check(ops, limit=4)) == 4


def test_a_history_that_can_not_be_judged_is_refused():
    with pytest.raises(ValueError, match="same version"):
        check([put("a", 0, 1, 7, True), put("a", 2, 3, 7, True)])
    with pytest.raises(ValueError, match="answered before"):
        check([put("a", 5, 1, 7, True)])


# --- brute force ----------------------------------------------------------------------------------


def brute(ops, ephemeral):
    """True if any order of the operations that respects time explains all answers."""
    for order in itertools.permutations(ops):
        if any(b.answered_ns < a.invoked_ns for a, b in itertools.combinations(order, 2)):
            continue
        held, good = NONE, True
        for op in order:
            if op.needs not in (ANY, held) and not (op.needs == PRESENT and held) and not (
                    op.needs == NONE and ephemeral):
                good = False
                break
            held = held if op.becomes == ANY else op.becomes
        if good:
            return True
    return False


def random_op(rng, versions):
    invoked = rng.randrange(12)
    answered = invoked + rng.randrange(1, 8)
    what = rng.randrange(6)
    if what < 2:
        versions.append(len(versions) + 1)
        return put(H, invoked, answered, versions[-1], rng.random() < 0.8)
    if what < 5:
        return get(H, invoked, answered, rng.randrange(4), rng.random() < 0.4)
    return flush(H, invoked, answered, rng.choice([True, False, None]))


@pytest.mark.parametrize("seed", range(8))
def test_agrees_with_brute_force(seed):
    rng = random.Random(seed)
    seen = {True: 0, False: 0}
    for _ in range(250):
        versions: list[int] = []
        ops = [random_op(rng, versions) for _ in range(rng.randrange(1, 6))]
        ephemeral = rng.random() < 0.3
        expected = brute(ops, ephemeral)
        assert (check_handle(ops, ephemeral) is None) == expected, ops
        seen[expected] += 1
    assert min(seen.values()) > 20


@pytest.mark.parametrize("seed", range(4))
def test_histories_of_a_real_register_are_legal(seed):
    """Each worker's operations take effect at a random instant of their own interval, on one
    register."""
    rng = random.Random(seed)
    clocks, effects, version = [0] * 5, [], 0
    for _ in range(600):
        worker = rng.randrange(5)
        invoked = clocks[worker] + rng.randrange(1, 20)
        answered = invoked + rng.randrange(2, 40)
        clocks[worker] = answered
        effects.append((rng.uniform(invoked, answered), invoked, answered, worker))
    held, ops = NONE, []
    for _, invoked, answered, worker in sorted(effects):
        what = rng.random()
        if what < 0.4:
            version += 1
            accepted = rng.random() < 0.9
            ops.append(put(H, invoked, answered, version, accepted, worker))
            held = version if accepted else NONE
        elif what < 0.8:
            exclusive = rng.random() < 0.2
            ops.append(get(H, invoked, answered, held, exclusive, worker))
            held = NONE if exclusive else held
        else:
            ops.append(flush(H, invoked, answered, bool(held), worker))
            held = NONE
    assert check_handle(ops) is None
    late = max(ops, key=lambda op: op.invoked_ns)
    wrong = get(H, late.answered_ns + 1000, late.answered_ns + 1001, version + 1)
    assert check_handle([*ops, wrong]) is not None


def test_every_operation_can_be_told():
    for op in (put(H, 0, 1, 7, True), put(H, 0, 1, 7, False), get(H, 0, 1, 7), get(H, 0, 1, 7, True), get(H, 0, 1, 0),
               flush(H, 0, 1, True), flush(H, 0, NEVER, None)):
        assert "worker 0" in history.tell(op)

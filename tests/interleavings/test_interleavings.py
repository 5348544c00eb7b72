"""Owns the interleavings of the suite: some chosen by seed, those that once found a fault, and
planted bugs that must be found.

With EVERY_POINT in the environment all pairs of verbs are played as well, each at many kill points,
and many more by seed. At all points they would be four millions, and fourteen hours.
"""
import os
import random

import pytest

from tests.interleavings import model, plans, prefork, stage, verbs

EVERY = bool(os.environ.get("EVERY_POINT"))
PAIRS = 40_000          # of each kind of stage, about
THIN = 1 if EVERY else 4    # of the places at which a fault was found, one in so many is gone through again
ENOUGH = 3              # faults of one test: each may take as long as a hang is waited for


@pytest.fixture
def prefix(arena_name):
    return f"{arena_name}-"


def told(total):
    return "\n".join(f"{what}\n    python -m tests.interleavings {line}" for what, line in total.faults)


@pytest.mark.small
@pytest.mark.parametrize("part", range(3))
def test_interleavings_chosen_by_seed(prefix, part):
    lives = range(part, 900 if EVERY else 3, 3)
    total = plans.play_lives(1, lives, prefix, plans.Total(ENOUGH))
    print(total.told())
    assert not total.faults, told(total)
    assert total.reached > total.played // 2 and total.waited > total.played // 8 and total.died > total.played // 4


@pytest.mark.skipif(not EVERY, reason="half an hour: make test-all")
@pytest.mark.parametrize("kind", list(stage.KINDS))
def test_every_pair_of_verbs_at_many_kill_points(prefix, kind):
    total = plans.Total(ENOUGH)
    texts = list(plans.every_pair(kind, plans.Points(prefix)))
    chosen = random.Random(kind)
    texts = [text for text in texts if chosen.random() * len(texts) < PAIRS]
    for at in range(0, len(texts), plans.LIFE):
        plans.play_all(texts[at:at + plans.LIFE], prefix, total)
    print(total.told())
    assert not total.faults, told(total)


# Each found a fault once, or is the schedule of one that was found by other means.
FOUND = {
    # A resize took the depot without its own lock: a check found the world not stopped, and a
    # repair would have mended what was being changed.
    "check-in-a-resize": [
        f"crammed A:resize-down@p:{n} B:{check}@p A+"
        for n in range(20, 5600, 180 * THIN)
        for check in ("check", "repair")
    ],
    # Who is not attached yet has the rescue byte, and a dead worker's lock was given back by
    # nobody.
    "stopped-newcomer": [
        f"roomy1 X:put-page@p:50 X! A:{verb}@p:{n} B:{b}@p A{end}"
        for verb in ("attach", "fork")
        for n in (2, 5, 9, 20)
        for b in ("put-over", "attach")
        for end in "+!"
    ],
    # X died; A recovers it and is stopped half way; B's resize takes over what X has as well:
    # chunks are given away twice.
    "two-heirs": [
        f"roomy1 X:{verb}@{pool}:{point} X! A:recover@p:{n} B:resize-down@p A+"
        for n in range(20, 50, THIN)
        for verb, pool, point in (("flush-object", "e", 150), ("put-range", "p", 120), ("destroy", "p", 200))
    ],
    # A resize takes over what a waiting worker has, that one is killed, and somebody recovers it.
    "taken-over-and-buried": [
        f"{kind} A:put-over@p:20 B:put-range@p C:resize-down@p:{n} B! D:{heir}@p C+ A+"
        for kind, heir in (("roomy1", "attach"), ("crammed", "recover"))
        for n in range(330, 430, 3 * THIN)
    ],
    # Who destroys a pool is killed when that is certain and not yet said: whoever inherited it said
    # so at any later time.
    "half-destroyed": [
        f"crammed A:flush-object@e:6 B:put-many@e C:destroy@e:{n} B! D:new-pool@p A! C!" for n in range(12, 20)
    ],
    # A range was refused for want of memory, emptied its handles, looked for what others had
    # retired, and emptied them again.
    "refused-twice": [
        "crammed A:get-exclusive@p:45 B:recover@p C:stats@p A!",
        "crammed A:resize-up@p:271 B&destroy@x B&fork@x A!",
        "crammed A:flush-middle@x:6 B:destroy@x~use B~ A!",
        *(f"crammed A:put-range@p:{n} B&get-exclusive@p B&put-over@p B~ A+" for n in range(300, 390, 4)),
    ],
    # Two threads wait, and a handler raises out of the one whose turn it is not.
    "handler-and-turn": [
        "evicting A:new-pool@p:5 B&resize-down@p B:destroy@p~raise B~ A!",
        "evicting A:flush-page@x:29 B:resize-down@p~use B~ B~ A!",
    ],
}


@pytest.mark.small
@pytest.mark.parametrize("name", list(FOUND))
def test_interleavings_that_found_a_fault(prefix, name):
    total = plans.Total(ENOUGH)
    if name == "two-heirs":         # what X has depends on what was before
        for text in FOUND[name]:
            plans.play_all([text], prefix, total)
    for kind in stage.KINDS if name != "two-heirs" else ():
        plans.play_all([text for text in FOUND[name] if text.startswith(kind + " ")], prefix, total, f"of {name}")
    assert not total.faults, told(total)


@pytest.mark.small
@pytest.mark.parametrize("mode", ["raise", "use", "fork"])
@pytest.mark.parametrize("verb", ["put-over", "put-range", "flush-object", "get-exclusive"])
def test_a_signal_comes_while_a_verb_waits(prefix, verb, mode):
    total = plans.Total(ENOUGH)
    plans.play_all(
        [
            f"{kind} A:put-over@p:{n} B:{verb}@p~{mode} B~ A{end}"
            for kind in ("roomy1", "roomy2")
            for n in (10, 20, 25)
            for end in "+!"
        ],
        prefix,
        total,
    )
    assert not total.faults, told(total)
    assert total.waited > total.played // 3


# --- the alarm rings ------------------------------------------------------------------------------


def _keeps_nothing(call):
    answer = call.kept.put(verbs.oid(1), 0, verbs.content(call.tag, 300))
    call.kept.flush_page(verbs.oid(1), 0)
    return answer


def _another_length(call):
    return call.kept.put(verbs.oid(1), 0, verbs.content(call.tag, 300)[:280])


def _comes_back(call):
    data = call.kept.get(verbs.oid(1), 0, True)
    if data is not None:
        call.kept.put(verbs.oid(1), 0, data)
    return None if data is None else [verbs.tag_of(data)]


def _attaches(call):
    import engine
    call.worker.leaked = engine.attach(call.engine.name)
    return call.kept.put(verbs.oid(1), 0, verbs.content(call.tag, 300))


def _in_a_place_of_its_own(call):
    call.engine.pool("s").put(verbs.oid(77), 0, b"a page that nobody asked for")
    return call.kept.put(verbs.oid(1), 0, verbs.content(call.tag, 300))


PLANTED = {
    "lost": ("put-over", _keeps_nothing, "no order explains"),
    "torn": ("put-over", _another_length, "bad"),
    "zombie": ("get-exclusive", _comes_back, "no order explains"),
    "slot": ("put-over", _attaches, "slots are taken"),
    "surplus": ("put-over", _in_a_place_of_its_own, "are counted"),
}


@pytest.mark.parametrize("bug", list(PLANTED))
def test_a_planted_bug_is_found(prefix, monkeypatch, bug):
    verb, act, told_as = PLANTED[bug]
    monkeypatch.setattr(verbs.VERBS[verb], "act", act)
    faults = plans.replay(f"roomy1 A:get-exclusive@p:12 B:{verb}@p A+", prefix).faults
    assert any(told_as in fault for fault in faults), faults


def test_a_verb_that_waits_for_nobody_is_found(prefix, monkeypatch):
    """B waits for a pipe that nobody writes to, while A is stopped in something else."""
    monkeypatch.setattr(stage, "LIMIT_S", 0.3)
    monkeypatch.setattr(verbs.VERBS["stats"], "act", lambda call: os.read(os.pipe()[0], 1))
    faults = plans.replay("roomy1 A:put-over@p:12 B:stats@p A+", prefix).faults
    assert len(faults) == 1 and "B:stats@p did not answer" in faults[0] and "A in put-over" in faults[0]


def test_a_worker_that_dies_by_itself_is_found(prefix, monkeypatch):
    monkeypatch.setattr(verbs.VERBS["stats"], "act", lambda call: os._exit(7))
    assert plans.replay("roomy1 A:put-over@p:12 B:stats@p A+", prefix).faults == ["worker B died by itself"]


# --- schedules and the model ----------------------------------------------------------------------


def test_a_schedule_that_cannot_be_is_refused():
    for text in ("nowhere A:get@p", "roomy1 A:sing@p", "roomy1 A?", "roomy1 A:get@p:x"):
        with pytest.raises(ValueError):
            plans.parse(text)


def test_a_seed_means_the_same_always(prefix):
    points = plans.Points(prefix)
    assert (
        plans.texts_of_life(3, 5, points)
        == plans.texts_of_life(3, 5, plans.Points(prefix))
        != plans.texts_of_life(4, 5, points)
    )


def op(steps, answer, began, ended, pool="p"):
    return model.Op("", steps, began, ended, answer, pool)


CELL, OTHER = ("p", 1, 0), ("p", 1, 1)
START = {("pool", "p"): True, CELL: 1}
PLAIN = model.Rules()


@pytest.mark.parametrize(
    "ops, found, allowed",
    [
        ([op([model.put({CELL: 2})], True, 1, 2)], {CELL: 2}, True),
        ([op([model.put({CELL: 2})], True, 1, 2)], {CELL: 1}, False),
        ([op([model.put({CELL: 2})], model.UNKNOWN, 1, model.FOREVER)], {CELL: 1}, True),
        ([op([model.put({CELL: 2})], model.UNKNOWN, 1, model.FOREVER)], {}, False),
        ([op([model.put({CELL: 2})], False, 1, 2)], {}, False),
        ([op([model.put({CELL: 2})], True, 1, 9), op([model.get([CELL])], [1], 2, 3)], {CELL: 2}, True),
        ([op([model.put({CELL: 2})], True, 1, 2), op([model.get([CELL])], [1], 3, 4)], {CELL: 2}, False),
        (
            [
                op([model.put({CELL: 2})], True, 1, 9),
                op([model.get([CELL])], [2], 2, 3),
                op([model.get([CELL])], [1], 4, 5),
            ],
            {CELL: 2},
            False,
        ),
        ([op([model.get([CELL], True)], [1], 1, 9), op([model.get([CELL], True)], [1], 1, 9)], {}, False),
        ([op([model.put({CELL: 2}), model.put({OTHER: 3})], model.UNKNOWN, 1, model.FOREVER)], {CELL: 2}, True),
        (
            [op([model.put({CELL: 2}), model.put({OTHER: 3})], model.UNKNOWN, 1, model.FOREVER)],
            {CELL: 1, OTHER: 3},
            False,
        ),
        ([op([model.put({CELL: 2, OTHER: 3})], model.UNKNOWN, 1, model.FOREVER)], {CELL: 2}, False),
        ([op([model.put({CELL: 2})], model.RAISED, 1, 2)], {CELL: 2}, False),
        ([op([model.flush([CELL, OTHER])], True, 1, 2)], {}, True),
        ([op([model.flush([CELL])], False, 1, 2)], {CELL: 1}, False),
    ],
)
def test_the_model(ops, found, allowed):
    assert model.explained(ops, START, {("pool", "p"): True, **found}, PLAIN) is allowed


@pytest.mark.parametrize("answer, allowed", [(None, True), (model.GONE, False)])
def test_the_model_of_a_destroyed_pool(answer, allowed):
    put = op([model.put({CELL: 2})], model.GONE, 3, 4)
    destroy = op([model.destroy("p")], answer, 1, 2)
    assert model.explained([destroy, put], START, {}, PLAIN) is allowed


def test_the_model_lets_ephemeral_pages_go_only_where_memory_is_short():
    cell = "e", 1, 0
    start = {("pool", "e"): True, cell: 1}
    miss = op([model.get([cell])], None, 1, 2, "e")
    assert model.explained([miss], start, {("pool", "e"): True}, model.Rules(drops=True))
    assert not model.explained([miss], start, {("pool", "e"): True}, PLAIN)


# --- preload and threads --------------------------------------------------------------------------


def test_children_whose_threads_begin_at_once(arena_name):
    assert prefork.play(60 if EVERY else 6, f"{arena_name}-prefork") == []

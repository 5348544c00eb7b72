"""Owns the enumeration: every verb killed at every one of its kill points leaves the state before
or the state after.

`make test` visits all points of the verbs that are used most, and of a long one among the rest
some dozens, chosen by seed; `make test-all` all. Recovery and attaching are verbs here too: a
rescuer or a newcomer is killed at each of its points, twice in a row.
"""
import os
import random

import pytest

from tests.crash.killing import (
    BATCHES,
    CRAMMED,
    EVICTING,
    EVICTING_VALUES,
    HUGE,
    MOVING,
    OVER_VALUES,
    PACKED,
    PACKED_OVER,
    TWINS,
    VERBS,
    CrammedScene,
    FullOfValuesScene,
    FullScene,
    PackedFullScene,
    PackedScene,
    Scene,
    SplinteredScene,
    TwinScene,
    ValueScene,
    nothing,
)
from tests.support import text

# All points of the longest verb take ten minutes where others are at work, too.
pytestmark = [pytest.mark.timeout(3600 if os.environ.get("EVERY_POINT") else 120), pytest.mark.small]
EVERY = bool(os.environ.get("EVERY_POINT"))
MOST_USED = (
    "put-new-object",
    "put-new-lean-object",
    "put-beside-the-page-of-a-lean-object",
    "flush-lean-object",
    "put-new-page",
    "put-warm",
    "put-over",
    "put-over-same-length",
    "get-exclusive",
    "flush-page",
    "flush-object",
)


def visited(points, most, seed):
    """Of so many kill points those to visit: all with EVERY_POINT in the environment, or if there
    are no more than `most`; else one out of each of so many stretches, chosen by seed."""
    if EVERY or points <= most:
        return range(1, points + 1)
    rnd = random.Random(seed)
    return [1 + int((at + rnd.random()) * points / most) for at in range(most)]


def outcomes(prefix, prepare, act):
    """(points, state before, state after) of a verb that nobody kills."""
    with Scene(prefix) as scene:
        before = scene.state()
        points = scene.die_in(prepare, act, HUGE)
        scene.engine.recover()
        return points, before, scene.state()


@pytest.mark.parametrize("verb", list(VERBS))
def test_killed_at_every_point_of_a_verb(arena_name, verb, record_property):
    prepare, act = VERBS[verb]
    points, before, after = outcomes(arena_name, prepare, act)
    chosen = visited(points, 70 if verb in MOST_USED else 24, verb)
    for point in chosen:
        with Scene(arena_name) as scene:
            assert scene.die_in(prepare, act, point) is None, f"point {point} of {points} was not reached"
            scene.assert_sound(before, after)
    assert points or verb in ("get", "get-range-into")  # a get that leaves the page takes no lock and stores nothing
    record_property("kill_points", points)
    print(f"{verb}: {len(chosen)} of {points} kill points, all before or after")


def test_killed_at_every_point_of_a_range_that_exchanges_its_chunks(arena_name):
    """The short way of a put, for several pages: only where a worker takes chunks by the dozen, as
    in an arena of some size."""
    def put(e, text):
        assert e.pool("p").put_range((0, 0, 0), 200, text * 4096 * 12)

    def prepare(e):
        put(e, b"a")
        put(e, b"b")

    def read(scene):
        return scene.p.get_range((0, 0, 0), 200, 12)

    with Scene(arena_name, capacity="32MiB") as scene:
        points = scene.die_in(prepare, lambda e: put(e, b"c"), HUGE)
    assert 12 * 8 < points < 12 * 12          # the long way has three times as many
    for point in range(1, points + 1):
        with Scene(arena_name, capacity="32MiB") as scene:
            assert scene.die_in(prepare, lambda e: put(e, b"c"), point) is None
            scene.engine.recover()
            assert read(scene) in (b"b" * 4096 * 12, b"c" * 4096 * 12)
            assert scene.engine.check().ok
            put(scene.engine, b"d")
            assert read(scene) == b"d" * 4096 * 12
    print(f"put-range-exchanged: {points} kill points, all before or after")


@pytest.mark.parametrize("pam", ["raw", "lz4"])
@pytest.mark.parametrize("verb", list(BATCHES))
def test_killed_at_every_point_of_a_batch(arena_name, verb, pam):
    """Some of its pages, from the first on, have been put or have left; the rest is as it was."""
    act = BATCHES[verb]
    states = []
    for n in range(6):
        with PackedScene(arena_name, pam=pam) as scene:
            points = scene.die_in(nothing, lambda e: act(e, n), HUGE)
            scene.engine.recover()
            states.append(scene.state())
    assert points > 50 and sum(states[n] != states[n + 1] for n in range(5)) >= 4
    seen = set()
    chosen = visited(points, 24, f"{verb} {pam}")
    for point in chosen:
        with PackedScene(arena_name, pam=pam) as scene:
            assert scene.die_in(nothing, lambda e: act(e, 5), point) is None, (
                f"point {point} of {points} was not reached"
            )
            scene.assert_sound(*states)
            seen.add(states.index(scene.state()))
    assert len(seen) >= 5
    print(f"{verb}: {len(chosen)} of {points} kill points, all after some page")


@pytest.mark.parametrize("verb", list(PACKED))
@pytest.mark.parametrize("pam", ["lz4", "zstd"])
def test_killed_at_every_point_of_a_verb_on_compressed_pages(arena_name, pam, verb):
    with PackedScene(arena_name, pam=pam) as scene:
        before = scene.state()
        points = scene.die_in(nothing, PACKED[verb], HUGE)
        scene.engine.recover()
        after = scene.state()
    for point in visited(points, 15, f"{verb} {pam}"):
        with PackedScene(arena_name, pam=pam) as scene:
            assert scene.die_in(nothing, PACKED[verb], point) is None, f"point {point} of {points} was not reached"
            scene.assert_sound(before, after)
    assert points > 10


@pytest.mark.parametrize("verb", list(TWINS))
def test_killed_at_every_point_of_a_verb_on_pages_of_equal_content(arena_name, verb):
    with TwinScene(arena_name) as scene:
        before = scene.state()
        points = scene.die_in(nothing, TWINS[verb], HUGE)
        scene.engine.recover()
        after = scene.state()
    chosen = visited(points, 24, verb)
    for point in chosen:
        with TwinScene(arena_name) as scene:
            assert scene.die_in(nothing, TWINS[verb], point) is None, f"point {point} of {points} was not reached"
            scene.assert_sound(before, after)
    assert points > 10
    print(f"{verb}: {len(chosen)} of {points} kill points")


@pytest.mark.parametrize("verb", list(PACKED_OVER))
@pytest.mark.parametrize("pam", ["lz4", "zstd"])
def test_killed_at_every_point_of_a_put_over_a_compressed_page_in_a_full_arena(arena_name, pam, verb):
    """Compressed bytes go through the bounce page, or the old page goes and the put is refused."""
    with PackedFullScene(arena_name, pam=pam) as scene:
        before, old = scene.state(), scene.p.get((0, 9, 9), 3)
        points = scene.die_in(nothing, PACKED_OVER[verb], HUGE)
        scene.engine.recover()
        after, new = scene.state(), scene.p.get((0, 9, 9), 3)
    assert points > 10 and new == (text(3, 3000) if verb == "it-fits" else None) != old
    for point in visited(points, 15, f"{verb} {pam}"):
        with PackedFullScene(arena_name, pam=pam) as scene:
            assert scene.die_in(nothing, PACKED_OVER[verb], point) is None, f"point {point} of {points} was not reached"
            scene.assert_sound(before, after)
            assert scene.p.get((0, 9, 9), 3) in (old, new)


@pytest.mark.parametrize("verb", list(EVICTING))
def test_killed_at_every_point_of_an_eviction(arena_name, verb):
    """In a full arena: persistent pages before or after, ephemeral ones right or gone, the arena
    sound."""
    act = EVICTING[verb]
    with FullScene(arena_name) as scene:
        before = scene.state()
        points = scene.die_in(nothing, act, HUGE)
        if verb == "destroy":
            scene.e = scene.engine.new_pool("e")
        after = scene.state()
    assert points > 20
    chosen = visited(points, 24, verb)
    for point in chosen:
        with FullScene(arena_name) as scene:
            assert scene.state() == before      # a look is a hit of each page: without it others go, by another way
            assert scene.die_in(nothing, act, point) is None, f"point {point} of {points} was not reached"
            scene.engine.recover()
            if "e" not in [pool.name for pool in scene.engine.pools()]:
                scene.e = scene.engine.new_pool("e")        # destroyed
            scene.assert_sound(before, after)
            if verb == "resize":
                # What was left half done is no hindrance: it gets as small as it was meant to, and
                # as large.
                assert scene.engine.resize("1MiB") == 1 << 20 and scene.engine.resize("2MiB") == 2 << 20
                scene.assert_sound(before, after)
    print(f"{verb}: {len(chosen)} of {points} kill points")


@pytest.mark.parametrize("verb", list(EVICTING_VALUES))
def test_killed_at_every_point_of_an_eviction_of_values(arena_name, verb):
    """A value goes from its first page on, so what is left after a death is told from a whole one;
    and that goes, too."""
    act = EVICTING_VALUES[verb]
    with FullOfValuesScene(arena_name) as scene:
        before = scene.state()          # its gets are hits, and another would go next
    with FullOfValuesScene(arena_name) as scene:
        evicted = scene.engine.stats()["total"]["evicted"]
        points = scene.die_in(nothing, act, HUGE)
        assert scene.engine.stats()["total"]["evicted"] > evicted
        after = scene.state()
        scene.assert_all_can_go()
    assert points > 100
    chosen = visited(points, 36, verb)
    for point in chosen:
        with FullOfValuesScene(arena_name) as scene:
            assert scene.die_in(nothing, act, point) is None, f"point {point} of {points} was not reached"
            scene.assert_sound(before, after)
            scene.assert_all_can_go()
    print(f"{verb}: {len(chosen)} of {points} kill points")


@pytest.mark.parametrize("verb", list(OVER_VALUES))
def test_killed_at_every_point_of_a_put_over_a_value(arena_name, verb):
    act = OVER_VALUES[verb]
    with ValueScene(arena_name) as scene:
        before = scene.state()
        points = scene.die_in(nothing, act, HUGE)
        scene.engine.recover()
        after = scene.state()
    assert points > 20 and before != after
    chosen = visited(points, 24, verb)
    for point in chosen:
        with ValueScene(arena_name) as scene:
            assert scene.die_in(nothing, act, point) is None, f"point {point} of {points} was not reached"
            scene.assert_sound(before, after)
            scene.assert_all_can_go()
    print(f"{verb}: {len(chosen)} of {points} kill points, all before or after")


@pytest.mark.parametrize("verb", list(MOVING))
def test_killed_at_every_point_of_a_put_that_moves_others(arena_name, verb):
    """Nothing is lost of what is moved, and whoever was at it hinders nobody after it."""
    act = MOVING[verb]
    with SplinteredScene(arena_name) as scene:
        before = scene.state()
        points = scene.die_in(nothing, act, HUGE)
        after = scene.state()
    assert points > 100 and after != before
    chosen = visited(points, 24, verb)
    for point in chosen:
        with SplinteredScene(arena_name) as scene:
            assert scene.die_in(nothing, act, point) is None, f"point {point} of {points} was not reached"
            scene.assert_sound(before, after)
            assert scene.leaving() == []
            for n in range(40):
                assert scene.f.put((2, 8, 8), n, FullScene.extra(n)), (point, n)
            assert scene.engine.check().ok
    print(f"{verb}: {len(chosen)} of {points} kill points, all before or after")


@pytest.mark.parametrize("verb", list(CRAMMED))
def test_killed_at_every_point_in_an_arena_that_has_no_room(arena_name, verb):
    """Of persistent pages: a put that is refused leaves its handle as it was or empty, one over a
    page the old page or the new."""
    verb_of, answer = CRAMMED[verb]

    def act(mine):
        assert verb_of(mine) is answer

    with CrammedScene(arena_name) as scene:
        before = scene.state()
        points = scene.die_in(nothing, act, HUGE)
        scene.assert_sound(scene.state())
        after = scene.state()
    assert points > 20 and (after != before) == (answer or "over" in verb)
    chosen = visited(points, 24, verb)
    for point in chosen:
        with CrammedScene(arena_name) as scene:
            assert scene.die_in(nothing, act, point) is None, f"point {point} of {points} was not reached"
            scene.assert_sound(before, after)
    print(f"{verb}: {len(chosen)} of {points} kill points, all before or after")


@pytest.mark.parametrize("verb", ["put-new-object", "flush-object", "destroy", "put-range"])
def test_rescuer_killed_at_every_point_twice(arena_name, verb):
    prepare, act = VERBS[verb]
    points, before, after = outcomes(arena_name, prepare, act)
    # How many points there are shows at the end: one in eleven is visited.
    first, point, count = points // 2, 0, 0
    rnd = random.Random(verb)
    while True:
        point += 1 if EVERY else rnd.randint(1, 21)
        count += 1
        with Scene(arena_name) as scene:
            # The scene's own engine must not come first: the rescuer is another worker, and so is
            # the second.
            assert scene.die_in(prepare, act, first) is None
            done = scene.die_in(nothing, nothing, HUGE, born=point)
            if done is None:
                scene.die_in(nothing, lambda e: e.recover(), HUGE, born=max(1, point // 2))
            scene.assert_sound(before, after)
            if done is not None:
                break
    print(f"{verb}: rescuers killed at {count - 1} of about {point - 1} points, twice each")


def test_newcomer_killed_at_every_point(arena_name):
    point = 0
    while True:
        point += 1
        with Scene(arena_name) as scene:
            before = scene.state()
            done = scene.die_in(nothing, nothing, HUGE, born=point)
            scene.assert_sound(before)
            if done is not None:
                break
    assert point > 3
    print(f"attach: {point - 1} kill points")

"""Owns what huge pages may change: how memory is taken, and nothing else."""
import os

import pytest

import engine


@pytest.mark.parametrize("huge", [False, True])
def test_contents_and_steps_of_memory(make_arena, huge):
    eng = make_arena(capacity="64MiB", page_size=4096, huge_pages=huge)
    pool = eng.new_pool("p", persistent=True)
    before = eng.stats()["arena"]["bytes_backed"]
    data = {n: os.urandom(4096) for n in range(700)}
    for n, page in data.items():
        assert pool.put((n % 3, 0, 0), n, page)
    grown = eng.stats()["arena"]["bytes_backed"] - before
    segments = eng.stats()["arena"]["bytes_in_segments"]
    assert segments <= grown <= segments + (2 << 20 if huge else 1 << 20)
    with engine.attach(eng.name) as other:
        assert all(other.pool("p").get((n % 3, 0, 0), n) == page for n, page in data.items())
    assert eng.check().ok


@pytest.mark.parametrize("huge", [False, True])
def test_all_of_an_arena_can_be_used(make_arena, huge):
    eng = make_arena(capacity=(64 << 20) + (3 << 18), page_size=4096, huge_pages=huge)      # ends in the middle of a huge page
    pool = eng.new_pool("p", persistent=True)
    held = 0
    while pool.put((1, 0, 0), held, bytes(4096)):
        held += 1
    assert held * 4096 > 0.96 * eng.capacity
    assert eng.stats()["arena"]["segments_used"] == eng.stats()["arena"]["segments_total"]
    assert eng.check().ok


@pytest.mark.parametrize("value", [1, None, "yes"])
def test_the_argument(value):
    with pytest.raises(TypeError, match="huge_pages: True or False"):
        engine.create("never-made", huge_pages=value)

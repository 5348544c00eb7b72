"""Owns the contract of create(preallocate=True): the whole capacity has memory from the start, and
keeps it until somebody asks for less."""
import os
import random

import pytest

import engine
from tests.support import SHM

MIB = 1 << 20
# Of an arena with short segments, with long ones, and one that may become larger.
KINDS = {"small": {"capacity": "8MiB"}, "large": {"capacity": "64MiB"}, "no-huge": {"capacity": "64MiB",
         "huge_pages": False}, "growing": {"capacity": "16MiB", "max_capacity": "64MiB"}}


@pytest.fixture
def arena_of(make_arena):
    return lambda kind, **more: make_arena(page_size=4096, **KINDS[kind], **more)


def blocks(eng):
    return os.stat(SHM / eng.name).st_blocks * 512


def fill(eng):
    """Pages in all of the arena; some had to go."""
    pool, data = eng.new_pool("p"), random.Random(1).randbytes(4000)
    n = 0
    while eng.stats()["pools"]["p"]["evicted"] == 0:
        assert pool.put((n >> 5, 0, 0), n & 31, b"%d/" % n + data)
        n += 1
    return pool


@pytest.mark.parametrize("kind", KINDS)
def test_all_of_it_has_memory_at_once_and_nothing_goes_back_by_itself(arena_of, kind):
    bare, eng = arena_of(kind), arena_of(kind, preallocate=True)
    given = blocks(eng)
    marks = eng.capacity // 256
    assert given - blocks(bare) == eng.capacity + marks and eng.stats()["arena"]["bytes_backed"] == given
    assert eng.check().ok
    pool = fill(eng)
    full = blocks(eng)
    assert full - given < eng.capacity // 16        # ghosts, tables of pools: no segment
    pool.flush_object((0, 0, 0))
    with engine.attach(eng.name) as other:
        assert other.tend().given == 0
        other.pool("p").destroy()
        assert other.tend().given == 0
    assert eng.tend().given == 0 and blocks(eng) >= full
    assert eng.check().ok
    fill(eng)


def test_where_it_is_not_asked_for_the_same_would_give_memory_back(arena_of):
    """Else the test above shows nothing."""
    eng = arena_of("small")
    fill(eng).destroy()
    assert blocks(eng) < eng.capacity // 2


def test_what_a_resize_gives_up_goes_and_comes_back_with_use(arena_of):
    eng = arena_of("large", preallocate=True)
    given = blocks(eng)
    assert eng.resize("32MiB") == 32 * MIB
    assert blocks(eng) <= given - 31 * MIB
    assert eng.resize("64MiB") == 64 * MIB
    assert blocks(eng) <= given - 31 * MIB
    fill(eng)
    assert blocks(eng) >= given
    assert eng.check().ok


@pytest.mark.parametrize("value", [1, 0, None, "yes"])
def test_another_type_is_refused(arena_name, value):
    with pytest.raises(TypeError, match="preallocate: True or False, not"):
        engine.create(arena_name, preallocate=value)
    assert not (SHM / arena_name).exists()

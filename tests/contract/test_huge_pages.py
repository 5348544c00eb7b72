"""Owns what huge pages may change: how memory is taken, and nothing else."""
import contextlib
import fcntl
import os
import signal

import pytest

import engine
from tests.support import SHM


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


def test_a_hole_that_the_system_keeps_is_punched_again(make_arena):
    """A pipe that has a byte of each huge page keeps the system from taking any apart; memory goes when it lets go."""
    eng = make_arena(capacity="64MiB", page_size=4096)
    pool = eng.new_pool("p")
    for n in range(20000):
        assert pool.put((n % 97, 0, 0), n, (b"%d/" % n * 2000)[:4096])         # some had to go: ghosts have memory
    tables = eng.stats()["arena"]["bytes_backed"] - eng.stats()["arena"]["bytes_in_segments"]
    read, write = os.pipe()
    fcntl.fcntl(write, fcntl.F_SETPIPE_SZ, 1 << 20)
    with open(SHM / eng.name, "rb") as file, contextlib.suppress(OSError):      # no data behind the last one
        at = 0
        while True:
            at = (os.lseek(file.fileno(), at, os.SEEK_DATA) | (2 << 20) - 1) + 1
            assert os.splice(file.fileno(), write, 1, offset_src=at - 4096) == 1

    def let_go(number, frame):
        os.close(read)
        os.close(write)
    before = signal.signal(signal.SIGALRM, let_go)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.3)
        eng.resize("4MiB")
    finally:
        signal.signal(signal.SIGALRM, before)
    assert eng.stats()["arena"]["bytes_backed"] <= eng.capacity + tables
    assert eng.check().ok

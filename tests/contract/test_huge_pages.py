"""Owns what huge pages may change: how memory is taken, and nothing else."""
import contextlib
import fcntl
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import engine
from shm.memory import has_huge_pages
from tests.support import ROOT, SANITIZED, SHM


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
    eng = make_arena(
        capacity=(64 << 20) + (3 << 18), page_size=4096, huge_pages=huge
    )  # ends in the middle of a huge page
    pool = eng.new_pool("p", persistent=True)
    held = 0
    while pool.put((1, 0, 0), held, bytes(4096)):
        held += 1
    assert held * 4096 > 0.96 * eng.capacity
    assert eng.stats()["arena"]["segments_used"] == eng.stats()["arena"]["segments_total"]
    assert eng.check().ok


def in_huge_pages(eng, length):
    """Bytes of an arena that this process has mapped in huge pages once it has filled it with pages
    of a length."""
    pool, data = eng.new_pool("p", persistent=True, page_size=max(512, length)), os.urandom(length)
    held = found = 0
    while pool.put((held >> 6, 0, 0), held & 63, data):
        held += 1
    ours = False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if re.match("[0-9a-f]+-", line):
            ours = str(SHM / eng.name) in line
        elif ours and line.startswith("ShmemPmdMapped:"):
            found += int(line.split()[1]) << 10
    return found


@pytest.mark.parametrize("length", [70_000, 1 << 20, 3 << 20, 16 << 20])
def test_long_pages_are_in_huge_pages_as_short_ones_are(make_arena, length):
    """As far as the system has any to give."""
    short = in_huge_pages(make_arena(capacity="64MiB", page_size=4096), 4096)
    if short < 32 << 20:
        pytest.skip("this system gives no huge pages")
    assert in_huge_pages(make_arena(capacity="64MiB", page_size=4096), length) >= short // 2


@pytest.mark.parametrize("value", [1, None, "yes"])
def test_the_argument(value):
    with pytest.raises(TypeError, match="huge_pages: True or False"):
        engine.create("never-made", huge_pages=value)


def test_a_hole_that_the_system_keeps_is_punched_again(make_arena):
    """A pipe that has a byte of each huge page keeps the system from taking any apart; memory goes
    when it lets go."""
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


@pytest.mark.parametrize(
    "said, asked", [("2097152\n", True), ("33554432\n", False), ("536870912\n", False), ("what", False), (None, False)]
)
def test_only_pages_of_two_mib_are_asked_for(tmp_path, said, asked):
    """Where a page has 16 or 64 KiB, huge ones have 32 or 512 MiB."""
    if said is not None:
        (tmp_path / "size").write_text(said)
    assert has_huge_pages(str(tmp_path / "size")) is asked


# A kernel that says yes, and does nothing.
YES = """#include <stddef.h>
int madvise(void *start, size_t length, int advice) { (void)start; (void)length; (void)advice; return 0; }
"""
BACKED = """
import sys, engine
with engine.create(sys.argv[1], "64MiB") as eng:
    pool = eng.new_pool("p", persistent=True)
    before = eng.stats()["arena"]["bytes_backed"]
    for n in range(1200):                       # over the beginning of a huge page or two
        assert pool.put((1, 0, 0), n, b"%4096d" % n)
        arena = eng.stats()["arena"]
        assert arena["bytes_backed"] - before >= arena["bytes_in_segments"] > 0, (n, arena)
    print("backed")
"""


@pytest.mark.skipif(SANITIZED, reason="the sanitizers must be the first library that is loaded")
@pytest.mark.skipif(not shutil.which("gcc"), reason="needs gcc")
def test_a_yes_of_the_system_is_not_memory(tmp_path, arena_name):
    (tmp_path / "yes.c").write_text(YES)
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", tmp_path / "yes.so", tmp_path / "yes.c"], check=True)
    told = subprocess.run(
        [sys.executable, "-c", BACKED, arena_name],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=ROOT,
        env={**os.environ, "LD_PRELOAD": str(tmp_path / "yes.so")},
    )
    assert told.stdout == "backed\n", told

"""Owns what happens where a control group has less memory than the arena's capacity: puts are
refused, and nobody is killed."""
import subprocess
import sys
from pathlib import Path

import pytest

import engine
from shm.kernel import groups
from tests.support import SANITIZED, child_env

ROOT = Path("/sys/fs/cgroup")
LIMIT = 48 << 20


WORKER = """
import os, sys
import engine
from tests.support import page

name, group, limit, persistent = sys.argv[1], sys.argv[2], int(sys.argv[3]), bool(sys.argv[4])
with open(group + "/cgroup.procs", "w") as procs:
    procs.write(str(os.getpid()))
with engine.attach(name) as mine:
    pool = mine.pool("p")
    stored = [pool.put((n, 0, 0), 0, page(n, 4000)) for n in range(20_000)]
    assert all(stored) != persistent
    for n in range(20_000):             # one at a time: what this process has counts as well
        data = pool.get((n, 0, 0), 0)
        assert data in (page(n, 4000), None) and (not persistent or stored[n] == (data is not None))
    assert mine.stats()["arena"]["bytes_backed"] < limit
"""


@pytest.fixture
def group(arena_name):
    """A control group with a limit, for a child to join."""
    old = ROOT / "memory"
    folder = (old if old.is_dir() else ROOT) / arena_name
    try:
        folder.mkdir()
    except OSError as error:
        pytest.skip(f"no control group can be made here: {error}")
    try:
        try:
            (folder / ("memory.limit_in_bytes" if old.is_dir() else "memory.max")).write_text(str(LIMIT))
        except OSError as error:
            pytest.skip(f"no control group can have a limit here: {error}")
        yield folder
    finally:
        folder.rmdir()


@pytest.mark.skipif(SANITIZED, reason="the sanitizers alone take more than the group may have")
@pytest.mark.parametrize("huge_pages", [False, True])
@pytest.mark.parametrize("persistent", [False, True])
def test_a_group_that_is_smaller_than_the_arena(arena_name, group, persistent, huge_pages):
    """Twice: the second worker finds the group full. Each is a program of its own: a forked child
    would have in the group whatever it touches of its parent's memory, which is as much as all
    tests before have left there."""
    with engine.create(arena_name, "128MiB", huge_pages=huge_pages) as eng:
        eng.new_pool("p", persistent=persistent, shared=True)
    try:
        for _ in range(2):
            done = subprocess.run(
                [sys.executable, "-c", WORKER, arena_name, str(group), str(LIMIT), "persistent" * persistent],
                env=child_env(), capture_output=True, text=True, check=False,
            )
            assert done.returncode == 0, done.stderr
    finally:
        engine.unlink(arena_name)


@pytest.mark.parametrize(("text", "expected"), [
    ("0::/\n", (2, ["{root}"])),
    ("0::/a/b\n", (2, ["{root}/a/b", "{root}/a", "{root}"])),
    ("0::/not/there\n", (2, ["{root}"])),
    ("5:cpu,memory:/a\n3:cpuset:/\n0::/a/b\n", (1, ["{root}/memory/a", "{root}/memory"])),
    ("4:memory:/host/path\n0::/\n", (1, ["{root}/memory"])),
    ("", (2, ["{root}"])),
])
def test_the_groups_of_a_process(tmp_path, text, expected):
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "memory" / "a").mkdir(parents=True)
    version, folders = expected
    assert groups._folders(text, str(tmp_path)) == (version, [folder.format(root=tmp_path) for folder in folders])

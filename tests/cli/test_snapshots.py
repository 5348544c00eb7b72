"""`tmem save` and `tmem restore`, and `tmem run` with both."""
import json
import subprocess
import sys

import pytest
from click.testing import CliRunner

import engine
from engine.cli.commands import main
from tests.support import ROOT, SHM, child_env


def tmem(*arguments):
    return CliRunner().invoke(main, arguments)


@pytest.fixture
def source(eng):
    eng.new_pool("p", persistent=True).put((1, 0, 0), 0, b"x")
    eng.new_pool("q").put((1, 0, 0), 0, b"y")
    return eng


def test_save_and_restore(source, arena_name, tmp_path):
    path, other = str(tmp_path / "s"), f"{arena_name}-other"
    said = tmem("save", arena_name, path)
    assert said.exit_code == 0 and "1 pools, 1 objects, 1 pages" in said.output
    said = tmem("restore", path, other, "--capacity", "2MiB", "--json")
    assert said.exit_code == 0 and json.loads(said.output)["pages"] == 1
    with engine.attach(other) as made:
        assert [pool.name for pool in made.pools()] == ["p"] and made.capacity == 2 << 20
    said = tmem("restore", path, other)
    assert said.exit_code == 1 and "'p'" in said.output
    engine.unlink(other)
    said = tmem("save", arena_name, path, "--pool", "q", "--ephemeral", "--max-age", "0", "--frozen", "--json")
    assert said.exit_code == 0 and json.loads(said.output)["pools"] == 1
    said = tmem("restore", path, other)
    assert said.exit_code == 0 and "left out: q" in said.output
    engine.unlink(other)


def test_what_cannot_be(source, arena_name, tmp_path):
    assert tmem("save", arena_name, str(tmp_path / "s"), "--max-age", "5").exit_code == 2
    said = tmem("save", arena_name, str(tmp_path / "no" / "s"))
    assert said.exit_code == 1 and "No such file" in said.output and "Traceback" not in said.output
    assert tmem("restore", str(tmp_path / "none"), f"{arena_name}-other").exit_code == 1
    (tmp_path / "s").write_bytes(b"x" * 100)
    said = tmem("restore", str(tmp_path / "s"), f"{arena_name}-other")
    assert said.exit_code == 1 and "not a snapshot" in said.output


def test_through_standard_streams(source, arena_name):
    other = f"{arena_name}-other"
    line = f"{sys.executable} -m engine.cli save {arena_name} - | {sys.executable} -m engine.cli restore - {other}"
    run = subprocess.run(["sh", "-c", line], cwd=ROOT, env=child_env(), capture_output=True, text=True, timeout=60)
    assert run.returncode == 0 and "1 pages" in run.stdout, run.stderr
    engine.unlink(other)


PROGRAM = """
import os, sys
import engine
with engine.attach(os.environ["TMEM_ARENA"]) as eng:
    cache = eng.cache("c")
    print(cache.incr("runs"))
sys.exit(int(sys.argv[1]))
"""


def test_an_arena_that_outlives_runs(arena_name, tmp_path):
    path = str(tmp_path / "s")

    def run(status, *options):
        done = subprocess.run(
            [sys.executable, "-m", "engine.cli", "run", arena_name, "--capacity", "4MiB", "--restore", path, *options,
             "--", sys.executable, "-c", PROGRAM, str(status)],
            cwd=ROOT, env=child_env(), capture_output=True, text=True, timeout=60)
        assert not (SHM / arena_name).exists()
        return done

    for n in range(1, 4):
        done = run(0, "--save", path, "--ephemeral")
        assert done.returncode == 0 and str(n) in done.stdout.splitlines(), done.stderr
    assert run(7).returncode == 7
    done = run(0, "--save", str(tmp_path / "no" / "s"))
    assert done.returncode == 1 and "not written" in done.stderr
    assert run(0, "--ephemeral").returncode == 2

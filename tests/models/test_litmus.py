"""Owns the check of memory ordering on a weakly ordered processor: litmus/*.litmus by `herd7`, each
with the answer it must give.

Each file is a shape of the engine in the instructions that gcc makes of it for AArch64. Where the
answer is Never, a file beside it shows that without the fence it would be Sometimes. README.md says
which code relies on which.
"""
import re
import shutil
import subprocess
from pathlib import Path

import pytest

FILES = sorted(Path(__file__).with_name("litmus").glob("*.litmus"))
HEAD = re.compile(r'AArch64 (\w+)\n"(Never|Sometimes): [^"]+"\n')

needs_herd7 = pytest.mark.skipif(
    not shutil.which("herd7"), reason="needs herd7: `apt-get install herdtools7`, or `opam install herdtools7`"
)


def head_of(path):
    """The name and the answer that a file states."""
    found = HEAD.match(path.read_text())
    assert found, f"{path.name}: begins with its name, and its answer"
    return found.groups()


@needs_herd7
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_answer_is_the_one_stated(path):
    _, says = head_of(path)
    out = subprocess.run(["herd7", path], capture_output=True, text=True, check=True)
    assert re.findall(r"^Observation \w+ (\w+)", out.stdout, re.MULTILINE) == [says], out.stdout + out.stderr


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_file_states_its_answer_and_is_in_the_table(path):
    name, _ = head_of(path)
    assert name == path.stem
    assert f"`{name}`" in Path(__file__).with_name("README.md").read_text()


def test_there_are_files():
    assert FILES

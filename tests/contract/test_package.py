"""Owns what `import tmem` gives, and what it says where a program's own module hides ours."""
import subprocess
import sys

import pytest

import engine
import tmem
from tests.support import ROOT


def test_it_has_every_public_name_of_the_engine():
    assert set(tmem.__all__) == set(engine.__all__)
    assert all(getattr(tmem, name) is getattr(engine, name) for name in tmem.__all__)


@pytest.mark.parametrize("name", ["engine", "shm"])
@pytest.mark.parametrize("as_folder", [False, True])
def test_a_module_that_hides_one_of_ours_is_named(tmp_path, name, as_folder):
    other = tmp_path / (f"{name}/__init__.py" if as_folder else f"{name}.py")
    other.parent.mkdir(exist_ok=True)
    other.write_text("def start(): pass\n")
    code = f"import sys; sys.path[:0] = [{str(tmp_path)!r}]; import tmem"
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 1 and f"{other} hides it" in ended.stderr


@pytest.mark.parametrize("name", ["engine", "shm"])
def test_one_that_was_imported_already_is_named_too(tmp_path, name):
    other = tmp_path / f"{name}.py"
    other.write_text("def start(): pass\n")
    code = f"import sys; sys.path[:0] = [{str(tmp_path)!r}]; import {name}; sys.path.pop(0); import tmem"
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 1 and f"{other} hides it" in ended.stderr

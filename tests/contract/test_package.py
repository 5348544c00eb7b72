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


@pytest.mark.parametrize("package", ["engine", "tmem"])
@pytest.mark.parametrize("name", ["posix_ipc", "xxhash"])
@pytest.mark.parametrize("text, said", [
    ("def hash(): pass\n", "{file} hides it"),
    ("raise ImportError('no libc', name={name!r})\n", "tmem needs {name}, which cannot be imported here: no libc"),
    ("raise ModuleNotFoundError(name={name!r})\n", "tmem needs {name}, which is not installed here: pip install"),
])
def test_what_it_needs_and_has_not_is_named(tmp_path, package, name, text, said):
    file = tmp_path / f"{name}.py"
    file.write_text(text.format(name=name))
    code = f"import sys; sys.path[:0] = [{str(tmp_path)!r}]; import {package}"
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 1 and said.format(file=file, name=name) in ended.stderr.splitlines()[-1]

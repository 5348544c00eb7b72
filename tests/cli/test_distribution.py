"""The lists that are written out by hand, in pyproject.toml and setup.py, name all there is."""
import ast
import re
import runpy
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text())
LAYERS = ("engine", "shm", "stress", "tmem")


def dotted(path):
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


def test_every_package_is_listed():
    there = {dotted(init.parent) for layer in LAYERS for init in (ROOT / layer).rglob("__init__.py")}
    assert set(SETTINGS["tool"]["setuptools"]["packages"]) == there


def test_every_folder_with_code_is_a_package():
    for layer in LAYERS:
        for module in (ROOT / layer).rglob("*.py"):
            assert (module.parent / "__init__.py").exists(), f"{module} would be left out"


def test_every_compiled_module_is_listed():
    listed = next(ast.literal_eval(node.value.func.value).split() for node in ast.parse(
        (ROOT / "setup.py").read_text()).body if isinstance(node, ast.Assign) and node.targets[0].id == "COMPILED")
    cython = re.compile(r"^(import cython|from cython)\b", re.MULTILINE)
    there = {dotted(module) for layer in LAYERS for module in (ROOT / layer).rglob("*.py")
             if cython.search(module.read_text())}
    assert sorted(listed) == sorted(there)


def test_what_is_installed_is_this_version():
    assert metadata.version("tmem") == SETTINGS["project"]["version"]


def test_only_two_packages_are_needed():
    needed = [line for line in metadata.requires("tmem") if "extra ==" not in line]
    assert {re.match(r"[\w-]+", line).group().replace("-", "_") for line in needed} == {"posix_ipc", "xxhash"}


# --- the build ------------------------------------------------------------------------------------

# Runs setup.py as the main program of an interpreter that says something else of itself.
ELSEWHERE = """
import runpy, sys, types
sys.{what} = {value}
sys.argv = ["setup.py", "--quiet", "--name"]
runpy.run_path("setup.py", run_name="__main__")
"""


@pytest.mark.parametrize("what, value, said", [
    ("platform", "'darwin'", "needs Linux, .*; this is darwin"),
    ("maxsize", "2**31 - 1", "needs a 64-bit Python, .*; this one has 32 bits"),
    ("byteorder", "'big'", "needs a little-endian processor, .*; this one is big-endian"),
    ("implementation", "types.SimpleNamespace(name='pypy', cache_tag=None)", "needs CPython, .*; this is pypy"),
])
def test_where_it_cannot_work_the_build_says_so_in_one_sentence(what, value, said):
    unsuited = runpy.run_path(str(ROOT / "setup.py"), run_name="setup")["unsuited"]
    assert unsuited() is None
    # What Cython and setuptools do on such a system is theirs: they are imported first.
    script = "import Cython.Build, setuptools\n" + ELSEWHERE.format(what=what, value=value)
    told = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert told.returncode == 1 and re.fullmatch(f"tmem {said}\\.\n", told.stderr), told


def test_setup_can_be_imported_by_the_processes_that_translate():
    """As the main module of a process that is not forked: nothing is built, nothing is asked of
    setuptools."""
    script = "import runpy; runpy.run_path('setup.py', run_name='__mp_main__')"
    told = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (told.returncode, told.stdout, told.stderr) == (0, "", "")

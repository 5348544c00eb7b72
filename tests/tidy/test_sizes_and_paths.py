"""Owns the rules on the length of functions, the width of lines, the absence of paths of
somebody's machine, and what the source distribution needs."""
import ast
import fnmatch
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import compiled_modules
from tests.support import ROOT

FUNCTION_MAX = 70
LINE_MAX = 120
FOLDERS = ("shm", "engine", "stress", "tmem", "tests", "docs", "examples", ".ci")
SUFFIXES = (".py", ".pxd", ".pyi", ".toml", ".md", ".in", "")
FILES = sorted(
    [path for folder in FOLDERS for path in (ROOT / folder).rglob("*")
     if path.is_file() and path.suffix in SUFFIXES and "__pycache__" not in path.parts]
    + [ROOT / name for name in ("setup.py", "pyproject.toml", "Makefile", "README.md", "MANIFEST.in")]
)
SOURCES = [path for path in FILES if path.suffix in (".py", ".pxd", ".pyi")]
# A home directory, a checkout or a temporary folder of one machine.
MACHINE = re.compile(r"""(?<![\w.])/(?:home|root|Users|work|mnt|media|srv)/\w|(?<![\w.])/tmp/\w""")


def relative(path):
    return str(path.relative_to(ROOT))


def lines_of(path):
    return path.read_text().splitlines()


def long_functions():
    """{path:function: its lines, the docstring aside} of those with more than a screen and a
    half."""
    found = {}
    for path in SOURCES:
        if path.suffix == ".py":
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.FunctionDef):
                    said = node.body[0] if ast.get_docstring(node) else None
                    lines = node.end_lineno - node.lineno + 1 - (said.end_lineno - said.lineno + 1 if said else 0)
                    if lines > FUNCTION_MAX:
                        found[f"{relative(path)}:{node.name}"] = lines
    return found


def test_functions_are_short_enough_to_be_read():
    assert not long_functions(), "does each do one thing?"


def test_lines_are_short_enough_to_be_read():
    wrong = [
        f"{relative(path)}:{n}" for path in SOURCES for n, line in enumerate(lines_of(path), 1) if len(line) > LINE_MAX
    ]
    assert not wrong, f"longer than {LINE_MAX} characters"


def test_no_path_of_one_machine():
    wrong = [f"{relative(path)}:{n}: {line.strip()}" for path in FILES if path != Path(__file__)
             for n, line in enumerate(lines_of(path), 1) if MACHINE.search(line)]
    assert not wrong


@pytest.mark.parametrize("text", ["x = '/home/me/x'", "see /root/a", '"/tmp/x"'])
def test_the_search_for_paths_finds(text):
    assert MACHINE.search(text)


@pytest.mark.parametrize("text", ["/dev/shm/x", "tests/tmp/x", "../lib/x", "https://example.org/home/x", "a/root/b"])
def test_the_search_for_paths_finds_nothing_else(text):
    assert not MACHINE.search(text)


def manifest_includes(name):
    """Whether MANIFEST.in puts the file `name` into the source distribution (includes only)."""
    folder, _, base = name.rpartition("/")
    for line in (ROOT / "MANIFEST.in").read_text().splitlines():
        verb, *words = line.split() or [""]
        if verb == "include" and any(fnmatch.fnmatch(name, word) for word in words):
            return True
        if verb == "recursive-include" and (folder == words[0] or folder.startswith(words[0] + "/")):
            if any(fnmatch.fnmatch(base, word) for word in words[1:]):
                return True
    return False


def test_the_source_distribution_has_every_pxd():
    declared = [relative(path) for path in SOURCES if path.suffix == ".pxd"]
    assert declared and [name for name in declared if not manifest_includes(name)] == []


@pytest.mark.parametrize(
    "name", ["engine/__init__.pyi", "engine/py.typed", "tmem/py.typed", "README.md", "tests/conftest.py", "Makefile"]
)
def test_the_source_distribution_has_more_than_packages(name):
    assert manifest_includes(name)


def packages():
    text = (ROOT / "pyproject.toml").read_text()
    return re.findall(r'"([\w.]+)"', re.search(r"^packages = \[(.*?)\]", text, re.MULTILINE | re.DOTALL).group(1))


def test_every_package_is_declared():
    found = {
        relative(path.parent).replace("/", ".")
        for layer in ("shm", "engine", "stress", "tmem")
        for path in (ROOT / layer).rglob("*.py")
        if "scenarios" not in path.parts or path.parent.name == "scenarios"
    }
    assert found <= set(packages())


def test_every_module_that_needs_compiling_is_compiled():
    """A module that cimports, or has a .pxd, is Cython and stands in setup.py's list; every entry
    there exists."""
    listed = set(compiled_modules())
    needs = set()
    for path in SOURCES:
        name = relative(path).rpartition(".")[0].replace("/", ".")
        if path.suffix == ".py" and path.parts[len(ROOT.parts)] in ("shm", "engine"):
            cimports = any(isinstance(node, ast.ImportFrom) and (node.module or "").startswith("cython.cimports")
                           for node in ast.walk(ast.parse(path.read_text())))
            if cimports or path.with_suffix(".pxd").exists():
                needs.add(name)
    assert needs == listed


@pytest.mark.parametrize("module", ["engine", "shm"])
def test_importing_loads_nothing_of_a_layer_above(module):
    code = f"import sys, {module}; print(*sorted(name.split('.')[0] for name in sys.modules))"
    loaded = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    above = {"shm": {"engine", "stress", "tmem"}, "engine": {"stress", "tmem", "click", "rich", "pytest"}}[module]
    assert not above & set(loaded)

"""Owns the layering as a test: imports go one way, stress -> engine -> shm, in .py and in .pxd; the substrate does not know
the words of what is built on it; and a public call goes down, not sideways into the harness.
"""
import ast
import io
import re
import tokenize

import pytest

from tests.support import ROOT, imported

LAYERS = ("shm", "engine", "stress")
ABOVE = {"shm": {"engine", "stress"}, "engine": {"stress"}, "stress": {"tests"}}
SOURCES = sorted(path for layer in LAYERS for suffix in ("py", "pxd", "pyi") for path in (ROOT / layer).rglob(f"*.{suffix}"))
# Words of the layers above, which the substrate's identifiers must not contain.
# "object" by itself is Python's word.
WORDS = re.compile(
    r"(?:^|_)(pools?|obj|objects|objnodes?|oids?|pampds?|tmem|ephemeral|persistent)(?:_|$)|Pool|Oid|Pampd|Objnode")


def relative(path):
    return str(path.relative_to(ROOT))


def layer_of(path):
    return path.relative_to(ROOT).parts[0]


def identifiers(path):
    """Every name in a source file; comments and strings aside."""
    for token in tokenize.generate_tokens(io.StringIO(path.read_text()).readline):
        if token.type == tokenize.NAME:
            yield token.string, token.start[0]


def test_there_are_sources():
    assert set(map(layer_of, SOURCES)) == set(LAYERS)
    assert any(path.suffix == ".pxd" for path in SOURCES)


def test_imports_go_one_way():
    wrong = [f"{relative(path)} imports {name}" for path in SOURCES for name in imported(path.read_text())
             if name.split(".")[0] in ABOVE[layer_of(path)]]
    assert not wrong


@pytest.mark.parametrize("text", [
    "from engine.core import put", "from cython.cimports.engine.verbs.core import put", "    from engine import x",
    "import engine", "from engine.core cimport put", "cimport engine.core", "import os, engine.core as core",
    "from cython.cimports.engine import core",
])
def test_the_search_for_imports_finds(text):
    assert "engine" in {name.split(".")[0] for name in imported("import os\n" + text + "\n")}


def test_the_substrate_does_not_know_what_is_built_on_it():
    wrong = [f"{relative(path)}:{line}: {name}" for path in SOURCES if layer_of(path) == "shm"
             for name, line in identifiers(path) if WORDS.search(name)]
    assert not wrong


@pytest.mark.parametrize("name", ["pool", "pool_at", "new_obj", "oid_words", "PoolRecord", "_objnode", "ephemeral"])
def test_the_search_for_words_finds(name):
    assert WORDS.search(name)


def test_a_module_says_what_it_owns():
    wrong = [relative(path) for path in SOURCES
             if path.suffix == ".py" and path.read_text().strip() and not ast.get_docstring(ast.parse(path.read_text()))]
    assert not wrong, "these open without a docstring"

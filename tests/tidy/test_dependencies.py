"""Owns the rule that Cython's own tracker sees all that a module is compiled from, near and far,
and nothing else: a change of one .pxd then compiles what uses it, all of it, and no more.

The tracker reads the sources with a regular expression. `from cython.cimports.engine.tree import
objnode` hides objnode from it; `import cython.cimports.engine.tree.objnode as objnode` does not.
"""
import os
from pathlib import Path

import pytest
from Cython.Build.Dependencies import DependencyTree, create_dependency_tree

from tests.conftest import compiled_modules, sources_of
from tests.support import ROOT


def tracked(source):
    """The files of this tree that Cython takes a module's translation to depend on."""
    context = create_dependency_tree(quiet=True).context
    found = {Path(path).resolve() for path in DependencyTree(context, quiet=True).all_dependencies(source)}
    return {path for path in found if path.is_relative_to(ROOT / "engine") or path.is_relative_to(ROOT / "shm")}


@pytest.fixture(autouse=True)
def in_the_root(monkeypatch):
    monkeypatch.chdir(ROOT)


@pytest.mark.parametrize("name", compiled_modules())
def test_what_a_module_is_compiled_from_is_tracked(name):
    source = f"{name.replace('.', '/')}.py"
    assert sorted(tracked(source)) == sorted(sources_of(name))


@pytest.mark.parametrize(
    "line, hidden",
    [
        ("from cython.cimports.engine.tree import objnode", True),
        ("import cython.cimports.engine.tree.objnode as objnode", False),
        ("from cython.cimports.engine.tree.objnode import lookup", False),
    ],
)
def test_a_hidden_module_is_noticed(tmp_path, line, hidden):
    """How Cython's tracker takes each form: if a later one sees the first, it may be used again."""
    source = tmp_path / "module.py"
    source.write_text(f"import cython\n{line}\n")
    seen = tracked(os.fspath(source))
    assert (ROOT / "engine/tree/objnode.pxd" in seen) != hidden
    # What is declared there counts too.
    assert (ROOT / "shm/atomics.pxd" in seen) != hidden

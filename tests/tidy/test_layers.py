"""Owns the layering as a test: imports go one way, stress and tmem -> engine -> shm, in .py and in
.pxd; the substrate does not know the words of what is built on it; and a public call goes down, not
sideways into the harness.
"""
import ast
import io
import re
import tokenize

import pytest

from tests.support import ROOT, imported

LAYERS = ("shm", "engine", "stress", "tmem")
ABOVE = {
    "shm": {"engine", "stress", "tmem"},
    "engine": {"stress", "tmem"},
    "stress": {"tests", "tmem"},
    "tmem": {"stress", "tests"},
}
SOURCES = sorted(
    path for layer in LAYERS for suffix in ("py", "pxd", "pyi") for path in (ROOT / layer).rglob(f"*.{suffix}")
)
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
    "from engine.core import put", "from cython.cimports.engine.verbs.put import put", "    from engine import x",
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
    wrong = [
        relative(path)
        for path in SOURCES
        if path.suffix == ".py" and path.read_text().strip() and not ast.get_docstring(ast.parse(path.read_text()))
    ]
    assert not wrong, "these open without a docstring"


# --- the floors of the engine ---------------------------------------------------------------------

# Each imports only from those that stand before it, in .py and in .pxd. What lies in engine/ itself
# is below all of them.
FLOORS = (
    "", "layout", "far", "pages", "tree", "eviction", "verbs", "member", "capacity", "integrity", "api", "cache",
    "frontends", "snapshots", "cli",
)


def modules():
    """{name of a module of the engine or the substrate: what it imports of them}."""
    paths = [path for path in SOURCES if layer_of(path) != "stress" and path.suffix != ".pyi"]
    names = {relative(path).rpartition(".")[0].replace("/", ".").removesuffix(".__init__") for path in paths}
    found = {name: set() for name in names}
    for path in paths:
        name = relative(path).rpartition(".")[0].replace("/", ".").removesuffix(".__init__")
        for target in imported(path.read_text()):
            while target and target not in names:
                target = target.rpartition(".")[0]
            if target and target != name:
                found[name].add(target)
    return found


def floor_of(name):
    parts = name.split(".")
    return parts[1] if len(parts) > 1 and parts[1] in FLOORS else ""


def circles(graph):
    """The strongly connected parts of more than one module (Tarjan, "Depth-first search and linear
    graph algorithms", 1972)."""
    index, low, stack, found = {}, {}, [], []

    def visit(node):
        index[node] = low[node] = len(index)
        stack.append(node)
        for other in graph[node]:
            if other not in index:
                visit(other)
            if other in stack:
                low[node] = min(low[node], low[other])
        if low[node] == index[node]:
            part = stack[stack.index(node):]
            del stack[stack.index(node):]
            if len(part) > 1:
                found.append(sorted(part))

    for node in graph:
        if node not in index:
            visit(node)
    return found


def test_a_floor_imports_only_from_those_below(record_property):
    graph = modules()
    across = [
        (name, target)
        for name, targets in graph.items()
        for target in targets
        if name != "engine"
        and name.startswith("engine.")
        and target.startswith("engine")
        and floor_of(name) != floor_of(target)
    ]
    print(
        f"{len(FLOORS) - 1} floors, {len(graph)} modules, {len(across)} imports from one floor of "
        "the engine to another, "
        f"{len(circles(graph))} circles"
    )
    wrong = [
        f"{name} imports {target}"
        for name, target in across
        if FLOORS.index(floor_of(name)) < FLOORS.index(floor_of(target))
    ]
    assert not wrong


def test_no_module_imports_itself_by_others():
    assert circles(modules()) == []


def test_the_search_for_circles_finds_one():
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == [["a", "b", "c"]]


def test_a_floor_says_what_it_owns():
    assert [
        floor
        for floor in FLOORS[1:]
        if not ast.get_docstring(ast.parse((ROOT / "engine" / floor / "__init__.py").read_text()))
    ] == []


def test_nothing_is_imported_in_the_middle_of_a_function():
    wrong = [
        f"{relative(path)}:{node.lineno}"
        for path in SOURCES
        if layer_of(path) != "stress" and path.suffix == ".py"
        for function in ast.walk(ast.parse(path.read_text()))
        if isinstance(function, ast.FunctionDef)
        for node in ast.walk(function)
        if isinstance(node, (ast.Import, ast.ImportFrom))
        and any(
            name.split(".")[0] in LAYERS
            for name in [getattr(node, "module", None) or "", *(alias.name for alias in node.names)]
        )
    ]
    assert not wrong

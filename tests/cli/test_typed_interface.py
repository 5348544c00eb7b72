"""The stub and the module it describes name the same things, and a typed program runs."""
import ast
import inspect
from pathlib import Path

import pytest

import engine
from tests.cli import typed_usage

STUB = ast.parse((Path(engine.__file__).parent / "__init__.pyi").read_text())
CLASSES = {node.name: node for node in STUB.body if isinstance(node, ast.ClassDef) and not node.name.startswith("_")}
FUNCTIONS = {node.name: node for node in STUB.body if isinstance(node, ast.FunctionDef)}
VALUES = {node.target.id for node in STUB.body if isinstance(node, ast.AnnAssign) and node.target.id.isupper()}


def parameters(node):
    """(name, has a default, keyword only) of each parameter but self, from the stub."""
    plain, spread = node.args.args, len(node.args.args) - len(node.args.defaults)
    found = [(arg.arg, at >= spread, False) for at, arg in enumerate(plain) if arg.arg != "self"]
    return found + [(arg.arg, default is not None, True)
                    for arg, default in zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True)]


def real_parameters(function):
    kinds = inspect.Parameter
    return [(p.name, p.default is not kinds.empty, p.kind is kinds.KEYWORD_ONLY)
            for p in inspect.signature(function).parameters.values()
            if p.name != "self" and p.kind is not kinds.VAR_POSITIONAL]


def test_every_public_name_is_in_the_stub():
    public = {name for name, value in vars(engine).items()
              if not name.startswith("_") and not inspect.ismodule(value)}
    named = {*CLASSES, *FUNCTIONS, *VALUES}
    assert named <= public
    if hasattr(engine, "__all__"):
        assert set(engine.__all__) == named


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_take_what_the_stub_says(name):
    assert real_parameters(getattr(engine, name)) == parameters(FUNCTIONS[name])


def methods():
    """{(class, method): its definitions}: several where it is overloaded."""
    found = {}
    for owner, body in CLASSES.items():
        for node in body.body:
            if isinstance(node, ast.FunctionDef):
                found.setdefault((owner, node.name), []).append(node)
    return found


@pytest.mark.parametrize(("owner", "name"), methods())
def test_methods_take_what_the_stub_says(owner, name):
    nodes = methods()[owner, name]
    if any(getattr(decorator, "id", "") == "property" for decorator in nodes[0].decorator_list):
        return                              # instances carry it: typed_usage reads each
    real = getattr(getattr(engine, owner), name)
    if not name.startswith("__"):
        # What one of the overloads may leave out may be left out.
        assert real_parameters(real) == [(name, any(default for _, default, _ in same), keyword) for same in
                                         zip(*map(parameters, nodes), strict=True) for name, _, keyword in same[:1]]


@pytest.mark.parametrize("name", ["Engine", "Pool", "Object", "Crew", "Report", "Problem"])
def test_every_public_attribute_is_in_the_stub(name):
    named = {node.name for node in CLASSES[name].body if isinstance(node, ast.FunctionDef)}
    inherited = {"count", "index"} if name == "Crew" else set()     # a Sequence's
    real = {attribute for attribute in dir(getattr(engine, name)) if not attribute.startswith("_")}
    real |= set(getattr(getattr(engine, name), "__dataclass_fields__", ()))
    assert real - inherited <= named


@pytest.mark.parametrize("name", [name for name, node in CLASSES.items() if node.bases])
def test_error_tree(name):
    base = CLASSES[name].bases[0]
    if isinstance(base, ast.Name) and hasattr(engine, base.id):
        assert issubclass(getattr(engine, name), getattr(engine, base.id))


def test_typed_program_runs(arena_name):
    typed_usage.use(arena_name)

"""The lists that are written out by hand, in pyproject.toml and setup.py, name all there is."""
import ast
import re
import tomllib
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).parents[2]
SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text())
LAYERS = ("engine", "shm", "stress")


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

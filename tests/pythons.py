"""Run by `make test-pythons`: the tests that an interpreter can break, on every CPython of this
machine that the engine is for.

Looked for are pyenv's and those on PATH. Of each minor version the newest is taken, and
free-threaded builds count as their own, and run without the GIL. Each has an environment of its own
under build/pythons; what is compiled lies in the tree, under a name that tells the interpreters
apart.
"""
import argparse
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
ENVIRONMENTS = ROOT / "build" / "pythons"
TESTS = ["tests/contract", "tests/crash", "tests/conformance"]
OLDEST = (3, 11)
NAME = re.compile(r"python3\.\d+t?")
ABOUT = "import sys, sysconfig; print(*sys.version_info[:3], sysconfig.get_config_var('Py_GIL_DISABLED') or 0)"


class Interpreter(NamedTuple):
    """One that was found: (3, 13, 0), free-threaded or not, where."""

    version: tuple[int, int, int]
    free: bool
    path: Path

    @property
    def kind(self):
        """What there is one of: `3.13`, `3.13t`."""
        return f"{self.version[0]}.{self.version[1]}{'t' if self.free else ''}"

    def told(self):
        return ".".join(map(str, self.version)) + (" free-threaded" if self.free else "")


def folders():
    """Where interpreters may lie."""
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    yield from sorted(pyenv.glob("*/bin"))
    yield from (Path(folder) for folder in os.environ.get("PATH", "").split(os.pathsep) if folder)


def about(path):
    """The Interpreter behind a path; None if it does not run, or is no CPython of this kind of
    machine."""
    try:
        told = subprocess.run([path, "-c", ABOUT], capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return None
    if told.returncode != 0:        # one of pyenv's shims for a version that is not chosen
        return None
    *version, free = told.stdout.split()
    return Interpreter(tuple(map(int, version)), free == "1", path)


def interpreters():
    """The newest of each kind, oldest kind first."""
    found = {}
    for folder in folders():
        for path in sorted(folder.glob("python3.*")) if folder.is_dir() else ():
            one = about(path) if NAME.fullmatch(path.name) else None
            if one and one.version >= OLDEST and (one.kind not in found or one.version > found[one.kind].version):
                found[one.kind] = one
    return sorted(found.values())


def run(one, tests):
    """Build and test with one interpreter; a line of counts, and whether all is well."""
    home = ENVIRONMENTS / one.kind
    home.mkdir(parents=True, exist_ok=True)
    log = home / "log"
    began = time.monotonic()
    with log.open("w") as out:
        made = subprocess.run(
            ["make", "setup", f"VENV={home.relative_to(ROOT)}/venv", f"PYTHON={one.path}", "EXTRAS=test"],
            cwd=ROOT,
            stdout=out,
            stderr=subprocess.STDOUT,
        )
        if made.returncode != 0:
            return f"{one.told()}: could not be set up; see {log.relative_to(ROOT)}", False
        built = time.monotonic()
        tested = subprocess.run(
            [home / "venv/bin/python", "-m", "pytest", "-q", "-n", "auto", "-p", "no:cacheprovider", *tests],
            cwd=ROOT,
            stdout=out,
            stderr=subprocess.STDOUT,
            # posix_ipc, which the engine imports, asks for the lock.
            env={**os.environ, "PYTHON_GIL": "0"} if one.free else None,
        )
    counts = re.findall(r"^(\d+ \w+(?:, \d+ \w+)*) in [\d.]+s", log.read_text(), re.MULTILINE)
    took = f"{time.monotonic() - built:.0f} s, after {built - began:.0f} s of setting up"
    if tested.returncode != 0:
        return (
            f"{one.told()}: {counts[-1] if counts else 'the tests did not run'} in {took}; see {log.relative_to(ROOT)}",
            False,
        )
    return f"{one.told()}: {counts[-1]} in {took}", True


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--only", action="append", metavar="KIND", help="these alone, such as 3.12 or 3.13t; again for more"
    )
    parser.add_argument("--another", action="store_true", help="the newest alone, besides the one that runs this")
    parser.add_argument("tests", nargs="*", default=TESTS)
    arguments = parser.parse_args()
    chosen = interpreters()
    if arguments.only:
        chosen = [one for one in chosen if one.kind in arguments.only]
    if arguments.another:
        chosen = [one for one in chosen if one.version[:2] != sys.version_info[:2] and not one.free][-1:]
    if not chosen:
        print("no such interpreter is here: nothing was tested")
        return 0 if arguments.another else 1
    well = True
    for one in chosen:
        line, passed = run(one, arguments.tests)
        print(line, flush=True)
        well = well and passed
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main())

"""Owns Host: a library whose suite is fetched, run with our adapter, and judged.

A suite passes when every test does but those that are left out by name, each with a reason; a name
that is left out and is not in the suite any more is a failure too, and so is a suite of which
nothing ran."""
import fcntl
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from xml.etree import ElementTree

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
BUILD = ROOT / "build" / "hosts"


class Failed(Exception):
    """Why a host's check failed."""


class Host:
    """One library's check, with a folder of its own for what it fetches and writes."""

    def __init__(self, name, workers="auto"):
        self.name = name
        self.workers = workers
        self.folder = BUILD / name
        self.folder.mkdir(parents=True, exist_ok=True)
        self.arena = f"tmemhost-{os.getpid()}-{name}"     # a name, or the start of names, for arenas
        self.summaries = []

    def install(self, *requirements):
        """Install what the suite needs, if it is not there; one host at a time."""
        with (BUILD / "installing").open("w") as turn:
            fcntl.flock(turn, fcntl.LOCK_EX)
            self.run([sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *requirements])

    def source(self, requirement):
        """The unpacked source distribution of a requirement; fetched once."""
        shelf = self.folder / re.sub(r"[^\w.]+", "-", requirement)
        if not (shelf / "done").exists():
            shelf.mkdir(exist_ok=True)
            # Only the host itself comes as source: what builds it is needed as wheels.
            package = re.match(r"[\w.-]+", requirement)[0]
            self.run([
                sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps",
                "--no-binary", package, "-d", str(shelf), requirement,
            ])
            for archive in [*shelf.glob("*.tar.gz"), *shelf.glob("*.zip")]:
                opened = tarfile.open(archive) if archive.name.endswith(".gz") else zipfile.ZipFile(archive)
                with opened:
                    if isinstance(opened, tarfile.TarFile):
                        opened.extractall(shelf, filter="data")
                    else:
                        opened.extractall(shelf)
            (shelf / "done").touch()
        return next(path for path in shelf.iterdir() if path.is_dir())

    def add(self, suite, folder):
        """Put a test file of tests.hosts among the host's own, where it finds what they share: its
        path there."""
        return shutil.copy(HERE / suite, Path(folder) / f"test_tmem_{suite}")

    def run(self, command, cwd=None, env=None, check=True):
        """Run a command, and return its exit status; raises Failed if it is not 0."""
        done = subprocess.run(command, cwd=cwd or self.folder, env={**os.environ, **(env or {})}, check=False)
        if check and done.returncode != 0:
            raise Failed(f"{' '.join(map(str, command))} ended with {done.returncode}")
        return done.returncode

    def settings(self, **more):
        """The environment of a suite. Modules of this folder go by names of their own there, since
        `tests` may be a package of the host's."""
        path = os.pathsep.join(filter(None, [str(HERE), os.environ.get("PYTHONPATH")]))
        return {"PYTHONPATH": path, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "TMEM_ARENA": self.arena, **more}

    def unittest(self, command, cwd=None):
        """Run a suite that ends with the summary of unittest's runner."""
        done = subprocess.run(
            command, cwd=cwd or self.folder, env={**os.environ, **self.settings()}, check=False, text=True,
            stderr=subprocess.PIPE,
        )
        print(done.stderr, end="", file=sys.stderr)
        ran = re.search(r"^Ran (\d+) tests? in", done.stderr, re.MULTILINE)
        skipped = re.search(r"\bskipped=(\d+)\b", done.stderr)
        ran, skipped = (int(found[1]) if found else 0 for found in (ran, skipped))
        self.summaries.append(f"{ran - skipped} ran, {skipped} skipped, 0 left out by name")
        if done.returncode != 0 or ran <= skipped:
            raise Failed(f"{' '.join(map(str, command))} ended with {done.returncode}; {self.summaries[-1]}")

    def pytest(self, args, cwd=None, env=None, left_out=None, plugins=()):
        """Run a suite of pytest.

        left_out: {a part of a test's id: why it cannot apply}. plugins: of pytest, or modules of
        this folder; no others are loaded, since the hosts share an environment."""
        left_out = left_out or {}
        seen = self.folder / f"seen-{len(self.summaries)}.xml"
        listed = self.folder / f"left-out-{len(self.summaries)}"
        listed.write_text("".join(f"{name}\t{why}\n" for name, why in left_out.items()))
        command = [
            sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "leaving_out",
            *(word for plugin in plugins for word in ("-p", plugin)),
            f"--junit-xml={seen}", *map(str, args),
        ]
        status = self.run(command, cwd, self.settings(LEFT_OUT=str(listed), **(env or {})), check=False)
        counts = ElementTree.parse(seen).getroot().find("testsuite").attrib if seen.exists() else {}
        ran = int(counts.get("tests", 0)) - int(counts.get("skipped", 0))
        self.summaries.append(f"{ran} ran, {counts.get('skipped', 0)} skipped, {len(left_out)} left out by name")
        if status != 0 or ran < 1:
            raise Failed(f"pytest {' '.join(map(str, args))} ended with {status}; {self.summaries[-1]}")

    def clean(self):
        """Remove arenas that a suite left; returns their names."""
        left = [path.name for path in Path("/dev/shm").glob(f"*{self.arena}*")]
        for name in left:
            (Path("/dev/shm") / name).unlink(missing_ok=True)
        return left

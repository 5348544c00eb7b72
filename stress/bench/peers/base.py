"""Owns what a store must do to be measured: the class `Peer`, and `Place`, the one folder all of a
run's stores live in.

A peer is made in three steps, so that a half-made one can be removed: the constructor only
remembers, `create` makes the store (owner only), `connect` opens it in this process. Then `put`,
`get` and `drop` are called with the tuple that `key` gave, prepared outside the timing: `put(*key,
page)`, `get(*key)`, `drop(*key)`; `connect` sets them, to a method of the client itself where there
is one, so that nothing of ours stands in between. A span is a value of many pages; a store without
such a thing keeps it under one key. Calls nothing of the benchmark.
"""
from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

SPAN_NUMBERS = 1 << 40          # keys of spans lie above those of pages
OBJECT_PAGES = 64               # pages of an object, for peers that know objects


@dataclass(frozen=True)
class Place:
    """A folder in shared memory, and a name for what is not a file in it. Removed with all that is
    in it."""

    folder: Path
    name: str

    @classmethod
    def make(cls, stack: ExitStack) -> Place:
        """A new one, with the stack to remove it. A signal waits until both is done, or its handler
        would end the run with nobody to remove the folder."""
        before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            folder = Path(tempfile.mkdtemp(prefix=f"tmem-bench-{os.getpid()}-", dir="/dev/shm"))
            place = cls(folder, f"{folder.name}-x")
            stack.callback(place.remove)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return place

    def remove(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)


class Peer:
    """A store under measurement. Subclasses say what they need, and override what differs."""

    name = ""
    about = ""                          # what was configured, for the reader of the tables
    packages: tuple[str, ...] = ()      # distributions of PyPI
    modules: tuple[str, ...] = ()       # what they are imported as
    programs: tuple[str, ...] = ()      # servers; also the names of their Debian packages
    pages_max = 1 << 40                 # more is not sensible with this store
    shares = True                       # several processes may put at the same time
    put: Any                            # put(*key, page)
    get: Any                            # get(*key): the bytes, or None
    drop: Any = None                    # drop(*key), of a page that is there
    get_into: Any = None                # get_into(*key, buffer), if there is such a call
    look: Any = None                    # look(*key): the page where it lies, entered and left, if there is such a call
    drop_object: Any = None             # drop_object(*object_key), if there is such a call

    # What caches have beside it. A key of theirs is a word.
    value_max = 1 << 40                 # bytes of the longest value
    keeps_objects = False               # it pickles what is not bytes by itself
    add: Any = None                     # add(*word, value): put where there is none, if there is such a call
    incr: Any = None                    # incr(*word): add 1 to a counter, exactly, if there is such a call
    cas: Any = None                     # cas(*word, value, token): put if nobody has since, if there is such a call

    def __init__(self, place: Place, pages: int, capacity: int):
        self.place, self.pages, self.capacity = place, pages, capacity

    # -- whether it is here, and in which version
    # ----------------------------------------------------

    @classmethod
    def absent(cls) -> str:
        """What to install, or nothing."""
        wanted = []
        if any(importlib.util.find_spec(module) is None for module in cls.modules):
            wanted.append("pip install " + " ".join(cls.packages))
        if any(shutil.which(program) is None for program in cls.programs):
            wanted.append("apt-get install " + " ".join(cls.programs))
        return ", ".join(wanted)

    @classmethod
    def version(cls) -> str:
        found = [f"{package} {metadata.version(package)}" for package in cls.packages]
        for program in cls.programs:
            said = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout.split()
            number = next((word for word in said if word.lstrip("v=")[:1].isdigit()), "?")
            found.append(f"{program} {number.removeprefix('v=')}")
        return ", ".join(found)

    # -- its life
    # ------------------------------------------------------------------------------------

    def create(self) -> None:
        """Make the store."""

    def handle(self) -> Any:
        """What another process needs to connect beside the place; it is pickled."""

    def connect(self, handle: Any = None) -> None:
        """Open the store in this process."""

    def close(self) -> None:
        """Let go of it in this process."""

    def servers(self) -> list[int]:
        """The processes that work for this one."""
        return []

    def remove(self) -> None:
        """End the store, also if it was made by half. Files in the place's folder need no
        mention."""

    # -- what is measured
    # ----------------------------------------------------------------------------

    def key(self, number: int) -> tuple:
        return (b"page:%d" % number,)

    def word(self, number: int) -> tuple:
        """A key of 30 characters."""
        return (f"user:{number:010d}:thumbnail:icon",)

    def token(self, *word: Any) -> Any:
        """Of the value that is there, for `cas`."""
        raise NotImplementedError

    def start(self, *word: Any) -> None:
        """Make a counter."""
        self.put(*word, 0)

    def span(self, number: int, pages: int) -> tuple:
        """The key of a value of so many pages; one number is always asked with one size."""
        return self.key(SPAN_NUMBERS + number)

    def object_key(self, number: int) -> tuple:
        raise NotImplementedError

    def put_span(self, *key_and_block: Any) -> Any:
        return self.put(*key_and_block)

    def get_span(self, *key: Any) -> Any:
        return self.get(*key)

    # -- beside it
    # -----------------------------------------------------------------------------------

    def fill(self, pages: Iterable[tuple[int, bytes]]) -> None:
        """Put many pages, in whatever way is quickest; not measured."""
        for number, page in pages:
            self.put(*self.key(number), page)

    def memory(self) -> int:
        """Bytes of memory the store takes now. Files in shared memory are memory."""
        return sum(path.lstat().st_blocks * 512 for path in self.place.folder.rglob("*"))

"""Owns what every adapter of a cache must stand, whatever its host calls its verbs: opening late,
forks, other programs, a worker that is killed, an arena that is removed.

STANDING lists the checks. Each takes a Kind, which says how the adapter of that host is made, and
how a value is put and got, and the name of an arena that is not there."""
import os
import pickle
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import Any

import engine
from tests.stopped import fork, in_child
from tests.support import SHM, child_env

PROCESSES = 8


@dataclass
class Kind:
    """An adapter in the words of its host.

    make: a function of the arena's name that a child can import. put, get: of the adapter's object,
    a key, and, to put, a str as the value; get answers None if there is nothing."""

    make: Any
    put: Any
    get: Any
    pickles: bool = True        # whether its objects can be pickled


def run_together(count, function, *arguments):
    """Run a function in so many forked children, which begin together: their exit codes."""
    go_on, begin = os.pipe()

    def child(n):
        os.close(begin)
        os.read(go_on, 1)
        function(n, *arguments)

    children = [fork(child, n) for n in range(count)]
    os.close(go_on)
    os.close(begin)
    return [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children]


def opens_at_the_first_call(kind, arena, monkeypatch):
    monkeypatch.setenv("TMEM_CAPACITY", "4MiB")
    cache = kind.make(arena)
    assert not (SHM / arena).exists()
    kind.put(cache, "k", "v")
    assert kind.get(cache, "k") == "v"
    with engine.attach(arena) as eng:
        assert eng.capacity == 4 << 20


def attaches_to_what_is_there(kind, arena, monkeypatch):
    with engine.create(arena, capacity="2MiB") as eng:
        kind.put(kind.make(arena), "k", "v")
        assert eng.capacity == 2 << 20 and eng.stats()["total"]["puts_ok"] > 0


def goes_on_in_a_child(kind, arena, monkeypatch):
    cache = kind.make(arena)
    kind.put(cache, "before", "parent")

    def child():
        assert kind.get(cache, "before") == "parent"
        kind.put(cache, "after", "child")

    assert in_child(child) == 0
    assert kind.get(cache, "after") == "child"


def serves_other_programs(kind, arena, monkeypatch):
    kind.put(kind.make(arena), "k", "v")
    module = kind.make.__module__
    code = (
        f"from {module} import KIND\ncache = KIND.make({arena!r})\nassert KIND.get(cache, 'k') == 'v'\n"
        "KIND.put(cache, 'l', 'w')"
    )
    subprocess.run([sys.executable, "-c", code], env=child_env(), check=True)
    assert kind.get(kind.make(arena), "l") == "w"


def survives_its_pickle(kind, arena, monkeypatch):
    cache = kind.make(arena)
    kind.put(cache, "k", "v")
    assert kind.get(pickle.loads(pickle.dumps(cache)), "k") == "v"


def work(n, kind, cache):
    for turn in range(100):
        key, value = f"{n}-{turn % 10}", f"{n} {turn}"
        kind.put(cache, key, value)
        kind.put(cache, "shared", value)
        assert kind.get(cache, key) == value and len(kind.get(cache, "shared").split()) == 2


def serves_many_at_once(kind, arena, monkeypatch):
    cache = kind.make(arena)
    assert run_together(PROCESSES, work, kind, cache) == [0] * PROCESSES
    assert all(kind.get(cache, f"{n}-9") == f"{n} 99" for n in range(PROCESSES))


def outlives_a_worker(kind, arena, monkeypatch):
    """One that is killed in the middle of putting: every value is whole, and all go on."""
    cache = kind.make(arena)
    told, tell = os.pipe()

    def child():
        turn = 0
        while True:
            kind.put(cache, f"k{turn % 5}", f"{turn} " * 1000)
            turn += 1
            if turn == 50:
                os.write(tell, b"x")

    pid = fork(child)
    os.read(told, 1)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    os.close(told)
    os.close(tell)
    for n in range(5):
        words = (kind.get(cache, f"k{n}") or "").split()
        assert len(set(words)) <= 1 and len(words) in (0, 1000)
        kind.put(cache, f"k{n}", "after")
        assert kind.get(cache, f"k{n}") == "after"
    with engine.attach(arena) as eng:
        assert eng.check().ok


def finds_the_arena_that_was_made_again(kind, arena, monkeypatch):
    cache = kind.make(arena)
    kind.put(cache, "k", "v")
    engine.unlink(arena)
    until = time.monotonic() + 5
    while kind.get(cache, "k") is not None:
        assert time.monotonic() < until
    kind.put(cache, "k", "again")
    with engine.attach(arena) as eng:
        assert kind.get(cache, "k") == "again" and eng.stats()["arena"]["workers"] == 2


STANDING = [
    opens_at_the_first_call, attaches_to_what_is_there, goes_on_in_a_child, serves_other_programs, survives_its_pickle,
    serves_many_at_once, outlives_a_worker, finds_the_arena_that_was_made_again,
]


def standing_of(kind):
    """The checks that apply to a kind."""
    return [check for check in STANDING if kind.pickles or check is not survives_its_pickle]

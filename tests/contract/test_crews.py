"""Owns what becomes of crews when things go wrong: a parent that ends, processes that end at once,
processes that cannot be had.

A parent runs as a process of its own; whatever it starts has its standard error, so the end of that
is the end of them all.
"""
import os
import signal
import subprocess
import sys
import threading

import pytest

import engine
from engine.api import spawn
from tests.support import ROOT

METHODS = ["spawn", "fork", "forkserver"]


def run_for_ever():
    os.write(1, b"running\n")
    while True:
        signal.pause()


def end_with(code):
    os._exit(code)


def lead(name, method, stage):
    """A parent: makes a crew, and is killed before it lets it go; or later, or ends with its
    standard input, without a word to its crew."""
    eng = engine.attach(name)
    if stage == "before the release":
        spawn.Crew._open_gate = lambda crew: os.kill(os.getpid(), signal.SIGKILL)
    crew = eng.spawn(3, run_for_ever, method=method, restart=stage == "while it is kept")
    if stage == "dropped":
        del crew
    os.write(1, b"let go\n")
    os.read(0, 1)
    os._exit(0)


@pytest.mark.parametrize("stage, method", [
    *(("before the release", method) for method in METHODS), *(("after it", method) for method in METHODS),
    ("while it is kept", "fork"), ("dropped", "fork"), ("of itself", "fork"),
])
def test_a_crew_ends_with_its_parent(eng, method, stage):
    code = f"import tests.contract.test_crews as here; here.lead({eng.name!r}, {method!r}, {stage!r})"
    parent = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE)
    if stage != "before the release":
        lines = sorted(parent.stdout.readline() for _ in range(4))
        assert lines == [b"let go\n"] + [b"running\n"] * 3
        if stage != "of itself":
            parent.kill()
    out, err = parent.communicate(timeout=60)       # ends when the last of its processes has
    assert (out, err) == (b"", b"")
    assert eng.recover() >= 0 and eng.stats()["arena"]["workers"] == 1 and eng.check().ok


def test_another_forked_child_does_not_keep_the_gate_open(eng):
    """What the parent forks besides inherits everything, and must not be taken for it."""
    crew = eng.spawn(1, run_for_ever, method="fork")
    there, here = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(here)
        os.read(there, 1)
        os._exit(0)
    os.close(there)
    pid = crew[0].pid
    gate = crew._gate
    gate.close()            # as the kernel does when this process ends
    crew[0].join(30)
    os.close(here)
    assert os.waitpid(child, 0)[1] == 0
    # It was told by the signal, or had not passed the gate yet and ended by itself.
    assert crew[0].pid == pid and crew.exitcodes in ([-signal.SIGTERM], [0])


# --- restarts -------------------------------------------------------------------------------------


def test_pauses_double_up_to_a_bound():
    assert [spawn.pause_before(n) for n in range(10)] == [0, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5, 5, 5]


def test_a_place_notes_short_lives_in_a_row():
    place = spawn._Place()
    place.began = 100.0
    assert place.ended(1, 101.0) and place.due == 101.0 + 0.1
    place.began = 102.0
    assert place.ended(2, 103.0) and place.due == 103.0 + 0.2
    place.began = 104.0
    assert place.ended(3, 104.0 + spawn.RAN_S) and place.exitcodes == [3] and place.due == 109.0 + 0.1
    for n in range(spawn.SHORT_LIVES_MAX - 1):
        place.began = 200.0
        assert place.ended(4, 200.0) is (n < spawn.SHORT_LIVES_MAX - 2)


@pytest.fixture
def short_pauses(monkeypatch):
    monkeypatch.setattr(spawn, "PAUSE_S", 0.001)
    monkeypatch.setattr(spawn, "RAN_S", 3600.0)


@pytest.mark.parametrize(
    "how, target", [(7, end_with), (-9, lambda how: signal.raise_signal(-how))], ids=["exit", "signal"]
)
def test_a_crash_loop_ends_in_an_error(eng, short_pauses, how, target):
    crew = eng.spawn(1, target, how, restart=True, method="fork")
    codes = ", ".join([str(how)] * spawn.SHORT_LIVES_MAX)
    with pytest.raises(
        engine.TmemError, match=f"process 0 of a crew ended {spawn.SHORT_LIVES_MAX} times .* exit codes {codes}"
    ):
        crew.join(60)
    assert crew.restarts == spawn.SHORT_LIVES_MAX - 1 and crew.exitcodes == [how]
    with pytest.raises(engine.TmemError):
        crew.join(0)
    crew.kill()
    assert crew.join(10) is False


def test_leaving_a_crew_that_is_given_up_ends_the_others(eng, short_pauses):
    with pytest.raises(engine.TmemError, match="not kept any more"):
        pool = eng.new_pool("p", persistent=True)
        pool.put((1, 0, 0), 0, b"for one of them")
        with eng.spawn(2, fail_or_stay, pool, restart=True, method="fork") as crew:
            pass
    assert sorted(crew.exitcodes) == [-signal.SIGTERM, 3]


def fail_or_stay(pool):
    """Who takes the page stays, all others fail."""
    if pool.get((1, 0, 0), 0, free=True) is not None:
        run_for_ever()
    os._exit(3)


def test_a_fork_that_fails_is_tried_again(eng, short_pauses, monkeypatch):
    there, here = os.pipe()
    crew = eng.spawn(2, os.read, there, 1, restart=True, method="fork")
    real, failures = crew._start, []

    def start():
        if len(failures) < 2:
            failures.append(crew.exitcodes)
            raise BlockingIOError(11, "Resource temporarily unavailable")
        return real()

    crew._start = start
    os.kill(crew[1].pid, signal.SIGKILL)
    while crew.restarts == 0:
        assert crew.join(0.01) is False
    assert failures == [[None, -9]] * 2 and crew.exitcodes == [None, None]
    os.write(here, b"12")
    assert crew.join(60) is True and crew.exitcodes == [0, 0]
    os.close(there), os.close(here)


def test_a_start_that_can_never_be_done_is_told(eng, short_pauses):
    there, here = os.pipe()
    crew = eng.spawn(1, os.read, there, 1, restart=True, method="fork")
    crew._start = lambda: {}[0]
    os.kill(crew[0].pid, signal.SIGKILL)
    with pytest.raises(engine.TmemError, match="not kept any more: 0"):
        crew.join(60)
    assert not [thread for thread in threading.enumerate() if thread.name == "tmem-crew"]
    os.close(there), os.close(here)

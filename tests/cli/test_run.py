"""`tmem run`: the arena is there while the command runs, and gone however that ends."""
import json
import os
import signal
import subprocess
import sys

import pytest

import engine
from tests.support import ROOT, SHM, child_env


def start(name, *command, **more):
    return subprocess.Popen(
        [sys.executable, "-m", "engine.cli", "run", name, "--capacity", "8MiB", "--", *command], cwd=ROOT, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=child_env(), **more)


def python(code):
    return [sys.executable, "-c", code]


SEES = """
import json, os, sys
print(json.dumps([os.environ["TMEM_ARENA"], os.path.exists("/dev/shm/" + os.environ["TMEM_ARENA"])]), flush=True)
"""
ANSWERS = SEES + """
import signal
def end(number, frame):
    sys.exit(40 + number)
for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGHUP):
    signal.signal(number, end)
print("ready", flush=True)
while True:
    signal.pause()
"""


def ended(run, status):
    out, told = run.communicate(timeout=60)
    assert run.returncode == status, (out, told)
    return out, told


def test_the_command_finds_its_arena_and_its_status_is_handed_on(arena_name):
    out, _ = ended(start(arena_name, *python(SEES + "sys.exit(7)")), 7)
    assert json.loads(out) == [arena_name, True] and not (SHM / arena_name).exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGHUP])
def test_signals_are_handed_on(arena_name, number):
    run = start(arena_name, *python(ANSWERS))
    assert json.loads(run.stdout.readline())[1] and run.stdout.readline() == "ready\n"
    run.send_signal(number)
    ended(run, 40 + number)
    assert not (SHM / arena_name).exists()


def test_a_command_that_is_killed(arena_name):
    ended(start(arena_name, *python("import os; os.kill(os.getpid(), 9)")), 128 + 9)
    assert not (SHM / arena_name).exists()


@pytest.mark.parametrize("command, status", [("no-such-command", 127), ("/dev/null", 126)])
def test_a_command_that_cannot_be_started(arena_name, command, status):
    out, told = ended(start(arena_name, command), status)
    assert told.startswith(f"Error: {command}: ") and told.count("\n") == 1 and not (SHM / arena_name).exists()


def test_signals_of_the_command_are_as_they_would_be_without(arena_name):
    code = "import signal; print(signal.pthread_sigmask(signal.SIG_BLOCK, []), signal.getsignal(2) is not None)"
    assert ended(start(arena_name, *python(code)), 0)[0] == "set() True\n"


def test_an_arena_that_is_there_is_left_alone(eng):
    _, told = ended(start(eng.name, *python(SEES)), 1)
    assert "there already" in told and eng.new_pool("p") and (SHM / eng.name).exists()


def test_what_somebody_made_in_its_place_is_left_alone(arena_name):
    code = "import engine, os; n = os.environ['TMEM_ARENA']; engine.unlink(n); engine.create(n, capacity='2MiB')"
    ended(start(arena_name, *python(code)), 0)
    with engine.attach(arena_name) as other:
        assert other.capacity == 2 << 20
    ended(start(arena_name + "x", *python("import engine, os; engine.unlink(os.environ['TMEM_ARENA'])")), 0)


@pytest.mark.parametrize("wrong", [["--capacity", "much"], ["--nonsense"]])
def test_a_wrong_argument_is_usage(arena_name, wrong):
    run = subprocess.run([sys.executable, "-m", "engine.cli", "run", arena_name, *wrong, "--", "true"], cwd=ROOT)
    assert run.returncode == 2 and not os.path.exists(f"/dev/shm/{arena_name}")

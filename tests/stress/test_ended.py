"""`tmem stress` that is ended from outside: nothing of it is left."""
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support import ROOT, SHM

GUESTS = 3
# Handlers as a terminal gives them, whatever the tests run under.
START = """
import signal, sys
signal.signal(signal.SIGHUP, signal.SIG_DFL)
signal.signal(signal.SIGINT, signal.default_int_handler)
from engine.cli.commands import main
main(sys.argv[1:])
"""


def until(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize(
    "number, scenario",
    [
        (signal.SIGINT, "frontswap"),
        (signal.SIGTERM, "frontswap"),
        (signal.SIGHUP, "frontswap"),
        (signal.SIGTERM, "crash"),
        (signal.SIGTERM, "fork"),
        (signal.SIGTERM, "linearizable"),
    ],
)
def test_a_run_that_is_ended_leaves_nothing(number, scenario, tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    run = subprocess.Popen(
        [sys.executable, "-c", START, "stress", scenario, "--workers", str(GUESTS), "--seconds", "600"],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    with run:
        until(lambda: len(list(tmp_path.glob("tmem-stress-*/guest-*.claim"))) == GUESTS or run.poll() is not None)
        assert [path.name for path in SHM.iterdir() if f"tmem-stress-{run.pid}-" in path.name]
        run.send_signal(number)
        said = run.stderr.read()                # its guests and their children hold it too: at the end all are gone
    assert run.returncode == 1 and "KeyboardInterrupt" not in said, said
    assert not [path.name for path in SHM.iterdir() if f"tmem-stress-{run.pid}-" in path.name]
    assert not list(Path(tmp_path).iterdir())

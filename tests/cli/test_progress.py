"""What a terminal is told while a large arena is checked."""
import io
import signal
import time
from types import SimpleNamespace

import pytest

from engine.cli import progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def terminal(monkeypatch):
    made = Terminal()
    monkeypatch.setattr(progress, "sys", SimpleNamespace(stderr=made))     # pytest changes sys.stderr itself
    return made


def test_what_is_quick_is_quiet(terminal):
    with progress.of_check(lambda: 1000):
        pass
    assert terminal.getvalue() == ""


def test_what_is_long_says_how_long(terminal, monkeypatch):
    monkeypatch.setattr(progress, "TICK_S", 0.01)
    before = signal.getsignal(signal.SIGALRM)
    with progress.of_check(lambda: 4_000_000):
        end = time.monotonic() + 30
        while terminal.getvalue().count("\r") < 3:
            assert time.monotonic() < end
    assert "checking 4,000,000 pages: 0 s, about 4 s left" in terminal.getvalue()
    assert terminal.getvalue().endswith("\r\x1b[K") and signal.getsignal(signal.SIGALRM) == before


def test_where_nobody_looks_nothing_is_counted(monkeypatch):
    monkeypatch.setattr(progress, "sys", SimpleNamespace(stderr=io.StringIO()))
    with progress.of_check(lambda: pytest.fail("counted")):
        pass

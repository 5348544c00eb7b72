"""`tmem top`: its frames, what keys do, and that the terminal is as it was afterwards."""
import fcntl
import json
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time

import pytest
from rich.cells import cell_len

import engine
from engine.cli import words
from engine.cli.looks import History, Watcher, rates
from engine.cli.screen import State, frame, ordered, portions
from engine.cli.terminal import split_keys
from tests.support import ROOT, child_env

NAMES = ["thumbs", "sessions", "na\u00efve \u65e5\u672c of which there is no end", *(f"p{n}" for n in range(20))]


@pytest.fixture
def found(eng):
    """Rates of an arena with many pools, of two clients, and a worker that is stopped in a call."""
    for n, name in enumerate(NAMES):
        pool = eng.new_pool(name, persistent=name == "sessions", client=n % 2)
        for index in range(n + 1):
            assert pool.put((1, 0, 0), index, os.urandom(50 + n))
    watcher = Watcher(eng.name)
    before = watcher.look()
    for n in range(9):
        eng.pool("thumbs").get((1, 0, 0), n % 3)
    after = watcher.look()
    watcher.close()
    after["time"] = before["time"] + 1
    answer = rates(before, after)
    answer["workers"][0] |= {
        "state": "stopped", "in_call": True, "holds": ["bucket"], "waits_for": "depot", "waiting": 0.5,
        "waits_per_s": 3,
    }
    return answer


def drawn(found, width=80, height=24, ascii_only=False, **chosen):
    history = History()
    history.add(found)
    return [line.plain for line in frame(found, history, State(**chosen), width, height, ascii_only)]


@pytest.mark.parametrize("ascii_only", [False, True])
@pytest.mark.parametrize("page", ["main", "pool", "workers", "clients", "help"])
@pytest.mark.parametrize("width, height", [(80, 24), (120, 40), (200, 60), (40, 10)])
def test_every_page_fits_into_the_terminal(found, page, width, height, ascii_only):
    lines = drawn(found, width, height, ascii_only, page=page, chosen=NAMES[2])
    assert len(lines) == height and max(map(cell_len, lines)) <= width
    assert not ascii_only or "".join(lines).isascii()


def test_a_frame_says_what_is_there(found):
    lines = drawn(found)
    text = "\n".join(lines)
    assert found["arena"]["name"] in lines[0] and "persistent" in text and "ephemeral" in text and "more" in text
    assert "stopped" in text and "bucket" in text and "50.0%" in text
    assert lines[-1].startswith("q quit") and lines[-1].endswith("nughpel")
    row = next(line for line in drawn(found, sort="g") if line.startswith("thumbs"))
    assert " 9 " in row and "33.3%" in row


def test_far_pages_have_a_column_where_there_are_any(found):
    assert not any("FAR" in line for line in drawn(found, 120))
    found["counters"]["thumbs"]["far_pages"] = 12345
    lines = drawn(found, 120, 40)
    heads = next(line for line in lines if "FAR" in line)
    row = next(line for line in lines if line.startswith("thumbs"))
    assert row[:heads.index("FAR") + 3].endswith(" 12k") and max(map(cell_len, lines)) <= 120
    assert not any("FAR" in line for line in drawn(found, 80))


def test_without_a_terminal_all_rows_are_there(found):
    lines = drawn(found, 80, None)
    assert sum(line.startswith(tuple(NAMES[3:])) for line in lines) == len(NAMES) - 3 and "q quit" not in lines[-1]


def test_pools_are_sorted_by_what_was_chosen(found):
    assert ordered(found, State(sort="n")) == sorted(NAMES)
    assert ordered(found, State(sort="n", turned=True)) == sorted(NAMES, reverse=True)
    used = [found["pools"][name]["bytes_used"] for name in ordered(found, State(sort="u"))]
    assert used == sorted(used, reverse=True)
    assert ordered(found, State(sort="h"))[0] == "thumbs"        # the others have no rate


def test_keys():
    assert split_keys("q\x1b[A\x1bOB\x1b\r j\x1b[15~\x1b[") == [
        "q", "up", "down", "esc", "enter", " ", "j", "?key", "?key"]
    state, names = State(), ["a", "b"]
    for key, chosen in (("up", "a"), ("down", "b"), ("j", "b"), ("k", "a")):
        assert state.press(key, names) and state.chosen == chosen
    for key, page in (("enter", "pool"), ("esc", "main"), ("w", "workers"), ("w", "main"), ("c", "clients"),
                      ("?", "help"), ("b", "main")):
        assert state.press(key, names) and state.page == page
    assert state.press("g", []) and state.sort == "g" and state.press("r", []) and state.turned
    assert state.press(" ", []) and state.paused and state.press("down", []) and state.press("?key", [])
    assert not state.press("q", []) and not state.press("eof", [])


def test_portions_and_shares_use_all_there_is():
    assert portions([20, 20, 2], 12) == [7, 3, 2] and portions([1, 1, 0], 12) == [1, 1, 0]
    assert words.shares([1, 0, 1000, 3], 20) == [1, 0, 18, 1] and words.shares([0, 0], 9) == [0, 0]


def test_figures_are_short():
    assert [words.count(n) for n in (0, 999, 1000, 12345, 999999, 3e12)] == ["0", "999", "1.0k", "12k", "1.0M", "3.0T"]
    assert [words.short_size(n) for n in (1023, 1024, 1 << 29)] == ["1023", "1.0K", "512M"]
    times = (0, 1e-5, 0.02, 3.33, 61, 7200, 9e6, None)
    assert [words.seconds(s) for s in times] == ["0s", "10us", "20ms", "3.3s", "1m01", "2h00", "104d", "-"]
    assert words.sparkline([1, None, 8], 4, True) == " .\x20#" and words.bar(1, 1000, 3, True) == "#  "


def test_a_watcher_follows_an_arena_that_is_made_again(arena_name):
    engine.create(arena_name, capacity="8MiB").close()
    watcher = Watcher(arena_name)
    assert not watcher.look()["pools"]
    engine.unlink(arena_name)
    with pytest.raises(engine.ArenaNotFound):
        watcher.look()
    with engine.create(arena_name, capacity="8MiB") as again:
        again.new_pool("new")
        assert list(watcher.look()["pools"]) == ["new"]
    watcher.close()


# --- in a terminal --------------------------------------------------------------------------------


class Terminal:
    """`tmem top` in a terminal of its own."""

    def __init__(self, *args, own=True):
        """own: it is the terminal of its session, which has its keys for signals; else its group
        has a parent in the session, without which no group can be stopped."""
        self.master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        self.slave, self.before = slave, termios.tcgetattr(slave)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "engine.cli", "top", *args], cwd=ROOT, stdin=slave, stdout=slave, stderr=slave,
            env=child_env(TERM="xterm-256color"), start_new_session=own, process_group=None if own else 0,
            preexec_fn=(lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0)) if own else None)
        self.written = b""

    def until(self, text):
        """Read until the terminal has been sent a text."""
        end = time.monotonic() + 30
        while text not in self.written:
            assert time.monotonic() < end, self.written[-2000:]
            if select.select([self.master], [], [], 0.1)[0]:
                self.written += os.read(self.master, 65536)
        self.written = self.written.partition(text)[2]

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self.master)
        os.close(self.slave)


@pytest.fixture
def terminal(eng, request):
    eng.new_pool("thumbs")
    made = Terminal(eng.name, "--interval", "0.05", own=getattr(request, "param", True))
    yield made
    made.close()


OPEN, CLOSED = b"\x1b[?1049h", b"\x1b[?1049l"


@pytest.mark.parametrize("end", [b"q", b"\x03", signal.SIGTERM, signal.SIGHUP])
def test_the_terminal_is_as_it_was_after_every_end(terminal, end):
    terminal.until(OPEN)
    terminal.until(b"thumbs")
    if isinstance(end, bytes):
        os.write(terminal.master, end)
    else:
        terminal.process.send_signal(end)
    terminal.until(CLOSED)
    assert terminal.process.wait(30) == 0 and termios.tcgetattr(terminal.slave) == terminal.before


@pytest.mark.parametrize("terminal", [False], indirect=True)
def test_keys_reach_it_and_a_stop_gives_the_terminal_back(terminal):
    terminal.until(b"thumbs")
    os.write(terminal.master, b"j\r")
    terminal.until(b"puts duplicate")
    terminal.process.send_signal(signal.SIGTSTP)
    terminal.until(CLOSED)
    assert os.waitpid(terminal.process.pid, os.WUNTRACED)[1] & 0xFF == 0x7F
    assert termios.tcgetattr(terminal.slave) == terminal.before
    terminal.process.send_signal(signal.SIGCONT)
    terminal.until(OPEN)
    os.write(terminal.master, b"q")
    terminal.until(CLOSED)
    assert terminal.process.wait(30) == 0


def test_where_there_is_no_terminal_it_is_one_frame(eng):
    eng.new_pool("na\u00efve")
    for coding, shown in (("utf-8", "na\u00efve"), ("ascii", "na\\xefve")):
        done = subprocess.run(
            [sys.executable, "-m", "engine.cli", "top", eng.name, "--interval", "0.01"], cwd=ROOT, capture_output=True,
            env=child_env(LC_ALL="C", PYTHONIOENCODING=coding), stdin=subprocess.DEVNULL)
        assert (done.returncode, done.stderr) == (0, b"") and shown in done.stdout.decode(coding)
        assert b"\x1b" not in done.stdout


def test_json_goes_on_until_it_is_ended(eng):
    command = [sys.executable, "-u", "-m", "engine.cli", "top", eng.name, "--interval", "0.01", "--json"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as top:
        lines = [json.loads(top.stdout.readline()) for _ in range(2)]
        top.send_signal(signal.SIGTERM)
        assert top.wait(30) == 0
    assert all(line["arena"]["name"] == eng.name and len(line["workers"]) == 2 for line in lines)

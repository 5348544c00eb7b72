"""Owns the terminal of `tmem top`: the alternate screen, and keys one by one; the terminal is as it
was after every end, a stop by Ctrl-Z too.
"""
import contextlib
import os
import select
import signal
import sys
import termios
import time
import tty
from collections.abc import Iterator
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

SLICE_S = 0.1           # how late a change of the window's size, or the end of a stop, is noticed
KEYS = {
    "\x1b[A": "up", "\x1b[B": "down", "\x1b[C": "right", "\x1b[D": "left",
    "\x1bOA": "up", "\x1bOB": "down", "\x1bOC": "right", "\x1bOD": "left",
    "\x1b": "esc", "\r": "enter", "\n": "enter", "\x7f": "backspace", "\x08": "backspace", "\x04": "eof",
}


def split_keys(text: str) -> list[str]:
    """The names of the keys in what a terminal sent at once."""
    found = []
    while text:
        length = 1
        if text[0] == "\x1b" and len(text) > 1 and text[1] in "[O":
            length = 3
            while length < len(text) and not (text[length - 1].isalpha() or text[length - 1] == "~"):
                length += 1
        key, text = text[:length], text[length:]
        found.append(KEYS.get(key, key if length == 1 else "?key"))
    return found


class Screen:
    """The full screen, while in `with`."""

    def __init__(self, console: Console):
        self.console = console
        self.keys = sys.stdin.fileno() if sys.stdin is not None and sys.stdin.isatty() else None
        self._before: Any = None
        self._live: Live | None = None
        self._stop = False
        self._ended = False

    def __enter__(self) -> "Screen":
        self._handler = signal.signal(signal.SIGTSTP, self._note_stop)
        try:
            self._take()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_error: object) -> None:
        try:
            self._give()
        finally:
            signal.signal(signal.SIGTSTP, self._handler)

    def _note_stop(self, _number: int, _frame: object) -> None:
        self._stop = True

    def _take(self) -> None:
        if self.keys is not None:
            self._before = termios.tcgetattr(self.keys)
            tty.setcbreak(self.keys, termios.TCSANOW)
        self._live = Live(console=self.console, screen=True, auto_refresh=False)
        self._live.__enter__()

    def _give(self) -> None:
        live, self._live = self._live, None
        before, self._before = self._before, None
        try:
            if live is not None:
                with contextlib.suppress(OSError):      # the terminal is gone
                    live.__exit__(None, None, None)
        finally:
            if before is not None and self.keys is not None:
                with contextlib.suppress(termios.error):
                    termios.tcsetattr(self.keys, termios.TCSANOW, before)

    def _suspend(self) -> None:
        """Stop as the shell wants it, with its terminal as it was."""
        self._stop = False
        self._give()
        signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTSTP)        # comes back at SIGCONT
        signal.signal(signal.SIGTSTP, self._note_stop)
        self._take()

    def show(self, lines: list[Text]) -> None:
        if self._live is not None:
            self._live.update(Group(*lines), refresh=True)

    def pressed(self, seconds: float) -> Iterator[str]:
        """Keys as they are pressed, and "resized", until so much time has passed."""
        until, size = time.monotonic() + seconds, self.console.size
        while (left := until - time.monotonic()) > 0:
            if self.keys is None or self._ended:
                time.sleep(min(left, SLICE_S))
            elif select.select([self.keys], [], [], min(left, SLICE_S))[0]:
                sent = os.read(self.keys, 1024)
                self._ended = not sent
                yield from split_keys(sent.decode("utf-8", "replace")) if sent else ["eof"]
            if self._stop:
                self._suspend()
                yield "resized"
            if self.console.size != size:
                size = self.console.size
                yield "resized"

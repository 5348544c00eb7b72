"""Owns the command `tmem top`: an arena live, until q is pressed, in a terminal; else one frame."""
import json
import sys
import time
from typing import Any

import click
from rich.console import Console

import engine
from engine.cli.basics import Seconds, ended_by_signals, name_argument
from engine.cli.looks import History, Watcher, rates
from engine.cli.screen import SORTS, State, frame, ordered
from engine.cli.terminal import Screen
from engine.cli.words import can_write


class Live:
    """Looks at an arena in intervals, and at what keys say in between."""

    def __init__(self, watcher: Watcher, interval: float, sort: str):
        self.watcher = watcher
        self.state = State(sort=sort, interval=interval)
        self.history = History()
        self._before = watcher.look()

    def step(self) -> dict[str, Any]:
        """The rates since the last look."""
        after = self.watcher.look()
        found = rates(self._before, after)
        self._before = after
        self.history.add(found)
        return found

    def run(self, console: Console) -> None:
        """Until a key says that it is enough."""
        ascii_only = not can_write(console.encoding)
        found = rates(self._before, self._before)
        with Screen(console) as screen:
            while True:
                screen.show(frame(found, self.history, self.state, *console.size, ascii_only))
                for key in screen.pressed(self.state.interval):
                    if key != "resized" and not self.state.press(key, ordered(found, self.state)):
                        return
                    screen.show(frame(found, self.history, self.state, *console.size, ascii_only))
                if self.state.paused:
                    continue
                try:
                    found, self.state.notice = self.step(), ""
                except engine.ArenaNotFound:
                    self.state.notice = f"{self.watcher.name} was removed; this is what it was like"


@click.command()
@name_argument
@click.option("--interval", default=1.0, show_default=True, type=Seconds(0.01),
              help="Seconds from one look to the next.")
@click.option("--sort", type=click.Choice([key for key, _, _ in SORTS.values()]), default="bytes_used",
              show_default=True, help="What pools are sorted by, until a key says so.")
@click.option("--once", is_flag=True, help="Show one frame, then end; so it is where there is no terminal.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line for each interval.")
def top(name: str, interval: float, sort: str, once: bool, as_json: bool) -> None:
    """Show what the arena NAME does, per second: pools, memory, workers and clients.

    In a terminal it is live: q ends it, ? lists the keys.
    """
    watcher = Watcher(name)
    try:
        with ended_by_signals():
            live = Live(watcher, interval, next(key for key, one in SORTS.items() if one[0] == sort))
            if not (as_json or once) and sys.stdout.isatty():
                return live.run(Console())
            while True:
                time.sleep(interval)
                found = live.step()
                if as_json:
                    click.echo(json.dumps(found))
                else:
                    _print(found, live)
                if once or not as_json:
                    return
    finally:
        watcher.close()


def _print(found: dict[str, Any], live: Live) -> None:
    console = Console()
    for line in frame(found, live.history, live.state, console.width, None, not can_write(console.encoding)):
        console.print(line, soft_wrap=True)

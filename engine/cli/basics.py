"""Owns what all commands share: their group, how an arena is attached to, and how an answer is
written, for people or in JSON.

Commands of other packages come by the entry-point group "tmem.commands" and are imported only when
named, so that a broken one breaks nothing else.
Output is never an UnicodeEncodeError: what a terminal cannot write is written as an escape, or in
ASCII where that says the same (words.py).
"""
import contextlib
import io
import json
import math
import os
import signal
import sys
import threading
from collections.abc import Iterator
from importlib import metadata
from typing import Any, NoReturn

import click
from click.shell_completion import CompletionItem
from rich.table import Table

import engine
from shm.entry import names
from shm.kernel.liveness import SHM_DIR

ENTRY_POINTS = "tmem.commands"
EXTRAS = {"serve-metrics": "metrics"}       # of commands that are not called as what they need


class _Unavailable(click.ClickException):
    exit_code = 2


def _unavailable(name: str, extra: str, error: BaseException) -> click.Command:
    """What stands in for a command that cannot be imported: it says why, and what to install."""
    why = f"needs {error.name}" if isinstance(error, ModuleNotFoundError) else f"{type(error).__name__}: {error}"

    @click.command(
        name,
        short_help=f"(not available: {why})",
        add_help_option=False,
        context_settings={"ignore_unknown_options": True, "allow_extra_args": True},
    )
    def command() -> None:
        raise _Unavailable(f"'{name}' is not available ({why}): pip install 'tmem[{extra}]'")

    return command


class Commands(click.Group):
    """The commands of this package and those of the entry-point group; a TmemError becomes one
    line."""

    def main(self, *args: Any, **more: Any) -> Any:
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="backslashreplace")  # names are any text, also where the terminal is not
        return super().main(*args, **more)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted({*super().list_commands(ctx), *metadata.entry_points(group=ENTRY_POINTS).names})

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        own = super().get_command(ctx, name)
        if own is not None:
            return own
        for entry in metadata.entry_points(group=ENTRY_POINTS, name=name):
            try:
                command: click.Command = entry.load()
                return command
            except Exception as error:      # whatever a broken package raises at import
                return _unavailable(name, EXTRAS.get(name, name), error)
        return None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if self.get_command(ctx, args[0]) is None and not args[0].startswith("-"):
            raise click.UsageError(f"no command {args[0]!r}; there are {', '.join(self.list_commands(ctx))}", ctx)
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except engine.TmemError as error:
            raise click.ClickException(" ".join(str(error).split())) from error


@contextlib.contextmanager
def usage() -> Iterator[None]:
    """The engine's complaint about an argument is a usage error here."""
    try:
        yield
    except (TypeError, ValueError) as error:
        raise click.UsageError(str(error)) from error


def attach(name: str) -> engine.Engine:
    """Attach to any arena that this user may write to: nobody's pages are put in here."""
    with usage():
        try:
            owner = os.lstat(f"{SHM_DIR}/{name}").st_uid
        except (OSError, ValueError):
            owner = None                # attaching says why
        return engine.attach(name, owner=owner)


class Seconds(click.FloatRange):
    """A time that one can wait for: no nan, and not for ever."""

    def __init__(self, low: float):
        super().__init__(low, threading.TIMEOUT_MAX / 2)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        seconds: float = super().convert(value, param, ctx)
        if math.isnan(seconds):
            self.fail("a number of seconds, not nan", param, ctx)
        return seconds

    def _describe_range(self) -> str:
        return f"x>={self.min}"         # nobody gets near to the other end


def number(text: str) -> int | str:
    """Bytes, or text that the engine knows as such."""
    return int(text) if text.isdecimal() else text


def print_json(answer: object) -> None:
    click.echo(json.dumps(answer, indent=2))


def table(*columns: str) -> Table:
    """A table whose first column is a name and whose others are numbers."""
    made = Table(box=None, pad_edge=False)
    for at, column in enumerate(columns):
        made.add_column(column, justify="right" if at else "left", overflow="fold")
    return made


@contextlib.contextmanager
def ended_by_signals() -> Iterator[None]:
    """SIGTERM and SIGHUP end what is done in here as Ctrl-C does; one that is ignored, as under
    nohup, stays ignored. That is no problem: the command ends well."""
    def end(_number: int, _frame: object) -> NoReturn:
        raise KeyboardInterrupt

    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    taken = [number for number, handler in before.items() if handler != signal.SIG_IGN]
    for one in taken:
        signal.signal(one, end)
    try:
        yield
    except KeyboardInterrupt:
        pass
    finally:
        for one in taken:
            signal.signal(one, before[one])


def complete_arena(_ctx: click.Context, _param: click.Parameter, begun: str) -> list[CompletionItem]:
    """The names of arenas that begin so, for the shell."""
    return [CompletionItem(name) for name in names() if name.startswith(begun)]


name_argument = click.argument("name", shell_complete=complete_arena)
json_option = click.option("--json", "as_json", is_flag=True, help="Answer in JSON.")

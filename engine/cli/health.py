"""Owns the command `tmem health`: a quick answer to whether an arena can be used, for a container's
probe or a supervisor.

It attaches, reads the counters, and leaves: nobody is stopped, and nothing is walked. Dead workers
are recovered by who attaches, as ever.
"""
import signal
import sys
import time
from typing import Any, NoReturn

import click

import engine
from engine.cli.basics import Seconds, attach, json_option, name_argument, print_json
from engine.cli.looks import doing

SLACK_SEGMENTS = 3          # of what is free, docs/gauges.md promises all but so much


class _TooSlow(Exception):
    """The time is up."""


def _time_is_up(_number: int, _frame: object) -> NoReturn:
    raise _TooSlow


def _found(name: str) -> list[str]:
    """What is wrong with an arena, in sentences."""
    with attach(name) as eng:
        stats: Any = eng.stats()
    arena, found = stats["arena"], []
    if arena["bytes_free"] + arena["bytes_evictable"] < SLACK_SEGMENTS * arena["segment_bytes"]:
        found.append("full of pages that stay: puts of new pages are refused, or soon will be")
    for one in stats["workers"]:
        if one["in_call"] and one["holds"] and doing(one["pid"]) in ("stopped", "traced"):
            found.append(f"process {one['pid']} is stopped and holds {', '.join(one['holds'])}: others wait for it")
    return found


@click.command()
@name_argument
@click.option("--timeout", default=5.0, show_default=True, type=Seconds(0.01),
              help="Seconds in which it must have answered.")
@json_option
def health(name: str, timeout: float, as_json: bool) -> None:
    """Tell whether the arena NAME can be used: exit status 0 if so, else 1.

    It is quick, and stops nobody; `tmem check` is what verifies every invariant.
    """
    began = time.monotonic()
    before = signal.signal(signal.SIGALRM, _time_is_up)
    timer = signal.setitimer(signal.ITIMER_REAL, timeout)
    try:
        problems = _found(name)
    except _TooSlow:
        problems = [f"no answer within {timeout:g} s: who holds a lock may be stopped"]
    except engine.TmemError as error:
        problems = [" ".join(str(error).split())]
    finally:
        signal.setitimer(signal.ITIMER_REAL, *timer)
        signal.signal(signal.SIGALRM, before)
    if as_json:
        print_json({"name": name, "ok": not problems, "problems": problems, "seconds": time.monotonic() - began})
    elif not problems:
        click.echo(f"{name}: ok")
    else:
        for problem in problems:
            click.echo(f"{name}: {problem}")
    if problems:
        sys.exit(1)

"""Owns how a run is shown: live progress, the summary table, the replay line, the JSON.

Calls rich and `git` (for the commit of the replay line, if there is one).
"""
from __future__ import annotations

import subprocess
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from time import monotonic_ns

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from stress import board as words
from stress.scenarios import Scenario
from stress.supervisor import NO_LIMIT_S, Options, Outcome, Run

GROUPS = (("put", ("put", "put_range")), ("get", ("get", "view", "get_range")), ("flush", ("flush",)),
          ("other", ("pool", "fork", "check", "copy")))


class LiveProgress:
    """One line that says what is going on and how long it will take; called by the supervisor
    between two looks at the crew. Where there is no terminal it is one line for each scenario."""

    def __init__(self, console: Console, chosen: list[Scenario], options: Options):
        self._console = console
        # No thread: guests are forked.
        self._live = Live(console=console, auto_refresh=False, transient=True) if console.is_terminal else None
        self._shares = {scenario.name: scenario.share for scenario in chosen}
        self._options = options
        self._began = monotonic_ns()
        self._name = ""

    def __enter__(self) -> LiveProgress:
        if self._live is not None:
            self._live.__enter__()
        return self

    def __exit__(self, *error) -> None:
        if self._live is not None:
            self._live.__exit__(*error)

    def left(self, run: Run, seconds: float, ops: int) -> float | None:
        """Seconds until all is done, about: what is over took its time, and the rest takes as
        long by its share; None: nothing can be said yet."""
        names = list(self._shares)
        of = "canary" if run.plan.bug else run.scenario.name        # which runs others, with bugs in them
        at = names.index(of) if of in names else 0
        done = sum(self._shares[name] for name in names[:at])
        total = sum(self._shares.values())
        wanted = self._options.ops * self._shares[names[at]] / total
        part = max(min(1.0, seconds / run.plan.seconds), min(1.0, ops / wanted) if wanted else 0.0)
        fraction = (done + part * self._shares[names[at]]) / total
        if fraction < 0.01:
            return self._options.seconds if not self._options.ops else None
        return (monotonic_ns() - self._began) / 1e9 * (1 - fraction) / fraction

    def __call__(self, run: Run) -> None:
        control, ops = run.board.control, run.board.total(words.OPS)
        began = control[words.START]
        seconds = (monotonic_ns() - began) / 1e9 if began else 0.0
        left = self.left(run, seconds, ops)
        rest = "" if left is None else f"  about {left:.0f} s left"
        if self._live is None:
            if run.scenario.name + run.plan.bug != self._name:
                self._name = run.scenario.name + run.plan.bug
                self._console.print(f"{run.scenario.name}{f' with {run.plan.bug}' if run.plan.bug else ''}{rest}",
                                    highlight=False)
            return
        limit = f" of {run.plan.seconds:.1f}" if run.plan.seconds < NO_LIMIT_S / 1000 else ""
        text = Text.assemble((f"{run.scenario.name:<11}", "bold"), f" {seconds:5.1f}{limit} s  ",
                             f"{ops:>11,} operations", f"  {int(ops / seconds) if seconds > 0.1 else 0:>9,}/s")
        if run.plan.bug:
            text.append(f"  planted bug: {run.plan.bug}")
        if control[words.KILLS]:
            text.append(f"  kills: {control[words.KILLS] + control[words.SPAWN_KILLS]:,}")
        text.append(rest)
        self._live.update(text, refresh=True)


def version_line() -> str:
    """The commit this runs at, or the version of the distribution."""
    try:
        commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=Path(__file__).parent, check=True,
                                capture_output=True, text=True).stdout.strip()
        return f"commit {commit}"
    except (OSError, subprocess.CalledProcessError):
        pass
    try:
        return f"tmem {version('tmem')}"
    except PackageNotFoundError:
        return "unknown version"


def replay_line(outcome: Outcome, options: Options) -> str:
    """The command that runs the failed scenario again."""
    command = f"tmem stress {outcome.scenario} --seconds {outcome.seconds:g}"
    command += f" --workers {options.workers} --seed {outcome.seed}"
    if options.ops:
        command += f" --ops {options.ops}"
    if options.capacity:
        command += f" --capacity {options.capacity}"
    return f"replay: {command}   # {version_line()}"


def as_json(outcomes: list[Outcome], options: Options) -> dict:
    return {"ok": all(outcome.ok for outcome in outcomes), "version": version_line(), "seed": options.seed,
            "workers": options.workers,
            "scenarios": [{"ok": outcome.ok, **asdict(outcome), "ops_total": outcome.ops_total,
                           "ops_per_second": _per_second(outcome), "hit_rate": _hit_rate(outcome)}
                          for outcome in outcomes]}


def print_summary(outcomes: list[Outcome], console: Console) -> None:
    table = Table(title="tmem stress: every byte that was read was verified", title_justify="left")
    for heading in ("scenario", "result"):
        table.add_column(heading, no_wrap=True)
    for heading in ("s", "workers", "put", "get", "flush", "other", "op/s", "op/s a worker", "hits", "refused",
                    "get p50", "p99", "p99.9", "put p50", "p99", "p99.9", "lock waits"):
        table.add_column(heading, justify="right", no_wrap=True)
    for outcome in outcomes:
        groups = [f"{sum(outcome.ops.get(kind, 0) for kind in kinds):,}" for _, kinds in GROUPS]
        rate = _per_second(outcome)
        table.add_row(outcome.scenario, "[green]good[/]" if outcome.ok else "[bold red]VIOLATION[/]",
                      f"{outcome.work_s:.1f}", str(outcome.workers), *groups, f"{rate:,}",
                      f"{rate // max(1, outcome.workers):,}",
                      f"{100 * _hit_rate(outcome):.1f} %", f"{outcome.refused:,}",
                      *_percentiles(outcome, "get"), *_percentiles(outcome, "put"), f"{outcome.lock_waits:,}")
    console.print(table)
    for outcome in outcomes:
        if outcome.facts:
            facts = ", ".join(f"{fact.replace('_', ' ')} {_number(value)}" for fact, value in outcome.facts.items())
            console.print(f"[bold]{outcome.scenario}[/]: {facts}", soft_wrap=True, highlight=False)


def print_violations(outcomes: list[Outcome], console: Console) -> None:
    for outcome in outcomes:
        for violation in outcome.violations:
            console.print(Text(f"{outcome.scenario}: {violation['kind']}: {violation['where']}: {violation['what']}",
                               style="red"), soft_wrap=True)


def _per_second(outcome: Outcome) -> int:
    return int(outcome.ops_total / outcome.work_s) if outcome.work_s else 0


def _hit_rate(outcome: Outcome) -> float:
    asked = outcome.hits + outcome.misses
    return round(outcome.hits / asked, 4) if asked else 0.0


def _percentiles(outcome: Outcome, kind: str) -> list[str]:
    latency = outcome.latency_ns.get(kind)
    return [duration(latency[label]) for label in ("p50", "p99", "p99.9")] if latency else ["", "", ""]


def duration(ns: float) -> str:
    """Nanoseconds in the unit that reads best."""
    for unit, size in (("s", 1e9), ("ms", 1e6), ("us", 1e3)):
        if ns >= size:
            return f"{ns / size:.3g} {unit}"
    return f"{ns:.0f} ns"


def _number(value) -> str:
    return f"{value:,}" if isinstance(value, int | float) else str(value)

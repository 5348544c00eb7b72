"""Owns a run: makes the arena, starts the guests, watches them, gathers what they left, judges,
cleans up.

One scenario is one arena, one crew of `eng.spawn`, one folder under the system's temporary
directory. The order: prepare, spawn, watch (progress, hang limit), gather (violations, facts,
histories), the workload's verdict, `eng.check()`, unlink, and nothing of the arena may be left in
/dev/shm. Whatever fails becomes a violation of the outcome.

Calls `engine` (public API), the workloads and the board.
"""
from __future__ import annotations

import json
import marshal
import os
import signal
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import engine
from stress import board as words
from stress import sabotage
from stress.board import Board
from stress.scenarios import Scenario
from stress.violation import Violation
from stress.worker import STOP_VIOLATION, Plan, guest_main

POLL_S = 0.05
HANG_S = 30.0                   # a crew that is not done so long after the time is up hangs
CANARY_GUESTS = 8               # a bug is noticed by who does much: more guests would each do less
CANARY_TRIES = 3
NO_LIMIT_S = 24 * 3600.0
SHM = Path("/dev/shm")
VIOLATIONS_KEPT = 20

Progress = Callable[["Run"], None]


@dataclass
class Options:
    """What the command line may change."""

    seconds: float = 5.0
    ops: int = 0                        # of all guests together, 0: no limit
    workers: int = 2
    seed: int = 1
    capacity: str = ""
    bug: str = ""


@dataclass
class Run:
    """A run while it is going on; what a workload's `tick` and `verdict` work with."""

    scenario: Scenario
    plan: Plan
    eng: Any
    board: Board
    crew: Any = None
    violations: list[dict] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    history: list[tuple] = field(default_factory=list)
    scratch: dict[str, Any] = field(default_factory=dict)

    def expect(self, truth, kind: str, where: str, what: str) -> None:
        if not truth:
            self.violations.append(Violation(kind, where, what).as_dict())


@dataclass
class Outcome:
    """What a scenario came to; everything in it can be written as JSON."""

    scenario: str
    question: str
    seed: int
    workers: int
    seconds: float                      # asked for
    work_s: float = 0.0                 # from the first guest's start to the last one's end
    total_s: float = 0.0                # with set-up, verdict, check and clean-up
    ops: dict[str, int] = field(default_factory=dict)
    ops_per_worker: list[int] = field(default_factory=list)
    hits: int = 0
    misses: int = 0
    refused: int = 0
    bytes_verified: int = 0
    latency_ns: dict[str, dict[str, int]] = field(default_factory=dict)
    lock_waits: int = 0
    recoveries: int = 0
    facts: dict[str, Any] = field(default_factory=dict)
    violations: list[dict] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return not self.violations

    @property
    def ops_total(self) -> int:
        return sum(self.ops.values())


def run_scenario(scenario: Scenario, options: Options, progress: Progress | None = None) -> Outcome:
    """Run one scenario to its verdict. Never raises for what the engine does wrong;
    KeyboardInterrupt passes."""
    workers = scenario.workers or options.workers
    outcome = Outcome(scenario.name, scenario.question, options.seed, workers, round(options.seconds, 2))
    began = time.monotonic()
    name = f"tmem-stress-{os.getpid()}-{scenario.name}"
    arena = scenario.arena_for(workers)
    if options.capacity:
        arena["capacity"] = options.capacity
    try:
        with tempfile.TemporaryDirectory(prefix="tmem-stress-") as folder, engine.create(name, **arena) as eng:
            plan = Plan(scenario.name, scenario.workload, options.seed, workers, options.seconds,
                        -(-options.ops // workers), folder, eng.page_size, scenario.settings, options.bug)
            _run(scenario, plan, eng, outcome, progress)
    except Exception:
        outcome.violations.append(Violation("exception", "supervisor", traceback.format_exc()).as_dict())
    finally:
        try:
            engine.unlink(name)
        except engine.ArenaNotFound:
            pass
    left = leftovers(name)
    if left:
        outcome.violations.append(Violation("leaked", "/dev/shm", f"{left} outlive the arena").as_dict())
    outcome.total_s = round(time.monotonic() - began, 2)
    return outcome


def leftovers(name: str) -> list[str]:
    """Files in /dev/shm that belong to the arena of this name."""
    return sorted(path.name for path in SHM.iterdir()
                  if path.name == name or path.name.startswith((f"alive.{name}@", f"sem.{name}@")))


def _run(scenario: Scenario, plan: Plan, eng, outcome: Outcome, progress: Progress | None) -> None:
    module = plan.module()
    board = Board(plan.folder, module.rows(plan) if hasattr(module, "rows") else plan.workers)
    run = Run(scenario, plan, eng, board)
    try:
        module.prepare(eng, plan)
        with eng.spawn(plan.workers, guest_main, eng, plan, restart=hasattr(module, "tick")) as crew:
            run.crew = crew
            try:
                _watch(run, module, progress)
            except BaseException:
                board.control[words.STOP] = STOP_VIOLATION      # guests may have forked
                raise
            finished = time.monotonic_ns()
        _gather(run)
        if hasattr(module, "verdict"):
            module.verdict(run)
        outcome.work_s = round((finished - (board.control[words.START] or finished)) / 1e9, 3)
        _check(run)
    except Exception:
        run.expect(False, "exception", "supervisor", traceback.format_exc())
    finally:
        _summarise(run, outcome)
        board.close()


def _watch(run: Run, module, progress: Progress | None) -> None:
    """Until the crew is done or hangs."""
    tick = getattr(module, "tick", None)
    spawned = time.monotonic()
    while not run.crew.join(timeout=POLL_S):
        if progress:
            progress(run)
        if tick:
            tick(run)
        started = run.board.control[words.START]
        since = (time.monotonic_ns() - started) / 1e9 - run.plan.seconds if started else time.monotonic() - spawned
        if since > HANG_S:
            _hang(run)
            return
    if progress:
        progress(run)
    for process in run.crew:
        killed = tick and process.exitcode == -signal.SIGKILL
        run.expect(process.exitcode == 0 or killed, "died", f"process {process.pid}",
                   f"ended with {process.exitcode}" if process.exitcode is not None else "still lives after join()")
    if any(process.exitcode is None for process in run.crew):
        run.crew.kill()


def _hang(run: Run) -> None:
    """Ask every guest for its Python stack, then end them."""
    alive = [process for process in run.crew if process.is_alive()]
    for process in alive:
        os.kill(process.pid, signal.SIGUSR1)
    time.sleep(0.5)
    run.board.control[words.STOP] = STOP_VIOLATION
    run.crew.kill()
    run.expect(False, "hang", f"processes {[process.pid for process in alive]}",
               f"still there {HANG_S:.0f} s after the time was up")


def _gather(run: Run) -> None:
    """What the guests left in the folder."""
    finished = 0
    for path in sorted(Path(run.plan.folder).glob("guest-*.jsonl")):
        for line in path.read_text().splitlines():
            entry = json.loads(line)
            if "violation" in entry:
                run.violations.append(entry["violation"])
            finished += "facts" in entry
            for fact, value in entry.get("facts", {}).items():
                run.facts[fact] = run.facts.get(fact, 0) + value
    for path in sorted(Path(run.plan.folder).glob("guest-*.history")):
        run.history += marshal.loads(path.read_bytes())
    traces = [path.read_text() for path in sorted(Path(run.plan.folder).glob("guest-*.trace"))]
    if any(traces) and run.violations:
        run.violations[-1]["what"] += "\n" + "\n".join(filter(None, traces))
    run.expect(run.violations or finished >= run.plan.workers, "died", "crew",
               f"only {finished} of {run.plan.workers} guests came to their end")


def _check(run: Run) -> None:
    report = run.eng.check(frozen=True)
    run.expect(report.ok, "check", "arena, at the end",
               "; ".join(f"{problem.id} {problem.where}: {problem.what}" for problem in report.problems[:10]))


def _summarise(run: Run, outcome: Outcome) -> None:
    board = run.board
    for kind in words.KINDS:
        histogram = board.histogram(kind)
        count = sum(histogram)
        if count:
            outcome.ops[kind] = count
            outcome.latency_ns[kind] = {label: words.percentile(histogram, fraction) for label, fraction in
                                        (("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999), ("max", 1.0))}
    outcome.ops_per_worker = [row[words.OPS] for row in board.rows]
    outcome.hits, outcome.misses = board.total(words.HITS), board.total(words.MISSES)
    outcome.refused, outcome.bytes_verified = board.total(words.REFUSED), board.total(words.BYTES)
    outcome.facts = run.facts
    outcome.violations += run.violations[:VIOLATIONS_KEPT]
    try:
        total = run.eng.stats()["total"]
        outcome.lock_waits, outcome.recoveries = total["lock_waits"], total["recoveries"]
    except engine.TmemError:
        outcome.violations.append(Violation("exception", "stats", traceback.format_exc()).as_dict())


def run_canary(scenario: Scenario, options: Options, scenarios: dict[str, Scenario],
               progress: Progress | None = None) -> Outcome:
    """Run the scenarios that the canary names, each with its planted bug; good only if every one is
    reported. On a busy machine the moment of one may not come in the time there is: it is looked
    for CANARY_TRIES times, each twice as long."""
    outcome = Outcome(scenario.name, scenario.question, options.seed, options.workers, round(options.seconds, 2))
    bugs = scenario.settings
    for bug, target in bugs.items():
        for turn in range(CANARY_TRIES):
            part = run_scenario(scenarios[target],
                                replace(options, bug=bug, workers=min(options.workers, CANARY_GUESTS),
                                        seed=options.seed + turn,
                                        seconds=max(0.3, options.seconds / len(bugs)) * 2 ** turn,
                                        ops=-(-options.ops // len(bugs))), progress)
            kinds = sorted({violation["kind"] for violation in part.violations})
            if set(kinds) & sabotage.KINDS:
                break
        outcome.facts[bug] = ", ".join(kinds) or "not noticed"
        if not set(kinds) & sabotage.KINDS:
            outcome.violations.append(Violation(
                "canary", f"bug {bug!r} in scenario {target!r}",
                f"not noticed in {part.ops_total} operations (reported: {kinds})").as_dict())
        for kind, count in part.ops.items():
            outcome.ops[kind] = outcome.ops.get(kind, 0) + count
        outcome.work_s = round(outcome.work_s + part.work_s, 3)
        outcome.total_s = round(outcome.total_s + part.total_s, 2)
        unexpected = [v for v in part.violations if v["kind"] in ("exception", "hang", "died", "check", "leaked")]
        outcome.violations += unexpected
    return outcome


def run_all(chosen: list[Scenario], options: Options, scenarios: dict[str, Scenario],
            progress: Progress | None = None) -> list[Outcome]:
    """Run the chosen ones after each other; `options.seconds` and `options.ops` are shared out by
    weight."""
    weight = sum(scenario.share for scenario in chosen)
    outcomes = []
    for scenario in chosen:
        part = scenario.share / weight
        mine = replace(options, seconds=options.seconds * part, ops=int(options.ops * part))
        if options.ops:
            mine.ops = max(1, mine.ops)
        if scenario.workload == "canary":
            outcomes.append(run_canary(scenario, mine, scenarios, progress))
        else:
            outcomes.append(run_scenario(scenario, mine, progress))
    return outcomes

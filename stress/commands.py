"""Owns the commands `tmem stress`, `tmem bench` and `tmem report`: options in, exit status out (0
good, 1 violation, 2 usage).

Calls the supervisor, the report and the benchmark, all imported when a command runs so that `tmem
--help` stays quick. Loaded by `engine.cli.commands` through the entry point group `tmem.commands`.
"""
from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
from pathlib import Path

import click

DEFAULT_SECONDS = 36.0          # of work, shared out among the scenarios; all of `tmem stress` stays within a minute


def default_workers() -> int:
    return max(2, len(os.sched_getaffinity(0)))


@click.command("stress")
@click.argument("names", metavar="[SCENARIO]...", nargs=-1)
@click.option("--seconds", type=click.FloatRange(min=0.05), help="Work for so long, shared out among the scenarios.")
@click.option("--ops", type=click.IntRange(min=1), help="Work for so many operations, shared out; without --seconds "
                                                        "there is no time limit.")
@click.option("--workers", type=click.IntRange(1, 256), help="Guest processes (default: cores, at least 2).")
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), help="Same seed, same operations (default: from the clock).")
@click.option("--capacity", help="Arena size instead of the scenario's own, such as 256MiB.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
@click.option("--out", type=click.Path(file_okay=False), help="Write result.json and report.html into this folder.")
@click.option("--list", "listing", is_flag=True, help="List the scenarios and their questions.")
def stress_command(names, seconds, ops, workers, seed, capacity, as_json, out, listing) -> None:
    """Put the engine under load and verify every byte that comes back.

    Runs the named scenarios, or all of them. Exit status 1 and a line that replays the run on any
    violation.
    """
    from stress.scenarios import load_all
    scenarios = load_all()
    if listing:
        return _list(scenarios, as_json)
    unknown = [name for name in names if name not in scenarios]
    if unknown:
        raise click.UsageError(f"no scenario {unknown[0]!r}; there are: {', '.join(scenarios)}")
    from rich.console import Console

    from stress import report, supervisor
    if seconds is None:
        seconds = supervisor.NO_LIMIT_S if ops else DEFAULT_SECONDS
    seed = int.from_bytes(os.urandom(3), "little") if seed is None else seed
    options = supervisor.Options(seconds, ops or 0, workers or default_workers(), seed, capacity or "")
    _check_capacity(options.capacity)
    chosen = [scenarios[name] for name in dict.fromkeys(names)] or list(scenarios.values())
    log = Console(stderr=True)
    with _ended_by_signals(), report.LiveProgress(log, chosen, options) as progress:
        outcomes = supervisor.run_all(chosen, options, scenarios, progress)
    result = report.as_json(outcomes, options)
    if as_json:
        click.echo(json.dumps(result, indent=2))
    else:
        width = None if sys.stdout.isatty() else 240
        report.print_summary(outcomes, Console(width=width))
    report.print_violations(outcomes, log)
    if out:
        Path(out).mkdir(parents=True, exist_ok=True)
        _write_result(Path(out), result)
    failed = [outcome for outcome in outcomes if not outcome.ok]
    if failed:
        click.echo(report.replay_line(failed[0], options), err=True)
        sys.exit(1)


def _list(scenarios, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps({scenario.name: scenario.question for scenario in scenarios.values()}, indent=2))
    else:
        for scenario in scenarios.values():
            click.echo(f"{scenario.name:<12} {scenario.question}")


def _check_capacity(capacity: str) -> None:
    """A capacity that `engine.create` would not take is a usage error, before anything has run."""
    if not capacity:
        return
    import engine
    name = f"tmem-stress-{os.getpid()}-capacity"
    try:
        engine.create(name, capacity=capacity).close()
        engine.unlink(name)
    except (ValueError, TypeError) as error:
        raise click.UsageError(f"--capacity: {error}") from None
    except engine.TmemError as error:
        raise click.UsageError(f"--capacity {capacity}: {error}") from None


@click.command("bench")
@click.option("--pages", "sizes", type=click.IntRange(64, 1 << 26), multiple=True,
              help="Working set of this engine against the raw copy; may be given several times "
                   "(default: 256, 4,096, 50,000 and 200,000; 4,000,000 take 17 GiB).")
@click.option("--contest", "contests", type=click.IntRange(64, 1 << 20), multiple=True,
              help="Working set of every store; may be given several times (default: 256 and 200,000).")
@click.option(
    "--peer", "peers", multiple=True, help="Only these stores, beside ours and the raw copy; 'none' for no other."
)
@click.option("--rounds", type=click.IntRange(3, 1000), default=30, show_default=True,
              help="Interleaved rounds; two thirds of it for every store, a third for workers, at least five.")
@click.option("--seed", type=click.IntRange(0, 2 ** 32 - 1), default=1, show_default=True)
@click.option(
    "--object-pages",
    "shapes",
    type=click.IntRange(16, 16384),
    multiple=True,
    default=(1000, 64),
    show_default=True,
    help="Pages of one object; may be given several times: all but the first for 200,000 pages alone.",
)
@click.option("--buckets", type=click.Choice([str(1 << n) for n in range(13)]),
              help="Hash buckets (default: 256, more if there were more than 16 objects to a bucket).")
@click.option("--workers", type=click.IntRange(2, 64), default=4, show_default=True,
              help="The most workers; 1, 2 and every power of two up to it are measured.")
@click.option("--out", type=click.Path(file_okay=False),
              help="Write result.json, result.md, report.html and plots into this folder.")
@click.option("--remark", default="", help="A sentence for the result, such as what else ran on the machine.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON instead of Markdown.")
@click.option("--smoke", is_flag=True, help="A few seconds in all: small sets, few rounds. The figures mean little.")
def bench_command(sizes, contests, peers, rounds, seed, shapes, buckets, workers, out, remark, as_json, smoke) -> None:
    """Measure every operation against a raw memoryview copy and against other stores, in one
    run."""
    from stress.bench import measure, tables
    from stress.bench.peers import CACHE, OBJECTS, OURS, PAGES, RAW, all_caches, all_peers
    stores, caches = list(all_peers()), list(all_caches())
    known = list(dict.fromkeys(stores + caches))
    unknown = [name for name in peers if name not in known and name != "none"]
    if unknown:
        raise click.UsageError(f"no store {unknown[0]!r}; there are: {', '.join(known)}")
    if smoke:
        sizes, contests, rounds, workers = sizes or (256, 4096), contests or (256,), min(rounds, 3), 2
    plan = measure.Plan(list(sizes) or [256, 4096, 50_000, 200_000], list(contests) or [256, 200_000],
                        [name for name in stores if not peers or name in (OURS, RAW, *peers)],
                        [name for name in caches if not peers or name in (CACHE, PAGES, OBJECTS, *peers)],
                        [count for count in (1, 2, 4, 8, 16, 32, 64) if count < workers] + [workers],
                        rounds, seed, list(shapes), int(buckets or 0), smoke)
    try:
        with _ended_by_signals():
            result = measure.run(plan, log=lambda line: click.echo(line, err=True))
    except MemoryError as error:
        raise click.UsageError(str(error)) from None
    result["remark"] = remark
    if out:
        _write(Path(out), result)
    click.echo(json.dumps(result, indent=2) if as_json else tables.markdown(result))


@contextlib.contextmanager
def _ended_by_signals():
    """SIGTERM and SIGHUP end what is done in here as Ctrl-C does: guests, servers, arenas and
    stores are removed on the way out, which another signal does not cut short. One that is ignored,
    as under nohup, stays ignored."""
    def interrupted(number, frame) -> None:
        for each in before:
            signal.signal(each, signal.SIG_IGN)
        raise KeyboardInterrupt

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    before = {number: handler for number, handler in before.items() if handler != signal.SIG_IGN}
    for number in before:
        signal.signal(number, interrupted)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _write(folder: Path, result: dict) -> None:
    from stress.bench import tables
    folder.mkdir(parents=True, exist_ok=True)
    pictures: list[str] = []
    with contextlib.suppress(ImportError):
        from stress.bench import plots
        pictures = plots.draw(result, folder)
    text = ["# A run of `tmem bench`", tables.markdown(result), *[f"![]({name})" for name in pictures]]
    (folder / "result.md").write_text("\n\n".join(text) + "\n")
    _write_result(folder, result)


def _write_result(folder: Path, result: dict) -> None:
    """A result as it can be read again, and as a page; it ends by saying where that is."""
    from stress import html
    (folder / "result.json").write_text(json.dumps(result) + "\n")
    (folder / "report.html").write_text(html.page(result), encoding="utf-8")
    _say_where(folder / "report.html")


def _say_where(page: Path) -> None:
    import importlib.util
    plain = "" if importlib.util.find_spec("matplotlib") else " (without pictures: pip install 'tmem[report]')"
    click.echo(f"report: {page}{plain}", err=True)


@click.command("report")
@click.argument("result", type=click.File("r", encoding="utf-8"))
@click.option("-o", "--output", default="report.html", show_default=True, type=click.Path(dir_okay=False),
              help="The page to write.")
def report_command(result, output) -> None:
    """Make one page of RESULT, what `tmem stress --json` or `tmem bench --json` has printed (- is
    the standard input), or of the result.json of their --out.

    The page needs nothing from elsewhere. Its pictures need matplotlib.
    """
    from stress import html
    try:
        text = html.page(json.load(result))
    except ValueError as error:             # of JSON, too
        raise click.UsageError(f"{result.name}: {error}") from None
    try:
        Path(output).write_text(text, encoding="utf-8")
    except OSError as error:
        raise click.UsageError(f"-o {output}: {error.strerror}") from None
    _say_where(Path(output))

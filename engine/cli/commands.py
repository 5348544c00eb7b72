"""Owns the command line `tmem`: arguments in, a table or JSON out, and the exit status; here are
the commands that make, change, look at and remove arenas, and modules beside this one have the
larger ones.

Exit status: 0 good, 1 found a problem, 2 usage (or a part that is not installed).
"""
import contextlib
import itertools
import json
import math
import os
import pwd
import stat as st
import sys
import time
from collections.abc import Iterator
from typing import Any

import click
from rich.console import Console

import engine
from engine.capacity import rounds
from engine.capacity.balloon import follow, read_cgroup, read_pressure
from engine.cli.basics import (
    Commands,
    Seconds,
    attach,
    complete_arena,
    ended_by_signals,
    json_option,
    name_argument,
    number,
    print_json,
    table,
    usage,
)
from engine.cli.completion import completion
from engine.cli.far import far, spill
from engine.cli.health import health
from engine.cli.progress import of_check
from engine.cli.running import run
from engine.cli.snapshots import restore, save
from engine.cli.top import top
from engine.cli.web import web
from engine.cli.words import percent, plain, size
from engine.layout.geometry import CLIENT_LAYOUT
from engine.sizes import parse_size
from shm.arena import glance

SHM_DIR = "/dev/shm"


def _octal(_ctx: click.Context, _param: click.Parameter, value: str) -> int:
    try:
        mode = int(value, 8)
    except ValueError:
        mode = -1
    if not 0 <= mode <= 0o777:
        raise click.BadParameter(f"permission bits in octal, such as 600 or 660, not {value!r}")
    return mode


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="tmem", prog_name="tmem")
def main() -> None:
    """Transcendent memory in shared memory: make, look at, check and remove arenas."""


@main.command()
@name_argument
@click.option("--capacity", default="64MiB", show_default=True, help="Bytes, or such as 512MiB or 2GiB.")
@click.option("--page-size", default=4096, show_default=True, help="Bytes; a power of two, 512 to 65536.")
@click.option("--buckets", default=256, show_default=True, help="Hash buckets of a pool; a power of two.")
@click.option("--max-workers", default=256, show_default=True, help="Processes that can be attached at a time.")
@click.option("--max-pools", default=1024, show_default=True, help="Pools that can exist at a time.")
@click.option("--mode", default="600", show_default=True, callback=_octal, help="Permission bits, octal.")
@click.option("--group", default=None, help="Whose group may attach too, with --mode 660.  [default: yours]")
@click.option(
    "--shards",
    type=click.IntRange(1, 64),
    default=None,
    help="Shards of the eviction queues; a power of two.  [default: by capacity]",
)
@click.option(
    "--huge-pages/--no-huge-pages", default=True, show_default=True, help="Ask the system for pages of 2 MiB."
)
@click.option("--preallocate", is_flag=True, help="Give the whole capacity its memory now.")
@click.option("--max-pinned", default=None, help="Bytes that views may pin.  [default: an eighth of the capacity]")
@click.option("--max-capacity", default=None, help="What `tmem resize` may make of it.  [default: the capacity]")
@json_option
def create(
    name: str,
    capacity: str,
    page_size: int,
    buckets: int,
    max_workers: int,
    max_pools: int,
    mode: int,
    group: str | None,
    shards: int | None,
    huge_pages: bool,
    preallocate: bool,
    max_capacity: str | None,
    max_pinned: str | None,
    as_json: bool,
) -> None:
    """Create the arena NAME."""
    with usage():
        eng = engine.create(
            name,
            number(capacity),
            max_capacity=None if max_capacity is None else number(max_capacity),
            max_pinned=None if max_pinned is None else number(max_pinned),
            page_size=page_size,
            buckets=buckets,
            max_workers=max_workers,
            max_pools=max_pools,
            mode=mode,
            group=None if group is None else number(group),
            huge_pages=huge_pages,
            preallocate=preallocate,
            shards=shards,
        )
    with eng:
        made: dict[str, Any] = {
            "name": eng.name,
            "capacity": eng.capacity,
            "max_capacity": eng.max_capacity,
            "page_size": eng.page_size,
            "buckets": eng.buckets,
            "max_workers": eng.max_workers,
            "max_pools": max_pools,
            "mode": f"{mode:04o}",
        }
    if as_json:
        print_json(made)
    else:
        click.echo(f"{name}: created, {size(made['capacity'])} in pages of {made['page_size']} bytes")


def _owner(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _arenas() -> Iterator[dict[str, Any]]:
    """Every arena this user may read, told by its magic word; taking no worker slot."""
    for entry in sorted(os.scandir(SHM_DIR), key=lambda entry: entry.name):
        try:
            if not entry.is_file(follow_symlinks=False):
                continue
            # It may have become something else since: no waiting, no link.
            with open(
                os.open(entry.path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC), "rb", buffering=0
            ) as file:
                info = os.fstat(file.fileno())
                start = file.read(8192) if st.S_ISREG(info.st_mode) else b""
                if not start.startswith(engine.ARENA_MAGIC):
                    continue
        except OSError:                     # gone since, or another user's
            continue
        capacity, used = glance(start, CLIENT_LAYOUT) or (None, None)       # None: of another version
        yield {"name": entry.name, "capacity": capacity, "bytes_used": used, "bytes_backed": info.st_blocks * 512,
               "owner": _owner(info.st_uid), "mode": f"{st.S_IMODE(info.st_mode):04o}"}


@main.command()
@name_argument
@click.argument("capacity")
@json_option
def resize(name: str, capacity: str, as_json: bool) -> None:
    """Change the capacity of the arena NAME while everybody works."""
    with attach(name) as eng, usage():
        before, after = eng.capacity, eng.resize(number(capacity))
    if as_json:
        print_json({"name": name, "before": before, "capacity": after})
    else:
        click.echo(f"{name}: {size(before)} -> {size(after)}")


@main.command()
@name_argument
@click.option("--min", "low", default="1MiB", show_default=True, help="Never smaller than this.")
@click.option("--max", "high", default=None, help="Never larger.  [default: its max_capacity]")
@click.option("--interval", default=2.0, show_default=True, type=Seconds(0.01), help="Seconds between looks.")
@click.option("--count", type=click.IntRange(1), default=None, help="Stop after so many looks.")
@json_option
def balloon(name: str, low: str, high: str | None, interval: float, count: int | None, as_json: bool) -> None:
    """Let the arena NAME follow the memory of this machine (/proc/pressure/memory, the cgroup's
    limit), until interrupted.

    When memory is short the arena gets smaller, when there is plenty it grows back. One line a
    step.
    """
    def report(before: int, after: int, error: Exception | None) -> None:
        if as_json:
            click.echo(json.dumps({"name": name, "before": before, "capacity": after, "error": error and str(error)}))
        else:
            click.echo(
                f"{name}: {size(before)} -> {size(after)}"
                if error is None
                else f"{name}: stays at {size(after)}: {error}"
            )

    looks = iter(range(count)) if count is not None else itertools.count()

    def tick() -> bool:
        if next(looks, None) is None:
            return False
        time.sleep(interval)
        return True

    with attach(name) as eng, usage():
        if read_pressure() is None and read_cgroup() is None:
            raise click.ClickException(
                "this system tells nothing of memory pressure, and there is no cgroup limit to follow"
            )
        smallest = parse_size("--min", number(low))
        largest = eng.max_capacity if high is None else parse_size("--max", number(high))
        if not 1 << 20 <= smallest <= largest <= eng.max_capacity:
            raise click.UsageError(
                f"--min, --max: from 1 MiB to {eng.max_capacity} bytes (its max_capacity), --min not above --max"
            )
        with contextlib.suppress(KeyboardInterrupt):
            follow(eng, smallest, largest, tick, report)


@main.command()
@name_argument
@click.option("--seconds", type=Seconds(0), default=None, help="Stop after so long.  [default: never]")
@click.option("--once", is_flag=True, help="One round, then end.")
@json_option
def tend(name: str, seconds: float | None, once: bool, as_json: bool) -> None:
    """Tend the arena NAME until interrupted, or by SIGTERM: do ahead what its puts would have to.

    It keeps a few segments free by moving what is in others, settles workers that died, takes apart
    what they left, and gives memory that lies free back to the system. One line for each round in
    which there was something to do. Nobody needs it, several may run, and it may be killed at any
    time.
    """
    def report(done: engine.Tended) -> None:
        if as_json:
            click.echo(json.dumps(vars(done)))
        elif once or not done.idle:
            click.echo(f"{name}: {done.merged} segments emptied, {done.given} given back, "
                       f"{done.dead} dead workers settled, garbage of {done.inherited} taken apart, "
                       f"{done.buried} expired objects taken out, {done.spilled} pages spilled")

    with attach(name) as eng, ended_by_signals():
        if once:
            report(eng.tend())
        else:
            rounds.follow(eng, math.inf if seconds is None else seconds, report)


@main.command("ls")
@json_option
def list_arenas(as_json: bool) -> None:
    """List the arenas of this machine that you may read: the capacity, how much of it is taken, and
    how much memory the whole file takes."""
    arenas = list(_arenas())
    if as_json:
        return print_json(arenas)
    shown = table("NAME", "CAPACITY", "USED", "BACKED", "OWNER", "MODE")
    for arena in arenas:
        sizes = [arena["capacity"], arena["bytes_used"], arena["bytes_backed"]]
        figures = ["-" if n is None else size(n) for n in sizes]
        shown.add_row(plain(arena["name"]), *figures, arena["owner"], arena["mode"])
    Console(markup=False).print(shown)


def _arena_line(arena: Any) -> str:
    return (f"{arena['name']}: {size(arena['capacity'])}, {size(arena['bytes_backed'])} backed, "
            f"segments {arena['segments_used']}/{arena['segments_total']}, pages of {arena['page_size']} bytes, "
            f"{arena['buckets']} buckets, workers {arena['workers']}")


def _fullness_line(arena: Any) -> str:
    """How full the arena is: the gauges that are all of its capacity."""
    parts = ("free", "stuck", "evictable", "persistent", "overhead", "leaving")
    return ", ".join(f"{part} {size(arena[f'bytes_{part}'])}" for part in parts)


def _rows(stats: Any) -> Iterator[tuple[str, Any]]:
    yield from sorted(stats["pools"].items())
    yield "total", stats["total"]


@main.command("stat")
@name_argument
@json_option
def show_stats(name: str, as_json: bool) -> None:
    """Show the counters of the arena NAME and of the pools in it."""
    with attach(name) as eng:
        stats = eng.stats()
    if as_json:
        return print_json(stats)
    shown = table("POOL", "PUTS", "REFUSED", "DUPLICATE", "HITS", "MISSES", "HIT RATE", "FLUSHES", "OBJECTS",
                   "OBJNODES", "PAGES", "EVICTED", "ASKED", "STORED", "USED")
    for pool, c in _rows(stats):
        shown.add_row(
            plain(pool),
            str(c["puts_ok"]),
            str(c["puts_refused"]),
            str(c["puts_duplicate"]),
            str(c["gets_hit"]),
            str(c["gets_miss"]),
            percent(c["gets_hit"], c["gets_hit"] + c["gets_miss"]),
            str(c["flushes"]),
            str(c["objects"]),
            str(c["objnodes"]),
            str(c["pages"]),
            str(c["evicted"]),
            size(c["bytes_asked"]),
            size(c["bytes_stored"]),
            size(c["bytes_used"]),
        )
    total = stats["total"]
    console = Console(width=None if sys.stdout.isatty() else 200, markup=False)
    console.print(_arena_line(stats["arena"]), highlight=False, soft_wrap=True)
    console.print(_fullness_line(stats["arena"]), highlight=False, soft_wrap=True)
    console.print(f"lock waits {total['lock_waits']}, workers recovered {total['recoveries']}", highlight=False)
    console.print(shown)


def _lost_line(pool: str, oid: Any, index: int | None) -> str:
    thing = "an object" if oid is None else f"object {tuple(oid)}"
    return f"lost  pool {pool}: {thing}, " + ("pages that nobody can name" if index is None else f"page {index}")


@main.command()
@name_argument
@click.option("--frozen", is_flag=True, help="Stop its writers, however long that takes, and compare everything.")
@click.option(
    "--repair", is_flag=True, help="Put right what can be; drop objects that contradict themselves. Stops its writers."
)
@json_option
def check(name: str, frozen: bool, repair: bool, as_json: bool) -> None:
    """Verify the invariants of the arena NAME.

    Its writers are stopped as long as none of them has to wait; then, and where there is much to
    look at, it is one bucket and one queue at a time that is looked at. With --frozen, or if an
    invariant does not hold, they wait until everything is compared: that always finds memory that
    nobody has and gauges that are wrong, too. The exit status is 1 if one did not hold, whether or
    not it was repaired.
    """
    with attach(name) as eng, of_check(lambda: eng.stats()['total']['pages']):
        report = eng.check(repair=repair, frozen=frozen)
        if report.gentle and not report.ok:
            report = eng.check(frozen=True)
    found, left = [*report.repaired, *report.problems], report.problems
    if as_json:
        print_json({"ok": report.ok, "problems": [vars(problem) for problem in left],
                     "repaired": [vars(problem) for problem in report.repaired], "lost": report.lost,
                     "counts": report.counts, "gentle": report.gentle})
    else:
        for problem in found:
            click.echo(plain(f"{problem.id}  {problem.where}: {problem.what}"))
        for lost in report.lost:
            click.echo(plain(_lost_line(*lost)))
        counted = ", ".join(f"{count} {what.replace('_', ' ')}" for what, count in report.counts.items())
        counted += "; while others worked, see --frozen" if report.gentle else ""
        verdict = f"{len(found)} problems" + (f", {len(left)} left" if repair else "") if found else "ok"
        click.echo(f"{name}: {verdict}" + (f" ({counted})" if counted else ""))
    if found:
        sys.exit(1)


@main.command("rm")
@click.argument("names", metavar="NAME...", nargs=-1, required=True, shell_complete=complete_arena)
@json_option
def remove(names: tuple[str, ...], as_json: bool) -> None:
    """Remove arenas and all that belongs to them; processes still attached keep their memory until
    they end.

    What has such a name and is no arena is left alone.
    """
    removed: list[str] = []
    try:
        for name in names:
            with usage():
                engine.unlink(name)
            removed.append(name)
    finally:
        if as_json:
            print_json({"removed": removed})


for _command in (completion, far, health, restore, run, save, spill, top, web):
    main.add_command(_command)

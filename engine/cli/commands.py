"""Owns the command line `tmem`: arguments in, a table or JSON out, and the exit status.

Commands of other packages come by the entry-point group "tmem.commands" and are imported only when
named, so that a broken one breaks nothing else.
Exit status: 0 good, 1 found a problem, 2 usage (or a part that is not installed).
"""
import contextlib
import io
import itertools
import json
import math
import os
import pwd
import signal
import stat as st
import sys
import time
from collections.abc import Iterator
from importlib import metadata
from typing import Any

import engine
from engine.capacity import rounds
from engine.capacity.balloon import follow, read_cgroup, read_pressure
from engine.layout.geometry import CLIENT_LAYOUT
from engine.sizes import parse_size
from shm.arena import glance

try:
    import click
    from rich.console import Console, Group
    from rich.live import Live
    from rich.table import Table
except ImportError as missing:
    print(f"tmem: the command line needs {missing.name}: pip install 'tmem[cli]'", file=sys.stderr)
    sys.exit(2)

SHM_DIR = "/dev/shm"
ENTRY_POINTS = "tmem.commands"


class _Unavailable(click.ClickException):
    exit_code = 2


def _unavailable(name: str, error: BaseException) -> click.Command:
    """What stands in for a command that cannot be imported: it says why, and what to install."""
    why = f"needs {error.name}" if isinstance(error, ModuleNotFoundError) else f"{type(error).__name__}: {error}"

    @click.command(
        name,
        short_help=f"(not available: {why})",
        add_help_option=False,
        context_settings={"ignore_unknown_options": True, "allow_extra_args": True},
    )
    def command() -> None:
        raise _Unavailable(f"'{name}' is not available ({why}): pip install 'tmem[{name}]'")

    return command


class Commands(click.Group):
    """The commands of this file and those of the entry-point group; a TmemError becomes one
    line."""

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
                return _unavailable(name, error)
        return None

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except engine.TmemError as error:
            raise click.ClickException(" ".join(str(error).split())) from error


@contextlib.contextmanager
def _usage() -> Iterator[None]:
    """The engine's complaint about an argument is a usage error here."""
    try:
        yield
    except (TypeError, ValueError) as error:
        raise click.UsageError(str(error)) from error


def _attach(name: str) -> engine.Engine:
    with _usage():
        # Nobody's pages are put in here, so any arena will do that this user may write to.
        try:
            owner = os.lstat(f"{SHM_DIR}/{name}").st_uid
        except (OSError, ValueError):
            owner = None                # attaching says why
        return engine.attach(name, owner=owner)


def _number(text: str) -> int | str:
    return int(text) if text.isdecimal() else text


def _octal(_ctx: click.Context, _param: click.Parameter, value: str) -> int:
    try:
        mode = int(value, 8)
    except ValueError:
        mode = -1
    if not 0 <= mode <= 0o777:
        raise click.BadParameter(f"permission bits in octal, such as 600 or 660, not {value!r}")
    return mode


def _bytes(n: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(n) < 1024:
            return f"{n:.0f} {unit}" if unit == "B" else f"{n:.1f} {unit}"
        n /= 1024
    return f"{n:.1f} TiB"


def _percent(part: float, whole: float) -> str:
    return f"{100 * part / whole:.1f} %" if whole else "-"


def _print_json(answer: object) -> None:
    click.echo(json.dumps(answer, indent=2))


def _table(title: str | None, *columns: str) -> Table:
    """A table whose first column is a name and whose others are numbers."""
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for at, column in enumerate(columns):
        table.add_column(column, justify="right" if at else "left", overflow="fold")
    return table


name_argument = click.argument("name")
json_option = click.option("--json", "as_json", is_flag=True, help="Answer in JSON.")


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="tmem", prog_name="tmem")
def main() -> None:
    """Transcendent memory in shared memory: make, look at, check and remove arenas."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a pool's name is any text, also where the terminal is not


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
    with _usage():
        eng = engine.create(
            name,
            _number(capacity),
            max_capacity=None if max_capacity is None else _number(max_capacity),
            max_pinned=None if max_pinned is None else _number(max_pinned),
            page_size=page_size,
            buckets=buckets,
            max_workers=max_workers,
            max_pools=max_pools,
            mode=mode,
            group=None if group is None else _number(group),
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
        _print_json(made)
    else:
        click.echo(f"{name}: created, {_bytes(made['capacity'])} in pages of {made['page_size']} bytes")


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
    with _attach(name) as eng, _usage():
        before, after = eng.capacity, eng.resize(_number(capacity))
    if as_json:
        _print_json({"name": name, "before": before, "capacity": after})
    else:
        click.echo(f"{name}: {_bytes(before)} -> {_bytes(after)}")


@main.command()
@name_argument
@click.option("--min", "low", default="1MiB", show_default=True, help="Never smaller than this.")
@click.option("--max", "high", default=None, help="Never larger.  [default: its max_capacity]")
@click.option("--interval", default=2.0, show_default=True, type=click.FloatRange(0.01), help="Seconds between looks.")
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
                f"{name}: {_bytes(before)} -> {_bytes(after)}"
                if error is None
                else f"{name}: stays at {_bytes(after)}: {error}"
            )

    looks = iter(range(count)) if count is not None else itertools.count()

    def tick() -> bool:
        if next(looks, None) is None:
            return False
        time.sleep(interval)
        return True

    with _attach(name) as eng, _usage():
        if read_pressure() is None and read_cgroup() is None:
            raise click.ClickException(
                "this system tells nothing of memory pressure, and there is no cgroup limit to follow"
            )
        smallest = parse_size("--min", _number(low))
        largest = eng.max_capacity if high is None else parse_size("--max", _number(high))
        if not 1 << 20 <= smallest <= largest <= eng.max_capacity:
            raise click.UsageError(
                f"--min, --max: from 1 MiB to {eng.max_capacity} bytes (its max_capacity), --min not above --max"
            )
        with contextlib.suppress(KeyboardInterrupt):
            follow(eng, smallest, largest, tick, report)


def _end(_number: int, _frame: object) -> None:
    raise KeyboardInterrupt


@main.command()
@name_argument
@click.option("--seconds", type=click.FloatRange(0), default=None, help="Stop after so long.  [default: never]")
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
                       f"{done.buried} expired objects taken out")

    with _attach(name) as eng:
        before = signal.signal(signal.SIGTERM, _end)
        try:
            if once:
                report(eng.tend())
            else:
                rounds.follow(eng, math.inf if seconds is None else seconds, report)
        except KeyboardInterrupt:
            pass
        finally:
            signal.signal(signal.SIGTERM, before)


@main.command("ls")
@json_option
def list_arenas(as_json: bool) -> None:
    """List the arenas of this machine that you may read: the capacity, how much of it is taken, and
    how much memory the whole file takes."""
    arenas = list(_arenas())
    if as_json:
        return _print_json(arenas)
    table = _table(None, "NAME", "CAPACITY", "USED", "BACKED", "OWNER", "MODE")
    for arena in arenas:
        sizes = [arena["capacity"], arena["bytes_used"], arena["bytes_backed"]]
        table.add_row(arena["name"], *("-" if n is None else _bytes(n) for n in sizes), arena["owner"], arena["mode"])
    Console().print(table)


def _arena_line(arena: Any) -> str:
    return (f"{arena['name']}: {_bytes(arena['capacity'])}, {_bytes(arena['bytes_backed'])} backed, "
            f"segments {arena['segments_used']}/{arena['segments_total']}, pages of {arena['page_size']} bytes, "
            f"{arena['buckets']} buckets, workers {arena['workers']}")


def _fullness_line(arena: Any) -> str:
    """How full the arena is: the gauges that are all of its capacity."""
    parts = ("free", "stuck", "evictable", "persistent", "overhead", "leaving")
    return ", ".join(f"{part} {_bytes(arena[f'bytes_{part}'])}" for part in parts)


def _rows(stats: Any) -> Iterator[tuple[str, Any]]:
    yield from sorted(stats["pools"].items())
    yield "total", stats["total"]


@main.command("stat")
@name_argument
@json_option
def show_stats(name: str, as_json: bool) -> None:
    """Show the counters of the arena NAME and of the pools in it."""
    with _attach(name) as eng:
        stats = eng.stats()
    if as_json:
        return _print_json(stats)
    table = _table(None, "POOL", "PUTS", "REFUSED", "DUPLICATE", "HITS", "MISSES", "HIT RATE", "FLUSHES", "OBJECTS",
                   "OBJNODES", "PAGES", "EVICTED", "ASKED", "STORED", "USED")
    for pool, c in _rows(stats):
        table.add_row(
            pool,
            str(c["puts_ok"]),
            str(c["puts_refused"]),
            str(c["puts_duplicate"]),
            str(c["gets_hit"]),
            str(c["gets_miss"]),
            _percent(c["gets_hit"], c["gets_hit"] + c["gets_miss"]),
            str(c["flushes"]),
            str(c["objects"]),
            str(c["objnodes"]),
            str(c["pages"]),
            str(c["evicted"]),
            _bytes(c["bytes_asked"]),
            _bytes(c["bytes_stored"]),
            _bytes(c["bytes_used"]),
        )
    total = stats["total"]
    console = Console(width=None if sys.stdout.isatty() else 200)
    console.print(_arena_line(stats["arena"]), highlight=False, soft_wrap=True)
    console.print(_fullness_line(stats["arena"]), highlight=False, soft_wrap=True)
    console.print(f"lock waits {total['lock_waits']}, workers recovered {total['recoveries']}", highlight=False)
    console.print(table)


def _rates(before: Any, after: Any, seconds: float) -> dict[str, Any]:
    """What happened between two answers of stats(), per second; a pool that is new started from
    nothing."""
    def rate(now: Any, then: Any) -> dict[str, Any]:
        done = {key: max(0, now[key] - then.get(key, 0)) for key in now}
        gets = done["gets_hit"] + done["gets_miss"]
        return {
            "puts_per_s": (done["puts_ok"] + done["puts_refused"]) / seconds,
            "refused_per_s": done["puts_refused"] / seconds,
            "gets_per_s": gets / seconds,
            "hit_rate": done["gets_hit"] / gets if gets else None,
            "flushes_per_s": done["flushes"] / seconds,
            "evicted_per_s": done["evicted"] / seconds,
            "pages": now["pages"],
            "bytes_used": now["bytes_used"],
        }
    return {
        "seconds": seconds,
        "arena": after["arena"],
        "pools": {pool: rate(now, before["pools"].get(pool, {})) for pool, now in after["pools"].items()},
        "total": rate(after["total"], before["total"]),
    }


def _frame(rates: Any) -> Group:
    table = _table(None, "POOL", "PUTS/S", "REFUSED/S", "GETS/S", "HIT RATE", "FLUSHES/S", "EVICTED/S", "PAGES", "USED")
    for pool, r in _rows(rates):
        table.add_row(pool, f"{r['puts_per_s']:.0f}", f"{r['refused_per_s']:.0f}", f"{r['gets_per_s']:.0f}",
                      "-" if r["hit_rate"] is None else _percent(r["hit_rate"], 1), f"{r['flushes_per_s']:.0f}",
                      f"{r['evicted_per_s']:.0f}", str(r["pages"]), _bytes(r["bytes_used"]))
    return Group(_arena_line(rates["arena"]), _fullness_line(rates["arena"]), table)


def _watch(eng: engine.Engine, interval: float) -> Iterator[dict[str, Any]]:
    """The rates of one interval after the other, without end."""
    before, then = eng.stats(), time.monotonic()
    while True:
        time.sleep(interval)
        after, now = eng.stats(), time.monotonic()
        yield _rates(before, after, now - then)
        before, then = after, now


@main.command()
@name_argument
@click.option("--interval", default=1.0, show_default=True, type=click.FloatRange(min=0.01),
              help="Seconds from one frame to the next.")
@click.option("--once", is_flag=True, help="Show one frame, then end.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line for each frame.")
def top(name: str, interval: float, once: bool, as_json: bool) -> None:
    """Show what the pools of the arena NAME do, per second, until interrupted."""
    with _attach(name) as eng:
        frames = _watch(eng, interval)
        try:
            if once:
                frame = next(frames)
                if as_json:
                    click.echo(json.dumps(frame))
                else:
                    Console().print(_frame(frame))
            elif as_json:
                for frame in frames:
                    click.echo(json.dumps(frame))
            else:
                with Live(screen=sys.stdout.isatty(), auto_refresh=False) as live:
                    for frame in frames:
                        live.update(_frame(frame), refresh=True)
        except KeyboardInterrupt:
            pass


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
    with _attach(name) as eng:
        report = eng.check(repair=repair, frozen=frozen)
        if report.gentle and not report.ok:
            report = eng.check(frozen=True)
    found, left = [*report.repaired, *report.problems], report.problems
    if as_json:
        _print_json({"ok": report.ok, "problems": [vars(problem) for problem in left],
                     "repaired": [vars(problem) for problem in report.repaired], "lost": report.lost,
                     "counts": report.counts, "gentle": report.gentle})
    else:
        for problem in found:
            click.echo(f"{problem.id}  {problem.where}: {problem.what}")
        for lost in report.lost:
            click.echo(_lost_line(*lost))
        counted = ", ".join(f"{count} {what}" for what, count in report.counts.items())
        counted += "; while others worked, see --frozen" if report.gentle else ""
        verdict = f"{len(found)} problems" + (f", {len(left)} left" if repair else "") if found else "ok"
        click.echo(f"{name}: {verdict}" + (f" ({counted})" if counted else ""))
    if found:
        sys.exit(1)


@main.command("rm")
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
def remove(names: tuple[str, ...]) -> None:
    """Remove arenas and all that belongs to them; processes still attached keep their memory until
    they end.

    What has such a name and is no arena is left alone.
    """
    for name in names:
        with _usage():
            engine.unlink(name)



"""Owns the commands `tmem save` and `tmem restore`."""
import contextlib
import os
import sys
from collections.abc import Iterator
from typing import Any

import click

import engine
from engine.cli.basics import attach, json_option, name_argument, number, print_json, usage
from engine.cli.words import plain, size


@contextlib.contextmanager
def told() -> Iterator[None]:
    """What the system says of a file, in one line."""
    try:
        yield
    except OSError as error:
        where = f"{os.fsdecode(error.filename)}: " if error.filename else ""
        raise click.ClickException(f"{where}{error.strerror or error}") from error


def say_saved(file: str, saved: engine.Saved, as_json: bool) -> None:
    if as_json:
        return print_json(vars(saved))
    click.echo(plain(f"{file}: {saved.pools} pools, {saved.objects} objects, {saved.pages} pages, {size(saved.size)}"),
               err=file == "-")
    for name in saved.skipped:
        click.echo(plain(f"not saved: {name}, whose pages are a back end's"), err=True)
    for name in saved.gone:
        click.echo(plain(f"not saved: {name}, which was destroyed meanwhile"), err=True)
    if saved.torn:
        click.echo(f"{saved.torn} objects changed all the time: their pages are of several moments", err=True)


def say_restored(name: str, restored: engine.Restored, as_json: bool) -> None:
    if as_json:
        return print_json(vars(restored))
    click.echo(f"{name}: {restored.pools} pools, {restored.objects} objects, {restored.pages} pages")
    for count, what in (
        (restored.refused, "pages had no room"),
        (restored.expired, "objects had expired"),
        (restored.missing, "blocks are damaged or missing, and what was in them"),
    ):
        if count:
            click.echo(f"{count} {what}", err=True)
    for pool in restored.stale:
        click.echo(plain(f"left out: {pool}, which is older than the snapshot's max_age"), err=True)
    for pool in restored.gone:
        click.echo(plain(f"left out: {pool}, which was destroyed while it was saved"), err=True)


@click.command()
@name_argument
@click.argument("file", type=click.Path(dir_okay=False, allow_dash=True))
@click.option("--pool", "pools", multiple=True, help="Only this pool; may be said several times.  [default: all]")
@click.option("--ephemeral", is_flag=True, help="Ephemeral pools, too.")
@click.option("--max-age", type=float, default=None, help="Seconds after which ephemeral pools are not restored.")
@click.option("--frozen", is_flag=True, help="All at one moment: its writers stand still until it is written.")
@json_option
def save(
    name: str, file: str, pools: tuple[str, ...], ephemeral: bool, max_age: float | None, frozen: bool, as_json: bool
) -> None:
    """Write a snapshot of the persistent pools of the arena NAME to FILE; - is the standard output.

    What has that name is replaced when the new one is whole and on the disk: who is killed at it
    leaves the former file. An arena outlives its processes by itself; a snapshot is for a reboot, a
    move, or another version of this package.
    """
    with attach(name) as eng, usage(), told():
        where: Any = sys.stdout.buffer if file == "-" else file
        saved = eng.save(where, pools=list(pools) or None, ephemeral=ephemeral, max_age=max_age, frozen=frozen)
    say_saved(file, saved, as_json and file != "-")


@click.command()
@click.argument("file", type=click.Path(dir_okay=False, allow_dash=True))
@click.argument("name")
@click.option("--capacity", default=None, help="Bytes, or such as 512MiB or 2GiB.  [default: as it was saved]")
@click.option("--max-capacity", default=None, help="What `tmem resize` may make of it.  [default: the capacity]")
@click.option("--partial", is_flag=True, help="Go on over damaged parts, and over pages that have no room.")
@json_option
def restore(
    file: str, name: str, capacity: str | None, max_capacity: str | None, partial: bool, as_json: bool
) -> None:
    """Make the arena NAME of the snapshot FILE; - is the standard input.

    It has its name when all is in it. If there is an arena NAME, the pools are made in it, and none
    of them may be there.
    """
    options: dict[str, Any] = {} if max_capacity is None else {"max_capacity": number(max_capacity)}
    with usage(), told():
        where: Any = sys.stdin.buffer if file == "-" else file
        restored = engine.restore(
            where, name, None if capacity is None else number(capacity), partial=partial, **options
        )
    say_restored(name, restored, as_json)

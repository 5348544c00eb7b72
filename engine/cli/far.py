"""Owns the commands of far tiers: `tmem spill`, and `tmem far stat`, `gc` and `ls`."""
import contextlib
import json
import math
import time
from collections.abc import Sequence
from typing import Any

import click
from rich.console import Console

import engine
from engine.cli.basics import (
    Seconds,
    attach,
    complete_arena,
    ended_by_signals,
    json_option,
    name_argument,
    print_json,
    table,
    usage,
)
from engine.cli.words import count, percent, plain, seconds, short_size
from engine.far import listing

REST_S = 0.005          # of the spiller when nothing had to go, twice as long each time,
REST_MAX_S = 0.1        # up to this
COUNTERS = ("spilled", "checksum_bad", "garbage_dropped", "localified")      # beside those that say far
TIMES_US = 64           # the first column of a node's times: answers of less


@click.command()
@name_argument
@click.option("--seconds", "for_seconds", type=Seconds(0), default=None, help="Stop after so long.  [default: never]")
@click.option("--once", is_flag=True, help="One round, then end.")
@json_option
def spill(name: str, for_seconds: float | None, once: bool, as_json: bool) -> None:
    """Spill pages of the arena NAME to its far tiers until interrupted, or by SIGTERM: ahead of its
    puts, so that a twentieth of the capacity is free.

    One process does at a time; others wait for their turn, and take over when it ends or is killed.
    `tmem tend` spills, too, besides what else it does. One line for each second in which pages
    went.
    """
    def report(pages: int) -> None:
        if as_json:
            click.echo(json.dumps({"spilled": pages}))
        elif pages or once:
            click.echo(f"{name}: {pages} pages spilled")

    with attach(name) as eng, ended_by_signals():
        if once:
            return report(eng.spill())
        end = time.monotonic() + (math.inf if for_seconds is None else for_seconds)
        rest, done, told = REST_S, 0, time.monotonic()
        while time.monotonic() < end:
            pages = eng.spill()
            done += pages
            if time.monotonic() - told >= 1:
                report(done)
                done, told = 0, time.monotonic()
            rest = REST_S if pages else min(2 * rest, REST_MAX_S)
            if not pages:
                time.sleep(max(0.0, min(rest, end - time.monotonic())))
        report(done)


@click.group()
def far() -> None:
    """Look at far tiers, and look for garbage there."""


def quantile(times: Sequence[int], part: float) -> float | None:
    """Seconds within which a part of the answers came: the upper end of a column, None if there
    were none."""
    answers = sum(times)
    counted = 0
    for i, number in enumerate(times):
        counted += number
        if answers and counted >= part * answers:
            return TIMES_US * (1 << i) / 1e6
    return None


@far.command()
@name_argument
@json_option
def stat(name: str, as_json: bool) -> None:
    """Say how the far tiers of the arena NAME do, and each of their servers.

    p50 and p99 are the ends of the columns that the times of answers are counted in, each twice as
    wide as the one before.
    """
    with attach(name) as eng:
        counted = eng.stats()["pools"]
        found = []
        for pool in eng.pools():
            with contextlib.suppress(engine.PoolDestroyed):
                if pool.far is None:
                    continue
                nodes = [{**row, "p50": quantile(row["times"], .5), "p99": quantile(row["times"], .99)}
                         for row in pool.far_nodes]
                said = {key: value for key, value in counted.get(pool.name, {}).items()
                        if key.startswith("far_") or key in COUNTERS}
                found.append({"pool": pool.name, "far": pool.far, "trouble": pool.far_trouble, **said, "nodes": nodes})
        nonce = eng.far_nonce
    if as_json:
        return print_json({"nonce": nonce, "pools": found})
    if not found:
        click.echo(f"{name}: no pool has a far tier")
    for one in found:
        show(one)


def show(one: dict[str, Any]) -> None:
    """One pool's tier, for people."""
    asked = one["far_hits"] + one["far_misses_gone"] + one["far_lost"] + one["far_failed"]
    click.echo(plain(f"{one['pool']}: {one['far']}"))
    click.echo(f"  {count(one['far_pages'])} pages far, {short_size(one['far_bytes'])}; "
               f"{count(one['spilled'])} spilled, {count(one['far_skipped'])} went without")
    click.echo(f"  {count(asked)} asked for, {percent(one['far_hits'], asked)} had, {one['far_misses_gone']} gone, "
               f"{one['far_lost']} lost ({one['checksum_bad']} of both damaged), {one['far_failed']} unanswered")
    if one["trouble"]:
        click.echo(plain(f"  {one['trouble']}"))
    if one["nodes"]:
        shown = table("  node", "breaker", "batches", "p50", "p99", "late", "failed", "moved", "refused")
        for row in one["nodes"]:
            shown.add_row("  " + plain(row["address"]), f"open {seconds(row['open_for'])}" if row["open_for"] else "-",
                          count(row["asked"]), seconds(row["p50"]), seconds(row["p99"]), count(row["late"]),
                          count(row["failed"]), count(row["moved"]), count(row["refused"]))
        Console().print(shown)


@far.command()
@click.argument("name", required=False, shell_complete=complete_arena)
@click.option("--target", default=None, help="Servers, as in far=: with --nonce, in place of NAME.")
@click.option("--nonce", default=None, help="Of an arena that is there no more, as `tmem far ls` lists them.")
@json_option
def gc(name: str | None, target: str | None, nonce: str | None, as_json: bool) -> None:
    """Drop what the far tiers of the arena NAME have under names that no page has; or, with
    --target and --nonce, all that an arena has left that is there no more.

    A kill leaves such names, and so does an outage. They are never read; their time ends by itself,
    if the target has a ttl.
    """
    if (name is None) == (target is None) or (target is None) != (nonce is None):
        raise click.UsageError("either NAME, or --target and --nonce")
    done: Any
    if name is not None:
        with attach(name) as eng:
            done = eng.far_gc()
    else:
        assert target is not None and nonce is not None
        with usage():
            done = listing.drop(target, nonce)
    if as_json:
        return print_json(vars(done))
    click.echo(f"{done.names} names, {done.dropped} dropped")
    for node in done.silent:
        click.echo(plain(f"{node} does not answer"), err=True)
    if done.silent:
        raise SystemExit(1)


@far.command("ls")
@click.argument("target")
@json_option
def list_nonces(target: str, as_json: bool) -> None:
    """List whose pages servers have: the nonce of each arena, with how many names there are.

    TARGET is as in far=, such as valkey://host:6379. `tmem far stat --json NAME` says which nonce
    an arena of this machine has.
    """
    with usage():
        found, silent = listing.nonces(target)
    if as_json:
        return print_json({"nonces": found, "silent": sorted(silent)})
    shown = table("nonce", "names")
    for nonce, names in sorted(found.items()):
        shown.add_row(nonce, count(names))
    Console().print(shown)
    for node in sorted(silent):
        click.echo(plain(f"{node} does not answer"), err=True)

"""Values of many pages, put and got as ranges by everybody at once: none may be made of two puts.

Every object holds one range of a fixed number of pages. Guests put whole ranges, read whole ranges
(all pages must be of one version), read single pages, flush objects, and take ranges exclusively: a
version is taken at most once over all guests. A reader never sees a version older than one it has
seen of the same writer under the same handle.

Settings: objects, range_pages, short_last. Facts: ranges_read, ranges_taken.
"""
from __future__ import annotations

from collections import Counter

from stress.content import MIN_BYTES, describe
from stress.worker import Guest

BASE = 61                       # ranges straddle the first objnode


def prepare(eng, plan) -> None:
    eng.new_pool("ranges", persistent=True, shared=True)


def guest(g: Guest) -> None:
    pool, sizes = g.pool("ranges"), g.settings["range_pages"]
    seen: dict[tuple, int] = {}
    taken: list[int] = []
    read = 0
    while g.running():
        number = g.rng.randrange(g.settings["objects"])
        oid, count = (number, 3, 5), sizes[number % len(sizes)]
        what, got = g.rng.random(), 0
        if what < 0.42:
            short = g.rng.random() < g.settings["short_last"]
            last = g.rng.randint(MIN_BYTES, g.plan.page_size) if short else 0
            g.put_range(pool, oid, BASE, count, g.fresh(), last)
        elif what < 0.84:
            got = g.read_range(pool, oid, BASE, count)
            read += bool(got)
        elif what < 0.90:
            got = g.read(pool, oid, BASE + g.rng.randrange(count))
        elif what < 0.96:
            got = g.read_range(pool, oid, BASE, count, True)
            if got:
                taken.append(got)
        else:
            g.flush_object(pool, oid)
        if got:
            writer = number, got % 1024
            g.expect(got >= seen.get(writer, 0), "stale", f"pool ranges {describe(oid, BASE)}",
                     f"version {got} after version {seen.get(writer)} of the same writer")
            seen[writer] = got
    g.facts.update(ranges_read=read, ranges_taken=len(taken))
    g.history = [(version,) for version in taken]


def verdict(run) -> None:
    versions = [entry[0] for entry in run.history]
    run.history = []
    twice = {version for version, count in Counter(versions).items() if count > 1}
    run.expect(not twice, "taken twice", "pool ranges", f"versions {sorted(twice)[:5]} were got exclusively twice")


"""Guests that put more pages than the arena holds, beside persistent pages that it must not lose.

Each guest has handles of its own in one ephemeral pool: a get of one is the page it put last, or
nothing, never an older one. A put there is always taken. It also keeps some pages in a persistent
pool: those come back, all of them, and a put of a new one is taken, since there is always something
ephemeral to evict.

Settings: objects, pages, kept, short. Facts: evicted, kept_back (verified gets of persistent
pages), hits_percent of the ephemeral pool.
"""
from __future__ import annotations

from stress.content import MIN_BYTES, describe
from stress.worker import Guest

CACHE, KEEP = "cache", "keep"


def prepare(eng, plan) -> None:
    eng.new_pool(CACHE, persistent=False, shared=True)
    eng.new_pool(KEEP, persistent=True, shared=True)


def guest(g: Guest) -> None:
    cache, keep = g.pool(CACHE), g.pool(KEEP)
    put: dict[tuple, int] = {}                  # handle of the cache -> version put last
    held: dict[tuple, int] = {}                 # handle of the persistent pool -> version
    back, kept = 0, max(1, g.settings["kept"] // g.workers)
    while g.running():
        rng = g.rng
        what = rng.random()
        if what < 0.15:
            oid, index = (g.index + 1, 77, 77), rng.randrange(kept)
            if rng.random() < 0.5:
                back += _read_kept(g, keep, oid, index, held)
            else:
                held[oid, index] = _put(g, keep, oid, index)
            continue
        # Half of the requests go to few pages, the others to all.
        index = (int(rng.paretovariate(0.7)) if rng.random() < 0.5 else rng.randrange(1 << 20)) % g.settings["pages"]
        oid = (g.index + 1, rng.randrange(g.settings["objects"]), 5)
        if what < 0.6:
            got = g.read(cache, oid, index, None)
            wanted = put.get((oid, index), 0)
            g.expect(got in (0, wanted), "stale", f"pool {CACHE} {describe(oid, index)}",
                     f"version {got} came back, {wanted} was put last (0: no page)")
        elif what < 0.97:
            put[oid, index] = _put(g, cache, oid, index)
        elif what < 0.999:
            g.flush(cache, oid, index)
            put[oid, index] = 0
        else:
            g.flush_object(cache, oid)
            put = {handle: version for handle, version in put.items() if handle[0] != oid}
    for oid, index in held:
        back += _read_kept(g, keep, oid, index, held)
    g.facts.update(kept_back=back)


def _put(g: Guest, pool, oid, index) -> int:
    version = g.fresh()
    length = g.rng.randint(MIN_BYTES, g.plan.page_size) if g.rng.random() < g.settings["short"] else 0
    g.expect(g.put(pool, oid, index, version, length), "refused", f"pool {pool.name} {describe(oid, index)}",
             "a put was refused, and there are ephemeral pages to evict")
    return version


def _read_kept(g: Guest, pool, oid, index, held) -> bool:
    got, wanted = g.read(pool, oid, index, None), held.get((oid, index), 0)
    g.expect(got == wanted, "lost" if not got else "stale", f"pool {KEEP} {describe(oid, index)}",
             f"version {got} came back, {wanted} was put last (0: no page)")
    return bool(got)


def verdict(run) -> None:
    cache = run.eng.stats()["pools"][CACHE]
    gets = cache["gets_hit"] + cache["gets_miss"]
    run.facts.update(evicted=cache["evicted"], hits_percent=round(100 * cache["gets_hit"] / max(1, gets), 1))

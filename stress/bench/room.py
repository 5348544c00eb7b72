"""Owns two questions about many pages: how much memory a store takes for them, and what many small
objects cost us.

Calls `rounds`, the peers and `engine`.
"""
from __future__ import annotations

import os
import random
from contextlib import ExitStack
from statistics import median

import engine
from stress.bench import rounds as shared
from stress.bench.contest import walk
from stress.bench.peers import RAW, all_peers
from stress.bench.peers.base import Place
from stress.bench.peers.own.ours import buckets_for

MEMORY_PAGES = 50_000
SMALL_OBJECTS = 100_000
LARGE_OBJECTS = 100
STEPS = 4000


def memory(names: list[str], smoke: bool) -> dict:
    """Bytes each store takes for so many pages of random content, one store at a time."""
    pages = 500 if smoke else MEMORY_PAGES
    found: dict[str, dict] = {}
    absent: dict[str, str] = {}
    rng = random.Random(1)
    for name in names:
        kind = all_peers()[name]
        if name == RAW or kind.absent() or pages > kind.pages_max:
            continue
        with ExitStack() as stack:
            try:
                peer = shared.open_peer(stack, kind, pages, shared.PAGE * pages)
                peer.fill((number, rng.randbytes(shared.PAGE)) for number in range(pages))
                taken = peer.memory()
            except Exception as error:      # as in `open_peers`
                absent[name] = f"failed: {type(error).__name__}: {error}"
                continue
        found[name] = {"bytes": taken, "times_content": round(taken / (pages * shared.PAGE), 3)}
    return {"pages": pages, "stores": found, "absent": absent}


def small_objects(rounds: int, seed: int, smoke: bool) -> dict:
    """The same number of pages, one to an object against a thousand to an object, in two pools of
    one arena."""
    small, large = (1000, 10) if smoke else (SMALL_OBJECTS, LARGE_OBJECTS)
    each = small // large
    rng = random.Random(seed)
    page = os.urandom(shared.PAGE)
    with ExitStack() as stack:
        stack.enter_context(shared.one_core())
        place = Place.make(stack)
        eng = engine.create(
            place.name, capacity=int(2.2 * small * shared.PAGE) + small * 1024 + (64 << 20), buckets=buckets_for(small)
        )
        stack.callback(engine.unlink, place.name)
        stack.callback(eng.close)
        pools = {kind: eng.new_pool(kind, persistent=True, shared=True) for kind in ("small", "large")}
        # Made anew for each walk: the arguments of both lie in memory in the order in which they
        # are used.
        handle = {
            "small": lambda number: (engine.oid(number), 0),
            "large": lambda number: (engine.oid(number // each), number % each),
        }
        times: dict[str, dict[str, list[float]]] = {
            case: {"small": [], "large": []} for case in ("put new", "put over", "get hit")
        }
        for kind, pool in pools.items():
            times["put new"][kind].append(walk([(pool.put, (*handle[kind](number), page)) for number in range(small)]))
        steps = min(STEPS, small)
        for turn in range(rounds + 1):
            for kind in rng.sample(sorted(pools), 2):
                pool, chosen = pools[kind], rng.choices(range(small), k=steps)
                put = walk([(pool.put, (*handle[kind](number), page)) for number in chosen])
                get = walk([(pool.get, handle[kind](number)) for number in chosen])
                if turn:
                    times["put over"][kind].append(put)
                    times["get hit"][kind].append(get)
    return {"small_objects": small, "large_objects": large, "cases": {case: {
        kind: shared.figures(found) for kind, found in both.items()} | {"ratio": round(median(
            a / b for a, b in zip(both["small"], both["large"], strict=True)), 3)} for case, both in times.items()}}

"""Owns the measurement of far tiers on servers: what a far page costs, against the client library's
own gets and sets of as many bytes. `make bench-far-servers ARGS=TARGET` runs it; the servers are
the caller's.

What is compared is measured in turns, in one run, and the median of each is told.
"""
import argparse
import os
import random
import statistics
import time
from typing import Any

import engine
from engine.far.client import connect
from engine.far.target import target_of

PAGE = 4096
AN_OBJECT = 64
TURNS = 7
CAPACITY = 16 << 20
NAME = "bench-far-servers"
GETS = 400


def timed(call: Any, times: int) -> tuple[float, float]:
    """Microseconds a call takes, and those of processor time of this process."""
    cpu, began = time.process_time(), time.perf_counter()
    for i in range(times):
        call(i)
    return (time.perf_counter() - began) / times * 1e6, (time.process_time() - cpu) / times * 1e6


def told(what: str, mine: list[tuple[float, float]], other: list[tuple[float, float]], goal: str) -> None:
    one, two = (tuple(map(statistics.median, zip(*times, strict=True))) for times in (mine, other))
    print(f"{what:52} {one[0]:8.1f} {two[0]:8.1f} {one[0] / two[0]:6.2f}   cpu {one[1]:6.1f} {two[1]:6.1f}   {goal}")


def library(target: str) -> tuple[Any, Any, Any]:
    """The library's own get, its batch of gets and its batch of sets, by its own way through a
    cluster."""
    client: Any = connect(target_of(target))
    if hasattr(client, "clients"):      # GLIDE
        import glide_sync
        own = client.cluster if client.cluster is not None else client.clients[client.address]
        kind = glide_sync.ClusterBatch if client.cluster is not None else glide_sync.Batch

        def batch(commands: Any) -> Any:
            made = kind(False)
            for command in commands:
                made.custom_command(list(command))
            return own.exec(made, True)
    else:
        own = client.cluster if client.cluster is not None else client.server

        def batch(commands: Any) -> Any:
            with own.pipeline() if client.cluster is not None else own.pipeline(transaction=False) as pipe:
                for command in commands:
                    pipe.execute_command(*command)
                return pipe.execute()
    return (own.get, lambda keys: batch([("GET", key) for key in keys]),
            lambda keys, value: batch([("SET", key, value, "PX", "60000") for key in keys]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("target", help="servers, as in far=")
    target = parser.parse_args().target
    get, get_batch, set_batch = library(target)
    keys = [b"tmem:bench:%d" % n for n in range(1024)]
    value = os.urandom(PAGE)
    for first in range(0, len(keys), AN_OBJECT):
        set_batch(keys[first:first + AN_OBJECT], value)
    rnd = random.Random(1)
    with engine.create(NAME, CAPACITY, exist_ok=False) as eng:
        try:
            pool = eng.new_pool("far", far=target, localify=False)
            far = 2 * CAPACITY // PAGE // AN_OBJECT * AN_OBJECT
            for n in range(far * 2):
                pool.put((n // AN_OBJECT, 0, 0), n % AN_OBJECT, n.to_bytes(8, "little") + value[8:])
                if n % AN_OBJECT == AN_OBJECT - 1:
                    eng.spill()
            single: tuple[list[Any], list[Any]] = ([], [])
            many: tuple[list[Any], list[Any]] = ([], [])
            spills: tuple[list[Any], list[Any]] = ([], [])
            at = far * 2
            for _ in range(TURNS):
                single[1].append(timed(lambda _: get(rnd.choice(keys)), GETS))
                single[0].append(timed(
                    lambda i: pool.get((rnd.randrange(far // AN_OBJECT), 0, 0), i % AN_OBJECT), GETS))
                many[1].append(tuple(t / AN_OBJECT for t in timed(
                    lambda i: get_batch(keys[i % 16 * AN_OBJECT:][:AN_OBJECT]), 20)))
                many[0].append(tuple(t / AN_OBJECT for t in timed(
                    lambda _: pool.get_many([((n // AN_OBJECT, 0, 0), n % AN_OBJECT)
                                             for n in rnd.sample(range(far), AN_OBJECT)]), 20)))
                spills[1].append(tuple(t / AN_OBJECT for t in timed(
                    lambda i: set_batch(keys[i % 16 * AN_OBJECT:][:AN_OBJECT], value), 10)))
                for n in range(at, at + 512):
                    pool.put((n // AN_OBJECT, 0, 0), n % AN_OBJECT, n.to_bytes(8, "little") + value[8:])
                at += 512
                cpu, began = time.process_time(), time.perf_counter()
                done = eng.spill()
                if done:
                    spills[0].append(((time.perf_counter() - began) / done * 1e6,
                                      (time.process_time() - cpu) / done * 1e6))
            told("get of a far page, GET of the library: us", *single, "<= 1.15")
            told("get_many of 64 far pages, 64 GETs: us a page", *many, "<= 1.25")
            told("spill, 64 SETs: us a page", *spills, "<= 1.3")
            said = eng.stats()["pools"]["far"]
            print(f"far pages {said['far_pages']}, hits {said['far_hits']}, gone {said['far_misses_gone']}, "
                  f"unanswered {said['far_failed']}")
        finally:
            engine.unlink(NAME)


if __name__ == "__main__":
    main()

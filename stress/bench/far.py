"""Owns the measurement of far tiers: what a far page costs, against the disk itself and against a
pool without a tier. `make bench-far` runs it; the folder of the file is an argument.

What is compared is measured in turns, in one run, and the median of each is told.
"""
import argparse
import mmap
import os
import random
import statistics
import time
from pathlib import Path
from typing import Any

import engine

PAGE = 4096
AN_OBJECT = 64
TURNS = 7
SPILLS = 8              # of a turn
CAPACITY = 64 << 20
PUTS = 40000            # into the full arena
NAME = "bench-far"


def timed(call: Any, times: int) -> float:
    """Microseconds a call takes."""
    began = time.perf_counter()
    for i in range(times):
        call(i)
    return (time.perf_counter() - began) / times * 1e6


def middle(call: Any, times: int) -> float:
    """The same, of the median call: a disk that others use has a long tail."""
    return statistics.median(timed(lambda _, i=i: call(i), 1) for i in range(times))


def page(n: int) -> bytes:
    """A page that is like no other."""
    return n.to_bytes(8, "little") + os.urandom(56) + bytes(PAGE - 64)


def put(pool: Any, n: int) -> None:
    pool.put((n // AN_OBJECT, 0, 0), n % AN_OBJECT, page(n))


def filled(eng: Any, name: str, pages: int, **how: Any) -> Any:
    """A pool of so many pages, spilled as they come."""
    pool = eng.new_pool(name, **how)
    for n in range(pages):
        put(pool, n)
        if how and n % 512 == 511:
            eng.spill()
    return pool


def raw_reads(path: Path, size: int) -> Any:
    """A call that reads a random page of the first part of a file past the page cache."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECT)
    room = memoryview(mmap.mmap(-1, PAGE))
    pages = size // PAGE
    rnd = random.Random(1)
    return lambda i: os.preadv(fd, [room], rnd.randrange(pages) * PAGE)


def raw_appends(path: Path) -> Any:
    """A call that appends 64 pages to a file that has its memory already, past the page cache."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_DIRECT)
    os.posix_fallocate(fd, 0, 256 << 20)
    room = memoryview(mmap.mmap(-1, 64 * PAGE))
    room[:] = os.urandom(64 * PAGE)
    batches = os.path.getsize(path) // (64 * PAGE)
    return lambda i: os.pwritev(fd, [room], i % batches * 64 * PAGE)


def told(what: str, mine: list[float], other: list[float], goal: str) -> None:
    one, two = statistics.median(mine), statistics.median(other)
    print(f"{what:58} {one:9.2f} {two:9.2f} {one / two:7.2f}   {goal}")


def gets_and_spills(folder: Path) -> None:
    """Far gets and spills, against the disk."""
    path = folder / NAME
    with engine.create(NAME, CAPACITY, exist_ok=False) as eng:
        try:
            pages = CAPACITY // PAGE * 2
            pool = filled(eng, "far", pages, far=f"file://{path}?size=512MiB", localify=False)
            read = raw_reads(path, CAPACITY // 2)
            append = raw_appends(folder / f"{NAME}-append")
            at = 0
            rnd = random.Random(2)
            far = pages // 3        # what was put first is far
            mine, other, spills, appends = [], [], [], []
            together: list[float] = []
            scattered: list[float] = []
            for _ in range(TURNS):
                other.append(middle(read, 1000))
                mine.append(middle(lambda i: pool.get((rnd.randrange(far) // AN_OBJECT, 0, 0), i % AN_OBJECT), 1000))
                together.append(middle(lambda i: pool.object((rnd.randrange(far // AN_OBJECT), 0, 0)).get_many(
                    range(AN_OBJECT)), 100) / AN_OBJECT)
                scattered.append(middle(lambda i: pool.get_many(
                    [((rnd.randrange(far) // AN_OBJECT, 0, 0), i % AN_OBJECT) for _ in range(64)]), 50) / 64)
                appends.append(timed(lambda i, at=at: append(at + i), 64) / 64)
                at += 64
                # Several, as of a spiller at work: the first one after many reads is slower.
                for _ in range(SPILLS):
                    for n in range(pages, pages + 1024):
                        put(pool, n)
                    pages += 1024
                    began = time.perf_counter()
                    done = eng.spill()
                    if done:
                        spills.append((time.perf_counter() - began) / done * 1e6)
            told("get of a far page, random read of 4 KiB: us", mine, other, "<= 1.2")
            told("get_many of 64 far pages of an object, get: us a page", together, mine, "<= 0.2")
            told("get_many of 64 far pages anywhere, get: us a page", scattered, mine, "")
            told("append of 64 pages, spill: us a page", appends, spills, ">= 0.8")
            stats = eng.stats()["pools"]["far"]
            print(f"far pages {stats['far_pages']}, hits {stats['far_hits']}, wrong sums {stats['checksum_bad']}")
            chunks = stats["far_pages"] * 64 + stats["far_pages"] / AN_OBJECT * (128 + 576)
            print(f"{'descriptor, node and obj of a far page: bytes':58} {chunks / stats['far_pages']:9.1f}")
        finally:
            engine.unlink(NAME)
            for name in (NAME, f"{NAME}-append"):
                (folder / name).unlink(missing_ok=True)


def tend(name: str) -> None:
    """The spiller: a process of its own, ended with its parent's arena."""
    eng = engine.attach(name)
    while True:
        if eng.spill() == 0:
            time.sleep(0.002)


def putter(folder: Path) -> None:
    """Who puts into a full arena, with a spiller at work and without a tier."""
    rates: dict[str, list[float]] = {"far": [], "none": []}
    own: dict[str, list[float]] = {"far": [], "none": []}
    spilled = stale = 0
    for turn in range(TURNS):
        for kind in ("far", "none"):
            eng = engine.create(NAME, CAPACITY)
            path = folder / NAME
            try:
                far = f"file://{path}?size=512MiB" if kind == "far" else None
                pool = eng.new_pool("p", far=far)
                pages = [page(n) for n in range(256)]
                crew = eng.spawn(1, tend, NAME) if kind == "far" else None
                for n in range(CAPACITY // PAGE):
                    put(pool, n)
                began = time.thread_time()
                rates[kind].append(1 / timed(
                    lambda i, pool=pool, pages=pages, turn=turn:
                    pool.put(((i + turn) // AN_OBJECT + 10**6, 0, 0), i % AN_OBJECT, pages[i & 255]), PUTS))
                own[kind].append(PUTS / (time.thread_time() - began) / 1e6)
                if crew is not None:
                    stats = eng.stats()["pools"]["p"]
                    spilled += stats["spilled"]
                    stale += stats["far_stale_swaps"]
                    crew.terminate()
                    crew.join()
            finally:
                eng.close()
                engine.unlink(NAME)
                path.unlink(missing_ok=True)
    told("puts into a full arena: far, none: a us", rates["far"], rates["none"], ">= 0.95")
    told("the same of the putter's processor time", own["far"], own["none"], ">= 0.95")
    print(f"pages that became far meanwhile: {spilled / TURNS:.0f} of {PUTS} put, in vain {stale / TURNS:.0f}")


def local(folder: Path) -> None:
    """Gets and puts over, of a pool with a tier and of one without, where nothing is far."""
    with engine.create(NAME, CAPACITY) as eng:
        try:
            pools = {
                "far": filled(eng, "far", 1024, far=f"file://{folder / NAME}?size=64MiB"),
                "none": filled(eng, "none", 1024),
            }
            data = page(1)
            batch = [((n * 7 % 1024 // AN_OBJECT, 0, 0), n * 7 % AN_OBJECT) for n in range(256)]
            for what, act in (
                ("get_many of 256", lambda pool: timed(lambda i: pool.get_many(batch), 100)),
                ("get", lambda pool: timed(lambda i: pool.get((i % 1024 // AN_OBJECT, 0, 0), i % AN_OBJECT), 20000)),
                ("put over", lambda pool: timed(
                    lambda i: pool.put((i % 1024 // AN_OBJECT, 0, 0), i % AN_OBJECT, data), 20000)),
            ):
                found: dict[str, list[float]] = {"far": [], "none": []}
                for turn in range(3 * TURNS):
                    for kind in ("far", "none") if turn % 2 else ("none", "far"):
                        found[kind].append(act(pools[kind]))
                told(f"{what}, nothing far: with a tier, without: us", found["far"], found["none"], "<= 1.02")
        finally:
            engine.unlink(NAME)
            (folder / NAME).unlink(missing_ok=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="a folder of the disk that is measured")
    folder = parser.parse_args().folder.resolve()
    local(folder)
    gets_and_spills(folder)
    putter(folder)


if __name__ == "__main__":
    main()

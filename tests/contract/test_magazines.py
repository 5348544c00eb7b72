"""Owns what workers may keep from each other in their magazines: docs/caveats.md, "Capacity is not
all it takes"."""
import os
import random
import struct

import pytest

import engine
from shm.segments import sizes
from tests.hostile import structs
from tests.support import SHM

PAGE = 4096
# By class; that of extents has none.
CHUNKS = {cls: size for cls, size in enumerate(sizes()) if size}
NOISE = os.urandom(2 * PAGE)


def magazines(name, workers):
    """Chunks in the magazines, by worker and class."""
    with open(SHM / name, "rb") as file:
        where = structs.Map(file.read(4096))
        found = []
        for worker in range(workers):
            found.append([])
            for cls in CHUNKS:
                file.seek(where.slot(worker) + structs.offset("Slot", "mags") + cls * structs.SIZES["Magazine"])
                found[-1] += struct.unpack("<Q", file.read(8))
    return found


def put_pages(pools, count, rng):
    """Pages of all lengths, in turns; each is taken."""
    for n in range(count):
        for worker, pool in enumerate(pools):
            at = rng.randrange(PAGE)
            assert pool.put((worker, n // 64, rng.randrange(4)), n, NOISE[at:at + rng.randint(65, PAGE)])


@pytest.mark.parametrize("workers", [2, 8, 16, 64])
def test_what_workers_keep_in_a_full_arena(make_arena, workers):
    eng = make_arena(capacity="8MiB", page_size=PAGE, max_workers=64, buckets=16)
    eng.new_pool("p")
    others = [engine.attach(eng.name) for _ in range(workers - 1)]
    try:
        pools = [each.pool("p") for each in (eng, *others)]
        rng = random.Random(workers)
        put_pages(pools, max(12_000 // workers, 1000), rng)
        kept = magazines(eng.name, workers)
        for cls, size in enumerate(CHUNKS.values()):
            batch = max(1, eng.capacity // (64 * max(8, workers) * size))
            counts = [worker[cls] for worker in kept]
            assert max(counts) <= 2 * min(batch, 32), f"{size} bytes: {counts}"
        bytes_kept = sum(size * worker[cls] for worker in kept for cls, size in enumerate(CHUNKS.values()))
        assert bytes_kept < eng.capacity * 0.3
        assert eng.stats()["pools"]["p"]["bytes_used"] > eng.capacity * 0.4
        assert eng.check().ok
    finally:
        for each in others:
            each.close()


def test_who_is_idle_does_not_keep_what_was_little_when_there_was_plenty(make_arena):
    """Workers that have put once, while there was memory, have batches of that time; who goes on
    brings them down."""
    workers = 32
    eng = make_arena(capacity="16MiB", page_size=PAGE, max_workers=workers, buckets=16)
    pool = eng.new_pool("p")
    others = [engine.attach(eng.name) for _ in range(workers - 1)]
    try:
        for worker, each in enumerate(others):
            mine, oid = each.pool("p"), (worker, 0, 9)
            for length in range(64, 1024, 64):
                assert mine.put(oid, length, NOISE[:length]) and mine.flush_page(oid, length)
        before = magazines(eng.name, workers)
        put_pages([pool], 40_000, random.Random(1))
        after = magazines(eng.name, workers)
        least = [max(1, eng.capacity // (64 * workers * size)) for size in CHUNKS.values()]
        too_many = [[kept > 2 * batch for kept, batch in zip(worker, least, strict=True)] for worker in before[1:]]
        assert all(map(any, too_many))
        assert not any(kept > 2 * batch for worker in after for kept, batch in zip(worker, least, strict=True))
        assert eng.check().ok
    finally:
        for each in others:
            each.close()

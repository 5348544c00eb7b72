"""Owns check(repair=True): what objects can tell is put right, what cannot is dropped whole and
named, nothing is guessed."""
import os
import random
import struct
from pathlib import Path

import pytest

import engine
from tests.crash.killing import HUGE, Scene, nothing

SHM = Path("/dev/shm")


def extents(fd):
    """(start, end) of every part of the file that has memory."""
    found, at = [], 0
    while True:
        try:
            start = os.lseek(fd, at, os.SEEK_DATA)
            at = os.lseek(fd, start, os.SEEK_HOLE)
        except OSError:
            return found
        found.append((start, at))


def damage(name, rnd):
    """Overwrite one to five words anywhere behind the header."""
    fd = os.open(SHM / name, os.O_RDWR)
    try:
        parts = extents(fd)
        for _ in range(rnd.randrange(1, 6)):
            start, end = rnd.choice(parts)
            at = rnd.randrange(max(start, 4096), end) & ~7
            word = int.from_bytes(os.pread(fd, 8, at), "little")
            new = rnd.choice((word ^ 1 << rnd.randrange(64), rnd.getrandbits(64), 0, word + 64)) & (2**64 - 1)
            os.pwrite(fd, new.to_bytes(8, "little"), at)
    finally:
        os.close(fd)


def test_a_sound_arena_is_left_alone(eng):
    pool = eng.new_pool("p", persistent=True)
    assert pool.put((1, 0, 0), 5, b"page")
    report = eng.check(repair=True)
    assert report.ok and not report.repaired and not report.lost
    assert pool.get((1, 0, 0), 5) == b"page"


@pytest.mark.parametrize("seed", range(6))
def test_every_damaged_arena_is_sound_after_a_repair(arena_name, seed):
    """After any damage: check is clean, the arena works, and a page that is gone from where it was
    put was reported."""
    rnd = random.Random(seed)
    for _ in range(40):
        with engine.create(arena_name, "2MiB", max_workers=4, max_pools=4, buckets=4) as eng:
            pool = eng.new_pool("p", persistent=True)
            for _ in range(60):
                pool.put(
                    (rnd.randrange(12), 0, 0),
                    rnd.choice((rnd.randrange(4), rnd.randrange(500))),
                    rnd.randbytes(rnd.randrange(1, 999)),
                )
            damage(arena_name, rnd)
            report = eng.check(repair=True)
            assert report.ok, [str(problem) for problem in report.problems[:3]]
            assert eng.check().ok
            for again in eng.pools():
                assert again.put((99, 0, 0), 7, b"new")
                assert again.get((99, 0, 0), 7) == b"new"
            assert eng.check().ok
        engine.unlink(arena_name)


def damage_page(pool, oid, index):
    """Take a page's sentinel away: its object, and no other, has to go."""
    chunk, generation = pool.descriptor(oid, index)
    fd = os.open(SHM / pool.engine.name, os.O_RDWR)
    try:
        start = next(at for first, last in extents(fd) for at in range(first, last, 64)
                     if os.pread(fd, 64, at)[32:40] == chunk.to_bytes(8, "little")
                     and os.pread(fd, 64, at)[48:56] == generation.to_bytes(8, "little"))
        os.pwrite(fd, bytes(8), start)
    finally:
        os.close(fd)


def test_a_repair_that_is_killed_is_done_by_the_next(arena_name):
    with Scene(arena_name) as scene:
        damage_page(scene.p, (1, 0, 0), 7)
        points = scene.die_in(nothing, lambda e: e.check(repair=True), HUGE)
        assert scene.engine.check().ok
        want = scene.state()
    assert points > 50 and ("p", 0) in want and ("p", 1) not in want
    for point in range(1, points + 1):
        with Scene(arena_name) as scene:
            damage_page(scene.p, (1, 0, 0), 7)
            assert scene.die_in(nothing, lambda e: e.check(repair=True), point) is None
            assert scene.engine.check(repair=True).ok
            assert scene.state() == want, f"point {point} of {points}"
    print(f"repair: {points} kill points")


def test_readers_without_a_lock_are_told(arena_name):
    """What they have begun to read may be given away by a repair: the sequence word of every bucket
    changes, and is even in the end."""
    with engine.create(arena_name, "1MiB", max_workers=2, max_pools=1, buckets=1) as eng:
        pool = eng.new_pool("p", persistent=True)
        oid = (0x1122334455667788, 2, 3)
        assert pool.put(oid, 0, b"a" * 100) and pool.put((4, 5, 6), 0, b"b")
        assert pool.flush_object((4, 5, 6))             # the one that is left is the root
        fd = os.open(SHM / arena_name, os.O_RDWR)
        try:
            lines = {
                at: struct.unpack("<8Q", os.pread(fd, 64, at))
                for first, last in extents(fd)
                for at in range(first, last, 64)
            }
            obj = next(at for at, words in lines.items() if words[2:5] == oid)
            bucket = next(at for at, words in lines.items() if words[4] == obj and words[0] == 0)
            damage_page(pool, oid, 0)
            assert eng.check(repair=True).repaired
            after = struct.unpack("<8Q", os.pread(fd, 64, bucket))
        finally:
            os.close(fd)
        assert after[0] == 0 and after[1] > lines[bucket][1] and after[1] % 2 == 0 and after[4] == 0


def test_a_lost_page_is_named(arena_name):
    """A descriptor without its sentinel takes its object with it; both pages of the object are
    reported by handle."""
    with engine.create(arena_name, "1MiB", max_workers=2, max_pools=2) as eng:
        pool = eng.new_pool("p", persistent=True)
        assert (
            pool.put((1, 2, 3), 0, b"a" * 100) and pool.put((1, 2, 3), 9, b"b" * 100) and pool.put((4, 5, 6), 0, b"c")
        )
        damage_page(pool, (1, 2, 3), 9)
        assert not eng.check().ok
        with pytest.raises(engine.ArenaCorrupted):
            pool.get((1, 2, 3), 9)
        report = eng.check(repair=True)
        assert report.ok and report.repaired
        assert ("p", (1, 2, 3), 0) in report.lost
        assert pool.get((4, 5, 6), 0) == b"c"
        assert pool.get((1, 2, 3), 0) is None and pool.obj_count == 1
    engine.unlink(arena_name)

"""Owns check(repair=True): what objects can tell is put right, what cannot is dropped whole and
named, nothing is guessed."""
import os
import random
import struct
from pathlib import Path

import pytest

import engine
from tests.crash.killing import HUGE, Scene, nothing
from tests.crash.test_kill_points import visited
from tests.hostile.structs import CONSTANTS, Map, offset

SHM = Path("/dev/shm")
SEGMENT = 1 << 16


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


def redirect(pool, oid, index, to):
    """Let a page name another chunk than its own: what `to` answers for what it names."""
    chunk, generation = pool.descriptor(oid, index)
    fd = os.open(SHM / pool.engine.name, os.O_RDWR)
    try:
        start = next(
            at
            for first, last in extents(fd)
            for at in range(first, last, 64)
            if struct.unpack("<8Q", os.pread(fd, 64, at))[4:7:2] == (chunk, generation)
        )
        os.pwrite(fd, struct.pack("<Q", to(chunk)), start + offset("Pampd", "data"))
    finally:
        os.close(fd)


def beside_one_wrong(arena_name, length, to):
    """An arena with two objects, one of pages of `length` bytes, and the other, which is met first,
    of one page of 3000 bytes that is redirected: the pages of each afterwards, and what was
    reported as lost."""
    with engine.create(arena_name, "2MiB", max_workers=2, max_pools=2, buckets=1) as eng:
        pool = eng.new_pool("p", persistent=True)
        assert pool.put((1, 0, 0), 0, b"w" * 3000)
        for i in range(4):
            assert pool.put((2, 0, 0), i, bytes([i + 1]) * length)
        redirect(pool, (1, 0, 0), 0, lambda chunk: to(pool, chunk))
        report = eng.check(repair=True)
        assert report.ok and report.repaired
        pages = [pool.get((2, 0, 0), i) for i in range(4)]
        wrong = pool.get((1, 0, 0), 0)
    engine.unlink(arena_name)
    assert wrong is None and report.lost == [("p", (1, 0, 0), 0)]
    assert pages == [bytes([i + 1]) * length for i in range(4)]


def test_a_page_that_is_wrong_gives_no_segment_another_class(arena_name):
    """What most of its chunks say is its class: one that is wrong takes no sound object with it."""
    def to(pool, chunk):
        return pool.descriptor((2, 0, 0), 0)[0] // SEGMENT * SEGMENT + chunk % SEGMENT
    beside_one_wrong(arena_name, 300, to)


def test_a_chunk_that_two_pages_name_stays_with_the_one_whose_link_agrees(arena_name):
    beside_one_wrong(arena_name, 3000, lambda pool, _: pool.descriptor((2, 0, 0), 2)[0])


def test_a_page_that_two_objects_name_stays_with_the_one_that_it_names(arena_name):
    """The link of the object that is met first leads to another's page of the same index."""
    with engine.create(arena_name, "2MiB", max_workers=2, max_pools=2, buckets=1) as eng:
        pool = eng.new_pool("p", persistent=True)
        oids = (0x1122334455667788, 2, 3), (0x99AABBCCDDEEFF00, 5, 6)
        for i, oid in enumerate(oids):
            assert pool.put(oid, 0, bytes([i + 1]) * 3000)
        fd = os.open(SHM / arena_name, os.O_RDWR)
        try:
            objs = {
                struct.unpack("<3Q", os.pread(fd, 24, at + offset("Obj", "oid"))): at
                for first, last in extents(fd)
                for at in range(first, last, 64)
                if struct.unpack("<I", os.pread(fd, 4, at))[0] == CONSTANTS["LEAN_SENTINEL"]
            }
            first, second = (objs[oid] + offset("Obj", "link") for oid in oids)
            os.pwrite(fd, os.pread(fd, 8, second), first)
        finally:
            os.close(fd)
        report = eng.check(repair=True)
        assert report.ok and report.repaired
        assert pool.get(oids[1], 0) == b"\2" * 3000 and pool.get(oids[0], 0) is None
        assert [oid for _, oid, _ in report.lost if oid is not None] == [oids[0]]
    engine.unlink(arena_name)


@pytest.mark.small
def test_a_repair_that_is_killed_is_done_by_the_next(arena_name):
    with Scene(arena_name) as scene:
        damage_page(scene.p, (1, 0, 0), 7)
        points = scene.die_in(nothing, lambda e: e.check(repair=True), HUGE)
        assert scene.engine.check().ok
        want = scene.state()
    assert points > 50 and ("p", 0) in want and ("p", 1) not in want
    chosen = visited(points, 60, "repair")
    for point in chosen:
        with Scene(arena_name) as scene:
            damage_page(scene.p, (1, 0, 0), 7)
            assert scene.die_in(nothing, lambda e: e.check(repair=True), point) is None
            assert scene.engine.check(repair=True).ok
            assert scene.state() == want, f"point {point} of {points}"
    print(f"repair: {len(chosen)} of {points} kill points")


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


# --- long pages -----------------------------------------------------------------------------------

LONG = (100, 70_000, 200_000, 65_537, 3000, 140_000)


def long_page(n):
    return random.Random(n).randbytes(LONG[n % len(LONG)])


def with_long_pages(name):
    eng = engine.create(name, "4MiB", page_size=4096, max_workers=4, max_pools=4, buckets=4)
    pool = eng.new_pool("p", persistent=True, page_size="1MiB")
    for n in range(12):
        assert pool.put((n % 4, 0, 0), n, long_page(n))
    return eng, pool


def segments_of(name):
    """(offset, class) of the descriptors of all segments that were ever used."""
    raw = (SHM / name).read_bytes()
    places = Map(raw[:4096])
    high, = struct.unpack_from("<Q", raw, places.depot + offset("Depot", "seg_high"))
    return [(at, struct.unpack_from("<Q", raw, at + offset("Segment", "cls"))[0])
            for at in map(places.segment, range(high))]


def overwrite(name, at, word):
    with open(SHM / name, "r+b") as file:
        file.seek(at)
        file.write(struct.pack("<Q", word & 2**64 - 1))


@pytest.mark.parametrize("what", ["bitmap", "free_count", "cls", "state", "wanted", "next", "prev"])
def test_what_is_wrong_with_segments_costs_no_long_page(arena_name, what):
    """Which granules are in use is told by the pages."""
    rnd = random.Random(what)
    for _ in range(12 if os.environ.get("EVERY_POINT") else 4):
        eng, pool = with_long_pages(arena_name)
        with eng:
            for at, cls in segments_of(arena_name):
                if rnd.random() < 0.5 and cls == CONSTANTS["EXTENT_CLASS"] + 1:
                    word = rnd.choice((0, 1, 2**64 - 1, rnd.getrandbits(64), rnd.randrange(70)))
                    overwrite(arena_name, at + offset("Segment", what), word)
            assert eng.check(repair=True).ok and eng.check().ok
            assert all(pool.get((n % 4, 0, 0), n) == long_page(n) for n in range(12))
            assert pool.put((9, 0, 0), 0, long_page(2) * 4) and pool.get((9, 0, 0), 0) == long_page(2) * 4
            pool.destroy()
            again = eng.new_pool("q", persistent=True, page_size="4MiB")
            assert again.put((1, 0, 0), 0, long_page(2) * 17) and eng.check().ok
        engine.unlink(arena_name)


def descriptor_at(raw, chunk, generation):
    """Where the descriptor of a page lies."""
    sentinel = struct.pack("<Q", CONSTANTS["PAMPD_SENTINEL"])
    at = raw.find(sentinel)
    while at % 64 or struct.unpack_from("<8Q", raw, at)[4:7:2] != (chunk, generation):
        at = raw.find(sentinel, at + 8)
        assert at >= 0
    return at


@pytest.mark.parametrize("field", ["data", "shape", "obj", "index", "sentinel", "gen"])
def test_a_long_page_that_is_wrong_costs_its_object_alone(arena_name, field):
    """Or that of the page behind it, if it says that it is longer: nothing tells who is right."""
    rnd = random.Random(field)
    for _ in range(12 if os.environ.get("EVERY_POINT") else 4):
        eng, pool = with_long_pages(arena_name)
        with eng:
            chunk, generation = pool.descriptor((1, 0, 0), 5)
            raw = (SHM / arena_name).read_bytes()
            other, _ = pool.descriptor((2, 0, 0), 2)
            at = descriptor_at(raw, chunk, generation)
            old, = struct.unpack_from("<Q", raw, at + offset("Pampd", field))
            word = rnd.choice((0, old + 64, old ^ 1 << rnd.randrange(64), other, rnd.getrandbits(64), old + 4096))
            overwrite(arena_name, at + offset("Pampd", field), word)
            report = eng.check(repair=True)
            assert report.ok, [str(problem) for problem in report.problems[:3]]
            assert eng.check().ok
            lost = {n for n in range(12) if pool.get((n % 4, 0, 0), n) != long_page(n)}
            assert {n % 4 for n in lost} <= ({1, 2} if word == other else {1, 3} if field == "shape" else {1}), word
            assert all(("p", (n % 4, 0, 0), n) in report.lost for n in lost if n != 5)
            pool.destroy()
            again = eng.new_pool("q", persistent=True, page_size="4MiB")
            assert again.put((1, 0, 0), 0, long_page(2) * 17) and eng.check().ok
        engine.unlink(arena_name)

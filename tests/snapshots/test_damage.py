"""A file that was damaged, cut, or written by somebody else is refused or right, and costs no more
memory than it has bytes; with partial=True what is whole comes, and it is told what is missing.
"""
import json
import os
import random
import re
import resource
import struct
from pathlib import Path

import pytest
from xxhash import xxh3_64_intdigest

import engine
from engine.snapshots import head as heads
from tests.snapshots.content import HEAD, MAGIC, OBJECT, PAGE, blocks_of, fill, seen, sound

EVERY = bool(os.environ.get("EVERY_POINT"))
COUNT = 20_000 if EVERY else 100


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """The bytes of a snapshot, and what was in the arena."""
    name = f"tmemtest-{os.getpid()}-damage-source"
    with engine.create(name, "32MiB", max_pools=32) as eng:
        try:
            fill(eng, pages=10)
            path = tmp_path_factory.mktemp("s") / "s"
            eng.save(path, ephemeral=True)
            return path.read_bytes(), seen(eng)
        finally:
            engine.unlink(name)


def attempt(tmp_path, name, data, **more):
    """What comes of these bytes: a Restored, or None if they were refused."""
    (tmp_path / "s").write_bytes(data)
    try:
        return engine.restore(tmp_path / "s", name, "32MiB", max_pools=32, **more)
    except (engine.TmemError, ValueError, TypeError) as error:
        assert str(error)
        assert not any(one.startswith(name) for one in os.listdir("/dev/shm"))
        return None


def some(places, most):
    """So many of the places, the first and the last among them; with EVERY_POINT all."""
    if EVERY or len(places) <= most:
        return places
    return [places[0], *random.Random(7).sample(places[1:-1], most - 2), places[-1]]


def mutated(data, rng):
    at = rng.randrange(len(data))
    kind = rng.randrange(7)
    made = bytearray(data)
    if kind == 0:
        made[at] ^= 1 << rng.randrange(8)
    elif kind == 1:
        made[at:at + rng.randrange(1, 100)] = rng.randbytes(rng.randrange(100))
    elif kind == 2:
        del made[at:]
    elif kind == 3:
        del made[at:at + rng.randrange(1, 5000)]
    elif kind == 4:
        made[at:at] = made[at - 1000:at]
    elif kind == 5:
        made[at & ~7:at & ~7] = rng.randbytes(8)
        del made[-8:]
    else:
        where = rng.choice(blocks_of(data))[0] + rng.randrange(HEAD)
        made[where] = rng.randrange(256)
    return bytes(made)


@pytest.mark.timeout(3600 if COUNT > 1000 else 120)
def test_mutated_files_are_refused_or_right(saved, tmp_path, arena_name):
    data, before = saved
    rng = random.Random(7)
    for n in range(COUNT):
        other = mutated(data, rng)
        partial = n % 3 == 0
        report = attempt(tmp_path, arena_name, other, partial=partial)
        if report is None:
            continue
        assert other == data or partial, n
        if n % 30 == 0 or not partial:
            with engine.attach(arena_name) as eng:
                after = seen(eng)
                for name, (described, pages) in after.items():
                    assert described == before[name][0]
                    whole = {key: value for key, value in pages.items() if key[1] != "info" and key[0][0] != 6004}
                    assert whole.items() <= before[name][1].items(), n
                if n % 90 == 0:
                    sound(eng)
        engine.unlink(arena_name)


def test_every_way_to_cut_it(saved, tmp_path, arena_name):
    data, before = saved
    blocks = blocks_of(data)
    cuts = [0, 1, 31, 32, 40, blocks[0][0]] + [at + more for at, _, length in blocks for more in
                                                (1, HEAD - 1, HEAD, HEAD + length - 1, HEAD + length)]
    for cut in some(cuts, 40):
        if cut < len(data):
            assert attempt(tmp_path, arena_name, data[:cut]) is None, cut
            report = attempt(tmp_path, arena_name, data[:cut], partial=True)
            assert (report is None) == (cut < blocks[0][0])
            if report is not None:
                assert report.missing >= 1
                engine.unlink(arena_name)
    assert attempt(tmp_path, arena_name, data + b"x") is None


def test_a_block_less(saved, tmp_path, arena_name):
    data, before = saved
    blocks = blocks_of(data)
    for at, _, length in some(blocks, 8):
        less = data[:at] + data[at + HEAD + length:]
        assert attempt(tmp_path, arena_name, less) is None
        report = attempt(tmp_path, arena_name, less, partial=True)
        assert report.missing >= 1          # pieces of a long page are of no use without the one that is missing
        with engine.attach(arena_name) as eng:
            sound(eng)
        engine.unlink(arena_name)
        twice = data[:at] + data[at:at + HEAD + length] + data[at:]
        assert attempt(tmp_path, arena_name, twice) is None


def test_a_damaged_block_is_one_that_is_missing(saved, tmp_path, arena_name):
    data, before = saved
    for at, kind, length in blocks_of(data):
        made = bytearray(data)
        made[at + HEAD + length // 2] ^= 1
        report = attempt(tmp_path, arena_name, bytes(made), partial=True)
        assert report.missing >= 1, kind
        engine.unlink(arena_name)


def test_one_of_another_format(saved, tmp_path, arena_name):
    made = bytearray(saved[0])
    struct.pack_into("<I", made, 8, 2)
    (tmp_path / "s").write_bytes(made)
    with pytest.raises(engine.SnapshotVersionMismatch, match="format 2"):
        engine.restore(tmp_path / "s", arena_name)


def test_what_a_later_version_adds_is_passed_over(saved, tmp_path, arena_name):
    data, before = saved
    said, id, rest = taken_apart(data)
    said["later"] = {"a": [1]}
    said["pools"][0]["later"] = 5
    report = attempt(tmp_path, arena_name, put_together(said, id, rest))
    assert report.missing == 0 and report.pools == len(said["pools"])


# --- written by somebody who knows how to sum -----------------------------------------------------


def taken_apart(data):
    size, id = struct.unpack_from("<IQ", data, 12)
    return json.loads(data[32:32 + size]), id, data[32 + size:]


def put_together(said, id, rest):
    text = said if isinstance(said, bytes) else json.dumps(said).encode()
    start = heads.START.pack(heads.MAGIC, 1, len(text), id, 0)[:24]
    return start + struct.pack("<Q", xxh3_64_intdigest(start + text, id)) + text + rest


def block(id, number, kind, inside, pool=0, heat=0):
    rest = struct.pack("<QIIIIQ", number, kind, len(inside), pool, heat, 0) + inside
    return MAGIC + struct.pack("<Q", xxh3_64_intdigest(rest, id)) + rest


def obj(oid, *pages, notes=3, expires=0, count=None):
    return OBJECT.pack(*oid, expires, len(pages) if count is None else count, notes) + b"".join(pages)


def page(index, data, length=None, stored=None, offset=0, how=0, notes=0, hits=0, version=1, piece=None):
    made = PAGE.pack(index, version, len(data) if length is None else length, len(data) if stored is None else stored,
                     offset, len(data) if piece is None else piece, how, notes, hits)
    return made + data + bytes(-len(data) % 8)


def written(saved, *insides, pool=0, pam="raw", persistent=True, **more):
    """A snapshot of one pool with these blocks."""
    said, id, _ = taken_apart(saved[0])
    one = said["pools"][0] | {"pam": pam, "persistent": persistent, "name": "p", "bytes": 1, **more}
    said = said | {"pools": [one]}
    blocks = [block(id, n, 1, inside, pool) for n, inside in enumerate(insides)]
    return put_together(said, id, b"".join([*blocks, block(id, len(blocks), 3, b"{}")]))


HUGE = 1 << 30
ODD = {
    "an object that is cut": [obj((1, 0, 0))[:-1]],
    "a page that is cut": [obj((1, 0, 0), page(0, b"x"), count=2)],
    "more pages than there are": [obj((1, 0, 0), count=0xFFFFFFFF)],
    "a piece longer than the block": [obj((1, 0, 0), page(0, b"x" * 8, piece=HUGE, stored=HUGE, length=HUGE))],
    "a page longer than any": [obj((1, 0, 0), page(0, b"x" * 8, length=0xFFFFFFFF, stored=0xFFFFFFFF))],
    "a page longer than the pool's": [obj((1, 0, 0), page(3, b"x" * 5000))],
    "another length than stored": [obj((1, 0, 0), page(0, b"x" * 8, length=9))],
    "no way to lie": [obj((1, 0, 0), page(0, b"x" * 8, how=9))],
    "a codec of another pool": [obj((1, 0, 0), page(0, b"x" * 8, how=2, length=100))],
    "a piece without a beginning": [obj((1, 0, 0), page(0, b"x" * 8, offset=8, stored=16, length=16))],
    "a piece of another page": [obj((1, 0, 0), page(0, b"x" * 8, stored=24, length=24), notes=1)
                                + obj((1, 0, 0), page(1, b"x" * 8, offset=8, stored=24, length=24), notes=0)],
    "a tail that ends nowhere": [obj((1, 0, 0), page(0, b"\xff" * 16, notes=1))],
    "a tail of no value": [obj((1, 0, 0), page(5, b"\0" * 16, notes=1))],
    "a word of another length": [obj((1, 0, 0), page(0, b"x" * 16, how=1, length=100))],
}


@pytest.mark.parametrize("what", ODD)
def test_a_block_that_says_what_cannot_be(saved, tmp_path, arena_name, what):
    data = written(saved, *ODD[what])
    assert attempt(tmp_path, arena_name, data) is None
    report = attempt(tmp_path, arena_name, data, partial=True)
    assert report.missing == 1
    with engine.attach(arena_name) as eng:
        sound(eng)


def test_an_object_that_did_not_begin(saved, tmp_path, arena_name):
    data = written(saved, obj((1, 0, 0), page(0, b"x"), notes=2))
    assert attempt(tmp_path, arena_name, data) is None
    assert attempt(tmp_path, arena_name, data, partial=True).pages == 1


def test_a_pool_that_is_not_in_the_list(saved, tmp_path, arena_name):
    assert attempt(tmp_path, arena_name, written(saved, obj((1, 0, 0), page(0, b"x")), pool=7)) is None


@pytest.mark.parametrize("pam", ["lz4", "zstd"])
def test_compressed_bytes_that_are_none_are_told_by_a_get(saved, tmp_path, arena_name, pam):
    data = written(saved, obj((1, 0, 0), page(0, os.urandom(900), length=4096, how=2 if pam == "lz4" else 3)), pam=pam)
    if attempt(tmp_path, arena_name, data) is not None:
        with engine.attach(arena_name) as eng:
            with pytest.raises(engine.ArenaCorrupted, match="decompress"):
                eng.pool("p").get((1, 0, 0), 0)
            sound(eng)


def test_a_length_costs_no_memory(saved, tmp_path, arena_name):
    data = int(re.search(r"VmData:\s+(\d+)", Path("/proc/self/status").read_text())[1]) * 1024
    limits = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (data + (100 << 20), limits[1]))
    try:
        _lengths(saved, tmp_path, arena_name)
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, limits)


def _lengths(saved, tmp_path, arena_name):
    # A gigabyte of one word, in 8 bytes: an ephemeral pool keeps it as such.
    word = obj((1, 0, 0), page(0, b"abcdefgh", how=1, length=HUGE))
    report = attempt(tmp_path, arena_name, written(saved, word, persistent=False, whole=True, dedup=False))
    assert report.pages == 1
    with engine.attach(arena_name) as eng:
        assert [info.length for info in eng.pool("p").objects()] == [HUGE]
    engine.unlink(arena_name)
    assert attempt(tmp_path, arena_name, written(saved, word)) is None      # it has no room in a persistent one
    # The beginning of a page that never comes.
    part = obj((1, 0, 0), page(0, b"x" * 1000, length=HUGE, stored=HUGE), notes=1)
    assert attempt(tmp_path, arena_name, written(saved, part)) is not None
    engine.unlink(arena_name)
    for text in (b"[" * 100_000, b"{}", b"5", b'{"pools": 1}', b"\xff"):
        assert attempt(tmp_path, arena_name, put_together(text, 5, b"")) is None
    said, id, _ = taken_apart(saved[0])
    for key, value in (("page_size", 3), ("capacity", 1), ("saved", -1), ("secret", "x"), ("max_age", "x"),
                       ("pools", [{}]), ("pools", [[]]), ("pools", [said["pools"][0]] * 2)):
        assert attempt(tmp_path, arena_name, put_together(said | {key: value}, id, block(id, 0, 3, b""))) is None or (
            key == "capacity")
        if key == "capacity":
            engine.unlink(arena_name)
    for key, value in (("page_size", 1), ("page_size", HUGE * 4), ("policy", "x"), ("pam", "none"), ("cap", 1 << 63),
                       ("client", 1 << 40), ("name", ""), ("name", "x" * 100), ("allow", []), ("allow", [1 << 40])):
        pools = [said["pools"][0] | {"persistent": False, key: value}]
        data = put_together(said | {"pools": pools}, id, block(id, 0, 3, b""))
        assert attempt(tmp_path, arena_name, data) is None, key

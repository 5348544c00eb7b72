"""Owns arenas with all kinds of pools for the tests of snapshots, and what is in them as a caller
sees it.
"""
import random
import struct

import engine

HEAD = 48                   # bytes of a block before what is in it
BLOCK = struct.Struct("<QQQIIIIQ")
OBJECT = struct.Struct("<QQQQII")
PAGE = struct.Struct("<QQIIIIBBB5x")
MAGIC = (0x6B6C62706D657489).to_bytes(8, "little")


def fill(eng, seed=1, pages=60):
    """Pools of all kinds, with objects of all kinds."""
    rng = random.Random(seed)
    kinds = {
        "raw": dict(persistent=True), "ephemeral": dict(), "twins": dict(dedup=True), "apart": dict(whole=False),
        "alone": dict(shared=False, policy="sieve"), "capped": dict(cap=5000), "heavy": dict(cap="4MiB"),
        "guests": dict(client=3, allow=[4, 5], persistent=True), "long": dict(page_size="4MiB", persistent=True),
        "naïve ☃ 名": dict(persistent=True), "empty": dict(persistent=True), "lz4": dict(pam="lz4"),
        "zstd": dict(pam="zstd", persistent=True), "squeezed twins": dict(pam="lz4", dedup=True),
    }
    for name, options in kinds.items():
        pool = eng.new_pool(name, **options)
        if name == "empty":
            continue
        for n in range(pages):
            length = rng.choice((0, 1, 8, 63, 64, 500, 4000, 4096))
            data = rng.choice((rng.randbytes(length), bytes([n % 3]) * length, (b"%d" % (n % 5) * length)[:length]))
            assert pool.put((n, 1, 2), rng.choice((0, 3, 1 << 40)), data)
        for n in range(5):
            assert pool.put_range((1000, n, 0), n * 7, rng.randbytes(4096 * 3 + 100 * n))
        for n in range(8):
            assert pool.put_object((2000, n, 0), (b"value %d" % n) * 300, key=b"key %d" % n, word=n)
            assert pool.put_object((3000, n, 0), b"x" * n, ttl=1000 + n)
        assert pool.put_object((4000, 0, 0), b"dead", ttl=1e-9)
        assert pool.incr((5000, 0, 0), 41) == 41
    long = eng.pool("long")
    for n, length in enumerate((70_000, 1 << 20, (2 << 20) + 5)):
        assert long.put((6000, 0, 0), n * 3, rng.randbytes(length))
    assert eng.pool("raw").put_object((6001, 0, 0), rng.randbytes(3 << 20), key=b"long", word=9)
    assert eng.pool("zstd").put_object((6002, 0, 0), rng.randbytes(700_000) * 3, key=b"squeezed")
    assert eng.pool("ephemeral").put_object((6003, 0, 0), bytes(2 << 20))
    for index in range(400):
        assert eng.pool("raw").put((6004, 0, 0), index * index, rng.randbytes(4096))
    assert eng.pool("raw").touch((6004, 0, 0), 500)
    return list(kinds)


def pages_of(pool):
    """{(oid, index): bytes} of a pool, of values with their key, word, and whether they expire."""
    found = {}
    for info in pool.objects():
        object = pool.object(info.oid)
        indexes = list(object.indexes())
        for index in indexes:
            found[info.oid, index] = object.get(index, free=False)
        found[info.oid, "info"] = (info.key, info.word, info.length, info.expires is not None)
    return found


def described(pool):
    return {key: getattr(pool, key) for key in ("name", "persistent", "shared", "client", "pam", "policy", "cap",
                                                "cap_bytes", "allow", "dedup", "whole", "page_size")}


def seen(eng, names=None):
    """All that a caller sees of the pools of an arena."""
    return {pool.name: (described(pool), pages_of(pool)) for pool in eng.pools()
            if names is None or pool.name in names}


def blocks_of(data):
    """(offset, kind, length) of the blocks of a snapshot."""
    size = struct.unpack_from("<I", data, 12)[0]
    at, found = 32 + size, []
    while at < len(data):
        magic, _, _, kind, length, *_ = BLOCK.unpack_from(data, at)
        assert magic == int.from_bytes(MAGIC, "little")
        found.append((at, kind, length))
        at += HEAD + length
    return found


def sound(eng):
    report = eng.check(frozen=True)
    assert report.ok, [str(vars(problem)) for problem in report.problems[:4]]


def restored(path, name, *arguments, **more):
    """What a restore says, and the arena attached."""
    report = engine.restore(path, name, *arguments, **more)
    return report, engine.attach(name)

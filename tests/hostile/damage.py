"""Owns the damage: from a seed, what is written where. Knows the layout, and what an attacker would
make of it.

Each function takes a scene and a random source, and gives the list of (offset, bytes) to write.
"""
import struct

import xxhash

from tests.hostile.structs import CONSTANTS, SIZES, STRUCTS, offset

MASK = 2**64 - 1
PAGE_MOST = 1024
FAR = CONSTANTS["FAR"]
CLASSES, BULK, EXTENTS = (CONSTANTS[name] for name in ("CLASS_COUNT", "BULK_CLASS", "EXTENT_CLASS"))
WEIGHTS = {
    "Obj": 16,
    "Stem": 12,
    "Objnode": 16,
    "Pampd": 16,
    "Bucket": 10,
    "Slot": 16,
    "Depot": 8,
    "Segment": 8,
    "PoolRecord": 8,
    "ClientPage": 4,
    "Queue": 6,
    "Shard": 4,
    "Twin": 6,
    "TwinBucket": 3,
    "Lease": 6,
    "LeaseBucket": 3,
    "RetiredObj": 4,
    "RetiredObjnode": 4,
    "RetiredPampd": 4,
}
COUNTS = (
    0,
    1,
    2,
    3,
    63,
    64,
    65,
    640,
    641,
    4095,
    4096,
    4097,
    65535,
    65536,
    524287,
    524288,
    524289,
    1 << 31,
    1 << 32,
    1 << 57,
    (1 << 57) - 1,
    1 << 60,
    1 << 62,
    1 << 63,
    MASK,
    MASK - 1,
    MASK - 7,
    MASK - 63,
)


def _word(value):
    return struct.pack("<Q", value & MASK)


def _base(kind):
    return kind.removeprefix("Retired")


def any_struct(scene, rnd, kinds=None):
    """(kind, offset) of a struct of the arena."""
    while True:
        kind = rnd.choices(list(WEIGHTS), WEIGHTS.values())[0] if kinds is None else rnd.choice(kinds)
        if scene.things[kind]:
            return kind, rnd.choice(scene.things[kind])


def owner_word(scene, rnd):
    """A word for a lock: workers that live, are dead, never were; right and wrong generations."""
    which = rnd.randrange(6)
    if which == 0:
        word = rnd.choice(scene.ids)
    elif which == 1 and scene.dead:
        word = scene.ids[rnd.choice(scene.dead)]
    elif which == 2:
        word = rnd.randrange(1, 1 << 30) << 16 | rnd.randrange(1, scene.layout.workers + 1)
    elif which == 3:
        word = rnd.getrandbits(46) << 16 | rnd.choice((0, scene.layout.workers, scene.layout.workers + 1, 0xFFFF))
    elif which == 4:
        word = 1
    else:
        word = rnd.getrandbits(64)
    return word | rnd.getrandbits(1) << 63


def place(scene, rnd, itself):
    """An offset: of some struct, of this one, past an end, before a start, not aligned."""
    where = scene.layout.where
    which = rnd.randrange(9)
    if which <= 2:
        return any_struct(scene, rnd)[1]
    if which == 3:
        return itself
    if which == 4:
        return any_struct(scene, rnd)[1] + rnd.choice((1, 4, 7, 8, 16, 32, 48, 63, -1, -8))
    if which == 5:
        return rnd.choice((scene.seg_end, where["tail"], where["end"], where["segments"])) + rnd.choice(
            (0, -8, -64, -576, 8, 64, 4096)
        )
    if which == 6:
        return rnd.randrange(where["segments"], scene.seg_end) & ~63
    if which == 7:
        return rnd.choice(list(where.values())) + rnd.choice((0, 8, 64))
    return rnd.choice(
        (0, 8, 64, 4096, 1 << 40, 1 << 47, 1 << 62, MASK - 63, MASK & ~7, (-scene.layout.where["segments"]) & MASK)
    )


def value(scene, rnd, old, itself):
    """Something bad in the place of `old`."""
    which = rnd.randrange(10)
    if which == 0:
        return old ^ 1 << rnd.randrange(64)
    if which == 1:
        return rnd.getrandbits(64)
    if which == 2:
        return old + rnd.choice((1, -1, 8, -8, 64, -64, 576, 1 << 32))
    if which <= 6:
        return place(scene, rnd, itself)
    if which == 7:
        return rnd.choice(COUNTS)
    if which == 8:
        name = rnd.choice(("OBJ_SENTINEL", "OBJNODE_SENTINEL", "PAMPD_SENTINEL", "POOL_SENTINEL"))
        return CONSTANTS[name] if rnd.getrandbits(1) else ~CONSTANTS[name]
    return rnd.choice((0, owner_word(scene, rnd)))


def link_word(rnd, target):
    """A place as Obj.root and Objnode.slots say it, mostly: with no hint, or one to anywhere."""
    return rnd.choice((target, target >> 6, target >> 6, target >> 6 | rnd.getrandbits(27) << 37)) & MASK


def one_bit(scene, rnd):
    at, data = rnd.choice(scene.pristine)
    i = rnd.randrange(len(data))
    return [(at + i, bytes([data[i] ^ 1 << rnd.randrange(8)]))]


def random_words(scene, rnd):
    found = []
    for _ in range(rnd.randrange(1, 6)):
        at, data = rnd.choice(scene.pristine)
        at += rnd.randrange(len(data)) & ~7
        found.append((at, _word(value(scene, rnd, scene.word(at), at))))
    return found


def fields(scene, rnd):
    """One to four words of one struct."""
    kind, at = any_struct(scene, rnd)
    found = []
    for _ in range(rnd.choice((1, 1, 1, 2, 3, 4))):
        name = rnd.choice(list(STRUCTS[_base(kind)]))
        start, size, count = STRUCTS[_base(kind)][name]
        where = at + start + (rnd.randrange(size * count) & ~7)
        if name in ("own", "lock", "holder") and rnd.getrandbits(1):
            found.append((at + start, _word(owner_word(scene, rnd))))
        else:
            word = value(scene, rnd, scene.word(where), at)
            found.append((where, _word(link_word(rnd, word & MASK) if _is_link(_base(kind), name) else word)))
    return found


def _is_link(kind, name):
    return (kind, name) in (("Obj", "link"), ("Stem", "root"), ("Objnode", "slots"))


def links(scene, rnd):
    """The words that lead from struct to struct, made to lead elsewhere, to the same kind, or
    around."""
    kind, at = any_struct(
        scene, rnd, ["Obj", "Stem", "Objnode", "Pampd", "Bucket", "RetiredObj", "RetiredPampd", "RetiredObjnode"]
    )
    name, count = rnd.choice({
        "Obj": (("left", 1), ("right", 1), ("parent", 1), ("link", 1)), "Stem": (("root", 1),),
        "Objnode": (("slots", 64), ("slots", 64), ("obj", 1), ("link", 1)),
        "Pampd": (("data", 1), ("obj", 1), ("link", 1)), "Bucket": (("root", 1),),
    }[_base(kind)])
    target = rnd.choice((at, any_struct(scene, rnd, ["Obj", "Objnode", "Pampd"])[1], any_struct(scene, rnd)[1],
                         rnd.choice(scene.things[_base(kind)])))
    if name == "slots":
        used = [i for i in range(64) if scene.word(at + offset("Objnode", "slots", i))] or [0]
        start = at + offset("Objnode", "slots", rnd.choice(used))
    else:
        start = at + offset(_base(kind), name)
    if _is_link(_base(kind), name):
        target = link_word(rnd, target)
    return [(start, _word(target | (rnd.getrandbits(1) if name == "parent" else 0)))]


def tangle(scene, rnd):
    """All slots of a node at one place (itself, often), with the height and levels to get lost
    in."""
    _, at = any_struct(scene, rnd, ["Objnode"])
    target = rnd.choice((at, at, any_struct(scene, rnd, ["Objnode", "Pampd", "Obj"])[1]))
    found = [(at + offset("Objnode", "slots"), _word(link_word(rnd, target)) * rnd.choice((64, 64, 2, 8)))]
    obj = scene.word(at + offset("Objnode", "obj"))
    stem = obj + SIZES["Obj"]
    if stem in scene.things["Stem"]:
        found.append((stem + offset("Stem", "height"), _word(rnd.choice((1, 2, 10, 11, 12)))))
        if rnd.getrandbits(1):
            found.append((stem + offset("Stem", "root"), _word(link_word(rnd, at))))
    if rnd.getrandbits(1):
        found.append((at + offset("Objnode", "level"), _word(rnd.choice((0, 1, 11, 12, MASK)))))
    return found


def journal(scene, rnd):
    """The journal and the redo words of a worker, mine, the neighbour's, a dead or a free one's."""
    i = rnd.randrange(scene.slots_high)
    at = scene.layout.slot(i)
    n = rnd.choice((1, 2, 3, 8, 64, 500, 4095, 4096, rnd.choice(COUNTS)))
    found = [(at + offset("Slot", "journal_len"), _word(n))]
    entries = b"".join(
        _word(place(scene, rnd, at)) + _word(value(scene, rnd, 0, at)) for _ in range(min(n, rnd.randrange(70)))
    )
    if entries:
        first = 0 if n > 4096 or rnd.getrandbits(1) else max(0, n * 16 - len(entries))
        found.append((scene.layout.journal(i) + first, entries))
    if rnd.getrandbits(1):
        found.append((at + offset("Slot", "redo_src"), _word(place(scene, rnd, at)) + _word(place(scene, rnd, at))
                      + _word(rnd.choice((1, 8, 64, 1024, 4096, 4097, rnd.choice(COUNTS))))))
    if rnd.randrange(3) == 0:
        found.append((at + offset("Slot", "state"), _word(rnd.choice((0, 1, 1, 2, MASK)))))
    if rnd.randrange(3) == 0:
        found.append((at + offset("Slot", "held", rnd.randrange(4)), _word(place(scene, rnd, at))))
    return found


def worker(scene, rnd):
    """Magazines and list heads of a worker's slot."""
    i = rnd.randrange(scene.slots_high)
    at = scene.layout.slot(i)
    found = []
    for _ in range(rnd.choice((1, 2, 4))):
        if rnd.getrandbits(1):
            mag = at + offset("Slot", "mags", rnd.choice((0, 0, 1, 2, EXTENTS, BULK, BULK, rnd.randrange(CLASSES))))
            if rnd.getrandbits(1):
                found.append((mag, _word(rnd.choice((0, 1, 2, 63, 64, 65, 640, 641, rnd.choice(COUNTS))))))
            else:
                have = min(scene.word(mag), 64) or 1
                found.append((mag + 8 + 8 * rnd.randrange(have), _word(place(scene, rnd, at))))
        else:
            root = at + offset("Slot", "client", rnd.choice((0, 1, 2, CONSTANTS["ROOT_WRITTEN"])))
            kind = rnd.choice(("Pampd", "Obj", "Objnode", "RetiredPampd", "RetiredObj", "PoolRecord"))
            found.append(
                (root, _word(place(scene, rnd, at) if not scene.things[kind] else rnd.choice(scene.things[kind])))
            )
    if rnd.randrange(4) == 0:
        found.append((at + offset("Slot", "state"), _word(rnd.choice((0, 1, 2, MASK)))))
    if rnd.randrange(4) == 0:
        found.append((at + offset("Slot", "ledger_backed"), _word(rnd.choice(COUNTS))))
    if rnd.randrange(8) == 0:
        found.append((at + offset("Slot", "own"), _word(owner_word(scene, rnd))))
    return found


def loop(scene, rnd):
    """A retired or staged list that never ends, or that runs through linked structs."""
    at = scene.layout.slot(rnd.randrange(scene.slots_high))
    which = rnd.choice(("ROOT_STAGED", "ROOT_WRITTEN", "ROOT_RETIRED", "ROOT_RETIRED"))
    kinds = ["Pampd"] if which != "ROOT_RETIRED" else ["Pampd", "Obj", "Objnode", "PoolRecord"]
    names = {
        "Pampd": "PAMPD_SENTINEL",
        "Obj": "OBJ_SENTINEL",
        "Objnode": "OBJNODE_SENTINEL",
        "PoolRecord": "POOL_SENTINEL",
    }
    chain = [any_struct(scene, rnd, kinds) for _ in range(rnd.choice((1, 2, 3)))]
    found = [(at + offset("Slot", "client", CONSTANTS[which]), _word(chain[0][1]))]
    for n, (kind, start) in enumerate(chain):
        sentinel = CONSTANTS[names[kind] if kind != "Obj" or rnd.getrandbits(1) else "LEAN_SENTINEL"]
        after = chain[(n + 1) % len(chain)][1]
        found.append((start, _word(~sentinel if which == "ROOT_RETIRED" else sentinel) + _word(after)))
        if kind == "Pampd" and rnd.getrandbits(1):
            found.append((start + offset("Pampd", "data"), _word(rnd.choice((0, 0, start, place(scene, rnd, start))))))
            found.append((start + offset("Pampd", "shape"), _word(_shape(rnd))))
            found.append((start + offset("Pampd", "queue"), _word(_queue(scene, rnd, start))))
        if kind == "PoolRecord":
            found.append((start + offset("PoolRecord", "cursor"), _word(rnd.choice((0, 0, 4, MASK)))))
            found.append((start + offset("PoolRecord", "state"), _word(rnd.choice((0, 1, 2)))))
    return found


def _queue(scene, rnd, at):
    """A queue word: any neighbour, shard, state and pool; or what a foreign page may say of its
    pool; or noise."""
    word = place(scene, rnd, at) >> 6 & (1 << 37) - 1 | rnd.choice((0, 0, 1, 2, 63)) << 37 | rnd.randrange(8) << 43 \
        | rnd.choice((0, 1, 2, 3, 6, 65535)) << 46
    return rnd.choice((word, word, word, rnd.choice((0, 1, 6, 7, 65536, 1 << 40)), rnd.getrandbits(64)))


def queues(scene, rnd):
    """Heads, tails, counts and hands of queues, pending lists, and what pages say of their
    queue."""
    found = []
    for _ in range(rnd.choice((1, 1, 2, 4))):
        kind, at = any_struct(scene, rnd, ["Queue", "Queue", "Pampd"])
        if kind == "Pampd":
            found.append((at + offset("Pampd", "queue"), _word(_queue(scene, rnd, at))))
            if rnd.getrandbits(1):
                found.append((at + offset("Pampd", "link"), _word(place(scene, rnd, at))))
        else:
            word = rnd.randrange(8) * 8
            found.append(
                (
                    at + word,
                    _word(
                        rnd.choice((place(scene, rnd, at), any_struct(scene, rnd, ["Pampd"])[1], 0, rnd.choice(COUNTS)))
                    ),
                )
            )
    if rnd.getrandbits(1):
        slot = scene.layout.slot(rnd.randrange(scene.slots_high))
        found.append(
            (slot + offset("Slot", "client", CONSTANTS["ROOT_PENDING"]), _word(any_struct(scene, rnd, ["Pampd"])[1]))
        )
    return found


def far(scene, rnd):
    """What a pool says of its far tier, its far queues, far descriptors and their tokens, and the
    ring of dead ones."""
    found = []
    for _ in range(rnd.choice((1, 1, 2, 4))):
        kind, at = any_struct(scene, rnd, ["FarRecord", "FarNode", "FarQueue", "DeadRing", "Pampd"])
        if kind == "FarRecord":
            at += rnd.choice((rnd.randrange(0, offset(kind, "target"), 8), rnd.randrange(0, SIZES[kind], 8)))
        elif kind == "FarNode":
            at += rnd.randrange(0, SIZES[kind], 8)
        elif kind == "FarQueue":
            at += rnd.randrange(0, SIZES["Queue"] - offset("Queue", "far_head"), 8)
        elif kind == "DeadRing":
            at += rnd.choice((32, 40, 48, 64 + rnd.randrange(0, 64, 8), rnd.randrange(32, SIZES[kind], 8)))
        else:
            word = rnd.choice((scene.word(at + offset(kind, "shape")) ^ FAR << CONSTANTS["FLAGS_SHIFT"],
                               _shape(rnd)))
            found.append((at + offset(kind, "shape"), _word(word)))
            at += offset(kind, rnd.choice(("data", "queue", "gen", "link")))
        found.append((at, _word(rnd.choice((value(scene, rnd, scene.word(at), at), rnd.choice(COUNTS),
                                            scene.word(at) + rnd.choice((1, -1)))))))
    return found


def _shape(rnd):
    return (
        rnd.choice((0, 1, 64, 65, 1024, 1025, 4096, 1 << 31, (1 << 32) - 1))
        | rnd.choice((0, 1, 2, 18, EXTENTS, BULK, CLASSES, 63)) << 32
        | rnd.choice((0, 0, 1, 2, 4, 4, 8, 6, 12, FAR, FAR, FAR | 64, 255)) << CONSTANTS["FLAGS_SHIFT"]
        | rnd.choice((0, 0, 0, 1, 30, 64, 1023, 1024, 65535, 0x3FFFF)) << CONSTANTS["PACKED_SHIFT"]
    )


def descriptor(scene, rnd):
    """Length, class and flags of a page, and where it says its bytes are."""
    kind, at = any_struct(scene, rnd, ["Pampd", "Pampd", "RetiredPampd"])
    found = [(at + offset("Pampd", "shape"), _word(_shape(rnd)))]
    if rnd.getrandbits(1):
        found.append((at + offset("Pampd", "data"), _word(place(scene, rnd, at))))
    if rnd.getrandbits(1):
        found.append((at + offset("Pampd", "queue"), _word(_queue(scene, rnd, at))))
    return found


def tail(scene, rnd):
    """What lies behind the bytes of a value, that something does, and when it is dead."""
    found = []
    for _ in range(rnd.choice((1, 1, 2, 4))):
        handle = rnd.choice(sorted(scene.values))
        which = rnd.randrange(5)
        if which == 0:
            kind, at = any_struct(scene, rnd, ["Pampd", "Twin"])
            at += offset(kind, "shape")
            flags = rnd.choice((64, 64, 66, 65, 80, 96, 68)) << CONSTANTS["FLAGS_SHIFT"]
            found.append((at, _word(scene.word(at) ^ flags if rnd.getrandbits(1) else scene.word(at) | flags)))
        elif which == 1:
            kind, at = any_struct(scene, rnd, ["Stem", "Pampd"])
            at += offset(kind, "expires" if kind == "Stem" else "index")        # that of a lean obj's page
            found.append((at, _word(rnd.choice((1, MASK, 1 << 63, rnd.getrandbits(64), rnd.choice(COUNTS))))))
        elif handle not in scene.pages:
            continue
        elif which == 2:
            at = scene.pages[handle][0] + offset("Pampd", "shape")
            length = rnd.choice((0, 0, 1, 3, 4, 5, 11, 12, 13, 16, 20, PAGE_MOST, PAGE_MOST + 1))
            found.append((at, _word(scene.word(at) >> 32 << 32 | length)))
        elif handle[0] != "f":
            _, data, length, _ = scene.pages[handle]
            trailer = rnd.choice((0, 1, 2, 3)) << 30 | rnd.choice(
                (0, 1, 3, 8, length - 4, length - 12, length, length + 1, 1 << 20, (1 << 30) - 1))
            found.append((data + max(0, length - 4), struct.pack("<I", trailer & 0xFFFFFFFF)))
    return found


def lock(scene, rnd):
    """A lock word, its sequence, its semaphore; and who claims to hold it."""
    kind, at = any_struct(
        scene, rnd, ["Bucket", "Bucket", "Shard", "TwinBucket", "LeaseBucket", "Depot", "ClientPage", "Slot"]
    )
    at += offset(kind, "own" if kind == "Slot" else "lock")
    found = [(at, _word(owner_word(scene, rnd)))]
    if rnd.getrandbits(1):
        found.append((at + 8, _word(rnd.choice((0, 1, 2, 3, MASK, MASK - 1, rnd.getrandbits(64))))))
    if rnd.randrange(4) == 0:
        found.append((at + 16, _word(rnd.getrandbits(64))))
    if scene.dead and rnd.getrandbits(1):
        # Somebody dead holds it: whether it says so or not, and whether its chunks can be given
        # back or not.
        i = rnd.choice(scene.dead)
        found[0] = (at, _word(scene.ids[i] | rnd.getrandbits(1) << 63))
        if rnd.getrandbits(1):
            mag = scene.layout.slot(i) + offset("Slot", "mags", rnd.choice((0, 1, BULK)))
            found.append((mag, _word(rnd.choice((1, 5, MASK)))))
        if rnd.getrandbits(1):
            found.append((scene.layout.slot(i) + offset("Slot", "held", 3), _word(at)))
    elif rnd.randrange(3) == 0:
        i = rnd.choice((scene.engine.worker_id, rnd.randrange(scene.slots_high)))
        found[0] = (at, _word(scene.ids[i]))
        if i == scene.engine.worker_id:
            found.append((scene.layout.slot(i) + offset("Slot", "held", 3), _word(at)))
    return found


def tables(scene, rnd):
    """Pool table, segment table, depot: heads, counts, bitmaps, states."""
    kind, at = any_struct(scene, rnd, ["Depot", "Segment", "Segment", "PoolRecord", "ClientPage"])
    found = []
    for _ in range(rnd.choice((1, 1, 2, 3))):
        name = rnd.choice([name for name in STRUCTS[kind] if name not in ("lock", "spare", "spare2", "spare3")])
        start, size, count = STRUCTS[kind][name]
        at_word = at + start + (rnd.randrange(size * count) & ~7)
        total = scene.layout.geometry["seg_total"]
        number = rnd.choice((0, 1, 2, 3, scene.seg_high, scene.seg_high + 1, total, total + 1, CLASSES, CLASSES + 1,
                             rnd.choice(COUNTS), rnd.getrandbits(64)))
        found.append((at_word, _word(number)))
    if kind == "Segment" and rnd.getrandbits(1):
        # The map of a segment of small chunks lies at its start.
        number = (at - scene.layout.segment(0)) // SIZES["Segment"]
        start = scene.layout.where["segments"] + number * scene.layout.seg_bytes
        found.append((start + 8 * rnd.randrange(16), _word(rnd.choice((0, MASK, rnd.getrandbits(64))))))
    return found


def swap(scene, rnd):
    """Two structs of a kind change places, or one is copied over the other; or one is copied over
    another kind."""
    kind, one = any_struct(scene, rnd)
    other_kind, other = (kind, rnd.choice(scene.things[kind])) if rnd.randrange(4) else any_struct(scene, rnd)
    n = min(SIZES[_base(kind)], SIZES[_base(other_kind)])
    a, b = bytes(scene.map[one:one + n]), bytes(scene.map[other:other + n])
    return [(one, b)] if rnd.getrandbits(1) else [(one, b), (other, a)]


def block(scene, rnd):
    """A run of noise, zeroes or ones."""
    at, data = rnd.choice(scene.pristine)
    n = rnd.choice((16, 64, 512, 4096))
    start = at + (rnd.randrange(len(data)) & ~7)
    n = min(n, at + len(data) - start)
    return [(start, rnd.choice((rnd.randbytes(n), bytes(n), b"\xff" * n)))]


def slot_noise(scene, rnd):
    """A worker's slot full of noise, state and generation aside."""
    i = rnd.randrange(scene.slots_high)
    at = scene.layout.slot(i) + 16
    n = rnd.choice((112, 240, 496, SIZES["Slot"] - 16))
    found = [(at, b"".join(_word(value(scene, rnd, 0, at)) for _ in range(14)) if n == 112 else rnd.randbytes(n))]
    if i == scene.engine.worker_id or rnd.getrandbits(1):
        found.append((scene.layout.slot(i) + offset("Slot", "state"), _word(1)))
    return found


def header(scene, rnd):
    """Another geometry, with the right checksum: believed by newcomers, and wrong."""
    raw = bytearray(scene.map[:SIZES["Header"]])
    for _ in range(rnd.choice((1, 1, 2))):
        name = rnd.choice(
            [name for name in STRUCTS["Header"] if name not in ("magic", "layout_id", "checksum", "client")]
            + ["client"] * 3
        )
        start, size, count = STRUCTS["Header"][name]
        at = start + 8 * rnd.randrange(min(count, 3))
        old = struct.unpack_from("<Q", raw, at)[0]
        new = rnd.choice(
            (
                old + 1,
                old - 1,
                old // 2,
                old * 2,
                old + 8,
                old + 64,
                old - 4096,
                old + 4096,
                rnd.randrange(1, old + 2),
                16,
                18,
                1,
                0,
                rnd.choice(COUNTS),
            )
        )
        struct.pack_into("<Q", raw, at, new & MASK)
    shift = struct.unpack_from("<Q", raw, offset("Header", "seg_shift"))[0]
    if shift < 64 and rnd.getrandbits(1):
        capacity = struct.unpack_from("<Q", raw, offset("Header", "capacity"))[0]
        struct.pack_into("<Q", raw, offset("Header", "seg_total"), capacity >> shift)
    start = offset("Header", "capacity")
    struct.pack_into("<Q", raw, offset("Header", "checksum"), xxhash.xxh64_intdigest(bytes(raw[start:])))
    return [(0, bytes(raw))]


RACED = (
    "sentinel",
    "oid",
    "left",
    "right",
    "root",
    "unlinked",
    "height",
    "slots",
    "data",
    "shape",
    "index",
    "obj",
    "queue",
    "gen",
    "head",
    "tail",
    "count",
    "hand",
    "mags",
    "client",
    "free_count",
    "bitmap",
    "cls",
    "next",
    "cursor",
    "state",
    "expires",
    "class_head",
    "free_head",
    "seg_high",
    "journal_len",
)


def race(scene, rnd):
    """Words that change while they are looked at: of structs, never of locks. [(offset, word)]."""
    found = []
    for _ in range(rnd.choice((1, 2, 4))):
        kinds = ["Obj", "Objnode", "Pampd", "Pampd", "Bucket", "Queue", "Slot", "Depot", "Segment", "PoolRecord"]
        kind, at = any_struct(scene, rnd, kinds)
        name = rnd.choice([name for name in STRUCTS[kind] if name in RACED])
        start, size, count = STRUCTS[kind][name]
        where = at + start + (rnd.randrange(size * count) & ~7)
        found.append((where, value(scene, rnd, scene.word(where), at) & MASK))
    return found


KINDS = ((one_bit, 4), (random_words, 8), (fields, 20), (links, 14), (tangle, 6), (journal, 8), (worker, 10), (loop, 8),
         (descriptor, 8), (tail, 10), (lock, 2), (tables, 10), (queues, 8), (far, 12), (swap, 5), (block, 4),
         (slot_noise, 2), (header, 3))


def damage(scene, rnd):
    """(name of the kind, [(offset, bytes)]) of one mutation, inside the file."""
    kind = rnd.choices([kind for kind, _ in KINDS], [weight for _, weight in KINDS])[0]
    writes = kind(scene, rnd)
    return kind.__name__, [(at, data) for at, data in writes if 0 <= at and at + len(data) <= scene.size]

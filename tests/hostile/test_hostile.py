"""Owns the promise that an arena full of garbage gives ArenaCorrupted, a miss or a refusal, and
never a crash, a hang or a read outside its mapping. The attack itself is mutate.py; here it runs
over fixed seeds, those aside in which words change while the calls run (they cannot be repeated
exactly: by hand), and what attach refuses has names.
"""
import contextlib
import os
import random
import signal
import struct
import time

import pytest
import xxhash

import engine
from tests.hostile.mutate import again, attack
from tests.hostile.structs import CONSTANTS, STRUCTS, Map, offset
from tests.stopped import in_child
from tests.support import SHM, SMALL

ITEMS = 10
SEEDS = 1600 if os.environ.get("EVERY_POINT") else 80       # of each item
CONCURRENT = 16         # every so many-th seed is one with words that change meanwhile


@pytest.mark.timeout(900)
@pytest.mark.parametrize("item", range(ITEMS))
def test_no_damage_crashes_or_hangs_a_caller(arena_name, item):
    seeds = [seed for seed in range(item * SEEDS, (item + 1) * SEEDS) if seed % CONCURRENT]
    findings = attack(seeds, arena_name)
    assert not findings, "\n".join(f"{f.kind} in {f.call}: {again(f)}\n{f.detail}" for f in findings)


@pytest.mark.parametrize("waits", [0, 1 << 63])
@pytest.mark.parametrize("repair", [False, True])
def test_an_own_lock_whose_worker_never_took_it(arena_name, repair, waits):
    """The word names the slot's living worker, who says nothing of it: nobody waits for him for
    ever, and a repair puts it right."""
    with engine.create(arena_name, **SMALL) as eng, engine.attach(arena_name) as other:
        raw = (SHM / arena_name).read_bytes()
        slot = Map(raw[:4096]).slot(other.worker_id)
        generation = struct.unpack_from("<Q", raw, slot + offset("Slot", "gen"))[0]
        with (SHM / arena_name).open("r+b") as stream:
            stream.seek(slot + offset("Slot", "own"))
            stream.write(struct.pack("<Q", generation << 16 | other.worker_id + 1 | waits))
        began = time.monotonic()
        if repair:
            assert eng.check(repair=True).ok and other.new_pool("p").put((1, 0, 0), 0, b"page")
            assert time.monotonic() - began < 10
            return
        with pytest.raises(engine.ArenaCorrupted, match="does not hold it"):
            eng.check()
        assert time.monotonic() - began < 10
        with pytest.raises(engine.ArenaCorrupted, match="does not hold it"):
            other.new_pool("p")
        # The word goes, and everything is as it was.
        with (SHM / arena_name).open("r+b") as stream:
            stream.seek(slot + offset("Slot", "own"))
            stream.write(bytes(8))
        assert eng.check().ok and other.new_pool("p").put((1, 0, 0), 0, b"page")
    engine.unlink(arena_name)


# --- what attach refuses --------------------------------------------------------------------------


@pytest.fixture
def file(arena_name):
    """The file of a populated arena, nobody attached."""
    with engine.create(arena_name, **SMALL) as eng:
        assert eng.new_pool("p", persistent=True).put((1, 2, 3), 0, b"page")
    return SHM / arena_name


def header_of(file):
    with file.open("rb") as stream:
        return stream.read(4096)


def write_header(file, **fields):
    """Change header fields by name and make the checksum right again, as an attacker would."""
    raw = bytearray(header_of(file))
    for name, value in fields.items():
        value = value if isinstance(value, list) else [value]
        struct.pack_into(f"<{len(value)}Q", raw, offset("Header", name), *(word & 2**64 - 1 for word in value))
    end = offset("Header", "client") + 8 * STRUCTS["Header"]["client"][2]
    if "checksum" not in fields:
        struct.pack_into(
            "<Q",
            raw,
            offset("Header", "checksum"),
            xxhash.xxh64_intdigest(bytes(raw[offset("Header", "capacity") : end])),
        )
    with file.open("r+b") as stream:
        stream.write(raw)


def attach_refused(file):
    """attach() raises ArenaCorrupted; how long it takes is bounded by the test's timeout."""
    with pytest.raises(engine.ArenaCorrupted, match=file.name):
        engine.attach(file.name)


def test_the_attacker_can_write_a_header_that_is_believed(file):
    write_header(file)
    engine.attach(file.name).close()


@pytest.mark.parametrize("keep", [0, 8, 64, 4096, 8192, 1 << 16, 1 << 20])
def test_a_truncated_file(file, keep):
    os.truncate(file, keep)
    attach_refused(file)


@pytest.mark.parametrize("content", [b"\x7fELF" + bytes(9000), b"\xa5" * 20000, b"tmem\0arn", b"tmem\0arn" * 4000])
def test_a_foreign_file_under_our_name(arena_name, content):
    file = SHM / arena_name
    file.write_bytes(content)
    attach_refused(file)


@pytest.mark.parametrize("change", [1, 1 << 40, -1])
def test_a_layout_from_the_future(file, change):
    raw = header_of(file)
    identity = struct.unpack_from("<Q", raw, offset("Header", "layout_id"))[0]
    write_header(file, layout_id=identity + change)
    attach_refused(file)


def test_a_wrong_checksum(file):
    write_header(file, checksum=12345)
    attach_refused(file)


@pytest.mark.parametrize(
    "fields",
    [
        {"seg_total": 2**64 - 1},
        {"seg_total": 1 << 40},
        {"seg_total": 0},
        {"capacity": 2**64 - 1},
        {"seg_shift": 63},
        {"seg_shift": 0},
        {"seg_shift": 64},
        {"max_workers": 0},
        {"max_workers": 2**64 - 1},
        {"max_workers": 4096},
        {"bounce_bytes": 2**63},
        {"bounce_bytes": 0},
        {"ledger_bytes": 2**64 - 1},
        {"ledger_bytes": 0},
        {"client_bytes": 2**64 - 4096},
        {"client_bytes": 0},
        {"client": [0, 4, 64]},
        {"client": [513, 4, 64]},
        {"client": [1 << 20, 4, 64]},
        {"client": [512, 3, 64]},
        {"client": [512, 1 << 32, 64]},
        {"client": [512, 4, 2**64 - 1]},
        {"client": [512, 4, 0]},
        {"client": [512, 4096, 65535]},
        {"capacity": 0, "seg_total": 0},
    ],
    ids=str,
)
def test_a_believable_header_with_an_impossible_geometry(file, fields):
    """The checksum is right, the sizes are not. Sizes that are possible and not the true ones are
    among the damage of mutate.py."""
    write_header(file, **fields)
    attach_refused(file)


def test_a_directory_and_a_pipe_under_our_name(arena_name):
    file = SHM / arena_name
    file.mkdir()
    try:
        with pytest.raises(engine.TmemError, match=arena_name):
            engine.attach(arena_name)
    finally:
        file.rmdir()
    os.mkfifo(file)
    try:
        with pytest.raises(engine.TmemError, match=arena_name):
            engine.attach(arena_name)
    finally:
        file.unlink()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
@pytest.mark.parametrize("mode", [0o666, 0o606, 0o602, 0o660])
def test_an_owner_who_is_somebody_else_with_a_door_open(file, mode):
    """Whatever mode a stranger has given it, nobody else takes it for his own."""
    os.chown(file, 65534, 65534)
    os.chmod(file, mode)

    def act():
        os.setgroups([])
        os.setgid(65533)
        os.setuid(65533)
        with pytest.raises(engine.AccessDenied, match=file.name):
            engine.attach(file.name)
    assert in_child(act) == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_permissions_that_shut_us_out(file):
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
            try:
                engine.attach(file.name)
            except engine.AccessDenied:
                status = 0
        finally:
            os._exit(status)
    assert os.waitpid(pid, 0)[1] == 0


def test_a_file_without_its_last_page(file):
    """A part that is gone is a SIGBUS for whoever touches it: attach must not be the one."""
    os.truncate(file, file.stat().st_size - 4096)
    attach_refused(file)


QUEUED = {
    "another index": lambda index, queue: (index + 5000, queue),
    "the last index": lambda index, queue: (2**64 - 1, queue),
    "its neighbour's index": lambda index, queue: (index - 1, queue),
    "came with the one before": lambda index, queue: (index, queue | 1 << 63),
    "came by itself": lambda index, queue: (index, queue & ~(1 << 63)),
    "another shard": lambda index, queue: (index, queue | 5 << 37),
    "pending": lambda index, queue: (index, queue & ~(7 << 43) | 1 << 43),
    "has left": lambda index, queue: (index, queue & ~(7 << 43) | 5 << 43),
}


@pytest.mark.parametrize("policy", ["fifo", "clock", "sieve", "s3fifo"])
@pytest.mark.parametrize("what", list(QUEUED))
def test_values_of_which_a_page_says_something_else_of_itself(make_arena, what, policy):
    """Who makes place under a cap, or room, is told of the damage and hangs nowhere; what he has
    put is in its queue all the same, so that a repair is not in need of a second try."""
    eng = make_arena(capacity="1MiB", shards=1)
    pool, kept = eng.new_pool("p", policy=policy, cap=64), eng.new_pool("kept", persistent=True)
    for n in range(4):
        pool.put_range((n, 0, 0), 0, random.Random(n).randbytes(16 * 512))
    with open(SHM / eng.name, "r+b") as file:
        data = file.read()
        for at in range(Map(data[:4096]).where["segments"], len(data), 64):
            index, queue = (offset("Pampd", name) + at for name in ("index", "queue"))
            old, = struct.unpack_from("<Q", data, index)
            if struct.unpack_from("<Q", data, at)[0] == CONSTANTS["PAMPD_SENTINEL"] and old in (3, 15):
                new = QUEUED[what](old, *struct.unpack_from("<Q", data, queue))
                for place, word in zip((index, queue), new, strict=True):
                    file.seek(place)
                    file.write(struct.pack("<Q", word))
    for n in range(4, 12):
        with contextlib.suppress(engine.ArenaCorrupted):
            pool.put_range((n, 0, 0), 0, random.Random(n).randbytes(16 * 512))
    for n in range(40):
        with contextlib.suppress(engine.ArenaCorrupted):
            kept.put((n, 1, 0), 0, random.Random(n).randbytes(512))
    assert eng.check(repair=True).ok and eng.check().ok
    assert pool.put_range((0, 0, 0), 0, bytes(16 * 512)) and eng.check().ok


@pytest.mark.parametrize("policy", ["fifo", "clock", "sieve", "s3fifo"])
@pytest.mark.parametrize("why", ["a cap", "want of memory"])
def test_a_count_of_pages_that_cannot_be_is_no_reason_to_look_at_them_for_ever(make_arena, why, policy):
    """None of the pages can go, since all are viewed: each is looked at a few times, and not as
    often as the damaged counts say."""
    eng = make_arena(capacity="1MiB", page_size=512, shards=1)
    pool, kept = eng.new_pool("p", policy=policy, cap=8), eng.new_pool("kept", persistent=True)
    for n in range(8):
        assert pool.put((0, 0, 0), n, b"page")

    def put():
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(20)
        with contextlib.suppress(engine.ArenaCorrupted):
            assert (pool if why == "a cap" else kept).put((1, 0, 0), n, noise(n)) == (why == "a cap")

    def noise(seed):
        return random.Random(seed).randbytes(512)

    with contextlib.ExitStack() as views, open(SHM / eng.name, "r+b") as file:
        for n in range(8):
            views.enter_context(pool.view((0, 0, 0), n))
        while why == "want of memory" and kept.put((0, 0, 0), n, noise(n)):
            n += 1
        where = Map(file.read(4096))
        for at in (where.queue(0, 0) + offset("Queue", "count") + 8, where.shard(0) + offset("Shard", "pages")):
            file.seek(at + 5)
            file.write(b"\1")
        file.flush()
        assert in_child(put) == 0
    assert {problem.id for problem in eng.check().problems} == {"queue-count", "shard-pages"}
    eng.check(repair=True)
    assert eng.check().ok and [pool.get((0, 0, 0), n) for n in range(8)] == [b"page"] * 8

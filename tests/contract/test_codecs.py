"""Owns the contract of pools that compress: every verb as with any pool, what is kept raw, what a
damaged page looks like, full arenas, threads and forks, and how many more pages an arena holds."""
import os
import random
import subprocess
import sys
import sysconfig
import threading
import time
from pathlib import Path

import pytest

import engine
from engine.eviction.policies import POLICIES
from tests.support import KINDS, ROOT, SHM, mixed, text

FLAGS_SHIFT, PACKED_SHIFT = 38, 46     # of a shape word; said here, since a wheel has no .pxd to read

PAGE = 4096
OID = (1, 2, 3)
PAMS = ("lz4", "zstd")
noise = random.Random(1).randbytes(PAGE)
both = pytest.mark.parametrize("pam", PAMS)


def stats(pool):
    return pool.engine.stats()["pools"][pool.name]


@pytest.fixture(params=[(pam, kind) for pam in PAMS for kind in KINDS], ids="-".join)
def pool(request, make_arena):
    pam, kind = request.param
    found = make_arena(page_size=PAGE).new_pool("p", pam=pam, **KINDS[kind])
    yield found
    assert found.engine.check().ok


# --- verbs ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        b"x",
        b"short",
        text(1, 128),
        text(1, 129),
        text(2, 1000),
        text(3, PAGE - 1),
        text(4, PAGE),
        noise,
        noise[:100],
        noise[:2000],
        bytes(PAGE),
        bytes(PAGE - 1),
        b"abcdefgh" * 512,
        text(5, 2048) + noise[:2048],
    ],
    ids=lambda data: f"{data[:4].hex()}-{len(data)}",
)
def test_a_page_comes_back(pool, data):
    for kind in (bytes, bytearray, memoryview):
        assert pool.put(OID, 7, kind(data)) and pool.get(OID, 7, free=False) == data
    handle = pool.object(OID)
    assert handle.put(8, data) and handle.get(8, free=False) == data
    buffer = bytearray(b"\xaa" * (PAGE + 8))
    assert pool.get_into(OID, 7, buffer, free=False) == len(data) and buffer[:len(data)] == data
    assert not any(byte != 0xAA for byte in buffer[len(data):])
    assert handle.get_into(8, buffer, free=True) == len(data) and buffer[:len(data)] == data
    assert pool.get(OID, 8) is None and pool.get_into(OID, 8, buffer) == -1
    assert pool.get(OID, 7, free=True) == data and pool.obj_count == 0


def test_a_get_without_free_does_what_the_kind_of_pool_does(pool):
    assert pool.put(OID, 0, text(1, PAGE)) and pool.get(OID, 0) == text(1, PAGE)
    assert pool.get(OID, 0) == (None if not pool.persistent and not pool.shared else text(1, PAGE))


def test_a_buffer_that_is_too_short(pool):
    """Compared with the length of the page, not with what is stored; and the page stays."""
    for data in (text(1, PAGE), noise, bytes(PAGE)):
        assert pool.put(OID, 0, data)
        for room in (0, 1, 500, PAGE - 1):
            for free in (None, True, False):
                with pytest.raises(ValueError, match="buffer: at least as long as the page, 4096 bytes"):
                    pool.get_into(OID, 0, bytearray(room), free)
        assert pool.get(OID, 0, free=False) == data
    assert pool.put(OID, 1, b"x")
    with pytest.raises(ValueError, match="buffer"):
        pool.get_into(OID, 1, bytearray(0), free=True)
    assert pool.get_into(OID, 9, bytearray(0)) == -1


@pytest.mark.parametrize("length", [1, PAGE, PAGE + 1, 20 * PAGE, 70 * PAGE - 5])
def test_ranges(pool, length):
    data = b"".join(mixed(n, PAGE) for n in range(71))[:length]
    count = -(-length // PAGE)
    assert pool.put_range(OID, 60, data) and pool.get_range(OID, 60, count, free=False) == data
    assert all(pool.get(OID, 60 + n, free=False) == data[n * PAGE:(n + 1) * PAGE] for n in range(count))
    assert pool.get_range(OID, 60, count + 1) is None
    assert (
        pool.object(OID).put_range(60, data[::-1]) and pool.object(OID).get_range(60, count, free=False) == data[::-1]
    )
    assert pool.get_range(OID, 60, count, free=True) == data[::-1] and pool.obj_count == 0


def test_over_each_other(pool):
    rnd, model = random.Random(3), {}
    for n in range(1500):
        index = rnd.randrange(20)
        data = mixed(n, rnd.randint(1, PAGE))
        if rnd.randrange(5) == 0:
            assert pool.flush_page(OID, index) == (model.pop(index, None) is not None)
        else:
            assert pool.put(OID, index, data)
            model[index] = data
        at = rnd.randrange(20)
        assert pool.get(OID, at, free=False) == model.get(at)
    assert stats(pool)["bytes_asked"] == sum(map(len, model.values()))
    assert pool.flush_object(OID) or not model
    assert (stats(pool)["bytes_stored"], stats(pool)["bytes_used"], stats(pool)["bytes_asked"]) == (0, 0, 0)


@pytest.mark.parametrize("page_size", [512, 16384, 65536])
@both
def test_other_page_sizes(make_arena, pam, page_size):
    pool = make_arena(capacity="32MiB", page_size=page_size).new_pool("p", pam=pam, persistent=True)
    for n in range(40):
        assert pool.put(OID, n, mixed(n, page_size))
    assert all(pool.get(OID, n) == mixed(n, page_size) for n in range(40))
    assert stats(pool)["bytes_stored"] < stats(pool)["bytes_asked"] * 0.8 and pool.engine.check().ok


# --- what is stored -------------------------------------------------------------------------------


@both
def test_what_is_stored(make_arena, pam):
    eng = make_arena(page_size=PAGE)
    pool = eng.new_pool("p", pam=pam, persistent=True)
    assert pool.pam == pam and eng.pool("p").pam == pam
    assert pool.put(OID, 0, text(1, PAGE))
    packed = stats(pool)
    assert packed["bytes_asked"] == PAGE and packed["bytes_stored"] <= packed["bytes_used"] < PAGE // 2 < PAGE
    assert pool.put(OID, 0, noise)
    assert (stats(pool)["bytes_stored"], stats(pool)["bytes_used"]) == (PAGE, PAGE), (
        "a page that does not shrink is kept as it is"
    )
    assert pool.put(OID, 0, b"x" * 64)
    assert stats(pool)["bytes_stored"] == 64, "there is no smaller class to get into"
    assert pool.put(OID, 0, noise[:4000] + bytes(96))
    assert stats(pool)["bytes_stored"] in (PAGE, PAGE - 512), "it shrinks, and not into a smaller class"
    assert pool.put(OID, 0, text(1, PAGE)) and stats(pool) | {"puts_ok": 0, "puts_duplicate": 0} == packed | {
        "puts_ok": 0
    }
    eph = eng.new_pool("e", pam=pam)
    assert eph.put(OID, 0, bytes(PAGE)) and eph.put(OID, 1, text(1, PAGE))
    assert stats(eph)["bytes_stored"] == 8 + packed["bytes_stored"] and stats(eph)["bytes_used"] == packed["bytes_used"]


def stdlib_pages():
    """Pages of real text: the standard library, cut into whole pages."""
    for path in sorted(Path(sysconfig.get_path("stdlib")).glob("*.py")):
        data = path.read_bytes()
        yield from (data[at:at + PAGE] for at in range(0, len(data) - PAGE + 1, PAGE))


def held(eng, pages, pam):
    """How many pages a persistent pool takes until it refuses one."""
    pool, count = eng.new_pool(pam, persistent=True, pam=pam), 0
    while pool.put((count // 64, 0, 0), count % 64, pages[count % len(pages)]):
        count += 1
    assert (
        all(pool.get((n // 64, 0, 0), n % 64) == pages[n % len(pages)] for n in range(0, count, 97)) and eng.check().ok
    )
    pool.destroy()
    return count


def test_how_many_more_pages_an_arena_holds(make_arena):
    """With all that describes them. Classes that differ between the pools are no matter: an empty
    segment changes its class."""
    pages = list(stdlib_pages())
    assert len(pages) > 200
    eng = make_arena(capacity="16MiB", page_size=PAGE, buckets=64)
    raw = held(eng, pages, "raw")
    assert held(eng, pages, "lz4") >= 1.8 * raw
    assert held(eng, pages, "zstd") >= 2.5 * raw


def test_generated_text(make_arena):
    pages = [text(n, PAGE) for n in range(300)]
    eng = make_arena(capacity="8MiB", page_size=PAGE)
    raw = held(eng, pages, "raw")
    assert held(eng, pages, "lz4") >= 1.6 * raw and held(eng, pages, "zstd") >= 2.2 * raw


# --- full arenas ----------------------------------------------------------------------------------


@both
def test_over_a_page_in_a_full_arena(make_arena, pam):
    """What fits the old page's chunk goes over it; what does not is refused, and then the handle is
    empty."""
    eng = make_arena(capacity="1MiB", page_size=PAGE, max_workers=2, buckets=16)
    pool, count = eng.new_pool("p", persistent=True, pam=pam), 0
    while pool.put((count % 20, 0, 0), count, text(count, PAGE)):
        count += 1
    old = {n: text(n, PAGE) for n in range(count)}
    for n in old:
        assert pool.put((n % 20, 0, 0), n, old[n]), "the same page again"
        shorter = old[n][:PAGE // 2]
        assert pool.put((n % 20, 0, 0), n, shorter) and pool.get((n % 20, 0, 0), n) == shorter
        assert pool.put((n % 20, 0, 0), n, old[n]) and pool.get((n % 20, 0, 0), n) == old[n]
    assert eng.check().ok and stats(pool)["pages"] == count
    refused = 0
    for n in old:
        if pool.put((n % 20, 0, 0), n, noise):
            assert pool.get((n % 20, 0, 0), n) == noise
        else:
            refused += 1
            assert pool.get((n % 20, 0, 0), n) is None
    assert refused and eng.check().ok


@pytest.mark.parametrize("policy", list(POLICIES))
@both
def test_ephemeral_pages_make_room(make_arena, pam, policy):
    eng = make_arena(capacity="2MiB", page_size=PAGE)
    pool = eng.new_pool("p", pam=pam, policy=policy)
    contents = [mixed(n, PAGE) for n in range(64)]
    for n in range(4000):
        assert pool.put((n // 64, 0, 0), n % 64, contents[n * 7 % 64])
        assert pool.get((n // 64, 0, 0), n % 64) == contents[n * 7 % 64]
    there = [
        n for n in range(4000) if pool.get((n // 64, 0, 0), n % 64, free=False) not in (None, contents[n * 7 % 64])
    ]
    counters = stats(pool)
    assert not there and counters["evicted"] > 1000 and counters["pages"] + counters["evicted"] == 4000
    assert eng.check().ok


# --- damage ---------------------------------------------------------------------------------------


class Damaged:
    """An arena with one page, and the arena's file to write into: the page's bytes, or words of its
    descriptor."""

    def __init__(self, eng, pam, data, **kwargs):
        self.eng, self.data = eng, data
        self.pool = eng.new_pool("p", pam=pam, **(kwargs or dict(persistent=True)))
        assert self.pool.put(OID, 0, data)
        self.fd = os.open(SHM / eng.name, os.O_RDWR)
        self.chunk, generation = self.pool.descriptor(OID, 0)
        start = os.fstat(self.fd).st_size - eng.capacity - (8 << 20)
        raw = os.pread(self.fd, 10 << 20, start)
        words = self.chunk.to_bytes(8, "little"), generation.to_bytes(8, "little")
        self.at = next(
            start + at
            for at in range(0, len(raw), 64)
            if raw[at + 32 : at + 40] == words[0] and raw[at + 48 : at + 56] == words[1]
        )
        self.shape = self.word(40)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        os.close(self.fd)

    def word(self, field):
        return int.from_bytes(os.pread(self.fd, 8, self.at + field), "little")

    def write(self, field, value):
        os.pwrite(self.fd, value.to_bytes(8, "little"), self.at + field)

    @property
    def stored(self):
        return self.shape >> PACKED_SHIFT

    def reads(self):
        """Every way to get the page; the last one removes it if it can."""
        buffer = bytearray(PAGE)
        return [
            lambda: self.pool.get(OID, 0, free=False),
            lambda: bytes(buffer[: self.pool.get_into(OID, 0, buffer, free=False)]),
            lambda: self.pool.get_range(OID, 0, 1, free=False),
            lambda: self.pool.object(OID).get(0, free=False),
            lambda: self.pool.get(OID, 0, free=True),
        ]


@both
def test_bytes_that_are_no_page(make_arena, pam):
    with Damaged(make_arena(page_size=PAGE), pam, text(1, PAGE)) as one:
        assert 0 < one.stored < PAGE // 2
        for bad in (b"\xff" * one.stored, random.Random(1).randbytes(one.stored)):
            os.pwrite(one.fd, bad, one.chunk)
            for read in one.reads():
                with pytest.raises(engine.ArenaCorrupted, match="does not decompress"):
                    read()
            assert one.eng.check().ok, "a check does not decompress"
            assert one.pool.put(OID, 0, one.data) and one.pool.get(OID, 0) == one.data


@both
def test_any_damage_of_the_bytes_is_an_error_or_a_page(make_arena, pam):
    with Damaged(make_arena(page_size=PAGE), pam, text(1, PAGE)) as one:
        rnd, good, raised = random.Random(2), os.pread(one.fd, one.stored, one.chunk), 0
        for _ in range(1500):
            bad = bytearray(good)
            for _ in range(rnd.choice((1, 1, 2, 20))):
                bad[rnd.choice((0, 1, 2, 3, 4, 5, rnd.randrange(len(bad))))] = rnd.randrange(256)
            os.pwrite(one.fd, bad, one.chunk)
            try:
                assert len(rnd.choice(one.reads()[:-1])()) == PAGE
            except engine.ArenaCorrupted:
                raised += 1
        assert raised > 100
        os.pwrite(one.fd, good, one.chunk)
        assert one.pool.get(OID, 0) == one.data and one.eng.check().ok


@both
def test_a_page_that_unpacks_to_another_length(make_arena, pam):
    with Damaged(make_arena(page_size=PAGE), pam, text(1, PAGE)) as one:
        for length in (PAGE - 1, PAGE // 2, 1, PAGE // 2 + 7):
            one.write(40, one.shape >> 32 << 32 | length)
            for read in one.reads()[:4]:
                with pytest.raises(engine.ArenaCorrupted):
                    read()
        for stored in (1, one.stored - 1, one.stored // 2, PAGE - 1, 0xFFFF):
            one.write(40, one.shape & (1 << PACKED_SHIFT) - 1 | stored << PACKED_SHIFT)
            for read in one.reads()[:4]:
                with pytest.raises(engine.ArenaCorrupted):
                    read()
        one.write(40, one.shape)
        assert one.pool.get(OID, 0) == one.data


@pytest.mark.parametrize("flags", [0, 1, 2, 4, 5, 6, 8, 10, 12, 14, 255])
@pytest.mark.parametrize("pam", [*PAMS, "raw"])
def test_a_page_of_another_codec(make_arena, pam, flags):
    """A pool unpacks pages of its own codec alone, and a raw pool none; check says so, and a repair
    drops the object."""
    own = {"lz4": 4, "zstd": 8, "raw": None}[pam]
    for data in (text(1, PAGE), noise[:2000]):
        with Damaged(make_arena(page_size=PAGE), pam, data) as one:
            stored = one.stored or 1000
            if own == flags and one.stored:
                continue
            one.write(40, one.shape & (1 << FLAGS_SHIFT) - 1 | flags << FLAGS_SHIFT | stored << PACKED_SHIFT)
            for read in one.reads()[:4]:
                with pytest.raises(engine.ArenaCorrupted):
                    read()
            report = one.eng.check()
            if not (flags == own and data == noise[:2000]):
                assert "page-packed" in {problem.id for problem in report.problems}
                assert one.eng.check(repair=True).ok and one.pool.get(OID, 0) is None


@both
def test_a_chunk_outside(make_arena, pam):
    with Damaged(make_arena(page_size=PAGE), pam, text(1, PAGE)) as one:
        for bad in (0, 64, one.chunk + 8, 1 << 40, 2**64 - 64):
            one.write(32, bad)
            for read in one.reads()[:4]:
                with pytest.raises(engine.ArenaCorrupted):
                    read()
        one.write(32, one.chunk)
        assert one.pool.get(OID, 0) == one.data


@both
def test_a_repair_counts_what_is_stored(make_arena, pam):
    with Damaged(make_arena(page_size=PAGE), pam, text(1, PAGE), persistent=True) as one:
        assert one.pool.put(OID, 5, noise) and one.pool.put(OID, 6, b"x" * 300)
        before = stats(one.pool)
        obj = one.word(16)
        os.pwrite(one.fd, (12345).to_bytes(8, "little"), obj + 104)
        assert {problem.id for problem in one.eng.check().problems} == {"obj-bytes"}
        report = one.eng.check(repair=True)
        assert report.ok and not report.lost and one.eng.check().ok
        assert stats(one.pool)["bytes_stored"] == before["bytes_stored"] and one.pool.get(OID, 0) == one.data
        assert one.pool.flush_object(OID) and stats(one.pool)["bytes_stored"] == 0 and one.eng.check().ok


# --- threads, processes, packages -----------------------------------------------------------------


@both
def test_threads(make_arena, pam):
    """A codec's context serves one call at a time, and threads unpack while others pack."""
    pool = make_arena(page_size=PAGE).new_pool("p", pam=pam, persistent=True)
    errors = []

    def work(n):
        try:
            for turn in range(300):
                data = text(n * 1000 + turn, PAGE)
                assert pool.put((n, 0, 0), turn % 9, data) and pool.get((n, 0, 0), turn % 9) == data
                assert pool.put_range((n, 1, 0), 0, data * 3) and pool.get_range((n, 1, 0), 0, 3) == data * 3
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors and pool.engine.check().ok


def _write(pool, until):
    n = 0
    while time.monotonic() < until:
        n += 1
        pool.put(OID, 0, text(n % 8, PAGE) if n % 2 else mixed(4 * (n % 8) + 2, PAGE))
        pool.put_range(OID, 10, text(n % 8, PAGE) * 3)


@both
def test_readers_of_a_page_that_is_put_over_all_the_time(make_arena, pam):
    """What a reader without a lock copied is unpacked only once it is known to be a page."""
    pool = make_arena(page_size=PAGE).new_pool("p", pam=pam, persistent=True)
    allowed = {text(n, PAGE) for n in range(8)} | {mixed(4 * n + 2, PAGE) for n in range(8)}
    ranges = {text(n, PAGE) * 3 for n in range(8)}
    until = time.monotonic() + 0.5
    pid = os.fork()
    if pid == 0:
        try:
            _write(pool, until)
        finally:
            os._exit(0)
    buffer, seen = bytearray(PAGE), 0
    try:
        while time.monotonic() < until:
            for data in (pool.get(OID, 0), buffer if pool.get_into(OID, 0, buffer) == PAGE else None):
                assert data is None or bytes(data) in allowed
                seen += data is not None
            data = pool.get_range(OID, 10, 3)
            assert data is None or data in ranges
    finally:
        os.waitpid(pid, 0)
    assert seen > 100 and pool.engine.check().ok


@both
def test_a_forked_child(make_arena, pam):
    pool = make_arena(page_size=PAGE).new_pool("p", pam=pam)
    assert pool.put(OID, 0, text(1, PAGE))
    pid = os.fork()
    if pid == 0:
        good = pool.get(OID, 0) == text(1, PAGE) and pool.put(OID, 1, text(2, PAGE))
        os._exit(0 if good else 1)
    assert os.waitpid(pid, 0)[1] == 0 and pool.get(OID, 1) == text(2, PAGE)


def _look(pool, data):
    assert pool.get(OID, 0) == data


@both
def test_a_spawned_worker(make_arena, pam):
    eng = make_arena(page_size=PAGE)
    pool = eng.new_pool("p", pam=pam, persistent=True)
    assert pool.put(OID, 0, text(1, PAGE))
    with eng.spawn(1, _look, pool, text(1, PAGE)) as crew:
        pass
    assert crew.exitcodes == [0]


def _run(code):
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)


def test_the_packages_are_imported_with_the_first_pool_that_needs_them(make_arena):
    eng = make_arena(page_size=PAGE)
    eng.new_pool("p", pam="lz4", persistent=True).put(OID, 0, text(1, PAGE))
    code = f"""
import engine, sys
def loaded(): return sorted({{"lz4", "zstandard"}} & set(sys.modules))
eng = engine.attach({eng.name!r})
print(loaded(), [pool.pam for pool in eng.pools()], eng.check().ok, eng.stats()["total"]["pages"], loaded())
print(len(eng.pool("p").get({OID!r}, 0)), loaded())
eng.close()
"""
    done = _run(code)
    assert done.stdout == "[] ['lz4'] True 1 []\n4096 ['lz4']\n", done.stderr


@pytest.mark.parametrize(("pam", "package"), [("lz4", "lz4"), ("zstd", "zstandard")])
def test_without_the_package(make_arena, pam, package):
    """The error says what to install; everything else goes on."""
    eng = make_arena(page_size=PAGE)
    pool = eng.new_pool("p", pam=pam, persistent=True)
    assert pool.put(OID, 0, text(1, PAGE)) and pool.put(OID, 1, noise)
    code = f"""
import sys
sys.modules[{package!r}] = None
import engine
eng = engine.attach({eng.name!r})
for call in (lambda: eng.new_pool("q", pam={pam!r}), lambda: eng.pool("p").get({OID!r}, 0),
             lambda: eng.pool("p").put({OID!r}, 0, b"x" * 500)):
    try:
        call()
    except engine.TmemError as error:
        assert type(error) is engine.TmemError and "pip install 'tmem[{pam}]'" in str(error), error
    else:
        sys.exit("no error")
assert eng.check().ok and eng.new_pool("r").put((1, 1, 1), 1, b"x")
eng.close()
"""
    done = _run(code)
    assert done.returncode == 0, done.stderr + done.stdout
    assert pool.get(OID, 0) == text(1, PAGE)

"""Owns what attach refuses: files that are not arenas, are cut short, have another layout, or
belong to somebody else."""
import os
import struct

import pytest
import xxhash

import engine
from tests.support import SHM, SMALL


@pytest.fixture
def file(arena_name):
    """The file of an arena with one page in it; nobody is attached."""
    with engine.create(arena_name, **SMALL) as eng:
        assert eng.new_pool("p", persistent=True).put((1, 2, 3), 0, b"page")
    return SHM / arena_name


def refused(file):
    with pytest.raises(engine.ArenaCorrupted, match=file.name):
        engine.attach(file.name)


@pytest.mark.parametrize("size", [0, 1, 7, 8, 100, 4095, 4096, 8192])
def test_a_truncated_file(file, size):
    os.truncate(file, size)
    refused(file)


def test_a_file_that_lacks_its_last_byte(file):
    os.truncate(file, file.stat().st_size - 1)
    refused(file)


@pytest.mark.parametrize("content", [b"", b"hello", bytes(1 << 16), b"\xff" * (1 << 16), b"tmem" * 5000])
def test_a_foreign_file_under_the_name(arena_name, content):
    file = SHM / arena_name
    file.write_bytes(content)
    refused(file)
    assert file.read_bytes() == content


def test_a_directory_under_the_name(arena_name):
    (SHM / arena_name).mkdir()
    try:
        with pytest.raises(engine.TmemError, match=arena_name):
            engine.attach(arena_name)
    finally:
        (SHM / arena_name).rmdir()


@pytest.mark.parametrize("offset", range(0, 120, 4))
def test_another_number_in_the_header(file, offset):
    """Magic, layout id, checksum and geometry: a change of any word is noticed."""
    with file.open("r+b") as stream:
        stream.seek(offset)
        word = stream.read(4)
        stream.seek(offset)
        stream.write(bytes(255 - byte for byte in word))
    refused(file)


@pytest.mark.parametrize(
    "word,value",
    [
        ("capacity", 0),
        ("seg_shift", 70),
        ("seg_total", 1 << 40),
        ("max_workers", 0),
        ("max_workers", 1 << 40),
        ("bounce_bytes", 100),
        ("ledger_bytes", 1 << 62),
        ("client_bytes", 4095),
        ("mode", 1 << 40),
        ("huge", 2),
    ],
)
def test_an_impossible_geometry_whose_checksum_is_right(file, word, value):
    fields = (
        "capacity",
        "seg_shift",
        "seg_total",
        "max_workers",
        "bounce_bytes",
        "ledger_bytes",
        "client_bytes",
        "mode",
        "huge",
    )
    with open(file, "r+b") as arena:
        header = bytearray(arena.read(24 + 8 * (len(fields) + 16)))
        struct.pack_into("<Q", header, 24 + 8 * fields.index(word), value)
        struct.pack_into("<Q", header, 16, xxhash.xxh64_intdigest(bytes(header[24:])))
        arena.seek(0)
        arena.write(header)
    refused(file)


def test_the_magic_is_where_the_file_starts(file):
    assert file.read_bytes()[:len(engine.ARENA_MAGIC)] == engine.ARENA_MAGIC


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_a_user_without_permission(file):
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            os.setuid(65534)
            for call in (engine.attach, engine.unlink):
                try:
                    call(file.name)
                except engine.AccessDenied as error:
                    status = 0 if file.name in str(error) else 2
                else:
                    status = 3
                if status:
                    break
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    with engine.attach(file.name) as eng:
        assert eng.pool("p").get((1, 2, 3), 0) == b"page"


def test_a_refused_attach_leaves_no_descriptor(file):
    os.truncate(file, 4096)
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        refused(file)
    assert len(os.listdir("/proc/self/fd")) == before

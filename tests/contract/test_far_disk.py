"""Owns what the reads and writes of a file come to that are under way together."""
import errno
import mmap
import os
import random
import subprocess
import sys

import pytest

from engine.far.disk import Disk
from tests.contract.fars import PAGE, content, fill, get, stats
from tests.refusing import number_of, refusing

BLOCK = 4096
SIZE = 1 << 20


@pytest.fixture(params=["past the page cache", "buffered"])
def file(request, tmp_path):
    """A descriptor of a file, and what is in it."""
    data = random.Random(1).randbytes(SIZE)
    (tmp_path / "file").write_bytes(data)
    fd = os.open(tmp_path / "file", os.O_RDWR | (os.O_DIRECT if request.param[0] == "p" else 0))
    yield fd, data
    os.close(fd)


def room_of(size):
    return memoryview(mmap.mmap(-1, size))


def assert_right(fd, data, disk, count=100):
    rnd = random.Random(count)
    spans = []
    for n in range(count):
        length = rnd.randrange(1, 8) * BLOCK
        spans.append((rnd.randrange(SIZE // BLOCK) * BLOCK, n * 8 * BLOCK, length))
    room = room_of(count * 8 * BLOCK)
    found = disk.read(fd, room, spans)
    assert found == [min(length, SIZE - at) for at, _, length in spans]
    for (at, place, _), got in zip(spans, found, strict=True):
        assert room[place:place + got] == data[at:at + got]


def test_reads(file):
    """More at once than the kernel is given."""
    disk = Disk()
    assert disk.read(file[0], room_of(BLOCK), []) == []
    for count in (1, 2, 32, 33, 100):
        assert_right(*file, disk, count)


def test_reads_that_fail(file, tmp_path):
    fd, _ = file
    disk = Disk()
    room = room_of(2 * BLOCK)
    assert disk.read(fd, room, [(2 * SIZE, 0, BLOCK), (0, BLOCK, BLOCK)]) == [0, BLOCK]
    folder = os.open(tmp_path, os.O_RDONLY)
    try:
        found = disk.read(folder, room, [(0, 0, BLOCK)] * 3)
    finally:
        os.close(folder)
    assert len(found) == 3 and all(code in (-errno.EISDIR, -errno.EINVAL) for code in found)
    assert disk.read(1 << 20, room, [(0, 0, BLOCK)]) == [-errno.EBADF]
    assert_right(*file, disk)


def test_spans_outside_the_room(file):
    disk = Disk()
    for place, length in ((1, BLOCK), (0, BLOCK + 1), (-1, 1), (BLOCK, -1), (BLOCK + 1, 0)):
        with pytest.raises((ValueError, OverflowError)):
            disk.read(file[0], room_of(BLOCK), [(0, place, length)])
    with pytest.raises(BufferError):
        disk.read(file[0], bytes(BLOCK), [(0, 0, BLOCK)])
    assert_right(*file, disk)


def test_a_write(file):
    fd, _ = file
    disk = Disk()
    room = room_of(3 * BLOCK)
    for n in range(3):
        room[:] = bytes([n]) * len(room)
        disk.begin(fd, room, n * BLOCK)
        assert disk.end() == len(room)
    assert disk.end() == 0
    got = room_of(5 * BLOCK)
    assert disk.read(fd, got, [(0, 0, 5 * BLOCK)]) == [5 * BLOCK]
    assert got == b"\0" * BLOCK + b"\1" * BLOCK + b"\2" * 3 * BLOCK


def test_a_write_that_nobody_ends(file):
    """What is being written stays until it is written."""
    fd, _ = file
    got = room_of(64 * BLOCK)
    for n in range(1, 21):
        disk = Disk()
        room = room_of(64 * BLOCK)
        room[:] = bytes([n]) * len(room)
        disk.begin(fd, room, n * BLOCK)
        del disk, room
        assert Disk().read(fd, got, [(n * BLOCK, 0, len(got))]) == [len(got)] and got == bytes([n]) * len(got)


def test_a_write_that_nobody_has_ended_is_waited_for(file):
    """As after an exception of a signal handler: the next one has the disk to itself."""
    disk = Disk()
    rooms = [room_of(64 * BLOCK) for _ in range(3)]
    for n, room in enumerate(rooms):
        room[:] = bytes([n]) * len(room)
        disk.begin(file[0], room, n * len(room))
    assert disk.end() == len(rooms[2]) and disk.end() == 0
    got = room_of(3 * 64 * BLOCK)
    assert disk.read(file[0], got, [(0, 0, len(got))]) == [len(got)]
    assert got == b"".join(rooms)


def test_the_end_of_the_interpreter(tmp_path):
    """A disk that lasts longer than the modules goes without a word."""
    program = f"""
import mmap, os, sys
import engine.far.disk
disk = engine.far.disk.keep = sys.keep = engine.far.disk.Disk()
fd = os.open({os.fspath(tmp_path / "file")!r}, os.O_RDWR | os.O_CREAT)
os.pwrite(fd, bytes(4096), 0)
assert disk.read(fd, mmap.mmap(-1, 4096), [(0, 0, 4096)]) == [4096]
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stderr) == (0, "")


def test_a_forked_child(file):
    """It has nothing under way, and makes a context of its own."""
    fd, data = file
    disk = Disk()
    assert_right(fd, data, disk)
    room = room_of(BLOCK)
    room[:] = data[:BLOCK]
    disk.begin(fd, room, 0)
    child = os.fork()
    if not child:
        code = 1
        try:
            assert disk.end() == 0
            assert_right(fd, data, disk)
            disk.begin(fd, room, 0)
            code = disk.end() != BLOCK
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0
    assert disk.end() == BLOCK
    assert_right(fd, data, disk)


def test_where_the_kernel_has_no_such_calls(make_arena, tmp_path, file):
    """A sandbox may refuse them: each is made by itself."""
    fd, data = file
    pool = make_arena(page_size=PAGE, capacity="3MiB", huge_pages=False).new_pool(
        "p", far=f"file://{tmp_path}/far?size=16MiB", localify=False)
    number_of("io_setup")
    child = os.fork()
    if not child:
        code = 1
        try:
            refusing("io_setup")
            assert_right(fd, data, Disk())
            fill(pool, 1100)
            assert stats(pool)["far_pages"] > 200
            assert pool.get_many([((n // 16, 0, 0), n % 16) for n in range(1100)]) == [content(n) for n in range(1100)]
            assert all(get(pool, n) == content(n) for n in range(0, 1100, 9))
            code = 0
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0

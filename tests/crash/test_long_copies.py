"""Owns the promise of a get that copies a long page without a lock: the page is known by its
generation, and whatever is done to it in the middle of the copy, what comes back was under the
handle as a whole.

The reader is a child that copies into memory which its parent sees filling up. It is stopped
(SIGSTOP) when some of it is there and some not; then the parent acts, and lets it go on.
"""
import contextlib
import mmap
import os
import random
import signal
import struct
import time

import pytest

import engine
from tests.crash.killing import HUGE
from tests.stopped import fork

MIB = 1 << 20
OID = (1, 2, 3)
TRIES = 300
PATIENCE_S = 60
NOISE = [random.Random(n).randbytes(MIB).replace(b"\0", b"\1") for n in range(4)]
PAGES = {length: [(b"%d/" % n + noise * (length // MIB))[:length] for n, noise in enumerate(NOISE)]
         for length in (8 * MIB, 16 * MIB)}


@pytest.fixture
def arena(make_arena):
    """One bucket: whoever writes to any object writes to that of the page."""
    return make_arena(capacity="128MiB", page_size=4096, buckets=1, max_pinned="64MiB")


class Reader:
    """A child that gets a page, stopped in the middle of the copy: `answer` lets it go on, and is
    (length or -1, what is in the buffer, kill points that it came by: none without a lock)."""

    def __init__(self, eng, length):
        for _ in range(TRIES):
            self.buffer = mmap.mmap(-1, length + 16)
            self.length = length
            self.pid = fork(self.read, eng.name)
            if self.stop():
                return
            self.end()
        raise AssertionError("the reader could not be stopped in the middle")

    def read(self, name):
        os.nice(19)             # so that who watches is awake when the copy begins, also on a busy machine
        with engine.attach(name) as mine:
            pool = mine.pool("p")
            mine.set_kill_point(HUGE)
            got = pool.get_into(OID, 0, memoryview(self.buffer)[:self.length])
            struct.pack_into("<qq", self.buffer, self.length, got, mine.kill_points())

    def filled(self):
        """Places of which each is copied, or is not yet. Not the first bytes, which the C library
        may write twice."""
        places = 65536, self.length // 4, self.length // 2, self.length - 1
        return {at: self.buffer[at] != 0 for at in places}

    def stop(self):
        """True if it stands in the middle."""
        deadline = time.monotonic() + PATIENCE_S
        while not any(self.filled().values()):
            assert time.monotonic() < deadline
        os.kill(self.pid, signal.SIGSTOP)
        _, status = os.waitpid(self.pid, os.WUNTRACED)
        if os.WIFSTOPPED(status):
            return not all(self.filled().values())
        self.pid = 0
        return False

    def end(self):
        if self.pid:
            os.kill(self.pid, signal.SIGCONT)
            assert os.waitpid(self.pid, 0)[1] == 0
            self.pid = 0

    def blot(self):
        """Change a byte that is copied already: where. If the page is copied again it is right."""
        at = next(at for at, there in self.filled().items() if there)
        self.buffer[at] = 0
        return at

    def answer(self):
        self.end()
        got, points = struct.unpack_from("<qq", self.buffer, self.length)
        return got, self.buffer[:max(got, 0)], points

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)


@pytest.mark.parametrize("length", PAGES)
@pytest.mark.parametrize("persistent", [True, False])
def test_others_write_to_the_bucket_meanwhile(arena, length, persistent):
    """It is the page that counts, and not whether its bucket was written to: one copy, no lock."""
    pool = arena.new_pool("p", persistent=persistent, page_size=length)
    data = PAGES[length][0]
    assert pool.put(OID, 0, data)
    with Reader(arena, length) as reader, contextlib.ExitStack() as views:
        for n in range(100):
            assert pool.put((n % 7, 0, 0), n, bytes([n + 1]) * 3000)
        assert pool.put(OID, 1, data[:MIB]) and pool.flush_page(OID, 1)
        views.enter_context(pool.view(OID, 0))          # which notes in the page's words that it was viewed
        at = reader.blot()
        got, found, points = reader.answer()
        assert got == length and found == data[:at] + b"\0" + data[at + 1:]
        assert points <= (not persistent)               # the hit of an ephemeral page is a point, a lock would be more
    assert arena.check().ok


@pytest.mark.parametrize("length", PAGES)
@pytest.mark.parametrize("puts", [1, 2, 3])
def test_the_page_is_replaced_meanwhile(arena, length, puts):
    """After the second put the page may lie where it lay, as long as it was, and is another."""
    pool = arena.new_pool("p", persistent=True, page_size=length)
    pages = PAGES[length]
    assert pool.put(OID, 0, pages[0])
    with Reader(arena, length) as reader:
        for n in range(1, puts + 1):
            assert pool.put(OID, 0, pages[n])
        got, found, points = reader.answer()
        assert got == length and found == pages[puts] and points == 0
    assert arena.check().ok


def test_a_shorter_page_comes_meanwhile(arena):
    length = 8 * MIB
    pool = arena.new_pool("p", persistent=True, page_size=length)
    assert pool.put(OID, 0, PAGES[length][0])
    with Reader(arena, length) as reader:
        for data in (PAGES[length][1][:3 * MIB], b"short", PAGES[length][2][:100_000]):
            assert pool.put(OID, 0, data)
        got, found, points = reader.answer()
        assert got == len(data) and found == data and points == 0
    assert arena.check().ok


@pytest.mark.parametrize("again", [False, True])
def test_the_page_goes_meanwhile(arena, again):
    """And its memory becomes another page's, or its own again."""
    length = 8 * MIB
    pool = arena.new_pool("p", persistent=True, page_size=length)
    assert pool.put(OID, 0, PAGES[length][0])
    with Reader(arena, length) as reader:
        assert pool.flush_object(OID)
        for n in range(3):
            assert pool.put((n, 9, 9), 0, PAGES[length][1])
        if again:
            assert pool.put(OID, 0, PAGES[length][0])
        got, found, points = reader.answer()
        assert (got, found, points) == ((length, PAGES[length][0], 0) if again else (-1, b"", 0))
    assert arena.check().ok


def test_the_pool_goes_meanwhile(arena):
    length = 8 * MIB
    pool = arena.new_pool("p", persistent=True, page_size=length)
    assert pool.put(OID, 0, PAGES[length][0])
    with Reader(arena, length) as reader:
        pool.destroy()
        other = arena.new_pool("p", persistent=True, page_size=length)
        assert other.put(OID, 0, PAGES[length][1])
        os.kill(reader.pid, signal.SIGCONT)
        assert os.waitstatus_to_exitcode(os.waitpid(reader.pid, 0)[1]) == 1     # PoolDestroyed
        reader.pid = 0
    assert arena.check().ok


def test_a_bucket_that_is_written_to_all_the_time(arena):
    """Nobody is stopped: each get copies for longer than the bucket is ever left alone. Most take
    no lock all the same; but where the system puts the writer to sleep while it has the bucket."""
    length = 8 * MIB
    pool = arena.new_pool("p", persistent=True, page_size=length)
    data = PAGES[length][0]
    assert pool.put(OID, 0, data)
    count = mmap.mmap(-1, 16)

    def write():
        with engine.attach(arena.name) as mine:
            theirs = mine.pool("p")
            for n in range(1 << 60):
                assert theirs.put((n % 7, 0, 0), n % 50, bytes([n & 255]) * 100)
                struct.pack_into("<q", count, 0, n)

    writer = fork(write)
    try:
        deadline = time.monotonic() + PATIENCE_S
        buffer, between, without = bytearray(length), 0, 0
        while without < 10:
            assert time.monotonic() < deadline and between < 100
            before = struct.unpack_from("<q", count)[0]
            arena.set_kill_point(HUGE)
            assert pool.get_into(OID, 0, buffer) == length and buffer == data
            # With so many puts between two looks at the counter, some came in the middle.
            if struct.unpack_from("<q", count)[0] > before + 50:
                between += 1
                without += arena.kill_points() == 0
    finally:
        os.kill(writer, signal.SIGKILL)
        os.waitpid(writer, 0)
    assert arena.check().ok

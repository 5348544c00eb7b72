"""Owns what a disk that fails does to a far tier in a file: errors, and reads and writes that are
too short. Nothing of it reaches who puts or gets but misses, and no page is lost that is still
there.
"""
import errno
import itertools
import os
import sys
import threading

import pytest

import engine.far.file
from engine.far.file import FileTier
from tests.contract.fars import PAGE, MoodyDisk, assert_sound, content, fill, get, stats
from tests.stopped import fork

PAGES = 1100


@pytest.fixture
def disk(monkeypatch):
    """The disk of far tiers in files."""
    class Own(MoodyDisk):
        pass
    monkeypatch.setattr(engine.far.file, "Disk", Own)
    return Own


@pytest.fixture
def pool(make_arena, tmp_path, disk):
    found = make_arena(page_size=PAGE, capacity="3MiB", huge_pages=False, shards=4).new_pool(
        "p", far=f"file://{tmp_path}/far?size=16MiB")
    fill(found, PAGES)
    return found


def failing(code):
    def call(*_):
        raise OSError(code, os.strerror(code))
    return call


def cut(call, least):
    """The call does half of what it is asked, in whole blocks of so many bytes."""
    def half(fd, buffers, at, *rest):
        size = sum(map(len, buffers)) // 2 // least * least
        return call(fd, [memoryview(buffers[0])[:size]], at, *rest) if size else 0
    return half


WRITES = {"EIO": lambda done: -errno.EIO, "ENOSPC": lambda done: -errno.ENOSPC, "EDQUOT": lambda done: -errno.EDQUOT,
          "half": lambda done: done // 2, "nothing": lambda done: 0}


@pytest.mark.parametrize("how", list(WRITES))
def test_a_batch_that_is_not_written(pool, disk, monkeypatch, how):
    """Its pages stay as they are, and so do those that were far before."""
    before = stats(pool)
    with monkeypatch.context() as patch:
        patch.setattr(disk, "writes", WRITES[how])
        n = PAGES
        while stats(pool)["evicted"] < before["evicted"] + 200:
            assert pool.put((n // 16, 0, 0), n % 16, content(n))
            n += 1
            if n % 32 == 31:
                assert pool.engine.spill() == 0
        pool.engine.tend()
    found = stats(pool)
    assert found["spilled"] == before["spilled"] and found["far_pages"] == before["far_pages"]
    assert found["far_skipped"] >= 200
    assert pool.engine.spill() > 0          # the disk is well again
    for m in range(n):
        assert get(pool, m) in (None, content(m))
    assert stats(pool)["checksum_bad"] == 0
    assert_sound(pool.engine)


@pytest.mark.parametrize("step", ["begin", "end"])
def test_a_disk_that_takes_its_time_keeps_no_other_thread_waiting(pool, disk, monkeypatch, step):
    """Also where it waits for what is only begun, as of a file system without asynchronous
    calls."""
    slow, done = threading.Event(), threading.Event()
    call = getattr(disk, step)

    def wait(self, *args):
        slow.set()
        assert done.wait(60)
        return call(self, *args)
    monkeypatch.setattr(disk, step, wait)
    for n in range(PAGES, PAGES + 200):
        assert pool.put((n // 16, 0, 0), n % 16, content(n))
    thread = threading.Thread(target=pool.engine.spill)
    thread.start()
    assert slow.wait(60)
    try:
        assert get(pool, n) == content(n)       # else it would wait for the disk, which waits for it
        assert pool.put((n // 16, 0, 0), n % 16, content(n, 1))
    finally:
        done.set()
        thread.join()
    assert get(pool, n) == content(n, 1)
    assert_sound(pool.engine)


class Interrupt(Exception):
    """What a signal handler raises."""


def raising_at(point, seen):
    """A trace function that raises before an instruction of what a file does for a spill, the one
    of this number; `seen` counts them."""
    codes = {getattr(FileTier, verb).__code__ for verb in ("prepare", "begin_put", "end_put")}

    def step(frame, event, arg):
        if event in ("opcode", "line"):     # not every Python tells of all opcodes
            seen.append(frame.f_lineno)
            if len(seen) == point + 1:
                raise Interrupt
        return step

    def enter(frame, event, arg):
        if frame.f_code not in codes:
            return None
        frame.f_trace_opcodes = True
        return step
    return enter


def test_an_exception_anywhere_in_a_spill_leaves_a_file_that_can_be_spilled_to(make_arena, tmp_path):
    """A write that is under way is waited for, and the next round goes on."""
    pool = make_arena(page_size=PAGE, capacity="3MiB", huge_pages=False, shards=4).new_pool(
        "p", far=f"file://{tmp_path}/far?size=16MiB")
    fill(pool, PAGES)
    numbers = itertools.count(PAGES)
    point, raised = 0, True
    traced = sys.gettrace()
    while raised:
        seen, raised = [], False
        for turn in range(2):
            before = stats(pool)["spilled"]
            for n in itertools.islice(numbers, 100):
                assert pool.put((n // 16, 0, 0), n % 16, content(n))
            try:
                if turn == 0:
                    sys.settrace(raising_at(point, seen))
                pool.engine.spill()
            except Interrupt:
                raised = True
            finally:
                sys.settrace(traced)
            assert turn == 0 or stats(pool)["spilled"] > before, f"nothing is spilled after line {seen[-1]}"
        point += 1
    assert point > 10
    assert all(get(pool, n) in (None, content(n)) for n in range(next(numbers)))
    assert stats(pool)["checksum_bad"] == 0
    assert_sound(pool.engine)


READS = {"EIO": (failing(errno.EIO), lambda done: -errno.EIO), "half": (cut(os.preadv, 512), lambda done: done // 2),
         "nothing": (lambda *_: 0, lambda done: 0)}


@pytest.mark.parametrize("how", list(READS))
def test_a_page_that_is_not_read(pool, disk, monkeypatch, how):
    """It is a miss as long as the disk says so, and stays."""
    before = stats(pool)["far_pages"]
    with monkeypatch.context() as patch:
        patch.setattr(os, "preadv", READS[how][0])
        patch.setattr(disk, "reads", READS[how][1])
        patch.setattr(os, "pread", lambda fd, size, at: b"" if how != "EIO" else failing(errno.EIO)())
        missed = [n for n in range(PAGES) if get(pool, n) is None]
        oid = missed[0] // 16, 0, 0
        assert pool.get_range(oid, 0, 16) is None
        assert pool.get_many([(oid, missed[0] % 16)] * 2) == [None, None]
        assert pool.get(oid, missed[0] % 16, free=True) is None
    assert len(missed) == before == stats(pool)["far_pages"]
    assert stats(pool)["far_failed"] >= before and stats(pool)["far_misses_gone"] == 0
    assert all(get(pool, n) == content(n) for n in range(PAGES))
    assert_sound(pool.engine)


def test_a_file_that_ends_in_the_middle_of_a_page(pool):
    """What is behind the end is gone, and what is before it is there."""
    path = pool.far.removeprefix("file://").partition("?")[0]
    os.truncate(path, 4096 + (2 << 20) + 100 * 4104 + 999)      # the second region is the first that is written
    found = [get(pool, n) for n in range(PAGES)]
    there = sum(data is not None for data in found)
    assert PAGES - there == stats(pool)["far_misses_gone"] > 100 and stats(pool)["far_hits"] > 50
    assert all(data in (None, content(n)) for n, data in enumerate(found))
    assert pool.engine.spill() >= 0 and stats(pool)["far_failed"] == 0
    assert_sound(pool.engine)


@pytest.mark.parametrize("sector", [512, 4096])
def test_a_disk_of_other_sectors(make_arena, tmp_path, disk, monkeypatch, sector):
    read = os.preadv

    def aligned(fd, buffers, at):
        if os.fstat(fd).st_size <= at:
            return 0            # before anybody looks at where it begins
        if any(n % sector for n in (at, *map(len, buffers))):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        return read(fd, buffers, at)
    monkeypatch.setattr(os, "preadv", aligned)
    disk.spans = []
    eng = make_arena(page_size=PAGE, capacity="3MiB", huge_pages=False, shards=4)
    made = eng.new_pool("p", far=f"file://{tmp_path}/far?size=16MiB", localify=False)
    fill(made, PAGES)
    with engine.attach(eng.name) as other:
        for pool in (made, other.pool("p")):
            found = pool.get_many([((n // 16, 0, 0), n % 16) for n in range(PAGES)])
            assert found == [content(n) for n in range(PAGES)]
            assert [get(pool, n) for n in range(0, PAGES, 7)] == [content(n) for n in range(0, PAGES, 7)]
    assert disk.spans and not any(at % sector or length % sector for at, _, length in disk.spans)
    assert stats(made)["far_failed"] == 0


def test_descriptors_that_were_closed_and_are_others_now(pool, tmp_path):
    """A daemon closes all it has, and opens files of its own: nothing is read from them, written to
    them, or closed, and no page is lost by it."""
    far = stats(pool)["far_pages"]

    def daemon():
        found = [fd for fd in map(int, os.listdir("/proc/self/fd"))
                 if os.path.realpath(f"/proc/self/fd/{fd}") == str(tmp_path / "far")]
        other = os.open(tmp_path / "other", os.O_RDWR | os.O_CREAT)
        os.write(other, b"mine" * 10000)
        for fd in found:
            os.dup2(other, fd)
        missed = sum(get(pool, n) is None for n in range(PAGES))
        assert missed == far and pool.get_many([((0, 0, 0), n) for n in range(16)]).count(None) > 0
        for n in range(PAGES, PAGES + 300):
            pool.put((n // 16, 0, 0), n % 16, content(n))
        assert pool.engine.spill() == 0
        assert os.pread(other, 1 << 20, 0) == b"mine" * 10000
    pid = fork(daemon)
    assert os.waitpid(pid, 0)[1] == 0
    assert stats(pool)["far_misses_gone"] == stats(pool)["checksum_bad"] == 0
    assert_sound(pool.engine)

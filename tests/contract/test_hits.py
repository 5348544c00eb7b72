"""Owns the hits of pages: a get that counts its one late, when the page's descriptor is something
else by now, changes no page."""
import os
import signal
import struct

import engine
from tests.hostile.structs import CONSTANTS, Map, offset
from tests.support import SHM

PAGE = 4096


def words_at(eng, at, count=1):
    with open(SHM / eng.name, "rb") as file:
        return struct.unpack(f"<{count}Q", os.pread(file.fileno(), 8 * count, at))


def descriptor_of(eng, index):
    """Where the descriptor of a page lies, by its index: in a new arena there is one alone."""
    raw = (SHM / eng.name).read_bytes()
    low = Map(raw[:PAGE]).where["segments"]
    return next(at for at in range(low, len(raw) - 64, 64)
                if struct.unpack_from("<Q", raw, at)[0] == CONSTANTS["PAMPD_SENTINEL"]
                and struct.unpack_from("<Q", raw, at + offset("Pampd", "index"))[0] == index)


def stopped_reader(eng, pool, oid, index):
    """A process that has found and copied a page, and is stopped before it counts the hit: its
    pid."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            mine = engine.attach(eng.name)
            reading = mine.pool(pool)
            mine.set_kill_point(1, stop=True)
            code = reading.get(oid, index, False) is None
        finally:
            os._exit(code)
    _, status = os.waitpid(pid, os.WUNTRACED)
    assert os.WIFSTOPPED(status), status
    return pid


def go_on(pid):
    os.kill(pid, signal.SIGCONT)
    _, status = os.waitpid(pid, 0)
    assert os.WIFEXITED(status) and os.WEXITSTATUS(status) == 0, status


def test_a_late_hit_changes_no_page_of_somebody_else(make_arena):
    """The segment of the descriptor holds bytes of persistent pages by then, all words of which are
    the descriptor's generation."""
    eng = make_arena(capacity="1MiB", page_size=PAGE, buckets=2)
    kept = eng.new_pool("kept", persistent=True)
    with engine.attach(eng.name) as giver:
        eng.new_pool("looked-at")
        giving = giver.pool("looked-at")
        assert giving.put((1, 0, 0), 77, b"looked at " * 50)
        at = descriptor_of(eng, 77)
        gen = words_at(eng, at + offset("Pampd", "gen"))[0]
        for n in range(1100):  # the rest of its segment, and so many more that others have their descriptors elsewhere
            assert giving.put((2, 0, 0), n, b"%d, short" % n)
        assert kept.put((1, 0, 0), 0, b"kept")
        reader = stopped_reader(eng, "looked-at", (1, 0, 0), 77)
        try:
            giving.destroy()
            giver.close()           # what it has in its magazines goes back: the segment is free, and changes its class
            full, count = struct.pack("<Q", gen) * (PAGE // 8), 0
            while kept.put((2, 0, 0), count, full):
                count += 1
            there = words_at(eng, at, 8)
        finally:
            go_on(reader)
    assert there == (gen,) * 8
    assert [n for n in range(count) if kept.get((2, 0, 0), n) != full] == []
    report = eng.check()
    assert report.ok, report.problems[:3]


def mark_of(eng, at):
    with open(SHM / eng.name, "rb") as file:
        byte, shift = Map(os.pread(file.fileno(), PAGE, 0)).mark(at)
        return os.pread(file.fileno(), 1, byte)[0] >> shift & 3


def test_a_late_hit_counts_for_whoever_has_the_descriptor(make_arena):
    """The page was evicted, and its descriptor is another page's: that one has a hit too many, and
    all else is as it was."""
    eng = make_arena(capacity="1MiB", page_size=PAGE, shards=1)
    pool = eng.new_pool("p", cap=1)
    assert pool.put((1, 0, 0), 77, b"looked at")
    at = descriptor_of(eng, 77)
    reader = stopped_reader(eng, "p", (1, 0, 0), 77)
    try:
        assert pool.put((1, 0, 0), 78, b"its heir") and pool.put((1, 0, 0), 79, b"the heir's heir")
        assert pool.get((1, 0, 0), 77) is None and pool.get((1, 0, 0), 78) is None
        assert descriptor_of(eng, 79) == at and mark_of(eng, at) == 0
    finally:
        go_on(reader)
    assert mark_of(eng, at) == 1
    assert pool.get((1, 0, 0), 79) == b"the heir's heir"
    report = eng.check()
    assert report.ok, report.problems[:3]


def test_hits_are_counted_up_to_three_and_kept_by_a_put_over_the_page(make_arena):
    eng = make_arena(capacity="1MiB", page_size=PAGE)
    pool = eng.new_pool("p")
    assert pool.put((1, 0, 0), 77, b"page")
    at = descriptor_of(eng, 77)
    for hits in (1, 2, 3, 3):
        assert pool.get((1, 0, 0), 77) == b"page" and mark_of(eng, at) == hits
    assert pool.put((1, 0, 0), 77, b"over") and pool.put((1, 0, 0), 77, b"over" * 500) and mark_of(eng, at) == 3
    assert (
        pool.flush_page((1, 0, 0), 77)
        and pool.put((1, 0, 0), 5, b"new")
        and descriptor_of(eng, 5) == at
        and mark_of(eng, at) == 0
    )


def test_a_descriptor_that_moves_takes_its_hits_along(make_arena):
    eng = make_arena(capacity="4MiB", page_size=PAGE)
    kept, pool = eng.new_pool("kept", persistent=True), eng.new_pool("p")
    for n in range(1700):
        assert kept.put((1, 0, 0), n, b"%d" % n * 500)
        if n == 1500:       # in the second segment of descriptors, which is the emptier one in the end
            assert pool.put((1, 0, 0), 10**6, b"looked at twice")
    at = descriptor_of(eng, 10**6)
    for _ in range(2):
        assert pool.get((1, 0, 0), 10**6) == b"looked at twice"
    for n in range(1700):
        assert n % 10 == 0 or kept.flush_page((1, 0, 0), n)
    eng.resize("1MiB")
    moved = descriptor_of(eng, 10**6)
    assert moved != at and mark_of(eng, moved) == 2
    assert eng.check().ok

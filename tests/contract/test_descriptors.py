"""Owns the promise that a program which closes the engine's descriptors hears of it, and that
nobody else is harmed: no file of its own, no worker, no page."""
import os

import pytest

import engine
from tests.stopped import in_child

PRECIOUS = b"precious" * 4096


def take_numbers(folder, first=3, last=100):
    """Close all descriptors as daemons do, and have files of this program's own under their
    numbers."""
    os.closerange(first, last)
    paths = [folder / f"own-{n}" for n in range(12)]
    for path in paths:
        path.write_bytes(PRECIOUS)
        os.open(path, os.O_RDWR)
    return paths


def unharmed(paths):
    return all(path.read_bytes() == PRECIOUS and path.stat().st_blocks * 512 < 2 * len(PRECIOUS) for path in paths)


@pytest.mark.parametrize("when", ["after attaching", "in a forked child, before its first use"])
def test_a_program_that_closes_all_descriptors(make_arena, tmp_path, when):
    eng = make_arena(capacity="4MiB")
    pool = eng.new_pool("p", persistent=True)

    def daemon():
        mine = engine.attach(eng.name).pool("p") if when == "after attaching" else pool
        paths = take_numbers(tmp_path)
        # What needs no descriptor may go on; what does need one must say so, and then everything.
        with pytest.raises(engine.TmemError, match="closed the arena's file descriptors"):
            for n in range(9000):
                mine.put((7, n, 0), 0, b"x" * 512)
                mine.put_range((8, 0, 0), 0, bytes(512 * 700))
        for _ in range(3):
            with pytest.raises(engine.TmemError, match="attach again"):
                mine.put((7, 0, 0), 0, b"x")
        with engine.attach(eng.name) as again:
            assert again.pool("p").put((9, 0, 0), 0, b"attached again")
        assert unharmed(paths)

    assert in_child(daemon) == 0
    assert unharmed(tmp_path.glob("own-*"))
    eng.recover()
    assert pool.get((9, 0, 0), 0) == b"attached again"
    assert eng.check().ok and eng.stats()["arena"]["workers"] == 1


def test_a_worker_without_descriptors_is_not_buried_while_it_lives(make_arena, tmp_path):
    eng = make_arena(capacity="4MiB")
    pool = eng.new_pool("p", persistent=True)
    say, hear = os.pipe(), os.pipe()

    def closer():
        mine = engine.attach(eng.name)
        own = mine.pool("p")
        for n in range(4):
            own.put((1, 0, 0), n, b"before")
        keep = {say[1], hear[0]}
        for fd in range(3, 100):
            if fd not in keep:
                os.closerange(fd, fd + 1)
        os.write(say[1], b"%d" % mine.worker_id)
        os.read(hear[0], 1)
        for n in range(4):
            assert own.put((1, 0, 0), n, b"behind")        # page over page: no descriptor is needed
        os.write(say[1], b"done")
        os.read(hear[0], 1)

    pid = os.fork()
    if pid == 0:
        try:
            closer()
        finally:
            os._exit(0)
    slot = int(os.read(say[0], 10))
    assert eng.recover() == 0
    with engine.attach(eng.name) as other:
        assert other.worker_id != slot
        os.write(hear[1], b"g")
        assert os.read(say[0], 10) == b"done"
        assert other.pool("p").get((1, 0, 0), 3) == b"behind"
    os.write(hear[1], b"g")
    os.waitpid(pid, 0)
    for fd in say + hear:
        os.close(fd)
    assert eng.recover() == 1 and eng.check().ok and pool.get((1, 0, 0), 0) == b"behind"


def test_views_outlive_the_descriptors(make_arena, tmp_path):
    eng = make_arena(capacity="2MiB")
    pool = eng.new_pool("p", persistent=True)
    pool.put((1, 0, 0), 0, b"looked at" * 20)

    def viewer():
        mine = engine.attach(eng.name)
        with mine.pool("p").view((1, 0, 0), 0) as seen:
            take_numbers(tmp_path)
            with pytest.raises(engine.TmemError, match="descriptors"):
                mine.resize("1MiB")
            with engine.attach(eng.name) as other:
                other.recover()
                again = other.pool("p")
                assert again.flush_page((1, 0, 0), 0)
                for n in range(400):
                    again.put((2, 0, 0), n, b"of others" * 20)
            assert bytes(seen) == b"looked at" * 20

    assert in_child(viewer) == 0
    assert eng.recover() == 1 and eng.check().ok


def test_closing_an_engine_closes_nothing_of_others(make_arena, tmp_path):
    eng = make_arena(capacity="2MiB")

    def closer():
        mine = engine.attach(eng.name)
        paths = take_numbers(tmp_path)
        numbers = [fd for fd in range(3, 40) if os.path.exists(f"/proc/self/fd/{fd}")]
        try:
            mine.close()
        except engine.TmemError:
            pass
        del mine
        for fd in numbers:
            os.fstat(fd)
        assert unharmed(paths)

    assert in_child(closer) == 0


def test_a_cache_that_has_opened_its_arena_opens_it_again(arena_name, tmp_path):
    """The call that finds out says so; the next one goes on."""
    cache, other = engine.Cache(arena_name, capacity="4MiB"), engine.Cache(arena_name, "other")
    cache["k"], other["k"] = "kept", 1

    def daemon():
        assert cache["k"] == "kept"         # takes a place of its own
        other["k"] = 2
        paths = take_numbers(tmp_path)
        with pytest.raises(engine.TmemError, match="closed the arena's file descriptors"):
            for n in range(1000):
                cache[n] = b"x" * 20_000
        assert cache["k"] == "kept" and other["k"] == 2 and cache.incr("n") == 1
        other["k"] = 3
        with engine.attach(arena_name) as eng:
            assert eng.cache("other")["k"] == 3
        assert unharmed(paths)

    assert in_child(daemon) == 0
    assert other["k"] == 3 and unharmed(tmp_path.glob("own-*"))
    with engine.attach(arena_name) as eng:
        eng.recover()
        assert eng.check().ok

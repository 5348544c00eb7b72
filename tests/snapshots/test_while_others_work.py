"""A save while others put, get, flush, clear, destroy and resize: each object is as it was at some
moment of it, all of a frozen one at one moment, and nobody waits for long.
"""
import os
import struct
import threading
import time

import pytest

import engine
from tests.snapshots.content import restored, seen, sound
from tests.stopped import fork

ROUNDS = 40 if os.environ.get("EVERY_POINT") else 6


def stamped(n, length):
    """Bytes that all say n, so that a mixture shows."""
    return struct.pack("<Q", n) * (length // 8)


def is_whole(data):
    return data == data[:8] * (len(data) // 8)


def writer(name, stop):
    def work(number):
        with engine.attach(name) as eng:
            n = number
            while not os.path.exists(stop):
                n += 10
                for pool in eng.pools():
                    pool.put((n % 50, 0, 0), 0, stamped(n, 4096))
                    pool.put_object((100 + n % 7, 0, 0), stamped(n, 100_000), key=b"k")
                    pool.put_range((200 + n % 3, 0, 0), 0, stamped(n, 4096 * 16))
                    pool.put_object((300, 0, 0), stamped(n, 1_200_000))
                    pool.put_range((400, 0, 0), 0, stamped(n, 4096 * 300))
                    pool.flush_object((n % 50 + 1, 0, 0))
                    pool.incr((500, 0, 0), 1)
    return work


@pytest.fixture
def busy(make_arena, tmp_path):
    eng = make_arena(capacity="96MiB")
    for name, options in (("p", dict(persistent=True)), ("lz4", dict(pam="lz4", whole=False)),
                          ("twins", dict(dedup=True))):
        eng.new_pool(name, **options)
    stop = tmp_path / "stop"
    pids = [fork(writer(eng.name, stop), n) for n in range(2)]
    yield eng
    stop.touch()
    for pid in pids:
        assert os.waitpid(pid, 0)[1] == 0
    sound(eng)


def all_whole(pool):
    for info in pool.objects():
        object = pool.object(info.oid)
        if info.oid[0] < 400:
            assert is_whole(object.get_object()), info
        elif info.oid[0] == 400:
            pages = [object.get(index) for index in object.indexes()]
            assert all(map(is_whole, pages))
            yield len({page[:8] for page in pages}) == 1 and len(pages) == 300


@pytest.mark.parametrize("frozen", [False, True])
def test_each_object_is_whole(busy, tmp_path, make_arena, frozen):
    for _ in range(ROUNDS):
        saved = busy.save(tmp_path / "s", ephemeral=True, frozen=frozen)
        target = make_arena(capacity="96MiB")
        report = engine.restore(tmp_path / "s", target.name)
        assert report.missing == report.refused == 0
        # Who counts objects of many pages as torn says so.
        mixed = [one for pool in target.pools() for one in all_whole(pool)].count(False)
        assert mixed <= saved.torn and (saved.torn == 0 or not frozen)
        sound(target)
        target.close()
        engine.unlink(target.name)


def test_a_frozen_save_is_of_one_moment(make_arena, tmp_path, arena_name):
    """Two counters that are raised one after the other are never further apart."""
    eng = make_arena(capacity="32MiB")
    pools = [eng.new_pool(name, persistent=True) for name in ("a", "b")]
    for pool in pools:
        for n in range(2000):
            pool.put((n, 1, 0), 0, bytes(2048))
    stop = tmp_path / "stop"

    def work(_):
        with engine.attach(eng.name) as own:
            first, second = own.pool("a"), own.pool("b")
            while not stop.exists():
                first.incr((1, 0, 0))
                second.incr((1, 0, 0))

    pid = fork(work, 0)
    while not pools[1].has((1, 0, 0)):
        time.sleep(0)
    for _ in range(ROUNDS):
        eng.save(tmp_path / "s", frozen=True)
        _, other = restored(tmp_path / "s", arena_name)
        with other:
            counts = [int.from_bytes(other.pool(name).get_object((1, 0, 0)), "little") for name in ("a", "b")]
        engine.unlink(arena_name)
        assert counts[0] - counts[1] in (0, 1), counts
    stop.touch()
    assert os.waitpid(pid, 0)[1] == 0


def test_pools_that_come_and_go(make_arena, tmp_path, arena_name):
    eng = make_arena(capacity="64MiB", max_capacity="128MiB")
    done = threading.Event()
    other = engine.attach(eng.name)
    keep = eng.new_pool("keep", persistent=True)
    for n in range(500):
        keep.put((n, 0, 0), 0, b"%d" % n * 500)

    def work():
        n = 0
        while not done.is_set():
            n += 1
            pool = other.new_pool(f"pool {n}", persistent=n % 2 == 0)
            for k in range(300):
                pool.put((k, 0, 0), 0, os.urandom(2000))
            other.resize(("64MiB", "100MiB")[n % 2])
            if n % 3 == 0:
                pool.clear()
            pool.destroy()

    thread = threading.Thread(target=work)
    thread.start()
    try:
        for _ in range(ROUNDS * 3):
            saved = eng.save(tmp_path / "s", ephemeral=True)
            report, made = restored(tmp_path / "s", arena_name)
            with made:
                assert set(report.gone) == set(saved.gone)
                assert {pool.name for pool in made.pools()}.isdisjoint(saved.gone)
                assert seen(made, {"keep"}) == seen(eng, {"keep"})
                sound(made)
            engine.unlink(arena_name)
    finally:
        done.set()
        thread.join()
        other.close()


def test_an_object_that_goes_in_the_middle(make_arena, tmp_path, arena_name):
    """A page of many blocks, and an object of many pages, are flushed and put while they are
    saved."""
    eng = make_arena(capacity="64MiB")
    pool = eng.new_pool("p", persistent=True)
    other = engine.attach(eng.name)
    theirs = other.pool("p")
    done = threading.Event()
    whole = stamped(1, 6 << 20)

    def work():
        while not done.is_set():
            theirs.put_object((1, 0, 0), whole)
            theirs.put_range((2, 0, 0), 0, whole)
            theirs.flush_object((1, 0, 0))
            theirs.flush_object((2, 0, 0))

    thread = threading.Thread(target=work)
    thread.start()
    try:
        for _ in range(ROUNDS * 5):
            saved = eng.save(tmp_path / "s")
            _, made = restored(tmp_path / "s", arena_name)
            with made:
                for oid in ((1, 0, 0), (2, 0, 0)):
                    if made.pool("p").has(oid) and not (saved.torn and oid[0] == 2):
                        assert made.pool("p").get_object(oid) == whole
                sound(made)
            engine.unlink(arena_name)
    finally:
        done.set()
        thread.join()
        other.close()
    assert pool.name == "p"

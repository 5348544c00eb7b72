"""What was saved is there after a restore, whatever the pools and the arena are."""
import io
import os
import time

import pytest

import engine
import tmem
from tests.snapshots.content import fill, pages_of, restored, seen, sound

EPHEMERAL = dict(ephemeral=True)


@pytest.fixture
def source(make_arena):
    eng = make_arena(capacity="48MiB")
    fill(eng)
    return eng


@pytest.mark.parametrize("frozen", [False, True])
def test_all_is_there_again(source, tmp_path, arena_name, frozen):
    before = seen(source)
    saved = source.save(tmp_path / "s", ephemeral=True, frozen=frozen)
    assert (saved.torn, saved.skipped, saved.gone) == (0, (), ()) and saved.size == (tmp_path / "s").stat().st_size
    report, eng = restored(tmp_path / "s", arena_name)
    with eng:
        assert seen(eng) == before
        assert (report.pools, report.objects, report.pages) == (saved.pools, saved.objects, saved.pages)
        assert (report.refused, report.expired, report.missing) == (0, 0, 0)
        sound(eng)
    sound(source)


@pytest.mark.parametrize("geometry", [
    dict(page_size=512, buckets=1, shards=1), dict(page_size=65536, buckets=4096, max_workers=2),
    dict(capacity="256MiB", max_capacity="1GiB"), dict(capacity="63MiB", max_pools=14),
])
def test_any_geometry_will_do(source, tmp_path, arena_name, geometry):
    before = seen(source)
    source.save(tmp_path / "s", ephemeral=True)
    _, eng = restored(tmp_path / "s", arena_name, **geometry)
    with eng:
        assert seen(eng) == before
        sound(eng)


def test_persistent_pools_alone_without_being_asked(source, tmp_path, arena_name):
    assert source.save(tmp_path / "s").pools == 6
    _, eng = restored(tmp_path / "s", arena_name)
    with eng:
        names = {pool.name for pool in eng.pools()}
        assert names == {"raw", "guests", "long", "naïve ☃ 名", "empty", "zstd"}
        assert all(pool.persistent for pool in eng.pools())


def test_only_some_pools(source, tmp_path, arena_name):
    source.save(tmp_path / "s", pools=["lz4", "raw"], ephemeral=True)
    before = seen(source, {"lz4", "raw"})
    _, eng = restored(tmp_path / "s", arena_name)
    with eng:
        assert seen(eng) == before


def test_a_range_that_was_put_as_one_value_goes_as_one(make_arena, tmp_path, arena_name):
    eng = make_arena(capacity="4MiB")
    pool = eng.new_pool("p")
    for n in range(20):
        pool.put_range((n, 0, 0), 0, bytes([n]) * (4096 * 16 - 7) + os.urandom(7))
    eng.save(tmp_path / "s", ephemeral=True)
    _, other = restored(tmp_path / "s", arena_name)
    with other:
        pool = other.pool("p")
        for n in range(20, 90):
            pool.put_range((n, 0, 0), 0, os.urandom(4096 * 16))
        counts = {sum(pool.get((n, 0, 0), i, free=False) is not None for i in range(16)) for n in range(90)}
        assert counts == {0, 16}


def test_hits_are_kept(make_arena, tmp_path, arena_name):
    eng = make_arena(capacity="4MiB")
    pool = eng.new_pool("p")
    for n in range(4):
        pool.put_object((n, 0, 0), b"x" * 100)
        for _ in range(n):
            pool.get_object((n, 0, 0))
    eng.save(tmp_path / "s", ephemeral=True)
    _, other = restored(tmp_path / "s", arena_name)
    with other:
        assert {info.oid[0]: info.hits for info in other.pool("p").objects()} == {0: 0, 1: 1, 2: 2, 3: 3}


def test_time_goes_on_while_it_lies_in_the_file(make_arena, tmp_path, arena_name, monkeypatch):
    eng = make_arena()
    pool = eng.new_pool("p", persistent=True)
    for n in range(3):
        pool.put_object((n, 0, 0), b"x", ttl=(100, 200, None)[n])
    eng.save(tmp_path / "s")
    later = time.time_ns() + 150 * 10**9
    monkeypatch.setattr(time, "time_ns", lambda: later)
    report, other = restored(tmp_path / "s", arena_name)
    with other:
        pool = other.pool("p")
        assert report.expired == 1 and not pool.has((0, 0, 0)) and pool.expires((2, 0, 0)) is None
        assert 40 < pool.expires((1, 0, 0)) < 50.1


def test_versions_are_others(make_arena, tmp_path, arena_name):
    eng = make_arena()
    eng.new_pool("p", persistent=True).put_object((1, 0, 0), b"x")
    old = eng.pool("p").get_object((1, 0, 0), info=True)[1].version
    eng.save(tmp_path / "s")
    _, other = restored(tmp_path / "s", arena_name)
    with other:
        assert other.pool("p").put_object((1, 0, 0), b"y", if_version=old + 1) is engine.CONFLICT


def test_nonces_are_others(make_arena, tmp_path, arena_name):
    eng = make_arena()
    eng.new_pool("p", persistent=True)
    eng.save(tmp_path / "s")
    _, other = restored(tmp_path / "s", arena_name)
    with other:
        nonces = {name.rpartition("@")[2] for name in os.listdir("/dev/shm")
                  if name.startswith((f"alive.{eng.name}@", f"alive.{other.name}@"))}
        assert len(nonces) == 2


def test_ephemeral_pools_grow_stale(source, tmp_path, arena_name, monkeypatch):
    source.save(tmp_path / "s", ephemeral=True, max_age=60)
    later = time.time_ns() + 61 * 10**9
    monkeypatch.setattr(time, "time_ns", lambda: later)
    report, eng = restored(tmp_path / "s", arena_name)
    with eng:
        assert len(report.stale) == 8 and all(pool.persistent for pool in eng.pools())


def test_through_a_pipe(source, tmp_path, arena_name):
    before = seen(source)
    with open(tmp_path / "s", "wb") as file:
        source.save(file, ephemeral=True)
    data = (tmp_path / "s").read_bytes()
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(read)
        with open(write, "wb") as out:
            out.write(data)
        os._exit(0)
    os.close(write)
    with open(read, "rb") as stream:
        _, eng = restored(stream, arena_name)
    os.waitpid(pid, 0)
    with eng:
        assert seen(eng) == before


def test_a_frozen_save_into_a_pipe(make_arena, tmp_path):
    eng = make_arena()
    eng.new_pool("p", persistent=True).put((1, 0, 0), 0, b"x" * 4096)
    read, write = os.pipe()
    with open(read, "rb") as stream:
        with open(write, "wb") as out:
            saved = eng.save(out, frozen=True)
        assert len(stream.read()) == saved.size


# --- caches ---------------------------------------------------------------------------------------

KEYS = ["text", b"bytes", 7, -(1 << 70), ("a", 1, None), 2.5, frozenset({1, 2}), "k" * 300, ""]


def filled(eng, name, pam="raw"):
    cache = eng.cache(name, pam=pam)
    for n, key in enumerate(KEYS):
        cache.set(key, [name, n, "x" * 3000], ttl=None if n % 2 else 500)
    cache.incr("count", 5)
    cache.get_or_compute("computed", lambda: 12)
    cache.namespace("inner")["y"] = name
    return cache


def is_right(cache, name):
    for n, key in enumerate(KEYS):
        assert cache[key] == [name, n, "x" * 3000], key
        assert (cache.expires(key) is None) == bool(n % 2)
    assert cache.incr("count", 1) == 6 and cache["computed"] == 12 and cache.namespace("inner")["y"] == name
    assert cache.stats()["computed"] == 1 and cache.stats()["sets"] == 0
    assert len(cache) == len(KEYS) + 2 and set(KEYS) < set(cache)


@pytest.mark.parametrize("pam", ["raw", "lz4", "zstd"])
def test_a_cache_finds_its_keys(make_arena, tmp_path, arena_name, pam):
    eng = make_arena(capacity="4MiB")
    filled(eng, "one", pam)
    eng.save(tmp_path / "s", ephemeral=True)
    _, other = restored(tmp_path / "s", arena_name)
    with other:
        is_right(other.cache("one"), "one")


@pytest.mark.parametrize("pam", ["raw", "lz4", "zstd"])
def test_caches_of_two_arenas_come_into_a_third(make_arena, tmp_path, pam):
    target = make_arena(capacity="4MiB")
    for name in ("one", "two"):
        eng = make_arena(capacity="4MiB")
        filled(eng, name, pam)
        eng.pool(name).put_object((1, 2, 18 << 56 | 3), b"mine", key=b"my own name for it")
        eng.save(tmp_path / name, ephemeral=True)
        engine.restore(tmp_path / name, target.name)
    for name in ("one", "two"):
        assert target.pool(name).get_object((1, 2, 18 << 56 | 3)) == b"mine"
        target.pool(name).flush_object((1, 2, 18 << 56 | 3))
        is_right(target.cache(name), name)
    sound(target)


# --- into an arena that is there, or one that is too small ----------------------------------------


def test_only_pools_that_are_not_there(make_arena, tmp_path):
    eng = make_arena(capacity="8MiB")
    eng.new_pool("p", persistent=True).put((1, 0, 0), 0, b"saved")
    eng.new_pool("q", persistent=True)
    eng.save(tmp_path / "s")
    eng.pool("p").put((1, 0, 0), 0, b"newer")
    with pytest.raises(engine.PoolExists, match="'p'"):
        engine.restore(tmp_path / "s", eng.name)
    eng.pool("p").destroy()
    with pytest.raises(engine.PoolExists, match="'q'"):
        engine.restore(tmp_path / "s", eng.name)
    eng.pool("q").destroy()
    assert engine.restore(tmp_path / "s", eng.name).pools == 2
    assert eng.pool("p").get((1, 0, 0), 0) == b"saved" and {pool.name for pool in eng.pools()} == {"p", "q"}
    with pytest.raises(ValueError, match="capacity"):
        engine.restore(tmp_path / "s", eng.name, "8MiB")


def test_a_persistent_page_without_room_ends_it(make_arena, tmp_path, arena_name):
    eng = make_arena(capacity="8MiB")
    pool = eng.new_pool("p", persistent=True)
    for n in range(1000):
        pool.put((n, 0, 0), 0, os.urandom(4096))
    eng.save(tmp_path / "s")
    with pytest.raises(engine.ArenaFull, match="partial"):
        engine.restore(tmp_path / "s", arena_name, "2MiB")
    assert not any(name.startswith(arena_name) for name in os.listdir("/dev/shm"))
    report, other = restored(tmp_path / "s", arena_name, "2MiB", partial=True)
    with other:
        pool = other.pool("p")
        assert report.pages + report.refused == 1000 and report.refused > 400
        assert sum(pool.get((n, 0, 0), 0) is not None for n in range(1000)) == report.pages
        sound(other)
    there = make_arena(capacity="2MiB")
    with pytest.raises(engine.ArenaFull):
        engine.restore(tmp_path / "s", there.name)
    assert there.pools() == []


def test_where_room_is_short_what_was_hit_comes_first(make_arena, tmp_path, arena_name):
    eng = make_arena(capacity="16MiB")
    pool = eng.new_pool("p")
    keep = eng.new_pool("keep", persistent=True)
    for n in range(2000):
        pool.put((n, 0, 0), 0, os.urandom(4096))
    for n in range(100):
        keep.put((n, 0, 0), 0, os.urandom(4096))
    for n in range(0, 2000, 10):
        for _ in range(3):
            pool.get((n, 0, 0), 0)
    eng.save(tmp_path / "s", ephemeral=True)
    report, other = restored(tmp_path / "s", arena_name, "4MiB")
    with other:
        assert sum(other.pool("keep").get((n, 0, 0), 0) is not None for n in range(100)) == 100
        there = [n for n in range(2000) if other.pool("p").get((n, 0, 0), 0) is not None]
        assert report.refused + len(there) == 2000 and report.pages == len(there) + 100 and report.missing == 0
        assert sum(n % 10 == 0 for n in there) > 190
        sound(other)


# --- arguments ------------------------------------------------------------------------------------


def test_what_is_said_wrong(source, tmp_path, arena_name):
    for arguments, error, named in (
        (dict(frozen=1), TypeError, "frozen"), (dict(ephemeral=None), TypeError, "ephemeral"),
        (dict(max_age=5), ValueError, "ephemeral=True"), (dict(max_age=-1, ephemeral=True), ValueError, "max_age"),
        (dict(max_age="1", ephemeral=True), TypeError, "max_age"), (dict(pools="raw"), TypeError, "pools"),
        (dict(pools=["lz4"]), ValueError, "ephemeral=True"), (dict(pools=["none"]), engine.PoolNotFound, "none"),
    ):
        with pytest.raises(error, match=named):
            source.save(tmp_path / "s", **arguments)
    with pytest.raises(TypeError, match="file"):
        source.save(5)
    with pytest.raises(ValueError, match="folder"):
        source.save(tmp_path)
    with pytest.raises(FileNotFoundError):
        source.save(tmp_path / "no" / "s")
    assert list(tmp_path.iterdir()) == []
    source.save(tmp_path / "s", pools=["empty"])
    for arguments, error in ((dict(partial=1), TypeError), (dict(colour=1), TypeError), (dict(capacity=5), ValueError)):
        with pytest.raises(error):
            engine.restore(tmp_path / "s", arena_name, **arguments)
    with pytest.raises(TypeError, match="file"):
        engine.restore(io.StringIO(), arena_name)
    with pytest.raises(FileNotFoundError):
        engine.restore(tmp_path / "none", arena_name)
    assert tmem.restore is engine.restore


def test_pools_of_back_ends_are_left_out(make_arena, tmp_path):
    class Back:
        def create(self, *_):
            return 1

        def get_data(self, *_):
            return b""

        get_data_and_free = free = new_obj = free_obj = get_data
        is_remote = replace_in_obj = create

    engine.register_pam("test-back", Back)
    eng = make_arena()
    eng.new_pool("b", persistent=True, pam="test-back")
    eng.new_pool("p", persistent=True)
    assert eng.save(tmp_path / "s").skipped == ("b",)
    with pytest.raises(ValueError, match="test-back"):
        eng.save(tmp_path / "s", pools=["b"])


def test_an_empty_arena(make_arena, tmp_path, arena_name):
    eng = make_arena()
    assert eng.save(tmp_path / "s").pools == 0
    report, other = restored(tmp_path / "s", arena_name)
    with other:
        assert report.pools == 0 and other.pools() == [] and pages_of(eng.new_pool("p")) == {}

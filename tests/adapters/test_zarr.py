"""Owns the tests of the adapter to zarr: which reads go to the store, in one process and in many,
and that nobody reads what is older than the last write."""
import asyncio
import os
import pickle
import signal
import time

import pytest

pytest.importorskip("zarr")

import numpy as np
import zarr
from zarr.abc.store import OffsetByteRequest, RangeByteRequest, SuffixByteRequest
from zarr.core.buffer import cpu, default_buffer_prototype
from zarr.storage import FsspecStore, LocalStore, LoggingStore, MemoryStore, WrapperStore

import engine
from tests.contract.test_cache_processes import run_together
from tests.stopped import in_child
from tmem.zarr import GENERATION, TmemStore

PROTOTYPE = default_buffer_prototype()


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setenv("TMEM_CAPACITY", "4MiB")


class Noting(LocalStore):
    """A store that notes what is read of it, in a file for all processes."""

    async def get(self, key, prototype=None, byte_range=None):
        with open(f"{self.root}.log", "ab", buffering=0) as log:
            log.write(f"{key} {byte_range}\n".encode())
        return await super().get(key, prototype, byte_range)


def fetched(store):
    with open(f"{store._store.root}.log") as log:
        return [line.split()[0] for line in log]


@pytest.fixture
def store(tmp_path, arena_name):
    (tmp_path / "data").mkdir()
    (tmp_path / "data.log").touch()
    return TmemStore(Noting(tmp_path / "data"), arena=arena_name)


def get(store, key, byte_range=None):
    found = asyncio.run(store.get(key, PROTOTYPE, byte_range))
    return found if found is None else found.to_bytes()


def put(store, key, data):
    asyncio.run(store.set(key, cpu.Buffer.from_bytes(data)))


# --- reading --------------------------------------------------------------------------------------


def test_a_value_is_read_of_the_store_once(store):
    put(store, "a/c/0", b"0123456789")
    for _ in range(3):
        assert get(store, "a/c/0") == b"0123456789"
    assert fetched(store) == ["a/c/0"]


@pytest.mark.parametrize(
    "request_, part",
    [
        (RangeByteRequest(2, 5), b"234"),
        (RangeByteRequest(8, 50), b"89"),
        (OffsetByteRequest(7), b"789"),
        (SuffixByteRequest(3), b"789"),
        (SuffixByteRequest(30), b"0123456789"),
    ],
)
def test_parts_are_kept_and_cut_of_what_is_whole(store, request_, part):
    put(store, "k", b"0123456789")
    assert get(store, "k", request_) == get(store, "k", request_) == part
    assert fetched(store) == ["k"]
    assert get(store, "k") == b"0123456789"
    put(store, "k", b"0123456789")
    assert get(store, "k") == b"0123456789" and get(store, "k", request_) == part
    assert len(fetched(store)) == 3
    values = asyncio.run(store.get_partial_values(PROTOTYPE, [("k", request_), ("k", None), ("no", request_)]))
    assert [value and value.to_bytes() for value in values] == [part, b"0123456789", None]


def test_a_key_that_is_missing_is_looked_for_once_until_it_is_written(store):
    for _ in range(2):
        assert get(store, "k") is None and get(store, "k", RangeByteRequest(0, 2)) is None
    assert fetched(store) == ["k"]
    put(store, "k", b"")
    assert get(store, "k") == b""


def test_a_key_that_is_missing_is_always_looked_for_if_that_is_said(store, arena_name):
    store = TmemStore(store._store, arena=arena_name, missing_ttl=0)
    assert get(store, "k") is get(store, "k") is None
    assert fetched(store) == ["k", "k"]
    (store._store.root / "k").write_bytes(b"by others")
    assert get(store, "k") == b"by others"


def test_a_value_lives_as_long_as_is_said(store, arena_name):
    store = TmemStore(store._store, arena=arena_name, ttl=100)
    put(store, "k", b"1")
    assert get(store, "k") == get(store, "k") == b"1"
    with engine.attach(arena_name) as eng:
        eng.set_clock_ahead(99)
    assert len(fetched(store)) == 1


def test_what_is_read_at_once_in_one_loop_is_fetched_once(store):
    put(store, "k", bytes(1000))

    async def all_at_once():
        return await asyncio.gather(*(store.get("k", PROTOTYPE) for _ in range(20)))

    assert {value.to_bytes() for value in asyncio.run(all_at_once())} == {bytes(1000)}
    assert len(fetched(store)) == 1


def read(n, store):
    assert (zarr.open_array(store, path="a", mode="r")[:] == np.arange(64).reshape(8, 8)).all()


def test_processes_read_each_chunk_once(store):
    zarr.create_array(store, name="a", shape=(8, 8), chunks=(2, 8), dtype="i8")[:] = np.arange(64).reshape(8, 8)
    before = len(fetched(store))
    assert run_together(8, start_anew, store) == [0] * 8
    keys = fetched(store)[before:]
    assert sorted(key for key in keys if "/c/" in key) == [f"a/c/{n}/0" for n in range(4)]


def start_anew(n, store):
    """Zarr's loop is a thread of the parent; a forked child has one of its own."""
    data = [get(store, f"a/c/{part}/0") for part in range(4)]
    assert all(data)


def test_a_sharded_array_is_read_in_parts(store):
    data = np.arange(64).reshape(8, 8)
    array = zarr.create_array(store, name="a", shape=(8, 8), chunks=(2, 2), shards=(8, 8), dtype="i8")
    array[:] = data
    for _ in range(2):
        assert (zarr.open_array(store, path="a", mode="r")[2:4, 2:4] == data[2:4, 2:4]).all()
    with open(f"{store._store.root}.log") as log:
        parts = [line for line in log if "/c/" in line and "None" not in line]
    assert len(parts) == len(set(parts)) == 2, "the index, and the chunk"


# --- writing --------------------------------------------------------------------------------------


def test_what_is_written_is_read_at_once(store):
    (store._store.root / "k").write_bytes(b"0")
    writes = [
        lambda: put(store, "k", b"1"),
        lambda: asyncio.run(store._set_many([("k", cpu.Buffer.from_bytes(b"2"))])),
        lambda: put(store.with_read_only(False), "k", b"3"),
        lambda: put(pickle.loads(pickle.dumps(store)), "k", b"4"),
        lambda: in_child(lambda: put(store, "k", b"5")),
    ]
    for n, write in enumerate(writes):
        assert get(store, "k") == b"%d" % n
        write()
    assert get(store, "k") == b"5"
    asyncio.run(store.set_if_not_exists("k", cpu.Buffer.from_bytes(b"6")))
    assert get(store, "k") == b"5"


@pytest.mark.parametrize("erase", ["delete", "delete_dir", "delete a folder", "clear"])
def test_what_is_erased_is_gone_at_once(store, erase):
    put(store, "a/b/k", b"1")
    put(store, "other", b"2")
    assert get(store, "a/b/k") == b"1" and get(store, "other") == b"2"
    asyncio.run({
        "delete": lambda: store.delete("a/b/k"),
        "delete_dir": lambda: store.delete_dir("a"),
        "delete a folder": lambda: store.delete("a"),
        "clear": lambda: store.clear(),
    }[erase]())
    assert get(store, "a/b/k") is None and get(store, "other") == (None if erase == "clear" else b"2")


def test_a_read_that_began_before_a_write_leaves_nothing_older(store, monkeypatch):
    """The reader has the old value of the store, and keeps it when the writer is done."""
    put(store, "k", b"old")
    go_on, read = [], []

    class Slow(Noting):
        async def get(self, key, prototype=None, byte_range=None):
            found = await super().get(key, prototype, byte_range)
            read.append(key)
            while not go_on:
                await asyncio.sleep(0)
            return found

    slow = store._with_store(Slow(store._store.root))

    async def race():
        reader = asyncio.create_task(slow.get("k", PROTOTYPE))
        while not read:
            await asyncio.sleep(0)
        await store.set("k", cpu.Buffer.from_bytes(b"new"))
        go_on.append(True)
        return await reader

    assert asyncio.run(race()).to_bytes() == b"old"
    assert get(store, "k") == b"new"


def test_nobody_keeps_what_he_reads_while_somebody_writes(store, arena_name):
    put(store, "k", b"old")

    class Dying(LocalStore):
        async def set(self, key, value):
            await super().set(key, value)
            os.kill(os.getpid(), signal.SIGKILL)

    assert get(store, "k") == b"old"
    assert in_child(lambda: put(store._with_store(Dying(store._store.root)), "k", b"new")) == -signal.SIGKILL
    assert get(store, "k") == get(store, "k") == b"new"
    assert len(fetched(store)) == 3, "a writer is counted in for good, as far as anybody knows"
    with engine.Cache(arena_name, "zarr") as cache:
        counts = {key: value for key, value in cache.items() if type(value) is int}
        assert [value % GENERATION for key, value in counts.items() if key == (store._place(), "k")] == [1]
        assert cache.expires((store._place(), "k")) <= 600


def test_a_write_that_raises_is_over(store, arena_name):
    class Failing(LocalStore):
        async def set(self, key, value):
            raise OSError("disk is full")

    with pytest.raises(OSError, match="disk is full"):
        put(store._with_store(Failing(store._store.root)), "k", b"new")
    (store._store.root / "k").write_bytes(b"1")
    assert get(store, "k") == get(store, "k") == b"1" and len(fetched(store)) == 1


def write_and_read(n, store):
    for turn in range(30):
        put(store, f"own{n}", b"%d" % turn)
        assert get(store, f"own{n}") == b"%d" % turn
        put(store, "all", b"%d" % n)
        assert get(store, "all") in {b"%d" % other for other in range(8)}


def test_processes_that_write_and_read(store):
    assert run_together(8, write_and_read, store) == [0] * 8
    assert get(store, "all") == (store._store.root / "all").read_bytes()


# --- whose data it is -----------------------------------------------------------------------------


def test_stores_in_memory_share_nothing(arena_name):
    one, two = (TmemStore(MemoryStore(), arena=arena_name) for _ in range(2))
    put(one, "k", b"1")
    assert get(one, "k") == b"1" and get(two, "k") is None
    copied = pickle.loads(pickle.dumps(one))
    put(copied, "k", b"2")
    assert get(one, "k") == b"1" and get(copied, "k") == b"2"

    def child():
        put(one, "k", b"3")
        assert get(one, "k") == b"3"

    assert in_child(child) == 0
    assert get(one, "k") == b"1"
    assert get(TmemStore(one._store, arena=arena_name), "k") == b"1"


def test_a_namespace_says_whose_data_it_is(arena_name):
    one, two = (TmemStore(MemoryStore(), arena=arena_name, namespace="same") for _ in range(2))
    put(one, "k", b"1")
    assert get(one, "k") == b"1" and get(two, "k") == b"1", "two says that it has the same data"


def test_two_folders_are_two(store, arena_name, tmp_path):
    put(store, "k", b"1")
    assert get(store, "k") == b"1"
    assert get(TmemStore(LocalStore(tmp_path / "other"), arena=arena_name), "k") is None


def test_a_store_of_fsspec_is_known_by_its_url(arena_name, tmp_path):
    pytest.importorskip("fsspec")
    one, two = (TmemStore(FsspecStore.from_url(f"file://{tmp_path}"), arena=arena_name) for _ in range(2))
    put(one, "k", b"1")
    assert get(one, "k") == b"1"
    (tmp_path / "k").unlink()
    assert get(two, "k") == b"1"
    one, two = (TmemStore(FsspecStore.from_url(f"memory://{path}"), arena=arena_name) for path in "ab")
    put(one, "k", b"1")
    assert get(one, "k") == b"1" and get(two, "k") is None


# --- the arena ------------------------------------------------------------------------------------


def test_open_makes_the_store(arena_name, tmp_path):
    async def opened():
        return await TmemStore.open(LocalStore, tmp_path, arena=arena_name, ttl=5, read_only=True)

    store = asyncio.run(opened())
    assert store._is_open and store.read_only and isinstance(store._store, LocalStore)
    with pytest.raises(engine.ArenaNotFound):
        engine.attach(arena_name)
    get(store, "k")
    with engine.attach(arena_name) as eng:
        assert eng.capacity == 4 << 20


def test_an_arena_that_was_removed_is_made_again(store, arena_name):
    put(store, "k", b"1")
    assert get(store, "k") == b"1"
    engine.unlink(arena_name)
    time.sleep(0.07)            # after which a cache looks again
    assert get(store, "k") == get(store, "k") == b"1" and len(fetched(store)) == 2


def test_a_full_arena_keeps_nothing_and_breaks_nothing(store, arena_name):
    with engine.create(arena_name, capacity="1MiB") as eng:
        full = eng.new_pool("full", persistent=True)
        for length in (4096, 64, 1):
            index = 0
            while full.put((1, 1, length), index, (bytes(range(256)) * 16)[:length]):
                index += 1
        for data in (b"1", b"2"):
            put(store, "k", data)
            assert get(store, "k") == get(store, "k") == data
        full.clear()
        assert get(store, "k") == get(store, "k") == b"2"


def test_bad_arguments_are_named(arena_name):
    with pytest.raises(TypeError, match="^arena: "):
        TmemStore(MemoryStore())
    with pytest.raises(TypeError, match="^store: "):
        TmemStore({}, arena=arena_name)
    with pytest.raises(TypeError, match="^namespace: "):
        TmemStore(MemoryStore(), arena=arena_name, namespace=5)
    with pytest.raises(TypeError, match="^options: "):
        TmemStore(MemoryStore(), arena=arena_name, capacty=5)


class Beginning(WrapperStore):
    """A store of the keys that begin so."""

    def __init__(self, store, begin):
        super().__init__(store)
        self.begin = begin

    async def get(self, key, prototype=None, byte_range=None):
        return await self._store.get(self.begin + key, prototype, byte_range)


class Turned(LocalStore):
    """A store with bytes of its own."""

    async def get(self, key, prototype=None, byte_range=None):
        return cpu.Buffer.from_bytes((await super().get(key, prototype)).to_bytes()[::-1])


def test_stores_of_a_class_of_ones_own_share_with_their_like_alone(tmp_path, arena_name):
    for name in ("a", "b"):
        (tmp_path / f"{name}k").write_bytes(name.encode() * 2 + b"!")
    behind = LocalStore(tmp_path)
    assert get(TmemStore(behind, arena=arena_name), "ak") == b"aa!"
    assert get(TmemStore(Turned(tmp_path), arena=arena_name), "ak") == b"!aa"
    assert get(TmemStore(Beginning(behind, "a"), arena=arena_name), "k") == b"aa!"
    assert get(TmemStore(Beginning(behind, "b"), arena=arena_name), "k") == b"bb!"


def test_the_folder_says_which_store_it_is(tmp_path, arena_name):
    (tmp_path / "k").write_bytes(b"1")
    assert get(TmemStore(LocalStore(tmp_path), arena=arena_name), "k") == b"1"
    (tmp_path / "k").write_bytes(b"2")
    for store in (LocalStore(tmp_path / ".", read_only=True), LoggingStore(LocalStore(tmp_path))):
        assert get(TmemStore(store, arena=arena_name), "k") == b"1"

"""Owns the tests of the adapter to fsspec: which reads fetch, in one process and in many; whose
bytes they are; and what is written through it."""
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import time

import pytest

pytest.importorskip("fsspec")

import fsspec
from fsspec.caching import caches
from fsspec.implementations.local import LocalFileSystem
from fsspec.spec import AbstractBufferedFile

import engine
from tests.contract.test_cache_processes import run_together
from tests.stopped import in_child
from tests.support import child_env
from tmem.fsspec import TmemCache, TmemFileSystem

BLOCK = 1000
DATA = bytes(range(256)) * 41           # eleven blocks, the last of them short


class Remote(LocalFileSystem):
    """A file system that notes what is fetched from it, in a file for all processes."""

    protocol = "remote"

    def __init__(self, log=None, **kwargs):
        super().__init__(**kwargs)
        self.log = log

    def _open(self, path, mode="rb", **kwargs):
        if mode != "rb":
            return super()._open(path, mode, **kwargs)
        kwargs.pop("autocommit", None)
        return AbstractBufferedFile(self, path, **kwargs)

    def cat_file(self, path, start=None, end=None, **kwargs):
        with open(self.log, "ab", buffering=0) as log:
            log.write(b"%d-%d\n" % (start, end))
        with open(path, "rb") as file:
            file.seek(start)
            return file.read(end - start)


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setenv("TMEM_CAPACITY", "4MiB")


@pytest.fixture
def remote(tmp_path):
    """A Remote with one file: (file system, path of the file)."""
    (tmp_path / "file").write_bytes(DATA)
    (tmp_path / "log").touch()
    return Remote(log=str(tmp_path / "log")), str(tmp_path / "file")


def fetched(remote):
    """The ranges that were fetched, in order."""
    with open(remote[0].log) as log:
        return log.read().split()


def opened(remote, arena, **options):
    fs, path = remote
    return fs.open(path, block_size=BLOCK, cache_type="tmem", cache_options={"arena": arena, **options})


# --- cache_type="tmem" ----------------------------------------------------------------------------


def test_every_read_gives_the_bytes_of_the_file(remote, arena_name):
    for _ in range(2):
        with opened(remote, arena_name) as file:
            for begin in (0, 1, 999, 1000, 1001, 5500, len(DATA) - 1, len(DATA)):
                for length in (0, 1, 10, 999, 1000, 1001, 2500, 20_000):
                    file.seek(begin)
                    assert file.read(length) == DATA[begin:begin + length]
            file.seek(0)
            assert file.read() == DATA
    assert len(fetched(remote)) == 11


def test_a_block_is_fetched_when_it_is_read(remote, arena_name):
    file = opened(remote, arena_name)
    with pytest.raises(engine.PoolNotFound), engine.attach(arena_name) as eng:
        eng.cache("other")
        eng.pool("nothing")
    file.seek(4500)
    assert file.read(1000) == DATA[4500:5500]
    assert fetched(remote) == ["4000-5000", "5000-6000"]
    file.seek(-1, 2)
    assert file.read() == DATA[-1:] and fetched(remote)[2:] == ["10000-10496"]
    assert (file.cache.miss_count, file.cache.hit_count, file.cache.nblocks) == (3, 0, 11)


def read_all(n, remote, arena):
    with opened(remote, arena) as file:
        assert file.read() == DATA


def test_processes_fetch_each_block_once(remote, arena_name):
    assert run_together(8, read_all, remote, arena_name) == [0] * 8
    assert sorted(fetched(remote)) == sorted(f"{at}-{min(at + BLOCK, len(DATA))}" for at in range(0, len(DATA), BLOCK))


def test_spawned_processes_share_a_file_that_is_pickled_to_them(remote, arena_name):
    file = opened(remote, arena_name)
    assert file.read(10) == DATA[:10]
    process = multiprocessing.get_context("spawn").Process(target=read_and_compare, args=(file,))
    process.start()
    process.join()
    assert process.exitcode == 0 and len(fetched(remote)) == 11


def read_and_compare(file):
    file.seek(0)
    assert file.read() == DATA


def test_a_fork_goes_on_reading(remote, arena_name):
    file = opened(remote, arena_name)
    assert file.read(10) == DATA[:10]
    assert in_child(lambda: read_and_compare(file)) == 0
    read_and_compare(file)
    assert len(fetched(remote)) == 11


def test_a_file_that_has_changed_is_fetched_again(remote, arena_name):
    read_all(0, remote, arena_name)
    fs, path = remote
    with open(path, "wb") as file:
        file.write(DATA[::-1])
    os.utime(path, (0, 12345))
    with opened(remote, arena_name) as file:
        assert file.read() == DATA[::-1]


def test_another_block_size_is_another_block(remote, arena_name):
    read_all(0, remote, arena_name)
    fs, path = remote
    with fs.open(path, block_size=700, cache_type="tmem", cache_options={"arena": arena_name}) as file:
        assert file.read() == DATA


def test_file_systems_with_other_options_share_nothing(remote, arena_name, tmp_path):
    read_all(0, remote, arena_name)
    other = Remote(log=remote[0].log, auto_mkdir=True), remote[1]
    read_all(0, other, arena_name)
    assert len(fetched(remote)) == 22


def test_what_a_file_system_is_made_with_cannot_be_read_in_the_arena(remote, arena_name):
    read_all(0, remote, arena_name)
    with engine.attach(arena_name) as eng:
        keys = [info.key for info in eng.pool("fsspec").objects() if info.key]
    assert len(keys) >= 11 and not any(remote[0].log.encode() in key for key in keys)


def test_plain_functions_share_nothing(arena_name):
    one = TmemCache(10, lambda begin, end: b"a" * (end - begin), 25, arena=arena_name)
    two = TmemCache(10, lambda begin, end: b"b" * (end - begin), 25, arena=arena_name)
    assert one._fetch(0, 25) == b"a" * 25 and two._fetch(0, 25) == b"b" * 25 and one._fetch(None, None) == b"a" * 25


def test_options_that_are_objects_of_this_process_share_nothing(tmp_path, arena_name):
    (tmp_path / "log").touch()
    (tmp_path / "file").write_bytes(DATA)
    remotes = [(Remote(log=str(tmp_path / "log"), lock=object()), str(tmp_path / "file")) for _ in range(2)]
    for remote in remotes:
        read_all(0, remote, arena_name)
    assert len(fetched(remotes[0])) == 22


def test_a_short_answer_is_nobody_elses(arena_name):
    answers = [b"short", b"0123456789"]
    cache = TmemCache(10, lambda begin, end: answers.pop(0), 10, arena=arena_name)
    assert cache._fetch(0, 10) == b"short" and cache._fetch(0, 10) == b"0123456789" and cache._fetch(2, 4) == b"23"


def test_a_block_without_room_is_fetched_once_for_reads_that_follow(arena_name):
    count = []
    size = 80 << 20
    with engine.create(arena_name, capacity="1MiB"):
        cache = TmemCache(size, lambda begin, end: count.append(begin) or bytes(end - begin), size, arena=arena_name)
        for at in range(0, 1000, 10):
            assert cache._fetch(at, at + 10) == bytes(10)
    assert len(count) == 1


def test_an_error_of_the_fetcher_is_the_readers(arena_name):
    def fail(begin, end):
        raise OSError("no route")

    cache = TmemCache(10, fail, 10, arena=arena_name)
    with pytest.raises(OSError, match="no route"):
        cache._fetch(0, 10)
    cache.fetcher = lambda begin, end: b"x" * (end - begin)
    assert cache._fetch(0, 10) == b"x" * 10


def test_an_arena_that_was_removed_is_made_again(remote, arena_name):
    read_all(0, remote, arena_name)
    with engine.attach(arena_name) as eng:
        assert eng.capacity == 4 << 20
    engine.unlink(arena_name)
    time.sleep(0.07)            # after which a cache looks again
    read_all(0, remote, arena_name)
    with engine.attach(arena_name):
        pass
    assert len(fetched(remote)) == 22


def die_fetching(remote, arena):
    """Be killed in the middle of a fetch."""
    Remote.cat_file = lambda *args, **kwargs: os.kill(os.getpid(), signal.SIGKILL)
    read_all(0, remote, arena)


def test_a_reader_that_is_killed_holds_up_nobody(remote, arena_name):
    assert in_child(lambda: die_fetching(remote, arena_name)) == -signal.SIGKILL
    read_all(0, remote, arena_name)
    assert len(fetched(remote)) == 11


def test_bad_options_are_named(remote):
    with pytest.raises(TypeError, match="^arena: "):
        opened(remote, None)
    with pytest.raises(TypeError, match="^options: "):
        opened(remote, "unused", capacty="1MiB")
    with pytest.raises(ValueError, match="^TMEM_CAPACITY|^capacity"):
        opened(remote, "unused", capacity="much")


def test_the_import_registers_the_cache():
    code = "import fsspec.caching as c; assert 'tmem' not in c.caches; import tmem.fsspec; print(c.caches['tmem'].name)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=child_env())
    assert done.stdout == "tmem\n", done.stderr
    assert caches["tmem"] is TmemCache


# --- the file system ------------------------------------------------------------------------------


@pytest.fixture
def fs(remote, arena_name):
    return TmemFileSystem(fs=remote[0], arena=arena_name, block_size=BLOCK)


def test_a_chained_url_opens_it(arena_name, tmp_path):
    (tmp_path / "file").write_bytes(DATA)
    with fsspec.open(f"tmem::file://{tmp_path}/file", "rb", tmem={"arena": arena_name}) as file:
        assert file.read() == DATA and isinstance(file.cache, TmemCache)
    fs, path = fsspec.url_to_fs(f"tmem::file://{tmp_path}/file", arena=arena_name)
    assert isinstance(fs, TmemFileSystem) and path == f"{tmp_path}/file" and fs.cat(path) == DATA
    assert fs.ls(f"tmem://{tmp_path}", detail=False) == [path] and fs.unstrip_protocol(path) == f"file://{path}"
    assert fs is fsspec.url_to_fs("tmem::file:///etc/hosts", arena=arena_name)[0], "whatever path it was asked for"
    with fsspec.open(f"tmem::file://{tmp_path}/file", "rt", encoding="latin-1", arena=arena_name, newline="") as file:
        assert file.read() == DATA.decode("latin-1")


def test_all_ways_of_reading_fetch_once(fs, remote, tmp_path):
    path = remote[1]
    assert fs.cat(path) == fs.cat_file(path) == fs.read_bytes(path) == DATA
    assert fs.cat_file(path, 990, 1010) == fs.read_block(path, 990, 20) == DATA[990:1010]
    assert fs.cat_ranges([path, path], [0, 2500], [10, 2600]) == [DATA[:10], DATA[2500:2600]]
    assert fs.head(path, 10) == DATA[:10] and fs.tail(path, 10) == DATA[-10:]
    fs.get(path, str(tmp_path / "copy"))
    assert (tmp_path / "copy").read_bytes() == DATA and len(fetched(remote)) == 11
    assert fs.get_mapper(str(tmp_path))["file"] == DATA


def test_what_is_written_is_read_though_the_generation_has_made_room(fs, remote, monkeypatch):
    """Of a store that tells no state of its files."""
    monkeypatch.setattr(type(fs.fs), "ukey", lambda self, path: path)
    path = remote[1]
    before = fs.cat_file(path)
    fs.pipe_file(path, before[::-1])
    gone = [key for key in fs.cache if key[0] == "generation"]
    assert gone and fs.cache.delete_many(gone) == len(gone)
    assert fs.cat_file(path) == before[::-1] != before


def test_what_is_written_through_it_is_read_at_once(fs, remote, tmp_path):
    """Whatever the clock of the file's times does: all of them are made the same here."""
    path = remote[1]

    def write_with_open(data):
        with fs.open(path, "wb") as file:
            file.write(data)

    def close_by_hand(data):
        file = fs.open(path, "wb")
        file.write(data)
        file.close()

    def copy(data):
        (tmp_path / "from").write_bytes(data)
        fs.copy(str(tmp_path / "from"), path)

    def put(data):
        (tmp_path / "from").write_bytes(data)
        fs.put(str(tmp_path / "from"), path)

    def in_transaction(data):
        with fs.transaction, fs.open(path, "wb") as file:
            file.write(data)

    ways = [
        lambda data: fs.pipe(path, data), lambda data: fs.write_bytes(path, data), write_with_open, close_by_hand, copy,
        put, in_transaction,
    ]
    for n, way in enumerate(ways):
        data = bytes([65 + n]) * 2500
        way(data)
        os.utime(path, (0, 0))
        assert fs.cat(path) == data, n
    fs.touch(path)
    assert fs.cat(path) == b""


def test_files_in_memory_are_a_process_s_own(arena_name):
    fs = fsspec.filesystem("tmem", target_protocol="memory", arena=arena_name)
    fs.pipe("/f", b"aaaa")
    assert fs.cat("/f") == b"aaaa"

    def child():
        stored = fs.fs.store["/f"]
        stored.seek(0)
        stored.write(b"bbbb")
        assert fs.cat("/f") == b"bbbb"

    assert in_child(child) == 0
    assert fs.cat("/f") == b"aaaa"
    fs.rm("/f")
    assert not fs.exists("/f")
    with pytest.raises(FileNotFoundError):
        fs.cat("/f")


def test_a_pickle_and_a_json_are_the_same_file_system(fs, remote):
    again = pickle.loads(pickle.dumps(fs))
    assert again.cat(remote[1]) == DATA
    assert fsspec.AbstractFileSystem.from_json(fs.to_json()).cat(remote[1]) == DATA
    assert len(fetched(remote)) == 11


def test_what_is_not_a_file_says_so(arena_name, tmp_path):
    fs = TmemFileSystem("file", arena=arena_name)
    with pytest.raises(IsADirectoryError):
        fs.open(str(tmp_path))
    with pytest.raises(FileNotFoundError):
        fs.open(str(tmp_path / "nothing"))
    fs.invalidate_cache()
    fs.invalidate_cache(str(tmp_path))


def test_bad_arguments_are_named(arena_name):
    with pytest.raises(ValueError, match="^fs, target_protocol: "):
        TmemFileSystem(arena=arena_name)
    with pytest.raises(TypeError, match="^arena: "):
        TmemFileSystem(target_protocol="file")


@pytest.mark.parametrize("size", [-1, 2.5, "many", "-1"])
def test_a_block_has_a_size(tmp_path, arena_name, size):
    (tmp_path / "a").write_bytes(b"0123456789")
    with pytest.raises((TypeError, ValueError), match="block_size"):
        TmemFileSystem("file", arena=arena_name, block_size=size)
    with pytest.raises((TypeError, ValueError), match="block_size"):
        TmemFileSystem("file", arena=arena_name).open(str(tmp_path / "a"), block_size=size)
    assert TmemFileSystem("file", arena=arena_name, block_size="1KiB").cat(str(tmp_path / "a")) == b"0123456789"


def test_lines_of_a_file_that_is_changed(tmp_path, arena_name):
    (tmp_path / "a").write_bytes(b"1\n2\n")
    with TmemFileSystem("file", arena=arena_name).open(str(tmp_path / "a"), "r+b") as file:
        assert list(file) == [b"1\n", b"2\n"]

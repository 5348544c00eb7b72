"""Owns what may lie under an arena's name in /dev/shm and is none: it is not waited for, not
followed, not removed, and told from a damaged arena. And what the system refuses on the way in:
descriptors, inodes.
"""
import os
import resource
import socket
import struct

import pytest
from click.testing import CliRunner

import engine
from engine.cli import commands as cli
from shm import arena, entry
from tests.support import SHM, SMALL, can_mount, mount_over

needs_mounts = pytest.mark.skipif(not can_mount(), reason="needs root, for mounts of its own")


def a_socket(path):
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(path))


KINDS = {
    "fifo": os.mkfifo,
    "directory": os.mkdir,
    "socket": a_socket,
    "link to nowhere": lambda path: path.symlink_to(path.with_name(path.name + "-nowhere")),
    "link to a file": lambda path: path.symlink_to(__file__),
    "text": lambda path: path.write_text("x" * 10_000),
    "zeroes": lambda path: path.write_bytes(bytes(1 << 16)),
    "a part of the magic": lambda path: path.write_bytes(engine.ARENA_MAGIC[:4]),
}


@pytest.fixture(params=KINDS)
def path(request, arena_name):
    """Something that is no arena, under an arena's name."""
    made = SHM / arena_name
    KINDS[request.param](made)
    yield made
    made.rmdir() if made.is_dir() and not made.is_symlink() else made.unlink()


def test_what_is_no_arena_is_refused_and_left_alone(path):
    before = os.lstat(path)
    for call in (engine.attach, engine.unlink):
        with pytest.raises(engine.ArenaCorrupted, match=path.name):
            call(path.name)
    with pytest.raises(engine.ArenaExists):
        engine.create(path.name, **SMALL)
    assert os.lstat(path).st_ino == before.st_ino


def test_the_commands_say_that_it_is_no_arena(path):
    for command in ("stat", "check", "rm"):
        done = CliRunner().invoke(cli.main, [command, path.name])
        assert done.exit_code == 1 and path.name in done.output and "Traceback" not in done.output
    done = CliRunner().invoke(cli.main, ["ls"])
    assert done.exit_code == 0 and path.name not in done.output
    assert os.path.lexists(path)


def test_a_link_to_an_arena_is_not_followed(eng, arena_name):
    link = SHM / (arena_name + "-link")
    link.symlink_to(SHM / arena_name)
    try:
        for call in (engine.attach, engine.unlink):
            with pytest.raises(engine.ArenaCorrupted, match="is not an arena"):
                call(link.name)
    finally:
        link.unlink()
    assert eng.check().ok and (SHM / arena_name).exists()


@pytest.mark.parametrize("content", [b"", entry.BORN, entry.BORN + bytes(8192)])
def test_one_that_is_half_made_is_removed(arena_name, content):
    (SHM / arena_name).write_bytes(content)
    with pytest.raises(engine.ArenaCorrupted, match="never finished"):
        engine.attach(arena_name)
    engine.unlink(arena_name)
    assert not (SHM / arena_name).exists()


def test_a_damaged_first_word_does_not_make_it_somebody_elses(arena_name):
    engine.create(arena_name, **SMALL).close()
    with open(SHM / arena_name, "r+b") as file:
        file.write(b"\xff" * 8)
    engine.unlink(arena_name)
    assert not (SHM / arena_name).exists()


def test_the_first_store_of_a_creator_says_what_it_makes(arena_name, monkeypatch):
    """Whatever it dies of afterwards."""
    seen = []
    monkeypatch.setattr(
        os,
        "ftruncate",
        lambda fd, size: seen.append(os.pread(fd, 8, 0)) or (_ for _ in ()).throw(OSError(28, "no space")),
    )
    with pytest.raises(engine.TmemError):
        engine.create(arena_name, **SMALL)
    assert seen == [entry.BORN] and not (SHM / arena_name).exists()


# --- another version ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change, word",
    [
        (1, "another"),
        (1 << 40, "a newer"),
        (-1 << 40, "an older"),
        (1 << 48, "a newer"),
        (-1 << 48, "an older"),
        (None, "an older"),
    ],
)
def test_an_arena_of_another_version(arena_name, change, word):
    with engine.create(arena_name, **SMALL) as eng:
        pool = eng.new_pool("p", persistent=True)
        pool.put((1, 2, 3), 0, b"page")
        with open(SHM / arena_name, "r+b") as file:
            identity = struct.unpack("<Q", os.pread(file.fileno(), 8, 8))[0]
            assert identity >> 56 == arena.LAYOUT_MARK
            os.pwrite(file.fileno(), struct.pack("<Q", 12345 if change is None else identity + change), 8)
        with pytest.raises(engine.ArenaVersionMismatch, match=f"is of {word} version"):
            engine.attach(arena_name)
        assert issubclass(engine.ArenaVersionMismatch, engine.ArenaCorrupted)
        assert pool.get((1, 2, 3), 0) == b"page"
    engine.unlink(arena_name)


# --- what the system does not give ----------------------------------------------------------------


def in_a_child(call):
    pid = os.fork()
    if pid == 0:
        try:
            call()
            os._exit(0)
        except BaseException:
            import traceback
            traceback.print_exc()
        finally:
            os._exit(1)
    assert os.waitpid(pid, 0)[1] == 0


@pytest.mark.parametrize("free", range(6))
def test_no_descriptor_left(eng, arena_name, free):
    """However many are left: it works, or an error says what is short; and a half-made arena is not
    left behind."""
    other = arena_name + "-other"
    eng.new_pool("p")

    def starve():
        used = {int(fd) for fd in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{fd}")}
        lowest = [fd for fd in range(max(used) + 8) if fd not in used]
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest[free], resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
        for call in (
            lambda: engine.attach(arena_name),
            lambda: engine.create(other, **SMALL),
            lambda: engine.unlink(other),
        ):
            try:
                call()
            except engine.ArenaBusy as error:
                assert "RLIMIT_NOFILE" in str(error)
                assert not os.path.exists(SHM / other), call
            except engine.ArenaNotFound:
                pass

    in_a_child(starve)
    assert not (SHM / other).exists() and eng.check().ok


def test_a_forked_child_without_a_descriptor_hears_of_it(eng):
    pool = eng.new_pool("p", persistent=True)
    pool.put((1, 2, 3), 0, b"page")
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, before[1]))
    try:
        def use():
            with pytest.raises(engine.TmemError, match="RLIMIT_NOFILE"):
                pool.put((1, 2, 3), 0, b"x")
        in_a_child(use)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert pool.get((1, 2, 3), 0) == b"page"


@needs_mounts
def test_no_inode_left(arena_name):
    def starve():
        mount_over("/dev/shm", "size=16m,nr_inodes=1")
        with pytest.raises(engine.TmemError, match="inode"):
            engine.create(arena_name, **SMALL)

    in_a_child(starve)


@needs_mounts
@pytest.mark.parametrize("size", ["size=64k", "size=4k", None])
def test_a_directory_for_shared_memory_that_is_too_small_or_not_there(arena_name, size):
    def starve():
        mount_over("/dev/shm" if size else "/dev", size or "size=64k")
        for exist_ok in (False, True):
            with pytest.raises(engine.TmemError, match="--shm-size" if size else "no directory /dev/shm") as caught:
                engine.create(arena_name, exist_ok=exist_ok, **SMALL)
            assert type(caught.value) is engine.TmemError
        assert not size or os.listdir("/dev/shm") == []

    in_a_child(starve)


@pytest.mark.parametrize(
    "error",
    [
        PermissionError(13, "no"),
        OSError(24, "Too many open files"),
        OSError(23, "Too many open files in system"),
        OSError(28, "No space"),
        OSError(5, "Input/output error"),
        ValueError("Invalid parameter(s)"),
        entry.posix_ipc.PermissionsError("no"),
        entry.posix_ipc.Error("odd"),
        entry.posix_ipc.BusyError("odd"),
    ],
)
@pytest.mark.parametrize("call", [engine.attach, engine.unlink, engine.create])
def test_no_error_of_the_system_comes_out_as_it_is(arena_name, monkeypatch, call, error):
    def refuse(*args, **kwargs):
        raise error

    monkeypatch.setattr(entry.posix_ipc, "SharedMemory", refuse)
    with pytest.raises(engine.TmemError, match=arena_name):
        call(arena_name)
    monkeypatch.undo()
    monkeypatch.setattr(entry.semaphores, "unlink_all", refuse)
    if call is not engine.attach:
        with pytest.raises(engine.TmemError):
            call(arena_name)


def test_who_lists_arenas_by_how_their_names_begin_finds_arenas_alone(arena_name):
    with engine.create(f"{arena_name}-one", "1MiB"), engine.create(f"{arena_name}-two", "1MiB"):
        pass
    found = sorted(path.name for path in SHM.iterdir() if path.name.startswith(f"{arena_name}-"))
    assert found == [f"{arena_name}-one", f"{arena_name}-two"]
    for name in found:
        engine.unlink(name)
    assert not [path.name for path in SHM.iterdir() if arena_name in path.name]

"""Owns the promise about copies of an arena's file: whoever attaches to one first makes it an arena
of its own, with all the memory that the former one had, and no file system that fills up kills him.
"""
import os
import signal
import subprocess
import sys

import pytest

import engine
from shm import copies
from tests.stopped import fork
from tests.support import SHM, can_mount, child_env, mount_over


@pytest.fixture
def source(make_arena):
    eng = make_arena(capacity="16MiB", page_size=4096)
    for name, options in (("p", dict(persistent=True)), ("q", dict()), ("twins", dict(dedup=True))):
        pool = eng.new_pool(name, **options)
        for n in range(300):
            pool.put((n, 0, 0), n, (b"%d" % (n % 7)) * 1000 + os.urandom(900 * (n % 2)))
    eng.lease("x").acquire()
    with eng.pool("p").view((1, 0, 0), 1):
        pass
    eng.cache("c")["key"] = "value"
    return eng


def copied(source, name):
    """A sparse copy of the arena, with nobody attached."""
    source.close()
    subprocess.run(["cp", "--sparse=always", SHM / source.name, SHM / name], check=True)


def backed(name):
    return os.stat(SHM / name).st_blocks * 512


def test_a_copy_is_an_arena_of_its_own(source, arena_name):
    before = [source.pool("p").get((n, 0, 0), n) for n in range(300)]
    copied(source, arena_name)
    with engine.attach(arena_name) as eng:
        assert eng.check(frozen=True).ok
        assert [eng.pool("p").get((n, 0, 0), n) for n in range(300)] == before
        assert eng.cache("c")["key"] == "value"
        assert backed(arena_name) >= backed(source.name) - (1 << 20)
        with engine.attach(source.name) as former:
            nonces = {name.rpartition("@")[2] for name in os.listdir(SHM)
                      if name.startswith((f"alive.{eng.name}@", f"alive.{former.name}@"))}
            assert len(nonces) == 2
        # The second to come finds it settled.
        with engine.attach(arena_name) as other:
            other.pool("p").put((1, 0, 0), 0, b"x")
            assert eng.pool("p").get((1, 0, 0), 0) == b"x"


def test_many_attach_to_a_copy_at_once(source, arena_name):
    copied(source, arena_name)

    def work(number):
        with engine.attach(arena_name) as eng:
            assert eng.pool("p").put((number, 5, 5), 0, b"%d" % number)

    pids = [fork(work, n) for n in range(6)]
    for pid in pids:
        assert os.waitpid(pid, 0)[1] == 0
    assert len([name for name in os.listdir(SHM) if name.startswith(f"alive.{arena_name}@")]) == 1
    with engine.attach(arena_name) as eng:
        assert all(eng.pool("p").get((n, 5, 5), 0) == b"%d" % n for n in range(6)) and eng.check(frozen=True).ok


def test_killed_in_the_middle_the_next_one_begins_again(source, arena_name):
    copied(source, arena_name)
    raw = (SHM / arena_name).read_bytes()

    def victim(number):
        left, write = [number], os.pwrite

        def pwrite(*arguments):
            left[0] -= 1
            if left[0] < 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return write(*arguments)

        os.pwrite = pwrite
        engine.attach(arena_name).close()
        os._exit(7)

    number, killed = 0, 0
    while True:
        (SHM / arena_name).write_bytes(raw)
        pid = fork(victim, number)
        _, status = os.waitpid(pid, 0)
        with engine.attach(arena_name) as eng:
            assert eng.pool("p").get((1, 0, 0), 1) is not None and eng.check(frozen=True).ok
        if not os.WIFSIGNALED(status):
            break
        killed += 1
        number += 1
    assert killed >= 3


def test_a_copy_in_the_place_of_an_arena_that_is_used(source, arena_name):
    with engine.attach(source.name) as other:
        source.close()
        subprocess.run(["cp", "--sparse=always", SHM / other.name, SHM / arena_name], check=True)
        os.rename(SHM / arena_name, SHM / other.name)
        with pytest.raises(engine.ArenaBusy, match="copy"):
            engine.attach(other.name)
    with engine.attach(other.name) as eng:
        assert eng.pool("p").get((1, 0, 0), 1) is not None


def test_another_boot_number_is_no_copy_while_somebody_lives(source, tmp_path, monkeypatch):
    """Containers with a boot number each share an arena."""
    (tmp_path / "boot_id").write_text("another")
    monkeypatch.setattr(copies, "BOOT_ID", str(tmp_path / "boot_id"))
    with engine.attach(source.name) as eng:
        assert source.pool("p").put((7, 7, 7), 0, b"x") and eng.pool("p").get((7, 7, 7), 0) == b"x"
    source.close()
    with engine.attach(source.name) as eng:         # nobody lives: it may be a copy, and is settled
        assert eng.pool("p").get((7, 7, 7), 0) == b"x"


def test_words_that_say_anything(source, arena_name):
    """Counts of a damaged copy are bounded by its geometry."""
    copied(source, arena_name)
    with open(SHM / arena_name, "r+b") as file:
        file.seek(4096 + 40)
        file.write(b"\xff" * 24)
    with pytest.raises(engine.TmemError):
        with engine.attach(arena_name) as eng:
            assert not eng.check(frozen=True).ok
            raise engine.TmemError
    assert backed(arena_name) < 64 << 20


FULL = """
import os, subprocess, sys
import engine

eng = engine.create("a", "16MiB", page_size=4096)
pool = eng.new_pool("p", persistent=True)
for n in range(2000):
    assert pool.put((n, 0, 0), 0, bytes(4096))
for n in range(100):
    assert pool.put((n, 1, 0), 0, b"%d" % n * 500)
eng.close()
os.mkdir("/opt/d")
subprocess.run(["cp", "--sparse=always", "/dev/shm/a", "/opt/d/b"], check=True)
engine.unlink("a")
subprocess.run(["cp", "--sparse=always", "/opt/d/b", "/dev/shm/b"], check=True)

with open("/dev/shm/filler", "wb", buffering=0) as filler:
    left = os.statvfs("/dev/shm").f_bavail * 4096
    filler.truncate(left)
    os.posix_fallocate(filler.fileno(), 0, left - (1 << 20))
for _ in range(3):
    try:
        engine.attach("b")
    except engine.TmemError as error:
        assert "No space left" in str(error) and "copy" in str(error), error
    else:
        sys.exit("it had room")
os.unlink("/dev/shm/filler")
with engine.attach("b") as eng:
    left = os.statvfs("/dev/shm").f_bavail * 4096
    with open("/dev/shm/filler", "wb", buffering=0) as filler:
        os.posix_fallocate(filler.fileno(), 0, left - (1 << 20))
        try:
            while True:
                filler.seek(0, 2)
                filler.write(bytes(4096))
        except OSError:
            pass
    pool = eng.pool("p")
    for n in range(2000):
        assert pool.get((n, 0, 0), 0) == bytes(4096)
        assert pool.put((n, 0, 0), 0, b"x" * 4096)
    assert eng.check(frozen=True).ok
print("done")
"""


@pytest.mark.skipif(not can_mount(), reason="needs root, and a mount namespace")
def test_a_full_file_system_is_a_refusal_and_no_signal():
    def mounts():
        mount_over("/opt", "size=64m")
        mount_over("/dev/shm", "size=40m")

    run = subprocess.run([sys.executable, "-c", FULL], capture_output=True, text=True, env=child_env(), timeout=60,
                         preexec_fn=mounts)
    assert run.stdout == "done\n", (run.returncode, run.stderr)

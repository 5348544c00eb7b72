"""The file of a snapshot is the former one or the new one, whoever is killed, whatever is full,
and however many write it at once.
"""
import os
import signal
import stat
import subprocess
import sys
import threading

import pytest

import engine
from tests.snapshots.content import fill, seen
from tests.stopped import fork
from tests.support import can_mount, child_env, mount_over

EVERY = bool(os.environ.get("EVERY_POINT"))


@pytest.fixture
def source(make_arena):
    eng = make_arena(capacity="8MiB")
    pool = eng.new_pool("p", persistent=True)
    for n in range(700):
        pool.put((n, 0, 0), 0, b"%d" % n * 800)
    pool.put_object((9999, 0, 0), os.urandom(2_500_000))
    return eng


def test_it_is_the_owners_alone(source, tmp_path):
    (tmp_path / "s").write_bytes(b"former")
    (tmp_path / "s").chmod(0o666)
    source.save(tmp_path / "s")
    assert stat.S_IMODE((tmp_path / "s").stat().st_mode) == 0o600 and os.listdir(tmp_path) == ["s"]


def test_a_link_is_replaced_and_not_followed(source, tmp_path):
    (tmp_path / "elsewhere").write_bytes(b"mine")
    (tmp_path / "s").symlink_to(tmp_path / "elsewhere")
    source.save(tmp_path / "s")
    assert not (tmp_path / "s").is_symlink() and (tmp_path / "elsewhere").read_bytes() == b"mine"


def test_every_kill_leaves_the_former_file_or_the_new_one(source, tmp_path, arena_name):
    path = tmp_path / "s"
    source.save(path)
    before = seen(source)

    def victim(number):
        with engine.attach(source.name) as eng:
            eng.set_kill_point(number)
            eng.save(path)
            eng.set_kill_point(0)

    source.set_kill_point(1 << 60)
    source.save(path)
    points = source.kill_points()
    source.set_kill_point(0)
    assert points > 10
    former = path.read_bytes()
    for n in range(1, points + 1, 1 if EVERY or points < 80 else points // 16):
        pid = fork(victim, n)
        _, status = os.waitpid(pid, 0)
        assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
        now = path.read_bytes()
        if now != former:
            engine.restore(path, arena_name)
            with engine.attach(arena_name) as eng:
                assert seen(eng) == before
            engine.unlink(arena_name)
            former = now
    for left in tmp_path.iterdir():
        os.utime(left, (0, 0))      # an empty one may be about to be locked, unless it is old
    source.save(path)
    assert os.listdir(tmp_path) == ["s"]        # what they left is gone
    assert source.check(frozen=True).ok


def test_several_write_it_at_once(source, tmp_path, arena_name):
    def write(_):
        with engine.attach(source.name) as eng:
            for _ in range(5):
                eng.save(tmp_path / "s")

    pids = [fork(write, n) for n in range(3)]
    for pid in pids:
        assert os.waitpid(pid, 0)[1] == 0
    assert os.listdir(tmp_path) == ["s"]
    engine.restore(tmp_path / "s", arena_name)
    with engine.attach(arena_name) as eng:
        assert seen(eng) == seen(source)


FULL = """
import os, sys
import engine

eng = engine.create("full", "16MiB")
pool = eng.new_pool("p", persistent=True)
for n in range(300):
    pool.put((n, 0, 0), 0, os.urandom(4096))
assert eng.save("/opt/s").pages == 300
former = open("/opt/s", "rb").read()
for n in range(300, 1500):
    pool.put((n, 0, 0), 0, os.urandom(4096))
for frozen in (False, True):
    try:
        eng.save("/opt/s", frozen=frozen)
    except OSError as error:
        assert error.errno == 28, error
    else:
        sys.exit("it had room")
    assert open("/opt/s", "rb").read() == former and os.listdir("/opt") == ["s"]
    assert pool.put((1, 0, 0), 0, b"x") and eng.check(frozen=True).ok
print("done")
"""


@pytest.mark.skipif(not can_mount(), reason="needs root, and a mount namespace")
def test_a_full_disk_leaves_the_former_file():
    def mounts():
        mount_over("/opt", "size=4m")
        mount_over("/dev/shm", "size=64m")

    run = subprocess.run([sys.executable, "-c", FULL], capture_output=True, text=True, env=child_env(), timeout=60,
                         preexec_fn=mounts)
    assert run.stdout == "done\n", run.stderr


# --- restores that die ----------------------------------------------------------------------------


@pytest.mark.parametrize("there", [False, True])
def test_a_restore_that_dies_leaves_nothing_that_looks_whole(make_arena, tmp_path, arena_name, there):
    eng = make_arena(capacity="4MiB")
    for name in ("p", "q"):
        pool = eng.new_pool(name, persistent=True)
        for n in range(25):
            pool.put((n % 3, 0, 0), n * n, b"%d" % n * 300)
    eng.save(tmp_path / "s")
    before = seen(eng)
    target = arena_name
    if there:
        engine.create(target, "4MiB").close()

    def victim(number):
        from shm import workers
        workers.kill_newcomers_at(number)
        engine.restore(tmp_path / "s", target, None if there else "4MiB")
        os._exit(7)

    step, number, ended = 1 if EVERY else 293, 1, False
    while not ended:
        pid = fork(victim, number)
        _, status = os.waitpid(pid, 0)
        ended = not os.WIFSIGNALED(status)
        assert ended or os.WTERMSIG(status) == signal.SIGKILL
        if there:
            with engine.attach(target) as other:
                found = {pool.name: pool for pool in other.pools()}
                assert other.check(frozen=True).ok
                whole = {"p", "q"} & set(found)
                assert {name: value for name, value in seen(other).items() if name in whole} == {
                    name: before[name] for name in whole}
                for name in whole:
                    found[name].destroy()
        elif os.path.exists(f"/dev/shm/{target}"):
            with engine.attach(target) as other:
                assert seen(other) == before
            engine.unlink(target)
        number += step
    assert number > 10 * step
    for name in os.listdir("/dev/shm"):
        if name.startswith(f"{target}.restoring-"):
            os.utime(f"/dev/shm/{name}", (0, 0))
    if there:
        engine.restore(tmp_path / "s", target)
        with engine.attach(target) as other:
            assert seen(other) == before
            assert {pool.name for pool in other.pools()} == {"p", "q"}
    else:
        engine.restore(tmp_path / "s", target, "4MiB")
        assert [name for name in os.listdir("/dev/shm") if name.startswith(target)] == [target]


def test_a_restore_that_goes_on_is_left_alone(make_arena, tmp_path, arena_name):
    """What has the name of a restore under way, and somebody in it, stays."""
    eng = make_arena(capacity="4MiB")
    eng.new_pool("p", persistent=True)
    eng.save(tmp_path / "s")
    with engine.create(f"{arena_name}.restoring-0123456789ab", "4MiB") as other:
        os.utime(f"/dev/shm/{other.name}", (0, 0))
        engine.restore(tmp_path / "s", arena_name)
        assert os.path.exists(f"/dev/shm/{other.name}")
        engine.unlink(other.name)


def test_two_restores_of_one_name(make_arena, tmp_path, arena_name):
    eng = make_arena(capacity="24MiB")
    fill(eng, pages=5)
    eng.save(tmp_path / "s")
    ends = []

    def work():
        try:
            ends.append(engine.restore(tmp_path / "s", arena_name))
        except (engine.ArenaExists, engine.PoolExists) as error:
            ends.append(error)

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(isinstance(end, engine.Restored) for end in ends) == 1
    assert [name for name in os.listdir("/dev/shm") if name.startswith(arena_name)] == [arena_name]

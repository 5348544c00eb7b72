"""Owns the contract of an arena as a whole: create, attach, unlink, what an Engine tells, close,
and the worker table."""
import os
import re
import stat
import subprocess
import sys

import pytest

import engine
from tests.support import ROOT, SHM, SMALL, leftovers

MIB = 2**20


def test_create_gives_what_was_asked_for(make_arena):
    eng = make_arena(capacity="8MiB", page_size=1024, buckets=16, max_workers=5, max_pools=9, mode=0o660)
    assert (eng.capacity, eng.page_size, eng.buckets, eng.max_workers) == (8 * MIB, 1024, 16, 5)
    assert isinstance(eng.name, str) and eng.name in os.listdir(SHM)
    assert 0 <= eng.worker_id < 5
    assert stat.S_IMODE((SHM / eng.name).stat().st_mode) == 0o660


def test_create_has_defaults(arena_name):
    with engine.create(arena_name) as eng:
        assert (eng.capacity, eng.page_size, eng.buckets, eng.max_workers) == (64 * MIB, 4096, 256, 256)
    assert stat.S_IMODE((SHM / arena_name).stat().st_mode) == 0o600


def test_a_umask_does_not_change_the_mode(arena_name):
    before = os.umask(0o077)
    try:
        engine.create(arena_name, mode=0o666, **SMALL).close()
    finally:
        os.umask(before)
    assert stat.S_IMODE((SHM / arena_name).stat().st_mode) == 0o666


@pytest.mark.parametrize(("text", "size"), [
    (8 * MIB, 8 * MIB), ("8MiB", 8 * MIB), ("8192KiB", 8 * MIB), ("8388608", 8 * MIB), ("0.125 GiB", 128 * MIB),
    ("8mib", 8 * MIB), ("9MB", 9_000_000), ("9000KB", 9_000_000), ("1GB", 10**9),
])
def test_capacity_is_read_as_people_write_it(make_arena, text, size):
    eng = make_arena(capacity=text)
    assert size - 2**18 < eng.capacity <= size


def test_capacity_takes_no_memory_until_it_is_used(make_arena):
    eng = make_arena(capacity="64GiB")
    assert eng.capacity == 2**36
    assert eng.stats()["arena"]["bytes_backed"] < eng.capacity / 2000
    before = eng.stats()["arena"]["bytes_backed"]
    assert eng.new_pool("p").put_range((1, 2, 3), 0, os.urandom(512 * 4096))
    grown = eng.stats()["arena"]["bytes_backed"] - before
    assert 512 * 4096 < grown < 4 * 512 * 4096


@pytest.mark.parametrize("name", ["a", "-", "_x", "A.b-c_9", "x" * 180])
def test_names_that_are_allowed(name):
    try:
        with engine.create(name := f"{name}{os.getpid()}", **SMALL) as eng:
            assert eng.name == name
    finally:
        engine.unlink(name)
    assert not leftovers(name)


def test_create_twice(eng):
    with pytest.raises(engine.ArenaExists, match=re.escape(eng.name)):
        engine.create(eng.name, **SMALL)
    pool = eng.new_pool("p")
    assert pool.put((1, 2, 3), 0, b"still works")


@pytest.mark.parametrize("call", [engine.attach, engine.unlink])
def test_an_arena_that_is_not_there(arena_name, call):
    with pytest.raises(engine.ArenaNotFound, match=arena_name):
        call(arena_name)


def test_attach_sees_the_same_pages(eng):
    pool = eng.new_pool("p", persistent=True)
    assert pool.put((1, 2, 3), 4, b"page")
    with engine.attach(eng.name) as other:
        assert (other.name, other.capacity, other.page_size, other.buckets, other.max_workers) == (
            eng.name, eng.capacity, eng.page_size, eng.buckets, eng.max_workers)
        assert other.worker_id != eng.worker_id
        assert other.pool("p").get((1, 2, 3), 4) == b"page"
        assert other.pool("p").put((1, 2, 3), 4, b"newer")
    assert pool.get((1, 2, 3), 4) == b"newer"


def test_an_arena_outlives_its_workers(arena_name):
    with engine.create(arena_name, **SMALL) as eng:
        assert eng.new_pool("p", persistent=True).put((1, 2, 3), 0, b"page")
    with engine.attach(arena_name) as eng:
        assert eng.pool("p").get((1, 2, 3), 0) == b"page"
        assert eng.check().ok


def test_unlink_removes_the_name_and_who_is_attached_goes_on(eng):
    pool = eng.new_pool("p")
    engine.unlink(eng.name)
    assert not leftovers(eng.name)
    assert pool.put((1, 2, 3), 0, b"page") and pool.get((1, 2, 3), 0) == b"page"
    with engine.create(eng.name, **SMALL) as other:
        assert other.pools() == [] and pool.get((1, 2, 3), 0) == b"page"
        other.new_pool("p")
        assert other.pool("p").get((1, 2, 3), 0) is None


def test_workers_beyond_the_table_are_refused(make_arena):
    eng = make_arena(max_workers=3)
    others = [engine.attach(eng.name) for _ in range(2)]
    with pytest.raises(engine.ArenaBusy, match="3 worker"):
        engine.attach(eng.name)
    assert len({one.worker_id for one in (eng, *others)}) == 3
    others.pop().close()
    engine.attach(eng.name).close()
    for one in others:
        one.close()


def test_a_closed_engine_is_closed(eng):
    pool = eng.new_pool("p", persistent=True)
    handle = pool.object((1, 2, 3))
    assert handle.put(0, b"page")
    eng.close()
    eng.close()
    calls = [
        lambda: eng.new_pool("q"),
        lambda: eng.pool("p"),
        lambda: eng.pools(),
        lambda: eng.stats(),
        lambda: eng.check(),
        lambda: eng.recover(),
        lambda: eng.spawn(1, print),
        lambda: eng.resize("8MiB"),
        lambda: eng.capacity,
        lambda: eng.client(1),
        lambda: pool.put((1, 2, 3), 0, b"x"),
        lambda: pool.get((1, 2, 3), 0),
        lambda: pool.flush_page((1, 2, 3), 0),
        lambda: pool.get_into((1, 2, 3), 0, bytearray(512)),
        lambda: pool.flush_object((1, 2, 3)),
        lambda: pool.put_range((1, 2, 3), 0, b"x"),
        lambda: pool.get_range((1, 2, 3), 0, 1),
        lambda: pool.object_info((1, 2, 3)),
        lambda: pool.descriptor((1, 2, 3), 0),
        lambda: pool.obj_count,
        lambda: pool.destroy(),
        lambda: handle.get(0),
        lambda: handle.put(0, b"x"),
        lambda: handle.flush_object(),
    ]
    for number, call in enumerate(calls):
        with pytest.raises(engine.TmemError, match="closed") as caught:
            call()
            pytest.fail(f"call {number} did not raise")
        assert type(caught.value) is engine.TmemError
    assert (eng.name, pool.name, pool.id, pool.persistent) == (eng.name, "p", pool.id, True)


def test_an_engine_is_a_context_manager(arena_name):
    with engine.create(arena_name, **SMALL) as eng:
        assert eng.pools() == []
    with pytest.raises(engine.TmemError):
        eng.pools()
    with pytest.raises(KeyError), engine.attach(arena_name) as eng:
        raise KeyError
    with pytest.raises(engine.TmemError):
        eng.pools()


def test_the_tree_of_exceptions():
    below = (
        "ArenaExists",
        "ArenaNotFound",
        "ArenaCorrupted",
        "ArenaBusy",
        "PoolNotFound",
        "PoolExists",
        "PoolDestroyed",
        "AccessDenied",
    )
    assert all(issubclass(getattr(engine, name), engine.TmemError) for name in below)
    assert not issubclass(engine.TmemError, (OSError, ValueError, TypeError))


def test_what_workers_leave_is_given_to_the_next(make_arena):
    eng = make_arena(max_workers=2)
    for _ in range(50):
        with engine.attach(eng.name) as other:
            assert other.worker_id == 1
            assert other.stats()["arena"]["workers"] == 2
    assert eng.stats()["arena"]["workers"] == 1
    assert eng.check().ok


# --- an arena that is there already ---------------------------------------------------------------


def test_create_takes_an_arena_that_is_there_if_it_may(arena_name):
    with engine.create(arena_name, **SMALL, exist_ok=True) as eng:
        assert eng.new_pool("p", persistent=True).put((1, 2, 3), 0, b"page")
        with engine.create(arena_name, **{**SMALL, "capacity": "2MiB"}, exist_ok=True, client=7) as other:
            assert (other.capacity, other.client_id) == (eng.capacity, 7)
            assert other.pool("p").get((1, 2, 3), 0) == b"page" and other.worker_id != eng.worker_id
        with pytest.raises(ValueError, match="^page_size: .* pages of 512 bytes, not 4096"):
            engine.create(arena_name, exist_ok=True)
        with pytest.raises(engine.ArenaExists, match="attach to it, create it with exist_ok=True, or unlink it"):
            engine.create(arena_name, **SMALL)
        with pytest.raises(TypeError, match="exist_ok"):
            engine.create(arena_name, **SMALL, exist_ok=1)
        assert eng.stats()["arena"]["workers"] == 1 and eng.check().ok


def test_create_does_not_take_what_is_no_sound_arena(arena_name):
    (SHM / arena_name).write_bytes(b"somebody's")
    with pytest.raises(engine.ArenaCorrupted):
        engine.create(arena_name, **SMALL, exist_ok=True)


def test_an_arena_that_comes_between_is_taken(arena_name, monkeypatch):
    """Between the look whether it is there and the making, somebody else makes it; or removes it,
    before it is attached to."""
    from shm import entry

    real, calls = entry.open_entry, []

    def open_entry(name, **how):
        calls.append(how)
        if len(calls) == 1:
            monkeypatch.setattr(entry, "open_entry", real)
            engine.create(arena_name, **SMALL).close()
            raise entry.posix_ipc.ExistentialError("not there yet")
        return real(name, **how)

    monkeypatch.setattr(entry, "open_entry", open_entry)
    with engine.create(arena_name, **SMALL, exist_ok=True) as eng:
        assert eng.name == arena_name


def test_what_is_not_found_is_told_with_what_there_is(eng, arena_name):
    for call in (engine.attach, engine.unlink):
        with pytest.raises(engine.ArenaNotFound, match=f"^no arena '{arena_name}-no'; there (is|are) '"):
            call(arena_name + "-no")


# --- the end of the interpreter -------------------------------------------------------------------


@pytest.mark.parametrize(
    "keep",
    [
        "",
        "import sys; sys.keep = pool; del pool, eng",
        "import builtins; builtins.keep = pool; del pool, eng",
        "import contextvars; c = contextvars.ContextVar('c'); c.set(pool); del pool, eng",
    ],
)
def test_an_engine_that_lives_until_the_end_says_nothing(eng, keep):
    eng.new_pool("p")
    code = f"import engine; eng = engine.attach({eng.name!r}); pool = eng.pool('p')\n{keep}"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


# --- importing ------------------------------------------------------------------------------------


@pytest.mark.parametrize("missing", ["posix_ipc", "xxhash"])
def test_a_package_that_is_missing_is_named(missing):
    code = f"import sys; sys.modules[{missing!r}] = None\nimport engine"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (
        done.stderr.splitlines()[-1]
        == f"ImportError: tmem needs {missing}, which is not installed here: pip install {missing}"
    )


def test_a_module_that_hides_ours_is_named(tmp_path):
    (tmp_path / "shm.py").write_text("X = 1")
    code = f"import sys; sys.path[:0] = [{str(tmp_path)!r}, {str(ROOT)!r}]\nimport engine"
    done = subprocess.run([sys.executable, "-P", "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert f"{tmp_path}/shm.py hides it; rename that" in done.stderr.splitlines()[-1]


def test_another_interpreter_of_the_process_hears_why_it_cannot_have_the_package():
    code = """if True:
        import engine
        try:
            import _interpreters as interpreters
        except ImportError:
            import _xxsubinterpreters as interpreters
        (getattr(interpreters, "run_string", None) or interpreters.exec)(interpreters.create(), '''if True:
            try:
                import engine
            except ImportError as error:
                print(error)
        ''')
        """
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and "one interpreter of a process" in done.stdout, (done.stdout, done.stderr)

"""Owns the contract between processes: pickling, the start methods of multiprocessing, spawn and
its crew, fork in the middle, and attachers that die."""
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys

import pytest

import engine
from tests.support import SHM, SMALL, child_env, page, semaphores_of

METHODS = ("spawn", "fork", "forkserver")
OID = (1, 2, 3)


# --- what the children do -------------------------------------------------------------------------


def put_one(pool, key, data):
    assert pool.put(engine.oid(key), 0, data)


def put_through(eng, name, handle):
    """Everything that can be handed to a process, used."""
    pool = eng.pool(name)
    assert handle.get(0, free=False) == b"from the parent"
    assert pool.put((os.getpid(), 0, 0), 0, b"from a child")
    assert eng.check().ok


def leave_with(code):
    sys.exit(code)


def leave_once(pool):
    """End badly the first three times, over all processes, then well."""
    for n in range(3):
        if pool.get((7, 7, 7), n, free=True) is not None:
            os._exit(3)


def wait_for(gate):
    """Wait for a message that nobody reads: an Event could not be set once a waiter of it was
    killed."""
    gate.poll(None)


def raise_one(error):
    raise error


def meet(pool, n, count):
    """Put, then look for what all others put: they run at the same time, or this never ends."""
    assert pool.put((n, 0, 0), 0, b"here")
    while not all(pool.get((other, 0, 0), 0) for other in range(count)):
        pass


def take_a_number(pool, count):
    """One of 0..count-1, taken by exactly one process: an exclusive get."""
    for n in range(count):
        if pool.get((9, 9, 9), n, free=True) is not None:
            return n
    raise AssertionError("no number left")


def meet_all(pool, count):
    meet(pool, take_a_number(pool, count), count)


# --- pickling -------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_engines_pools_and_objects_pickle(eng, protocol):
    pool = eng.new_pool("p", persistent=True)
    assert pool.put(OID, 0, b"page")
    other_eng, other_pool, handle = pickle.loads(pickle.dumps((eng, pool, pool.object(OID)), protocol))
    assert other_eng.name == eng.name and other_eng.worker_id != eng.worker_id
    assert (other_pool.id, other_pool.name, other_pool.persistent) == (pool.id, "p", True)
    assert other_pool.get(OID, 0) == handle.get(0) == b"page"
    assert handle.put(0, b"newer") and pool.get(OID, 0) == b"newer"
    other_eng.close()


def test_unpickling_a_pool_that_is_gone(eng):
    pool = eng.new_pool("p")
    data = pickle.dumps(pool)
    pool.destroy()
    eng.new_pool("p")
    with pytest.raises(engine.PoolDestroyed):
        pickle.loads(data)


def test_unpickling_a_pool_that_went_on_the_way(eng):
    """As an argument of a process that starts slowly: the process starts, and its calls raise."""
    pool = eng.new_pool("p")
    data = pickle.dumps(pool)
    pool.destroy()
    other = pickle.loads(data)
    with pytest.raises(engine.PoolDestroyed):
        other.put(OID, 0, b"page")
    with pytest.raises(engine.PoolNotFound):
        eng.pool("p")


def test_a_pool_is_never_another_of_an_arena_made_anew(arena_name):
    """The slot and generation of a pool are soon those of another in a second arena of the same
    name."""
    with engine.create(arena_name, **SMALL) as eng:
        alice = eng.new_pool("alice", persistent=True, client=1)
        eng.new_pool("bob", persistent=True, client=2)
        messages = [pickle.dumps(alice), pickle.dumps(alice.object(OID))]
    engine.unlink(arena_name)
    with engine.create(arena_name, **SMALL) as eng:
        for first, second in (("bob", "alice"), ("alice", "bob")):
            pools = [eng.new_pool(name, persistent=True) for name in (first, second)]
            for message in messages:
                with pytest.raises(
                    engine.PoolNotFound, match=f"pool 'alice' is of an arena '{arena_name}' that is gone"
                ):
                    pickle.loads(message)
            for pool in pools:
                pool.destroy()


def test_a_pool_of_another_name_in_its_slot_is_not_opened(eng):
    from engine.api.pool import open_pool

    pool = eng.new_pool("p")
    factory, args = pool.__reduce__()
    assert factory is open_pool and factory(*args).id == pool.id
    assert factory(eng, pool.id, 1, "p").name == "p"
    with pytest.raises(engine.PoolDestroyed, match="pool 'q' was destroyed"):
        factory(eng, pool.id, 1, "q", *args[4:])
    with pytest.raises(engine.PoolNotFound):
        factory(*args[:4], args[4] ^ 1)


def test_an_engine_pickles_by_name(arena_name):
    """What an engine's pickle names is whatever arena has the name then."""
    with engine.create(arena_name, **SMALL) as eng:
        data = pickle.dumps(eng)
    engine.unlink(arena_name)
    with engine.create(arena_name, **SMALL) as eng:
        eng.new_pool("p")
        with pickle.loads(data) as other:
            assert other.pool("p").name == "p"


def test_unpickling_an_arena_that_is_gone(make_arena):
    eng = make_arena()
    data = pickle.dumps(eng.new_pool("p"))
    eng.close()
    engine.unlink(eng.name)
    with pytest.raises(engine.ArenaNotFound):
        pickle.loads(data)


# --- multiprocessing ------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_arguments_of_a_process(eng, method):
    pool = eng.new_pool("p", persistent=True)
    assert pool.put(OID, 0, b"from the parent")
    context = multiprocessing.get_context(method)
    processes = [context.Process(target=put_through, args=(eng, "p", pool.object(OID))) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    assert [pool.get((process.pid, 0, 0), 0) for process in processes] == [b"from a child"] * 2
    assert eng.check().ok


@pytest.mark.parametrize("method", [None, *METHODS])
def test_spawn_runs_all_together(eng, method):
    pool = eng.new_pool("p", persistent=True)
    for n in range(3):
        pool.put((9, 9, 9), n, b"x")
    crew = eng.spawn(3, meet_all, pool, 3, method=method)
    assert len(crew) == 3 and len(list(crew)) == 3 and crew[0].pid != crew[1].pid
    assert crew.join(60) is True and crew.exitcodes == [0, 0, 0] and crew.restarts == 0
    assert eng.check().ok


def test_a_crew_as_a_context_manager_joins(eng):
    pool = eng.new_pool("p", persistent=True)
    with eng.spawn(2, put_one, pool, "key", b"data") as crew:
        pass
    assert crew.exitcodes == [0, 0] and pool.get(engine.oid("key"), 0) == b"data"


def test_a_crew_as_a_context_manager_terminates_on_an_exception(eng):
    event, bell = multiprocessing.get_context("spawn").Pipe(duplex=False)
    with pytest.raises(KeyError):
        with eng.spawn(2, wait_for, event) as crew:
            raise KeyError
    assert crew.exitcodes == [-signal.SIGTERM] * 2


def test_kill_terminate_and_join_with_a_timeout(eng):
    event, bell = multiprocessing.get_context("spawn").Pipe(duplex=False)
    crew = eng.spawn(2, wait_for, event)
    assert crew.join(0.01) is False and crew.exitcodes == [None, None]
    crew.kill()
    assert crew.join(30) is True and crew.exitcodes == [-signal.SIGKILL] * 2
    crew = eng.spawn(1, wait_for, event)
    crew.terminate()
    assert crew.join(30) is True and crew.exitcodes == [-signal.SIGTERM]


def test_exit_codes_are_those_of_a_process(eng, capfd):
    crew = eng.spawn(2, leave_with, 5)
    assert crew.join(60) is True and crew.exitcodes == [5, 5] and crew.restarts == 0
    crew = eng.spawn(1, raise_one, KeyError("told on stderr"))
    assert crew.join(60) is True and crew.exitcodes == [1]
    assert "told on stderr" in capfd.readouterr().err


def test_restart_replaces_who_ends_badly(eng):
    pool = eng.new_pool("p", persistent=True)
    for n in range(3):
        pool.put((7, 7, 7), n, b"fail once")
    crew = eng.spawn(2, leave_once, pool, restart=True)
    assert crew.join(60) is True
    assert crew.exitcodes == [0, 0] and crew.restarts == 3 and pool.obj_count == 0


def test_restart_after_a_kill(eng):
    event, bell = multiprocessing.get_context("spawn").Pipe(duplex=False)
    crew = eng.spawn(2, wait_for, event, restart=True)
    os.kill(crew[0].pid, signal.SIGKILL)
    while crew.restarts == 0:
        crew.join(0.01)
    bell.send(True)
    assert crew.join(60) is True and crew.exitcodes == [0, 0] and crew.restarts == 1


# --- fork -----------------------------------------------------------------------------------------


def in_a_fork(call):
    """Run call() in a forked child; it must return."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            call()
            status = 0
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_a_forked_child_goes_on_with_what_it_inherited(eng):
    pool = eng.new_pool("p", persistent=True)
    handle = pool.object(OID)
    assert handle.put(0, b"parent")
    mine = eng.worker_id

    def child():
        assert handle.get(0) == b"parent" and pool.put(OID, 1, b"child")
        assert eng.worker_id != mine and eng.stats()["arena"]["workers"] == 2
        assert eng.new_pool("made in the child").put(OID, 0, b"x")
        eng.close()

    in_a_fork(child)
    assert eng.worker_id == mine and pool.get(OID, 1) == b"child"
    assert eng.pool("made in the child").get(OID, 0) == b"x" and eng.check().ok


def test_a_forked_child_that_just_ends_takes_nothing_with_it(eng):
    pool = eng.new_pool("p", persistent=True)
    assert pool.put(OID, 0, b"page")
    for _ in range(20):
        in_a_fork(lambda: None)
        in_a_fork(lambda: pool.put(OID, 1, b"child"))
    assert pool.get(OID, 0) == b"page" and pool.get(OID, 1) == b"child"
    assert eng.check().ok and eng.stats()["arena"]["workers"] == 1


def test_more_forks_than_slots(make_arena):
    eng = make_arena(max_workers=3)
    pool = eng.new_pool("p", persistent=True)
    for n in range(30):
        in_a_fork(lambda: pool.put((n, 0, 0), n, page(n)))
    assert [pool.get((n, 0, 0), n) for n in range(30)] == [page(n) for n in range(30)]
    assert eng.check().ok


def test_a_grandchild(eng):
    pool = eng.new_pool("p", persistent=True)

    def child():
        pool.put(OID, 0, b"child")
        in_a_fork(lambda: pool.put(OID, 1, pool.get(OID, 0) + b" and grandchild"))
        assert pool.get(OID, 1) == b"child and grandchild"

    in_a_fork(child)
    assert pool.get(OID, 1) == b"child and grandchild" and eng.check().ok


def test_a_child_that_closes_what_it_inherited(eng):
    pool = eng.new_pool("p", persistent=True)

    def child():
        eng.close()
        try:
            pool.get(OID, 0)
        except engine.TmemError:
            return
        raise AssertionError("closed, and still answering")

    in_a_fork(child)
    assert pool.put(OID, 0, b"x") and eng.check().ok


# --- the end of processes -------------------------------------------------------------------------


ATTACH = """
import os, signal, sys, engine
eng = engine.attach(sys.argv[1])
assert eng.pool("p").put((5, 5, 5), 0, b"from the other process")
end = sys.argv[2]
if end == "exit": sys.exit(3)
if end == "_exit": os._exit(3)
if end == "raise": raise SystemError("on purpose")
if end == "kill": os.kill(os.getpid(), signal.SIGKILL)
if end == "abort": os.kill(os.getpid(), signal.SIGTERM)
"""


@pytest.mark.parametrize("end", ["return", "exit", "_exit", "raise", "kill", "abort"])
def test_a_dying_attacher_leaves_the_arena_alone(eng, end):
    pool = eng.new_pool("p", persistent=True)
    assert pool.put(OID, 0, b"page")
    subprocess.run([sys.executable, "-c", ATTACH, eng.name, end], capture_output=True, timeout=60,
                   env=child_env())
    assert (SHM / eng.name).exists()
    assert pool.get(OID, 0) == b"page" and pool.get((5, 5, 5), 0) == b"from the other process"
    assert eng.check().ok and eng.stats()["arena"]["workers"] == 1
    engine.attach(eng.name).close()


def test_the_creator_may_die(arena_name):
    code = ("import os, sys, engine; eng = engine.create(sys.argv[1], capacity='4MiB', page_size=512);"
            "eng.new_pool('p', persistent=True).put((1, 2, 3), 0, b'page'); os._exit(0)")
    subprocess.run([sys.executable, "-c", code, arena_name], check=True, timeout=60,
                   env=child_env())
    with engine.attach(arena_name) as eng:
        assert eng.pool("p").get(OID, 0) == b"page" and eng.check().ok


def test_the_dead_are_counted_as_recovered(eng):
    pool = eng.new_pool("p", persistent=True)
    for n in range(3):
        in_a_fork(lambda: pool.put(OID, n, page(n)) and os.kill(os.getpid(), 0) is None)
    assert eng.recover() <= 3 and eng.recover() == 0
    assert eng.stats()["arena"]["workers"] == 1 and eng.check().ok


def hammer(pool, rounds):
    """Work on one bucket hard enough that processes have to wait for one another."""
    data = bytes(64 * pool.page_size)
    for _ in range(rounds):
        assert pool.put_range(OID, 0, data)
        pool.get_range(OID, 0, 64, free=True)


def test_unlink_removes_the_semaphores(make_arena):
    eng = make_arena(buckets=1)
    pool = eng.new_pool("p", persistent=True)
    rounds = 200
    while not semaphores_of(eng.name):
        with eng.spawn(3, hammer, pool, rounds) as crew:
            pass
        assert crew.exitcodes == [0, 0, 0]
        rounds *= 4
    assert eng.stats()["total"]["lock_waits"] > 0 and eng.check().ok
    engine.unlink(eng.name)
    assert not semaphores_of(eng.name) and not (SHM / eng.name).exists()


def test_destroying_a_pool_removes_its_semaphores(make_arena):
    eng = make_arena(buckets=1)
    before = None
    rounds = 200
    while before is None:
        pool = eng.new_pool("p", persistent=True)
        quiet = set(semaphores_of(eng.name))
        with eng.spawn(3, hammer, pool, rounds) as crew:
            pass
        assert crew.exitcodes == [0, 0, 0]
        rounds *= 4
        if set(semaphores_of(eng.name)) - quiet:
            before = set(semaphores_of(eng.name))
        pool.destroy()
    # Those of the workers' own locks and of the depot may stay; the bucket's goes.
    assert len(set(semaphores_of(eng.name))) <= len(before)

"""Owns what a forked child may do with an inherited engine, at whatever moment it was forked: by
threads, in handlers, in a resize, in hooks that come before the engine's, in a back end. One slot a
process, and nobody's pages but its own."""
import os
import signal
import subprocess
import sys
import threading

import pytest

import engine
from tests.stopped import Stopped, in_child
from tests.support import DictPam


def slots_of(eng):
    eng.recover()
    return eng.stats()["arena"]["workers"]


def test_threads_of_a_child_take_one_slot_together(make_arena):
    eng = make_arena(buckets=1, max_workers=12)
    pool = eng.new_pool("p", persistent=True)
    pool.put((1, 0, 0), 0, b"a")

    def child():
        seen, barrier = set(), threading.Barrier(4)

        def work(n):
            barrier.wait()
            for _ in range(50):
                assert pool.put_range((n + 2, 0, 0), 0, bytes([n]) * 4096)
                assert pool.get((1, 0, 0), 0) == b"a" and pool.get_range((n + 2, 0, 0), 0, 8) == bytes([n]) * 4096
            seen.add(eng.worker_id)

        threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(seen) == 1 and eng.stats()["arena"]["workers"] == 2

    for _ in range(5):
        assert in_child(child) == 0
        assert slots_of(eng) == 1
    assert eng.check().ok


def test_a_hook_of_python_that_comes_first_is_a_worker_of_its_own(arena_name):
    code = f"""
import os
found = {{}}
def hook():
    pool = found["pool"]
    for n in range(500):
        pool.put((2, 0, 0), n % 50, b"child" * 20)
    assert found["eng"].worker_id != found["slot"]
os.register_at_fork(after_in_child=hook)
import engine
eng = engine.create({arena_name!r}, "2MiB", page_size=512, max_workers=4, max_pools=2)
found.update(eng=eng, pool=eng.new_pool("p", persistent=True), slot=eng.worker_id)
pid = os.fork()
if pid == 0:
    os._exit(0)
for n in range(2000):
    found["pool"].put((1, 0, 0), n % 50, b"parent" * 20)
assert os.waitpid(pid, 0)[1] == 0 and found["pool"].get((2, 0, 0), 3) == b"child" * 20
assert eng.recover() == 1 and eng.check().ok
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_a_handler_that_forks_in_a_put_that_waits(make_arena):
    eng = make_arena(buckets=1, max_workers=12)
    eng.new_pool("p", persistent=True)
    children = []

    def scenario():
        mine = engine.attach(eng.name)
        pool, slot = mine.pool("p"), mine.worker_id

        def fork(*_):
            signal.setitimer(signal.ITIMER_REAL, 0)
            children.append(os.fork())
            if children[-1] != 0:
                os.kill(holder.pid, signal.SIGCONT)

        signal.signal(signal.SIGALRM, fork)
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        assert pool.put_range((3, 0, 0), 5, b"my pages" * 1000)
        assert pool.get_range((3, 0, 0), 5, 16) == b"my pages" * 1000
        assert (mine.worker_id == slot) == (children[-1] != 0)
        if children[-1] != 0:
            assert os.waitpid(children[0], 0)[1] == 0

    with Stopped(eng.name, lambda mine: mine.pool("p").put((2, 0, 0), 0, b"h" * 100), 125) as holder:
        assert holder.stopped
        assert in_child(scenario) == 0
        assert holder.end() == 0
    assert eng.pool("p").get_range((3, 0, 0), 5, 16) == b"my pages" * 1000
    eng.recover()
    assert eng.stats()["arena"]["workers"] == 1 and eng.check().ok


def test_a_child_forked_while_another_thread_resizes(make_arena):
    eng = make_arena(max_workers=6, capacity="4MiB")
    pool = eng.new_pool("p")
    for n in range(4000):
        pool.put((n, 0, 0), 0, bytes([n & 255]) * 400)
    stop = threading.Event()

    def resize():
        while not stop.is_set():
            eng.resize("2MiB")
            eng.resize("4MiB")

    def child():
        assert eng.resize("3MiB") == 3 << 20
        assert eng.check().ok

    thread = threading.Thread(target=resize)
    thread.start()
    try:
        codes = [in_child(child) for _ in range(6)]
    finally:
        stop.set()
        thread.join()
    assert codes == [0] * 6 and eng.check().ok


def test_a_handler_that_forks_in_the_middle_of_a_resize(make_arena):
    eng = make_arena(max_workers=6, capacity="4MiB")
    pool = eng.new_pool("p", persistent=True)
    for n in range(2000):
        pool.put((n, 0, 0), 0, bytes([n & 255]) * 500)
    children = []

    def scenario():
        mine = engine.attach(eng.name)

        def fork(*_):
            children.append(os.fork())
            if children[-1] != 0 and len(children) < 3:
                signal.setitimer(signal.ITIMER_REAL, 0.0005)        # not before: no handler in the middle of this one

        signal.signal(signal.SIGALRM, fork)
        signal.setitimer(signal.ITIMER_REAL, 0.0005)
        try:
            while len(children) < 3 and 0 not in children:
                mine.resize("2MiB")
                mine.resize("4MiB")
        except engine.TmemError as error:
            # Its parent goes on with the resize; a child that was forked between two just goes on.
            assert 0 in children and "forked in the middle" in str(error)
        signal.setitimer(signal.ITIMER_REAL, 0)
        assert mine.resize("4MiB") == 4 << 20 and mine.pool("p").get((7, 0, 0), 0) == bytes([7]) * 500
        if 0 not in children:
            assert [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children] == [0] * 3

    assert in_child(scenario) == 0
    eng.recover()
    assert all(pool.get((n, 0, 0), 0) == bytes([n & 255]) * 500 for n in range(2000)) and eng.check().ok


def test_a_child_of_a_closed_engine(make_arena):
    eng = make_arena()
    pool = eng.new_pool("p")
    eng.close()

    def child():
        with pytest.raises(engine.TmemError, match="closed"):
            pool.put((1, 0, 0), 0, b"x")
        eng.close()
        engine.attach(eng.name).pool("p").put((1, 0, 0), 0, b"x")

    assert in_child(child) == 0
    with engine.attach(eng.name) as again:
        assert again.recover() <= 1 and again.check().ok


class Forking(DictPam):
    """A back end that forks inside of a call, once."""

    child = None

    def create(self, *args):
        if Forking.child is None:
            Forking.child = os.fork()
        return super().create(*args)


def test_a_child_that_opens_a_pool_first_of_all(make_arena):
    """What a pickle calls, with the engine that was inherited."""
    eng = make_arena()
    pool = eng.new_pool("p", persistent=True)
    pool.put((1, 0, 0), 0, b"a")
    opens, (_, *which) = pool.__reduce__()

    def child():
        assert opens(eng, *which).get((1, 0, 0), 0) == b"a"

    assert in_child(child) == 0
    eng.close()
    with pytest.raises(engine.TmemError, match="closed"):
        opens(eng, *which)


def test_a_back_end_that_forks_in_the_middle_of_a_put(make_arena):
    eng = make_arena(buckets=1, max_workers=6)
    raw = eng.new_pool("raw", persistent=True)

    def scenario():
        engine.register_pam("forking", Forking)
        mine = engine.attach(eng.name)
        pool = mine.new_pool("f", persistent=True, pam="forking")
        try:
            assert pool.put((1, 0, 0), 0, b"page") and Forking.child != 0
            assert os.waitpid(Forking.child, 0)[1] == 0 and pool.get((1, 0, 0), 0) == b"page"
        except engine.TmemError as error:
            assert Forking.child == 0 and "forked in the middle of the call" in str(error)
            assert mine.pool("raw").put((2, 0, 0), 0, b"of the child") and mine.stats()["arena"]["workers"] == 3

    assert in_child(scenario) == 0
    assert raw.get((2, 0, 0), 0) == b"of the child"
    eng.recover()
    assert eng.stats()["arena"]["workers"] == 1 and eng.check().ok


def test_a_child_that_locks_its_memory_does_not_fill_the_arena(make_arena):
    ctypes = pytest.importorskip("ctypes")
    eng = make_arena(capacity="1MiB", max_capacity="64MiB")
    backed = eng.stats()["arena"]["bytes_backed"]

    def child():
        if ctypes.CDLL(None).mlockall(3) != 0:      # MCL_CURRENT | MCL_FUTURE: takes a limit that lets it
            os._exit(77)
        with engine.attach(eng.name):
            pass

    code = in_child(child)
    if code == 77:
        pytest.skip("memory cannot be locked here")
    assert code == 0 and eng.stats()["arena"]["bytes_backed"] < backed + (1 << 20)


def test_views_of_the_parent_can_be_read_in_the_child(make_arena):
    eng = make_arena()
    pool = eng.new_pool("p", persistent=True)
    pool.put((1, 0, 0), 0, b"seen by both" * 10)
    with pool.view((1, 0, 0), 0) as seen:
        def child():
            assert bytes(seen) == b"seen by both" * 10
            assert pool.get((1, 0, 0), 0) == b"seen by both" * 10

        assert in_child(child) == 0

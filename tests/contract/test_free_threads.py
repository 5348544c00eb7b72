"""Owns many threads at one engine, and at many engines of one process, with all kinds of calls at
once, views that go in other threads, and forks in the middle.

With a GIL they take turns anyway, more or less; without one they run at the same moment, and what
is tested is all that keeps them apart (docs/locking.md, "Threads without the GIL").
"""
import os
import queue
import random
import subprocess
import sys
import sysconfig
import threading

import pytest

import engine
from tests.contract.test_threads import together
from tests.support import page

FREE = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))
THREADS = 4
ROUNDS = 400 if FREE else 60

IMPORT = """
import sys, types
sys.modules["posix_ipc"] = types.ModuleType("posix_ipc")     # which asks for the lock itself
sys.modules["posix_ipc"].Error = OSError
import engine
print(sys._is_gil_enabled())
"""


@pytest.mark.skipif(not FREE, reason="this Python has a GIL, always")
def test_no_module_of_ours_asks_for_the_gil():
    env = {name: value for name, value in os.environ.items() if name != "PYTHON_GIL"}
    told = subprocess.run([sys.executable, "-W", "error", "-c", IMPORT], env=env, capture_output=True, text=True)
    assert told.stdout == "False\n", told.stderr


def one_call(rng, eng, pool, n, own, views):
    """Some call, whose answer is looked at where it can be known: of the objects (n, ...) nobody
    but thread n knows."""
    oid, index = (n, rng.randrange(6), 1), rng.choice((0, 1, 63, 64, 5000))
    verb = rng.randrange(13)
    if verb < 3:
        tag = rng.randrange(1 << 30)
        assert pool.put(oid, index, page(tag, 200))
        own[oid, index] = page(tag, 200)
    elif verb < 5:
        assert pool.get(oid, index, False) == own.get((oid, index))
    elif verb == 5:
        assert pool.flush_page(oid, index) == ((oid, index) in own)
        own.pop((oid, index), None)
    elif verb == 6:
        handles = list(own)[:40]
        assert pool.get_many(handles, False) == [own[handle] for handle in handles]
        assert pool.put_many(handles, [own[handle] for handle in handles]) == [True] * len(handles)
    elif verb == 7:
        with pool.view(oid, index) as seen:
            assert (None if seen is None else bytes(seen)) == own.get((oid, index))
    elif verb == 8:     # goes where another thread takes it from the queue, or when that is dropped
        held = pool.view(oid, index)
        if held.found:
            views.put((held.__enter__(), own[oid, index]))
            del held
            if views.qsize() > 20:
                seen, wanted = views.get()
                assert bytes(seen) == wanted
    elif verb == 9:
        assert eng.stats()["pools"]["p"]["pages"] >= 0 and pool.obj_count >= 0
    elif verb == 10:
        short = eng.new_pool(f"short-{n}")
        assert short.put(oid, index, b"short") and short.get(oid, index, False) == b"short"
        assert eng.pool(f"short-{n}").id == short.id
        short.destroy()
    elif verb == 11:
        everybodys = (99, rng.randrange(3), 0)
        tag = rng.randrange(1 << 16)
        assert pool.put_range(everybodys, 0, page(tag, 512) * 3)
        seen = pool.get_range(everybodys, 0, 3, False)
        assert seen is None or (len(seen) == 1536 and seen[:512] == seen[512:1024] == seen[1024:])
        if rng.random() < 0.3:
            pool.flush_object(everybodys)
    else:
        eng.tend() if rng.random() < 0.1 else pool.object(oid).get(index, False)


@pytest.mark.parametrize("pam", ["raw", "zstd"])
def test_all_calls_at_once(make_arena, pam):
    eng = make_arena(max_pools=16)
    pool = eng.new_pool("p", persistent=True, pam=pam)
    owns, views = [{} for _ in range(THREADS)], queue.Queue()

    def work(n):
        rng = random.Random(n)
        for _ in range(ROUNDS):
            for _ in range(10):
                one_call(rng, eng, pool, n, owns[n], views)
            if n == 0 and rng.random() < 0.02:
                report = eng.check()
                assert report.ok, report.problems

    together(THREADS, work)
    for (oid, index), data in (item for own in owns for item in own.items()):
        assert pool.get(oid, index) == data
    while not views.empty():
        seen, wanted = views.get()
        assert bytes(seen) == wanted
    del seen
    assert eng.stats()["arena"]["pinned_bytes"] == 0 and eng.check().ok


def test_views_that_go_in_other_threads(make_arena):
    """Half of the threads make views, the others drop them: pins are counted right to the last, and
    what was retired under them is given back."""
    eng = make_arena()
    pool = eng.new_pool("p", persistent=True)
    views = queue.Queue(200)        # of 4,096 that one worker may have

    def work(n):
        rng = random.Random(n)
        if n % 2:
            for _ in range(ROUNDS * 20):
                seen, wanted = views.get()
                assert bytes(seen) == wanted
                del seen
            return
        for count in range(ROUNDS * 20):
            oid, data = (n, rng.randrange(8), 0), page(count, 400)
            assert pool.put(oid, 0, data)
            views.put((pool.view(oid, 0).__enter__(), data))
            if rng.random() < 0.3:
                pool.flush_page(oid, 0)

    together(THREADS, work)
    assert eng.stats()["arena"]["pinned_bytes"] == 0 and eng.check().ok
    eng.close()


def test_a_view_is_released_once(eng):
    pool = eng.new_pool("p", persistent=True)
    assert pool.put((1, 2, 3), 0, page(1, 400))
    for _ in range(ROUNDS):
        held = pool.view((1, 2, 3), 0)
        together(THREADS, lambda n, held=held: held.release())
        assert not held.found and eng.stats()["arena"]["pinned_bytes"] == 0


def test_close_while_others_look(make_arena):
    """Whoever closes is refused while somebody has a view; then it is closed, and no view is left
    in a closed engine."""
    for attempt in range(ROUNDS // 20):
        eng = make_arena()
        pool = eng.new_pool("p", persistent=True)
        assert pool.put((1, 2, 3), 0, page(attempt, 400))

        def work(n, eng=eng, pool=pool, attempt=attempt):
            closed = False
            while not closed:
                try:
                    if n == 0:
                        eng.close()
                        closed = True
                    else:
                        with pool.view((1, 2, 3), 0) as seen:
                            assert seen == page(attempt, 400) and not eng.closed
                except BufferError:
                    pass
                except engine.TmemError:
                    assert eng.closed
                    closed = True

        together(THREADS, work)


def test_forks_in_the_middle(make_arena):
    """A child is forked while other threads are in calls: it becomes a worker of its own, whatever
    they had."""
    eng = make_arena(max_workers=32)
    pool = eng.new_pool("p", persistent=True)
    over = threading.Event()

    def in_the_child(n):
        rng, own, views = random.Random(n), {}, queue.Queue()
        for _ in range(50):
            one_call(rng, eng, pool, 100 + n, own, views)
        for oid, _ in own:
            pool.flush_object(oid)

    def work(n):
        rng, own, views = random.Random(n), {}, queue.Queue()
        if n:
            while not over.is_set():
                one_call(rng, eng, pool, n, own, views)
            return
        try:
            for child in range(ROUNDS // 20):
                pid = os.fork()
                if pid == 0:
                    status = 1
                    try:
                        assert pool.put((n, child, 7), 0, page(child)) and pool.get((n, child, 7), 0) == page(child)
                        together(2, in_the_child)
                        eng.close()
                        status = 0
                    finally:
                        os._exit(status)
                assert os.waitpid(pid, 0)[1] == 0
                assert pool.get((n, child, 7), 0) == page(child)
        finally:
            over.set()

    together(THREADS, work)
    assert eng.recover() == 0 and eng.check().ok


def test_engines_come_and_go(eng):
    """Each thread attaches and leaves again and again, and works meanwhile: what belongs to the
    process as a whole is kept straight."""
    eng.new_pool("p", persistent=True, pam="zstd")

    def work(n):
        for count in range(ROUNDS // 4):
            with engine.attach(eng.name) as mine:
                pool = mine.pool("p")
                for index in range(10):
                    assert pool.put((n, 0, 0), index, page(count * 10 + index, 500))
                    assert pool.get((n, 0, 0), index) == page(count * 10 + index, 500)

    together(THREADS, work)
    assert eng.stats()["arena"]["workers"] == 1 and eng.check().ok


class Store:
    """A back end that keeps its pages in a dict, and refuses some with an exception."""

    def __init__(self):
        self.pages = {}
        self.tokens = iter(range(1, 1 << 62))
        self.lock = threading.Lock()

    def create(self, pool_id, oid, index, data):
        if index == 13:
            raise LookupError(oid[0])
        with self.lock:
            token = next(self.tokens)
        self.pages[token] = data
        return token

    def get_data(self, pool_id, oid, index, token):
        return self.pages[token]

    def get_data_and_free(self, pool_id, oid, index, token):
        return self.pages.pop(token)

    def free(self, pool_id, oid, index, token):
        self.pages.pop(token, None)

    def new_obj(self, pool_id, oid):
        pass

    def free_obj(self, pool_id, oid):
        pass

    def is_remote(self, token):
        return token % 2 == 0

    def replace_in_obj(self, pool_id, oid, index, old, new):
        return False


def test_a_back_end_that_engines_share(eng):
    """One back end, an engine a thread: each has the pages and the exceptions of its own calls."""
    engine.register_pam("store", Store)
    eng.new_pool("p", persistent=True, pam="store")

    def work(n):
        with engine.attach(eng.name) as mine:
            pool = mine.pool("p")
            for count in range(ROUNDS * 2):
                index = count % 20
                if index == 13:
                    with pytest.raises(LookupError) as raised:
                        pool.put((n, 0, 0), index, page(count))
                    assert raised.value.args == (n,)
                else:
                    assert pool.put((n, 0, 0), index, page(n << 32 | count))
                    assert pool.get((n, 0, 0), index, free=count % 3 == 0) == page(n << 32 | count)

    together(THREADS, work)
    assert eng.check().ok


class Host:
    """A host that lets everything be."""

    def obj_alloc(self, pool_id):
        return True

    objnode_alloc = obj_free = objnode_free = obj_alloc


def test_hosts_are_changed_while_others_work(eng):
    pool = eng.new_pool("p", persistent=True)

    def work(n):
        for count in range(ROUNDS):
            if n == 0:
                engine.register_hostops(Host() if count % 2 else None)
            else:
                assert pool.put((n, count % 7, 0), count % 100, page(count))
                assert pool.get((n, count % 7, 0), count % 100) == page(count)
                pool.flush_object((n, (count + 1) % 7, 0))

    together(THREADS, work)
    assert eng.check().ok


def test_a_crew_is_spawned_by_a_process_of_threads(make_arena):
    eng = make_arena(max_workers=32)
    pool = eng.new_pool("p", persistent=True)
    over = threading.Event()

    def work(n):
        rng, own, views = random.Random(n), {}, queue.Queue()
        if n:
            while not over.is_set():
                one_call(rng, eng, pool, n, own, views)
            return
        try:
            for method in ("spawn", "fork"):
                with eng.spawn(2, fill, pool, method=method):
                    pass
        finally:
            over.set()

    together(2, work)
    assert pool.get((55, 0, 0), 99) == page(99) and eng.check().ok


def fill(pool):
    for index in range(100):
        assert pool.put((55, 0, 0), index, page(index))

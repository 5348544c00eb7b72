"""Owns what happens while somebody holds a bucket: a back end that waits inside `create` holds it
for as long as a test wants. Waiters, signals, other buckets, and the holder's death.
"""
import multiprocessing
import signal
import threading

import pytest

import engine
from tests.support import SHM, DictPam, semaphores_of

FORK = multiprocessing.get_context("fork")
OID = (1, 2, 3)


class Apart(DictPam):
    """A back end that is told of objects and pages which another process's instance made."""

    def free(self, pool_id, oid, index, pampd):
        self.stored.pop(pampd, None)

    def free_obj(self, pool_id, oid):
        self.objects.discard((pool_id, oid))


class Waiting(Apart):
    """Says that it is inside create(), and waits until it may go on."""

    def __init__(self, inside, go_on):
        super().__init__()
        self.inside = inside
        self.go_on = go_on

    def create(self, *args):
        self.inside.set()
        self.go_on.wait()
        return super().create(*args)


class Holder:
    """A process that holds the bucket of OID from `hold` until `release`, or until it is killed."""

    def __init__(self, eng):
        self.eng = eng
        self.inside, self.go_on = FORK.Event(), FORK.Event()
        self.pool = eng.new_pool("held", persistent=True, pam="held")
        self.process = FORK.Process(target=self.run)

    def run(self):
        engine.register_pam("held", lambda: Waiting(self.inside, self.go_on))
        assert self.pool.put(OID, 0, b"of the holder")

    def hold(self):
        self.process.start()
        self.inside.wait()

    def release(self):
        self.go_on.set()
        self.process.join()
        assert self.process.exitcode == 0

    def kill(self):
        self.process.kill()
        self.process.join()


@pytest.fixture
def holder(make_arena):
    engine.register_pam("held", Apart)
    made = Holder(make_arena(buckets=1))
    yield made
    if made.process.pid:
        made.kill()


class Alarm(Exception):
    """Raised by the signal handler of these tests."""


@pytest.fixture
def watch(holder):
    """watch(action): do it, in a thread, as soon as somebody has slept on a lock of the holder's
    arena."""
    eng = engine.attach(holder.eng.name)
    threads = []

    def start(action):
        before = eng.stats()["total"]["lock_waits"]

        def run():
            while eng.stats()["total"]["lock_waits"] == before:
                pass
            action()

        threads.append(threading.Thread(target=run))
        threads[-1].start()

    yield start
    for thread in threads:
        thread.join()
    eng.close()


@pytest.fixture
def handler():
    """handler(function): that function handles SIGUSR1. By default it raises Alarm."""
    def ring(*_):
        raise Alarm

    before = signal.signal(signal.SIGUSR1, ring)
    yield lambda function: signal.signal(signal.SIGUSR1, function)
    signal.signal(signal.SIGUSR1, before)


def signal_main_thread():
    signal.pthread_kill(threading.main_thread().ident, signal.SIGUSR1)


CALLS = {
    "put": lambda pool: pool.put(OID, 1, b"x"),
    "put of another object": lambda pool: pool.put((9, 9, 9), 1, b"x"),
    "get and take": lambda pool: pool.get(OID, 0, True),
    "get and keep": lambda pool: pool.get(OID, 0, False),
    "flush_page": lambda pool: pool.flush_page(OID, 0),
    "flush_object": lambda pool: pool.flush_object(OID),
    "object_info": lambda pool: pool.object_info(OID),
    "descriptor": lambda pool: pool.descriptor(OID, 0),
}


@pytest.mark.parametrize("call", CALLS)
def test_a_signal_reaches_who_waits(holder, watch, handler, call):
    """Its handler's exception comes out of the call, and nothing is left behind."""
    holder.hold()
    for _ in range(3):
        watch(signal_main_thread)
        with pytest.raises(Alarm):
            CALLS[call](holder.pool)
    holder.kill()
    assert holder.eng.recover() == 1
    assert holder.pool.obj_count == 0 and holder.pool.put(OID, 0, b"mine") and holder.pool.get(OID, 0) == b"mine"
    assert holder.eng.check().ok


@pytest.mark.parametrize("call", CALLS)
def test_the_death_of_a_holder_lets_a_waiter_go_on(holder, watch, call):
    """The waiter sleeps already when the holder dies; the holder's put never happened."""
    holder.hold()
    watch(holder.process.kill)
    answer = CALLS[call](holder.pool)
    assert answer == {"put": True, "put of another object": True, "flush_page": False, "flush_object": False}.get(call)
    assert holder.pool.get(OID, 0) is None
    assert holder.eng.stats()["total"]["recoveries"] == 1 and holder.eng.check().ok


@pytest.mark.parametrize("call", CALLS)
def test_a_holder_that_died_before_anybody_waited(holder, call):
    holder.hold()
    holder.kill()
    answer = CALLS[call](holder.pool)
    assert answer == {"put": True, "put of another object": True, "flush_page": False, "flush_object": False}.get(call)
    assert holder.eng.check().ok


def test_the_death_of_a_holder_restores_the_page_it_was_replacing(holder):
    """The old page was freed in the dead process's back end alone; ours has it still."""
    assert holder.pool.put(OID, 0, b"old page")
    holder.hold()
    holder.kill()
    assert holder.pool.get(OID, 0, False) == b"old page" and holder.pool.obj_count == 1
    assert holder.eng.check().ok


def test_waiters_go_on_when_the_holder_is_done(holder, watch):
    holder.hold()
    watch(holder.go_on.set)
    assert holder.pool.put(OID, 1, b"waiting") is True
    holder.release()
    assert holder.pool.object_info(OID) == (2, 1, 1) and holder.pool.get(OID, 1) == b"waiting"
    assert holder.eng.check().ok


def test_a_signal_handler_may_use_the_engine(holder, watch, handler):
    """While its own thread waits in a put."""
    other = holder.eng.new_pool("other", persistent=True)
    calls = []

    def use(*_):
        calls.append(other.put((len(calls), 0, 0), 0, b"from the handler"))
        watch(signal_main_thread if len(calls) < 3 else holder.go_on.set)

    handler(use)
    holder.hold()
    watch(signal_main_thread)
    assert holder.pool.put(OID, 1, b"mine") is True
    holder.release()
    assert calls == [True] * 3 and holder.pool.get(OID, 1) == b"mine" and other.obj_count == 3
    assert holder.eng.check().ok


def test_a_signal_handler_may_use_the_pool_that_is_waited_for(holder, watch, handler):
    """The page staged for the waiting put is not lost when the handler puts one too."""
    def use(*_):
        holder.go_on.set()
        assert holder.pool.put((7, 7, 7), 0, b"from the handler")

    handler(use)
    holder.hold()
    watch(signal_main_thread)
    assert holder.pool.put(OID, 1, b"mine") is True
    holder.release()
    assert holder.pool.get(OID, 1) == b"mine" and holder.pool.get((7, 7, 7), 0) == b"from the handler"
    assert holder.eng.check().ok


def test_other_pools_are_not_held(holder):
    raw = holder.eng.new_pool("raw", persistent=True)
    holder.hold()
    assert raw.put(OID, 0, b"x") and raw.get(OID, 0) == b"x" and raw.flush_object(OID)
    assert raw.put_range(OID, 0, bytes(1024)) and holder.eng.pool("held").name == "held"
    holder.eng.new_pool("another").destroy()
    assert holder.eng.stats()["total"]["lock_waits"] == 0
    holder.release()
    assert holder.eng.check().ok


def test_a_waiter_sleeps_on_the_named_semaphore_of_the_bucket(holder, watch):
    name = holder.eng.name
    assert not semaphores_of(name)
    holder.hold()
    watch(holder.go_on.set)
    holder.pool.flush_page(OID, 0)
    assert len(semaphores_of(name)) == 1
    holder.release()
    holder.pool.destroy()
    assert not semaphores_of(name), "the semaphores of a destroyed pool go with it"


def test_unlink_removes_semaphores_in_use(holder, watch, handler):
    name = holder.eng.name
    holder.hold()
    watch(signal_main_thread)
    with pytest.raises(Alarm):
        holder.pool.flush_page(OID, 0)
    assert semaphores_of(name)
    engine.unlink(name)
    assert not semaphores_of(name) and not (SHM / name).exists()
    holder.release()

"""Owns what is promised of a lease: one holder at a time among all threads of all processes, waits
that end in time, and a holder's end, whatever it was, that passes it on.
"""
import asyncio
import contextlib
import math
import mmap
import os
import pickle
import signal
import struct
import threading
import time
import weakref

import pytest

import engine
from tests.stopped import fork, in_child
from tests.support import SANITIZED, SHM, DictPam

PLACES = 15             # leases of one bucket, as of LEASES_A_BUCKET
BUCKETS = 256
TAKEN_OVER_S = 0.1


def in_thread(call):
    """What a call answers in another thread; what it raises is raised here."""
    found = []

    def run():
        try:
            found.append((call(), None))
        except BaseException as error:
            found.append((None, error))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    answer, error = found[0]
    if error is not None:
        raise error
    return answer


@contextlib.contextmanager
def holding(eng, oid, act=None):
    """A process that holds a lease, stopped or asleep: its pid. Killed at the end."""
    told, tell = os.pipe()

    def child():
        assert eng.lease(oid).acquire(timeout=10)
        os.write(tell, b"x")
        (act or (lambda: time.sleep(60)))()

    pid = fork(child)
    try:
        assert os.read(told, 1) == b"x"
        yield pid
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(told)
        os.close(tell)


# --- one holder -----------------------------------------------------------------------------------


def test_a_lease_is_taken_and_given_back(eng):
    lease = eng.lease("name", timeout=5)
    assert (lease.locked(), lease.mine()) == (False, False)
    with lease as entered:
        assert entered is lease
        assert (lease.locked(), lease.mine()) == (True, True)
        assert in_thread(lambda: (lease.locked(), lease.mine(), lease.try_acquire())) == (True, False, False)
    assert (lease.locked(), lease.mine()) == (False, False)
    assert lease.acquire() and in_thread(lease.locked)
    lease.release()
    assert in_thread(lambda: lease.acquire(timeout=0) and lease.release() is None)


def test_names_are_those_of_oids_and_are_apart_from_objects(eng):
    pool = eng.new_pool("p", persistent=True)
    for key in ("text", b"bytes", 7, (1, 2, 3), [1, 2, 2**64 - 1]):
        lease = eng.lease(key)
        assert lease.oid == engine.oid(key)
        with lease:
            assert pool.put(lease.oid, 0, b"page") and eng.lease(lease.oid).locked()
            assert not eng.lease("another").locked()
    for key, error in ((1.5, TypeError), (None, TypeError), ((1, 2), ValueError), (-1, ValueError)):
        with pytest.raises(error):
            eng.lease(key)


def test_every_handle_of_a_name_is_the_same_lease(eng):
    with eng.lease(1) as lease:
        other = eng.lease(1)
        assert other.mine() and other.locked()
        assert pickle.loads(pickle.dumps(eng.lease(1, timeout=3))).timeout == 3.0
        assert not pickle.loads(pickle.dumps(lease)).mine()         # of an engine, and so a worker, of its own
        assert weakref.ref(lease)() is lease and lease.engine is eng
    assert lease.oid == (1, 0, 0) and "(1, 0, 0)" in repr(lease)


def test_who_holds_it_does_not_wait_for_himself(eng):
    lease = eng.lease(1)
    with lease:
        for call in (lease.acquire, eng.lease(1, timeout=9).acquire, lease.__enter__, lambda: lease.acquire(timeout=9)):
            with pytest.raises(RuntimeError, match="holds the lease already"):
                call()
        # Two tasks of an event loop are one thread.
        assert not lease.try_acquire() and not lease.acquire(blocking=False)
        assert lease.mine()


def test_who_does_not_hold_it_cannot_give_it_back(eng):
    lease = eng.lease(1)
    with pytest.raises(RuntimeError, match="does not hold"):
        lease.release()
    with lease, pytest.raises(RuntimeError, match="does not hold"):
        in_thread(lease.release)
    with pytest.raises(RuntimeError, match="does not hold"):
        lease.release()


def test_a_lease_of_the_process_is_given_back_by_any_thread(eng):
    lease = eng.lease(1, timeout=0, any_thread=True)

    def another():
        assert lease.locked() and not lease.mine() and not lease.acquire()

    assert lease.any_thread and pickle.loads(pickle.dumps(lease)).any_thread
    for take, give in ((lambda call: call(), in_thread), (in_thread, lambda call: call())):
        assert take(lease.acquire)
        # All threads of the process have it, and wait for it like everybody else.
        assert (lease.mine(), in_thread(lease.mine), eng.lease(1).mine()) == (True, True, False)
        assert not lease.acquire() and not in_thread(lease.acquire) and not eng.lease(1).try_acquire()
        assert in_child(another) == 0
        give(lease.release)
    with pytest.raises(RuntimeError, match="this process does not hold"):
        lease.release()
    with eng.lease(1):
        assert not lease.try_acquire() and not lease.mine()
    with pytest.raises(TypeError, match="^any_thread: "):
        eng.lease(1, any_thread=1)


def test_who_waits_for_a_lease_of_the_process_is_woken_by_its_threads(eng):
    lease = eng.lease(1, any_thread=True)
    order = []
    lease.acquire()
    thread = threading.Thread(target=lambda: order.append(lease.acquire() and lease.release()))
    thread.start()
    order.append("first")
    lease.release()
    thread.join()
    assert order == ["first", None] and not lease.locked()


def test_a_lease_of_the_process_passes_on_when_it_dies(eng):
    ready, tell = os.pipe()

    def child():
        assert eng.lease(1, any_thread=True).acquire()
        os.write(tell, b"x")
        time.sleep(60)

    pid = fork(child)
    assert os.read(ready, 1) == b"x"
    assert not eng.lease(1, any_thread=True).try_acquire()
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    with eng.lease(1, any_thread=True, timeout=1):
        pass
    os.close(ready)
    os.close(tell)


@pytest.mark.parametrize(
    "timeout, error", [("1", TypeError), (True, TypeError), (-1, ValueError), (math.nan, ValueError)]
)
def test_a_wrong_timeout(eng, timeout, error):
    with pytest.raises(error, match="timeout"):
        eng.lease(1, timeout=timeout)
    with pytest.raises(error, match="timeout"):
        eng.lease(1).acquire(timeout=timeout)


def test_other_wrong_arguments(eng):
    with pytest.raises(TypeError, match="blocking"):
        eng.lease(1).acquire(blocking=1)
    with pytest.raises(ValueError, match="blocking"):
        eng.lease(1).acquire(timeout=1, blocking=False)
    assert eng.lease(1).acquire(timeout=math.inf)


# --- time -----------------------------------------------------------------------------------------


def test_a_wait_ends_in_time(eng):
    with eng.lease(1):
        for seconds in (0, 0.001, 0.15):
            lease = eng.lease(1, timeout=seconds)
            for call in (lease.acquire, lambda seconds=seconds: eng.lease(1).acquire(timeout=seconds)):
                began = time.monotonic()
                assert not in_thread(call)
                assert seconds <= time.monotonic() - began < seconds + 1

        def enter():
            with eng.lease(1, timeout=0.01):
                pass

        with pytest.raises(engine.LeaseTimeout, match="0.01 s") as caught:
            in_thread(enter)
        assert isinstance(caught.value, TimeoutError) and isinstance(caught.value, engine.TmemError)


def test_who_waits_is_woken_and_does_not_look_all_the_time(eng):
    lease = eng.lease(1)
    lease.acquire()
    seen = []

    def wait():
        began = time.thread_time()
        assert lease.acquire(timeout=30)
        seen.append((time.monotonic(), time.thread_time() - began))
        lease.release()

    threads = [threading.Thread(target=wait) for _ in range(3)]
    for thread in threads:
        thread.start()
    time.sleep(1)
    given = time.monotonic()
    lease.release()
    for thread in threads:
        thread.join()
    assert min(at for at, _ in seen) - given < 0.1
    assert sum(used for _, used in seen) < 0.1, seen


class RungError(Exception):
    pass


def test_a_handler_that_raises_ends_the_wait(eng):
    def ring(*_):
        assert eng.lease(2).try_acquire()       # a handler may use the engine, and leases
        eng.lease(2).release()
        raise RungError

    before = signal.signal(signal.SIGALRM, ring)
    try:
        with holding(eng, 1):
            signal.setitimer(signal.ITIMER_REAL, 0.05)
            began = time.monotonic()
            with pytest.raises(RungError):
                eng.lease(1).acquire()
            assert time.monotonic() - began < 1 and not eng.lease(1).mine()
    finally:
        signal.signal(signal.SIGALRM, before)


class SlowPam(DictPam):
    """Has the turn of its engine for a while."""

    def create(self, *args):
        time.sleep(0.3)
        return super().create(*args)


def test_a_handler_that_raises_leaves_no_lease_held(eng):
    """It comes while this thread waits for its turn to give the lease back."""
    def ring(*_):
        raise RungError

    engine.register_pam("slow", SlowPam)
    pool, lease = eng.new_pool("p", persistent=True, pam="slow"), eng.lease(1)
    before = signal.signal(signal.SIGALRM, ring)
    try:
        lease.acquire()
        busy = threading.Thread(target=pool.put, args=((1, 0, 0), 0, b"page"))
        busy.start()
        time.sleep(0.1)
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        with pytest.raises(RungError):
            lease.release()
            time.sleep(1)
        busy.join()
        assert not lease.locked()
    finally:
        signal.signal(signal.SIGALRM, before)


def test_an_event_loop_asks_again_and_again(eng):
    running, most = [], []

    async def work(n):
        lease, pause = eng.lease("loop"), 0.0001
        while not lease.try_acquire():
            await asyncio.sleep(pause)
            pause = min(pause * 2, 0.01)
        running.append(n)
        most.append(len(running))
        await asyncio.sleep(0.002)
        running.remove(n)
        lease.release()

    async def all_of_them():
        await asyncio.gather(*[work(n) for n in range(8)])

    asyncio.run(all_of_them())
    assert most == [1] * 8


# --- many -----------------------------------------------------------------------------------------


def test_processes_and_threads_take_it_one_at_a_time(make_arena):
    eng = make_arena(max_workers=16)
    shared = mmap.mmap(-1, mmap.PAGESIZE)
    processes, threads, rounds = 8, 4, 60

    def work():
        lease = eng.lease("one", timeout=60)
        for n in range(rounds):
            with lease:
                count, inside = struct.unpack_from("<2Q", shared)
                assert inside == 0
                struct.pack_into("<Q", shared, 8, 1)
                if n % 8 == 0:
                    time.sleep(0.0001)          # let others come
                struct.pack_into("<2Q", shared, 0, count + 1, 0)

    def child():
        crew = [threading.Thread(target=work) for _ in range(threads)]
        for thread in crew:
            thread.start()
        for thread in crew:
            thread.join()

    for pid in [fork(child) for _ in range(processes)]:
        assert os.waitpid(pid, 0)[1] == 0
    assert struct.unpack_from("<Q", shared)[0] == processes * threads * rounds
    assert not eng.lease("one").locked() and eng.check().ok


def add_one(lease, pool):
    """For test_a_crew_counts: in a process of its own."""
    for _ in range(50):
        with lease:
            count = int(pool.get((1, 0, 0), 0))
            assert pool.put((1, 0, 0), 0, b"%d" % (count + 1))


def test_a_crew_counts(eng):
    pool = eng.new_pool("p", persistent=True)
    pool.put((1, 0, 0), 0, b"0")
    with eng.spawn(3, add_one, eng.lease("count", timeout=30), pool) as crew:
        assert crew.join(timeout=60) and crew.exitcodes == [0, 0, 0]
    assert pool.get((1, 0, 0), 0) == b"150"


def test_each_name_has_its_own_lease(eng):
    names = [eng.lease(n) for n in range(500)]
    assert all(lease.try_acquire() for lease in names)
    assert eng.check().counts["leases"] == 500 and all(lease.mine() for lease in names)
    for lease in names[::2]:
        lease.release()
    assert [lease.locked() for lease in names] == [False, True] * 250
    assert eng.check().counts["leases"] == 250


def test_more_names_than_a_bucket_has_places_for(eng):
    from tests.hostile.structs import CONSTANTS
    assert (CONSTANTS["LEASES_A_BUCKET"], CONSTANTS["LEASE_BUCKETS"]) == (PLACES, BUCKETS)
    held = []
    with pytest.raises(engine.ArenaBusy, match="too many leases"):
        for n in range(PLACES * BUCKETS + 1):
            lease = eng.lease((n, 1, 1))
            assert lease.acquire(timeout=0)
            held.append(lease)
    assert len(held) > 1000
    with pytest.raises(engine.ArenaBusy, match="too many leases"):
        lease.try_acquire()
    assert not lease.locked()
    assert eng.check().ok
    for one in held:
        one.release()
    assert lease.acquire(timeout=0) and eng.check().counts["leases"] == 1


# --- ends -----------------------------------------------------------------------------------------


def late_after_a_death(eng, n):
    """How long one who sleeps waits for a lease whose holder is killed, in seconds."""
    taken = []

    def wait():
        with eng.lease(1, timeout=30):
            taken.append(time.monotonic())

    with holding(eng, 1) as pid:
        thread = threading.Thread(target=wait)
        thread.start()
        time.sleep(0.03 + n * 0.0007)
        killed = time.monotonic()
        os.kill(pid, signal.SIGKILL)
        thread.join()
    return taken[0] - killed


@pytest.mark.skipif(SANITIZED, reason="a child forked while a thread ends may find the sanitizer's allocator locked")
def test_a_holder_that_is_killed_passes_it_on(eng):
    # On a machine where others work, the processor comes late now and then: then once more.
    for _ in range(8):
        late = sorted(late_after_a_death(eng, n) for n in range(8))
        if late[5] < TAKEN_OVER_S:
            break
    assert late[5] < TAKEN_OVER_S, late
    assert eng.check().ok


def test_what_the_dead_held_is_free_and_can_be_named_anew(eng):
    with holding(eng, 1) as pid:
        assert eng.lease(1).locked()
        os.kill(pid, signal.SIGKILL)
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        assert not eng.lease(1).locked()
        assert eng.check().counts["leases"] == 0
        assert eng.lease(1).acquire(timeout=0)


def test_who_comes_into_the_slot_of_the_dead_does_not_have_it(make_arena):
    eng = make_arena(max_workers=2)
    with holding(eng, 1) as pid:
        os.kill(pid, signal.SIGKILL)
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        with engine.attach(eng.name) as heir:
            assert not heir.lease(1).locked() and not heir.lease(1).mine()
            with pytest.raises(RuntimeError):
                heir.lease(1).release()
            assert eng.lease(1).acquire(timeout=0) and heir.lease(1).locked()


def test_a_stopped_holder_holds_up_nobody_else(eng):
    with holding(eng, 1, lambda: os.kill(os.getpid(), signal.SIGSTOP)) as pid:
        os.waitpid(pid, os.WUNTRACED)
        assert not eng.lease(1).acquire(timeout=0.1)
        assert eng.lease(1).locked() and not in_thread(eng.lease(1).mine)
        # Neither other names, in the same bucket or another, nor anything else of the arena.
        for n in range(2, 600):
            with eng.lease(n, timeout=0):
                pass
        pool = eng.new_pool("p")
        assert pool.put((1, 0, 0), 0, b"page") and eng.recover() == 0
        assert eng.check(frozen=True).ok and eng.check(gentle=True).ok and eng.check(repair=True).ok
        assert eng.lease(1).locked()


def test_a_child_does_not_hold_what_its_parent_holds(eng):
    def child():
        assert not lease.mine() and lease.locked()
        with pytest.raises(RuntimeError, match="does not hold"):
            lease.release()
        assert not lease.try_acquire()
        with pytest.raises(engine.LeaseTimeout):
            with eng.lease(1, timeout=0.02):
                pass
        assert eng.lease(2).acquire(timeout=0)      # of its own, and gone with it

    lease = eng.lease(1)
    with lease:
        assert in_child(child) == 0
        assert lease.mine() and not eng.lease(2).locked()
    assert not lease.locked()


def test_a_child_that_is_forked_while_somebody_waits(eng):
    """By a handler, in the middle of a wait: both go on waiting, and both have it, one by one."""
    told, tell = os.pipe()
    children = []

    def ring(*_):
        pid = os.fork()
        if pid:
            children.append(pid)

    def act():
        time.sleep(0.15)

    before = signal.signal(signal.SIGALRM, ring)
    try:
        with holding(eng, 1, act):
            signal.setitimer(signal.ITIMER_REAL, 0.03)
            try:
                with eng.lease(1, timeout=20) as lease:
                    assert lease.mine()
                    os.write(tell, b"(")
                    time.sleep(0.01)
                    os.write(tell, b")")
            finally:
                if not children:
                    os._exit(0)
            assert os.waitpid(children[0], 0)[1] == 0
            assert os.read(told, 9) == b"()()"
    finally:
        signal.signal(signal.SIGALRM, before)
        os.close(told)
        os.close(tell)


def test_who_closes_gives_back_what_his_threads_hold(arena_name, eng):
    with engine.attach(arena_name) as other:
        assert other.lease(1).acquire(timeout=0)
        in_thread(lambda: other.lease(2).acquire(timeout=0))
        assert eng.lease(1).locked() and eng.lease(2).locked()      # a thread that ends does not give back
        assert not eng.lease(2).acquire(timeout=0.02)
        waiting = threading.Thread(target=lambda: eng.lease(1, timeout=30).__enter__())
        waiting.start()
        time.sleep(0.02)
    waiting.join(1)
    assert not waiting.is_alive() and eng.lease(1).locked() and not eng.lease(2).locked()
    with pytest.raises(engine.TmemError, match="closed"):
        other.lease(1).acquire(timeout=0)


def test_a_later_thread_is_not_the_one_that_ended(eng):
    in_thread(lambda: eng.lease(1).acquire(timeout=0))
    for _ in range(50):
        assert not in_thread(eng.lease(1).mine)


def test_a_wait_for_a_lease_of_an_engine_that_is_closed_meanwhile(arena_name, eng):
    with eng.lease(1):
        other = engine.attach(arena_name)
        raised = []

        def wait():
            with pytest.raises(engine.TmemError, match="closed"):
                other.lease(1).acquire(timeout=30)
            raised.append(True)

        thread = threading.Thread(target=wait)
        thread.start()
        time.sleep(0.05)
        other.close()
        thread.join(5)
        assert raised


# --- damage ---------------------------------------------------------------------------------------


def place_of(eng, lease):
    """Where the words of a lease that is held lie in the arena's file."""
    from tests.hostile.structs import Map, offset
    with (SHM / eng.name).open("rb") as file:
        places = Map(file.read(4096))
        for number in range(BUCKETS):
            file.seek(places.lease_bucket(number))
            bucket = file.read(1024)
            for i in range(PLACES):
                at = offset("LeaseBucket", "leases", i)
                holder, *_ = struct.unpack_from("<Q", bucket, at)
                if holder and struct.unpack_from("<3Q", bucket, at + offset("Lease", "oid")) == lease.oid:
                    return places.lease_bucket(number) + at
    raise AssertionError("nobody holds it")


def write(eng, at, word):
    with (SHM / eng.name).open("r+b") as file:
        file.seek(at)
        old = struct.unpack("<Q", file.read(8))[0]
        file.seek(at)
        file.write(struct.pack("<Q", word))
    return old


@pytest.mark.parametrize("word", ["seal", "thread", "oid"])
def test_a_word_that_no_holder_has_written(arena_name, eng, word):
    from tests.hostile.structs import offset
    with engine.attach(arena_name) as other:
        lease = other.lease(1)
        assert lease.acquire(timeout=0)
        at = place_of(eng, lease) + offset("Lease", word)
        old = write(eng, at, 12345)
        for call in (eng.lease(1).acquire, eng.lease(1).try_acquire, eng.lease(1).locked):
            with pytest.raises(engine.ArenaCorrupted, match="holder did not write"):
                call()
        for report in (eng.check(), eng.check(gentle=True)):
            assert [problem.id for problem in report.problems] == ["lease-seal"]
        write(eng, at, old)
        assert eng.check().ok and lease.mine() and not eng.lease(1).try_acquire()
        write(eng, at, 12345)
        report = eng.check(repair=True)
        assert report.ok and report.repaired
        assert eng.lease(1).acquire(timeout=0)
        with pytest.raises(RuntimeError, match="does not hold"):
            lease.release()


def test_a_stray_holder_who_lives(arena_name, eng):
    with engine.attach(arena_name) as other:
        lease = eng.lease(1)
        assert lease.acquire(timeout=0)
        at = place_of(eng, lease)
        mine = write(eng, at, 0)
        with other.lease(2):
            place = place_of(eng, other.lease(2))
            theirs = write(eng, place, 0)
            write(eng, place, theirs)
        write(eng, at, theirs)
        with pytest.raises(engine.ArenaCorrupted):
            eng.lease(1).acquire()
        assert not eng.check().ok
        write(eng, at, mine)
        lease.release()


def test_a_repair_leaves_leases_that_are_whole(eng):
    with holding(eng, 1):
        at = place_of(eng, eng.lease(1))
        with eng.lease(2) as kept:
            other = place_of(eng, kept)
            # The word of a bucket's lock, which nobody has.
            write(eng, at - at % 1024, 0xFFFF0001)
            assert {problem.id for problem in eng.check().problems} == {"lease-lock"}
            assert eng.check(repair=True).ok
            assert kept.mine() and eng.lease(1).locked() and other == place_of(eng, kept)

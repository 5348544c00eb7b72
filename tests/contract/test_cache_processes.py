"""Owns a cache that many processes hold: opening it at once, one who computes on the whole machine,
counting, conditions, forks, deaths, an arena that is made again, and calls at odd moments."""

import os
import pickle
import signal
import subprocess
import sys
import threading
import time

import pytest

import engine
from tests.stopped import in_child
from tests.support import child_env

PROCESSES, THREADS = 8, 4


def run_together(count, function, *arguments):
    """Run a function in so many forked children, which begin together: their exit codes."""
    go_on, begin = os.pipe()
    children = []
    for n in range(count):
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                os.close(begin)
                os.read(go_on, 1)
                function(n, *arguments)
                status = 0
            except BaseException as error:
                print(f"child {n}: {error!r}", file=sys.stderr, flush=True)
            finally:
                os._exit(status)
        children.append(pid)
    os.close(go_on)
    os.close(begin)
    return [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children]


# --- opening --------------------------------------------------------------------------------------


def open_and_count(n, name):
    for _ in range(3):
        with engine.open(name, capacity="4MiB", max_workers=64) as eng:
            eng.cache("opened").incr("opened")


@pytest.mark.small
def test_many_open_one_arena_at_once(arena_name):
    assert run_together(6, open_and_count, arena_name) == [0] * 6
    with engine.open(arena_name) as eng:
        assert eng.cache("opened").get("opened") == 18 and eng.capacity == 4 << 20


def test_open_is_particular_if_asked(arena_name):
    engine.open(arena_name, capacity="4MiB", exact=True).close()
    engine.open(arena_name, capacity="4MiB", exact=True).close()
    engine.open(arena_name, capacity="8MiB").close()
    with pytest.raises(ValueError, match="^capacity: "):
        engine.open(arena_name, capacity="8MiB", exact=True)
    with pytest.raises(ValueError, match="^page_size: "):
        engine.open(arena_name, capacity="4MiB", page_size=8192, exact=True)
    with pytest.raises(TypeError, match="^exact: "):
        engine.open(arena_name, exact=1)
    with engine.Cache(arena_name, capacity="8MiB", exact=True) as cache:
        with pytest.raises(ValueError, match="^capacity: "):
            cache.get("k")


def test_a_cache_opens_when_it_is_used(arena_name):
    cache = engine.Cache(arena_name, capacity="4MiB")
    with pytest.raises(engine.ArenaNotFound):
        engine.attach(arena_name)
    assert cache.get("k") is None
    other = engine.Cache(arena_name, "other")
    other["k"] = 1
    again = pickle.loads(pickle.dumps(other))
    assert again["k"] == 1 and "k" not in cache
    with engine.attach(arena_name) as eng:
        assert eng.stats()["arena"]["workers"] == 2, "the caches of a process share an attachment"
        assert eng.cache("other")["k"] == 1


def test_an_arena_that_was_made_again_is_opened_anew(arena_name):
    cache = engine.Cache(arena_name, capacity="4MiB")
    cache["k"] = 1
    engine.unlink(arena_name)
    time.sleep(0.07)
    assert "k" not in cache
    cache["k"] = 2
    with engine.attach(arena_name) as eng:
        assert eng.cache("cache")["k"] == 2
    engine.unlink(arena_name)
    with engine.create(arena_name, capacity="4MiB") as eng:
        eng.cache("cache")["k"] = 3
        time.sleep(0.07)
        assert cache["k"] == 3


def test_closing(arena_name):
    cache, other = engine.Cache(arena_name, capacity="4MiB"), engine.Cache(arena_name, "other")
    cache.close()
    cache["k"], other["k"] = b"x" * 1000, 2
    cache.close()
    assert other["k"] == 2
    with engine.attach(arena_name) as eng:
        assert eng.stats()["arena"]["workers"] == 2
        other.close()
        assert eng.stats()["arena"]["workers"] == 1
        page = cache.get("k", copy=False)
        with pytest.raises(BufferError):
            cache.close()
        assert bytes(page) == b"x" * 1000
        del page
        cache.close()
        assert eng.stats()["arena"]["workers"] == 1

    class Closes:
        """Closes the cache in the middle of being read as its key."""

        def __hash__(self):
            cache.close()
            return 1

        def __eq__(self, other):
            return True

    for call in (cache.get, cache.has, cache.delete, cache.incr, lambda key: cache.set(key, 1)):
        with pytest.raises((TypeError, engine.TmemError)):
            call(Closes())


# --- all at once ----------------------------------------------------------------------------------


def ask(n, cache):
    def compute():
        cache.incr("computations")
        time.sleep(0.1)
        return "computed"

    answers = []
    threads = [
        threading.Thread(target=lambda: answers.append(cache.get_or_compute("k", compute, ttl=60)))
        for _ in range(THREADS)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == ["computed"] * THREADS


@pytest.mark.small
def test_one_on_the_whole_machine_computes(arena_name):
    cache = engine.Cache(arena_name, "stampede", capacity="16MiB")
    assert run_together(PROCESSES, ask, cache) == [0] * PROCESSES
    assert cache.get("computations") == 1
    assert cache.stats()["computed"] == 1 and cache.stats()["waited"] == PROCESSES * THREADS - 1


def count(n, cache, rounds):
    for turn in range(rounds):
        cache.incr(f"key {turn % 10}")


@pytest.mark.small
def test_counting_is_exact(arena_name, record_property):
    cache = engine.Cache(arena_name, "count", capacity="16MiB")
    rounds = 125_000 if os.environ.get("EVERY_POINT") else 2_000
    assert run_together(PROCESSES, count, cache, rounds) == [0] * PROCESSES
    assert sum(cache.get(f"key {n}") for n in range(10)) == PROCESSES * rounds


def exchange(n, cache, rounds):
    for turn in range(rounds):
        if cache.add(("won", turn), n):
            cache.incr("winners")
        while True:
            value, version = cache.get("list", with_version=True)
            if cache.cas("list", [*(value or []), (n, turn)], version):
                break


@pytest.mark.small
def test_add_and_cas_have_one_winner(arena_name):
    cache = engine.Cache(arena_name, "winners", capacity="16MiB")
    assert run_together(4, exchange, cache, 50) == [0] * 4
    assert cache.get("winners") == 50
    assert sorted(cache.get("list")) == [(n, turn) for n in range(4) for turn in range(50)]


def test_threads_share_a_cache(arena_name):
    cache = engine.Cache(arena_name, capacity="16MiB")
    wrong = []

    def work(n):
        for turn in range(300):
            key, value = (n, turn % 7), [n, turn]
            cache.set(key, value, ttl=100)
            cache.incr("all")
            if cache.get(key) != value or not cache.touch(key, 50) or (turn % 3 == 0 and cache.pop(key) != value):
                wrong.append(key)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong and cache.get("all") == 1200


# --- death ----------------------------------------------------------------------------------------


@pytest.mark.small
def test_the_next_one_computes_when_the_first_is_killed(arena_name, record_property):
    cache = engine.Cache(arena_name, "killed", capacity="16MiB")
    told, tell = os.pipe()

    def never():
        os.write(tell, b"x")
        time.sleep(60)

    pid = os.fork()
    if pid == 0:
        try:
            cache.get_or_compute("k", never)
        finally:
            os._exit(1)
    os.read(told, 1)
    answers = []
    thread = threading.Thread(target=lambda: answers.append((cache.get_or_compute("k", lambda: 5), time.monotonic())))
    thread.start()
    time.sleep(0.1)
    assert not answers
    killed = time.monotonic()
    os.kill(pid, signal.SIGKILL)
    thread.join(10)
    os.waitpid(pid, 0)
    os.close(told)
    os.close(tell)
    assert answers[0][0] == 5
    record_property("takeover_ms", round((answers[0][1] - killed) * 1000))
    assert answers[0][1] - killed < 1


# --- forks ----------------------------------------------------------------------------------------


@pytest.mark.small
def test_a_child_goes_on_with_the_cache(arena_name):
    cache = engine.Cache(arena_name, "forked", capacity="16MiB")
    cache["k"] = 1

    def child():
        assert cache["k"] == 1
        cache["l"] = 2
        assert cache.get_or_compute("m", lambda: 3) == 3

    assert in_child(child) == 0
    assert cache["l"] == 2 and cache["m"] == 3


@pytest.mark.small
def test_a_fork_in_the_middle_of_computing(arena_name):
    """The parent goes on computing; the child holds nothing, and what it would keep, it keeps."""
    cache = engine.Cache(arena_name, "forked", capacity="16MiB")

    def compute():
        pid = os.fork()
        if pid == 0:
            return "child"
        assert os.waitpid(pid, 0)[1] == 0
        return "parent"

    parent = os.getpid()
    try:
        answer = cache.get_or_compute("k", compute)
    finally:
        if os.getpid() != parent:
            os._exit(0 if answer == "child" and cache.get_or_compute("other", lambda: 1) == 1 else 1)
    assert answer == "parent" and cache.get("k") == "parent"
    assert cache.get_or_compute("l", lambda: 5) == 5


# --- odd moments ----------------------------------------------------------------------------------


@pytest.mark.small
def test_calls_from_a_signal_handler(arena_name):
    cache = engine.Cache(arena_name, "signals", capacity="16MiB")
    cache["k"] = handled = 0

    def handler(number, frame):
        nonlocal handled
        handled += 1
        cache.incr("handled")
        cache.set("k", [handled])
        assert cache.get_or_compute(("h", handled), lambda: 1) == 1

    before = signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
    try:
        until = time.monotonic() + 0.5
        while time.monotonic() < until:
            cache.set("k", [0])
            cache.get("k")
            cache.incr("n")
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert handled > 10 and cache.get("handled") == handled


LATE = """
import atexit, engine, sys
cache = engine.Cache({name!r}, capacity="4MiB")
class Late:
    def __del__(self):
        cache.set("late", 1)
        cache.get("late")
atexit.register(lambda: cache.set("atexit", [1]))
atexit.register(lambda: cache.get_or_compute("computed", lambda: 5))
cache["k"] = {{"a": 1}}
late = Late()
sys.late = Late()
page = cache.get("k", copy=False)
raw = cache.set("raw", b"x" * 1000) and cache.get("raw", copy=False)
"""


def test_calls_at_the_end_of_a_process(arena_name):
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", LATE.format(name=arena_name)],
        env=child_env(),
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    with engine.attach(arena_name) as eng:
        assert dict(eng.cache("cache").items()) == {
            "k": {"a": 1},
            "late": 1,
            "atexit": [1],
            "computed": 5,
            "raw": b"x" * 1000,
        }
        assert eng.check().ok

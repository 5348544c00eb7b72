"""Owns what tmem.dogpile promises beyond dogpile.cache's own tests: one process of all makes a
value, a killed one passes the lock on, and locks are of one key."""
import os
import pickle
import threading

import pytest

pytest.importorskip("dogpile.cache")

from dogpile.cache import make_region  # noqa: E402
from dogpile.cache.api import NO_VALUE  # noqa: E402

import engine  # noqa: E402
from tests.adapters.together import in_new_process, killed_after, together  # noqa: E402
from tests.support import leftovers  # noqa: E402
from tmem.dogpile import TmemBackend  # noqa: E402


@pytest.fixture
def arguments(arena_name):
    return {"arena": arena_name, "capacity": "16MiB"}


@pytest.fixture
def region(arguments):
    return make_region().configure("dogpile.cache.tmem", arguments=arguments)


def test_one_process_of_all_makes_a_value(region):
    made = region.backend.cache.namespace("made")

    def make():
        made.incr("times")
        return os.getpid()

    found = together(8, lambda n: region.get_or_create("k", make))
    assert len(set(found)) == 1 and made["times"] == 1


def test_a_killed_process_passes_its_lock_on(region):
    mutex = region.backend.get_mutex("k")
    killed_after(mutex.acquire)
    assert not region.key_is_locked("k")
    assert region.get_or_create("k", lambda: 1) == 1


def test_a_lock_is_seen_by_all_processes_and_taken_by_none_that_only_looks(region):
    mutex = region.backend.get_mutex("k")
    looks = [region.key_is_locked("k") for _ in range(2)]
    assert looks == [False, False] and mutex.acquire()
    assert together(2, lambda n: (region.key_is_locked("k"), region.backend.get_mutex("k").acquire(False))) == [
        (True, False), (True, False)]
    mutex.release()
    assert together(1, lambda n: region.key_is_locked("k")) == [False]


def test_a_lock_is_of_one_key_and_of_one_cache(region, arguments):
    other = TmemBackend({**arguments, "name": "other"})
    first, second, third = region.backend.get_mutex("k"), region.backend.get_mutex("l"), other.get_mutex("k")
    assert first.acquire(False) and second.acquire(False) and third.acquire(False)
    for mutex in (first, second, third):
        assert not mutex.acquire(False)
        mutex.release()
        assert not mutex.locked()


def test_a_thread_waits_for_its_own_process_too(region):
    mutex = region.backend.get_mutex("k")
    mutex.acquire()
    order = []
    thread = threading.Thread(target=lambda: (mutex.acquire(), order.append("second"), mutex.release()))
    thread.start()
    order.append("first")
    mutex.release()
    thread.join()
    assert order == ["first", "second"] and not mutex.locked()
    with pytest.raises(RuntimeError, match="release: "):
        mutex.release()


def test_where_too_many_leases_are_held_a_value_is_made_without(region):
    mutexes = [region.backend.get_mutex(str(n)) for n in range(5000)]       # more than there are places
    assert all(mutex.acquire() for mutex in mutexes)
    assert sum(mutex.locked() for mutex in mutexes) < 5000
    for mutex in mutexes:
        mutex.release()
    assert not any(mutex.locked() for mutex in mutexes)


def test_a_new_process_and_a_pickle_find_the_values(region, arguments):
    region.set("k", {"a": [1, None]})
    assert pickle.loads(pickle.dumps(region.backend)).get("k").payload == {"a": [1, None]}
    assert in_new_process(
        "from dogpile.cache import make_region\n"
        f"region = make_region().configure('dogpile.cache.tmem', arguments={arguments!r})\n"
        "print(region.get('k'), region.get('l'))"
    ).startswith("{'a': [1, None]} ")


def test_the_arena_is_opened_at_the_first_call_with_the_capacity_of_the_environment(arena_name, monkeypatch):
    monkeypatch.setenv("TMEM_CAPACITY", "8MiB")
    region = make_region().configure("dogpile.cache.tmem", arguments={"arena": arena_name})
    assert not leftovers(arena_name)
    region.set("k", 1)
    with engine.attach(arena_name) as eng:
        assert eng.capacity == 8 << 20 and [pool.name for pool in eng.pools()] == ["dogpile"]


def test_an_arena_that_was_removed_is_made_again(region, arena_name):
    region.set("k", 1)
    mutex = region.backend.get_mutex("k")
    mutex.acquire()
    engine.unlink(arena_name)
    region.backend.cache.close()
    assert region.get("k") is NO_VALUE and not mutex.locked()
    mutex.release()                     # of the arena that is gone
    assert region.get_or_create("k", lambda: 2) == 2


def test_values_end_in_the_arena_too(arguments):
    backend = TmemBackend({**arguments, "tmem_expiration_time": 60})
    backend.set("k", 1)
    assert 59 < backend.cache.expires("k") <= 60


def test_a_value_for_which_there_is_no_room_is_made_again(region):
    assert [len(region.get_or_create("k", lambda: bytes(1 << 25))) for _ in range(2)] == [1 << 25] * 2
    assert region.get("k") is NO_VALUE


@pytest.mark.parametrize("wrong", [{}, {"arena": ""}, {"url": "shop"}])
def test_arguments_without_an_arena_are_refused(wrong):
    with pytest.raises(TypeError, match="arguments: .*arena"):
        TmemBackend(wrong)


def test_wrong_arguments_are_named(arguments):
    with pytest.raises(ValueError, match="capacity"):
        TmemBackend({**arguments, "capacity": "much"})
    assert TmemBackend({**arguments, "distributed_lock": False}).get_mutex("k") is None

"""Owns what tmem.diskcache promises beyond diskcache's own tests: verbs that are one step among all
processes, tags and times that stay, locks that pass on, and names that stand for directories."""
import os
import pickle
import threading
import time

import pytest

import engine
from tests.adapters.together import in_new_process, killed_after, together
from tests.support import leftovers
from tmem.diskcache import Cache, FanoutCache, Lock, RLock, Timeout, arena_of, barrier, memoize_stampede


@pytest.fixture
def cache(arena_name):
    with Cache(arena_name, size_limit=16 << 20) as cache:
        yield cache


def test_verbs_are_one_step_among_all_processes(cache):
    cache.set("tagged", 0, expire=60, tag="t")
    cache.set("float", 0.5)
    cache.set("one", "value", tag="t")

    def work(n):
        counts = [(cache.incr("int"), cache.incr("tagged"), cache.incr("float", 0.5)) for _ in range(50)]
        return len(counts), cache.add("added", n), cache.pop("one", expire_time=True, tag=True)

    found = together(8, work)
    assert (cache["int"], cache["float"]) == (400, 200.5)
    value, ends, tag = cache.get("tagged", expire_time=True, tag=True)
    assert (value, tag) == (400, "t") and 50 < ends - time.time() <= 60
    assert sum(added for _, added, _ in found) == 1
    assert sorted(popped[0] or "" for _, _, popped in found) == [""] * 7 + ["value"]


def test_a_tag_goes_with_its_value(cache):
    for n in range(9):
        cache.set(n, n, tag="even" if n % 2 == 0 else None, expire=None if n else 60)
    assert cache.get(2, tag=True) == (2, "even") and cache.get(1, tag=True) == (1, None) and cache[2] == 2
    assert cache.get("none", 5, expire_time=True, tag=True) == (5, None, None)
    assert cache.evict("even") == 5 and sorted(cache) == [1, 3, 5, 7] and cache.evict("even") == 0
    assert cache.evict(None) == 0 and len(cache) == 4       # what has no tag is of no tag
    assert cache.pop(3, tag=True) == (3, None) and cache.pop(3) is None and cache.clear() == 3


def test_bytes_may_be_read_as_a_file(cache, tmp_path):
    (tmp_path / "file").write_bytes(b"abc" * 1000)
    with open(tmp_path / "file", "rb") as file:
        assert cache.set("k", file, read=True, tag="t")
    with cache.read("k") as reader:
        assert reader.read(6) == b"abcabc"
    reader, tag = cache.get("k", read=True, tag=True)
    assert tag == "t" and len(reader.read()) == 3000
    with pytest.raises(KeyError):
        cache.read("none")


def test_answers_are_computed_by_one_process_of_all(cache):
    calls = Cache(cache.directory, name="calls")

    @cache.memoize(expire=60, tag="answers", ignore={"who"})
    def answer(x, who=None):
        calls.incr("times")
        return x * 2

    assert together(8, lambda n: answer(4, who=n)) == [8] * 8 and calls["times"] == 1
    key = answer.__cache_key__(4, who="anybody")
    assert cache[key] == 8 and cache.evict("answers") == 1 and answer(4) == 8 and calls["times"] == 2
    with pytest.raises(TypeError, match="^name: "):
        cache.memoize(answer)


def test_answers_of_types_may_be_apart(cache):
    @cache.memoize(typed=True)
    def kind(x):
        return type(x).__name__

    @memoize_stampede(cache, 60)
    def same(x):
        return type(x).__name__

    assert (kind(1), kind(1.0), same(1), same(1.0)) == ("int", "float", "int", "int")


def test_a_lock_passes_on_when_its_holder_is_killed(cache):
    for kind in (Lock, RLock):
        lock = kind(cache, "k")
        killed_after(lock.acquire)
        assert not lock.locked()
        with lock:
            assert together(1, lambda n, lock=lock: lock.locked()) == [True]


def test_one_at_a_time(cache):
    @barrier(cache, Lock)
    def work():
        before = cache.get("n", 0)
        cache["n"] = before + 1

    together(8, lambda n: [work() for _ in range(20)])
    assert cache["n"] == 160


def test_a_lock_is_given_back_by_another_thread_and_an_rlock_as_often_as_it_was_taken(cache):
    lock, rlock = Lock(cache, "k"), RLock(cache, "k")
    lock.acquire()
    thread = threading.Thread(target=lock.release)
    thread.start()
    thread.join()
    assert not lock.locked()
    with rlock:
        with rlock:
            assert rlock.locked() and not lock.locked()
        assert rlock.locked()
    assert not rlock.locked()
    with pytest.raises(RuntimeError):
        rlock.release()


def test_a_new_process_and_a_pickle_find_the_values(cache):
    cache.set("k", "v", tag="t")
    other = pickle.loads(pickle.dumps(cache))
    assert other.get("k", tag=True) == ("v", "t") and other.directory == cache.directory
    assert in_new_process(f"from tmem.diskcache import Cache; print(Cache({cache.directory!r})['k'])") == "v"


def test_a_directory_stands_for_an_arena():
    assert arena_of("shop") == "shop"
    assert arena_of("/var/tmp/cache").startswith("var-tmp-cache-") and arena_of("/var/tmp/cache/") == arena_of(
        "/var/tmp/cache")
    assert arena_of("./x") == arena_of(os.path.abspath("x")) and arena_of("~/x") == arena_of(os.path.expanduser("~/x"))
    assert arena_of("/a/b") != arena_of("/a-b") and len(arena_of("/" + "long/" * 200)) <= 200
    for wrong in (None, 5):
        with pytest.raises(TypeError, match="^directory: "):
            Cache(wrong)


def test_settings_are_those_of_diskcache_and_of_the_engine(arena_name):
    cache = Cache(arena_name, 1, size_limit=8 << 20, eviction_policy="none", cull_limit=0, sqlite_mmap_size=1)
    assert not leftovers(arena_name)
    cache["k"] = 1
    with engine.attach(arena_name) as eng:
        assert eng.capacity == 8 << 20 and eng.pool("diskcache").persistent
    for settings, named in (
        ({"eviction_policy": "best"}, "eviction_policy"), ({"no_such": 1}, "options"), ({"disk": dict}, "disk"),
        ({"ttl": 5}, "ttl"),
    ):
        with pytest.raises((TypeError, ValueError), match=f"^{named}"):
            Cache(arena_name, **settings)


def test_a_fanout_cache_has_caches_beside_it(arena_name, monkeypatch):
    monkeypatch.setenv("TMEM_CAPACITY", "8MiB")
    fanout = FanoutCache(arena_name, shards=4)
    beside = fanout.cache("a/b")
    fanout["k"], beside["k"] = 1, 2
    assert (fanout["k"], beside["k"]) == (1, 2) and beside.directory == f"{arena_name}/cache/a/b"
    with engine.attach(arena_name) as eng:
        assert eng.capacity == 8 << 20
    with pytest.raises(TypeError, match="^cache: "):
        fanout.cache("c", size_limit=5)
    assert issubclass(Timeout, Exception)


def test_an_arena_that_was_removed_is_made_again(cache, arena_name):
    cache["k"] = 1
    engine.unlink(arena_name)
    cache.close()
    assert "k" not in cache and cache.incr("k") == 1


def test_a_full_cache_says_so(arena_name):
    cache = Cache(arena_name, size_limit=4 << 20, eviction_policy="none")
    cache.set("sum", b"", tag="t")             # anything that can be added to
    n = 0
    while cache.set(n, bytes(100_000)):
        n += 1
    assert cache.set("large", bytes(1 << 23)) is False and "large" not in cache
    with pytest.raises(engine.ArenaFull, match="no room"):
        cache.incr("sum", bytes(1 << 23))
    assert cache.check() == []


def test_counts_begin_anew_for_who_asks(cache):
    cache["k"] = 1
    cache.get("k"), cache.get("none")
    assert cache.stats(reset=True) == (1, 1) and cache.stats() == (0, 0)
    assert cache.cull() == 0 and cache.set("short", 1, expire=1e-6) and cache.expire() in (0, 1)


def test_djangos_backend(arena_name):
    pytest.importorskip("django")
    from django.conf import settings

    if not settings.configured:
        settings.configure()
    from tmem.diskcache import DjangoCache

    cache = DjangoCache(arena_name, {"OPTIONS": {"size_limit": 8 << 20, "MAX_ENTRIES": 5}, "KEY_PREFIX": "p"})
    cache.set("k", 1, timeout=60, tag="t")
    assert cache.get("k", tag=True) == (1, "t") and cache.incr("k") == 2 and cache.has_key("k")
    assert DjangoCache(arena_name, {"OPTIONS": {"size_limit": 8 << 20, "MAX_ENTRIES": 5}})._cache is cache._cache
    assert cache.evict("t") == 1 and cache.get("k") is None and cache.set("k", 1, timeout=0) and not cache.has_key("k")
    with pytest.raises(ValueError, match="not found"):
        cache.incr("none")
    cache._cache.close()

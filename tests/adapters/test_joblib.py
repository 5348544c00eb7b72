"""Owns what tmem.joblib promises beyond joblib's own tests: outputs that other processes find, that
are copied once or not at all, and that survive kills and a full arena."""
import importlib
import linecache
import pickle
import sys
import threading
import warnings

import pytest

pytest.importorskip("joblib")

import joblib  # noqa: E402
import numpy as np  # noqa: E402
from joblib.memory import MemorizedResult, expires_after  # noqa: E402

import engine  # noqa: E402
import tmem.joblib  # noqa: E402
from tests.adapters.together import in_new_process, killed_after, together  # noqa: E402
from tests.support import leftovers  # noqa: E402

calls = []


def double(x):
    calls.append(x)
    return x * 2


def large(n):
    calls.append(n)
    return bytes(n)


def unpicklable(x):
    return threading.Lock()


@pytest.fixture(autouse=True)
def _no_calls():
    calls.clear()
    yield
    joblib.memory._FUNCTION_HASHES.clear()      # of functions whose code some test's arena has


@pytest.fixture
def memory_of(arena_name):
    """Make a Memory in the arena, with more options."""

    def make(location="name", **options):
        store = {"arena": arena_name, "capacity": "16MiB", **options.pop("backend_options", {})}
        return joblib.Memory(location, backend="tmem", verbose=0, backend_options=store, **options)

    return make


@pytest.fixture
def memory(memory_of):
    return memory_of()


def test_an_output_is_found_by_all_processes(memory):
    cached = memory.cache(double)
    assert cached(2) == 4 and calls == [2]
    found = together(8, lambda n: (cached(2), cached(3 + n), len(calls)))
    assert found == [(4, 6 + 2 * n, 2) for n in range(8)]       # a call of the parent's, and one of its own
    assert all(cached.check_call_in_cache(3 + n) for n in range(8)) and calls == [2]


def test_workers_of_joblib_get_the_store_by_pickle(memory, arena_name):
    cached = memory.cache(double)
    # In a process of its own, since joblib leaves one for itself that ends with its parent.
    assert in_new_process(
        "import pickle, joblib, tests.adapters.test_joblib\n"
        f"cached = pickle.loads({pickle.dumps(cached)!r})\n"
        "print(joblib.Parallel(n_jobs=2)(joblib.delayed(cached)(n) for n in range(4)))"
    ) == "[0, 2, 4, 6]"
    assert all(cached.check_call_in_cache(n) for n in range(4)) and not calls


def test_a_new_process_finds_what_was_kept(memory, arena_name):
    reference = memory.cache(double).call_and_shelve(np.arange(3))
    assert in_new_process(
        "import pickle, tmem.joblib\n"
        f"print(pickle.loads({pickle.dumps(reference)!r}).get())"
    ) == "[0 2 4]"


def test_a_killed_process_leaves_what_it_has_computed(memory):
    cached = memory.cache(double)
    killed_after(lambda: cached(5))
    assert cached.check_call_in_cache(5) and cached(5) == 10 and not calls


def test_arrays_come_as_copies_that_may_be_written(memory):
    cached = memory.cache(double)
    first = cached(np.arange(100_000))
    again = cached(np.arange(100_000))
    again[0] = 7
    assert (first[0], cached(np.arange(100_000))[0]) == (0, 0) and len(calls) == 1


def test_arrays_lie_in_the_arena_where_they_are_mapped(memory_of, arena_name):
    cached = memory_of(mmap_mode="r").cache(double)
    arrays = [cached(np.arange(100_000)) for _ in range(3)]
    with engine.attach(arena_name) as eng:
        assert eng.stats()["arena"]["pinned_bytes"] >= 800_000
    for array in arrays:
        assert (array == np.arange(0, 200_000, 2)).all() and not array.flags.writeable
    assert len(calls) == 1


def test_outputs_may_be_kept_compressed(memory_of, arena_name):
    pytest.importorskip("zstandard")
    for compress, pool in ((True, "joblib-zstd"), (3, "joblib-zstd"), (("lz4", 1), "joblib-lz4")):
        cached = memory_of(compress=compress).cache(double)
        assert (cached(np.zeros(50_000)) == 0).all() and (cached(np.zeros(50_000)) == 0).all()
        with engine.attach(arena_name) as eng:
            counts = eng.stats()["pools"][pool]
            assert counts["bytes_stored"] < counts["bytes_asked"] / 10
    assert len(calls) == 2


def test_locations_are_apart_and_cleared_apart(memory_of):
    one, other, longer = (memory_of(name) for name in ("one", "other", "one/joblib/more"))
    for memory in (one, other, longer):
        memory.cache(double)(2)
    assert len(calls) == 3
    other.clear(warn=False)
    assert one.cache(double).check_call_in_cache(2) and not other.cache(double).check_call_in_cache(2)
    one.clear(warn=False)
    assert [len(memory.store_backend.get_items()) for memory in (one, longer)] == [0, 0]      # below `one`


def test_an_output_that_has_lost_its_record_is_computed_again(memory):
    cached = memory.cache(double, cache_validation_callback=expires_after(seconds=60))
    assert cached(2) == cached(2) == 4 and len(calls) == 1
    memory.store_backend.cache.delete((memory.store_backend.path_of((cached.func_id, cached._get_args_id(2))), "about"))
    assert memory.store_backend.get_metadata((cached.func_id, cached._get_args_id(2))) == tmem.joblib.LOST
    assert cached(2) == 4 and len(calls) == 2


def test_an_output_without_room_is_the_callers_all_the_same(memory_of):
    for mmap_mode in (None, "r"):
        cached = memory_of(mmap_mode=mmap_mode).cache(large)
        for _ in range(2):
            with pytest.warns(tmem.joblib.CacheWarning, match="no room in the arena"):
                assert len(cached(17 << 20)) == 17 << 20
    assert len(calls) == 4


def test_an_output_that_cannot_be_pickled_is_the_callers_all_the_same(memory):
    with pytest.warns(tmem.joblib.CacheWarning, match="is not cached: cannot pickle"):
        assert memory.cache(unpicklable)(1).acquire()


def test_the_arena_is_opened_at_the_first_call_with_the_capacity_of_the_environment(arena_name, monkeypatch):
    monkeypatch.setenv("TMEM_CAPACITY", "8MiB")
    memory = joblib.Memory("name", backend="tmem", verbose=0, backend_options={"arena": arena_name})
    cached = memory.cache(double)
    assert not leftovers(arena_name)
    cached(1)
    with engine.attach(arena_name) as eng:
        assert eng.capacity == 8 << 20


def test_an_arena_that_was_removed_is_made_again(memory, arena_name):
    cached = memory.cache(double)
    cached(1)
    engine.unlink(arena_name)
    memory.store_backend.cache.close()
    assert cached(1) == cached(1) == 2 and calls == [1, 1]


def test_outputs_that_were_cleared_are_missed(memory):
    reference = memory.cache(double).call_and_shelve(1)
    reference.clear()
    with pytest.raises(KeyError, match="no output"):
        reference.get()


def test_outputs_whose_code_has_made_room_are_computed_again(memory, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr("sys.dont_write_bytecode", True)
    for step in (1, 100):
        (tmp_path / "changing.py").write_text(f"def more(n):\n    return n + {step}\n")
        monkeypatch.delitem(sys.modules, "changing", raising=False)
        linecache.clearcache()
        more = memory.cache(importlib.import_module("changing").more)
        assert [more(1), more(2), more(1)] == [1 + step, 2 + step, 1 + step]
        kept = memory.store_backend.cache
        assert kept.delete_many([key for key in kept if key[1] == tmem.joblib.CODE]) == 1
        joblib.memory._FUNCTION_HASHES.clear()      # as in another process
    monkeypatch.delitem(sys.modules, "changing")


@pytest.mark.parametrize("wrong", [{}, {"arena": ""}])
def test_options_without_an_arena_are_refused(wrong):
    with pytest.raises(TypeError, match="backend_options: .*arena"):
        joblib.Memory("name", backend="tmem", backend_options=wrong)
    with pytest.raises(TypeError, match="backend_options: .*arena"):
        MemorizedResult("name", ("f", "x"), backend="tmem")


def test_wrong_options_are_named(memory_of):
    with pytest.raises(ValueError, match="capacity"):
        memory_of(backend_options={"capacity": "much"})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        memory_of(backend_options={"parameter": "unused"})

"""Owns the tests of shared samples: each is decoded once, in however many workers of whatever kind;
and those of PyTorch's DataLoader on them, where it is installed."""
import collections
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import time
import warnings

import pytest

pytest.importorskip("numpy")

import numpy as np

import engine
from tests.contract.test_cache_processes import run_together
from tests.stopped import in_child
from tests.support import child_env
from tmem.data import SharedSamples

COUNT = 24


class Pictures:
    """A dataset that notes what is decoded, in a file for all processes."""

    def __init__(self, log):
        self.log = log

    def __len__(self):
        return COUNT

    def __getitem__(self, index):
        if not -COUNT <= index < COUNT:
            raise IndexError(index)
        with open(self.log, "ab", buffering=0) as log:
            log.write(b"%d\n" % index)
        return np.full((8, 32), index, dtype="f4"), index


def decoded(samples):
    with open(samples.dataset.log) as log:
        return sorted(int(line) for line in log)


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setenv("TMEM_CAPACITY", "4MiB")


@pytest.fixture
def samples(tmp_path, arena_name):
    (tmp_path / "log").touch()
    return SharedSamples(Pictures(str(tmp_path / "log")), arena=arena_name, key="pictures")


def check(sample, index):
    picture, label = sample
    assert label == index and picture.shape == (8, 32) and (picture == index).all()


def test_a_sample_is_decoded_once(samples):
    assert len(samples) == COUNT
    for _ in range(2):
        for index in range(COUNT):
            check(samples[index], index)
    assert decoded(samples) == list(range(COUNT))
    for index, sample in enumerate(samples):
        check(sample, index)
    assert decoded(samples) == list(range(COUNT))


def test_an_index_is_one_however_it_is_said(samples):
    for index in (3, np.int64(3), 3 - COUNT, np.array(3)):
        check(samples[index], 3)
    assert decoded(samples) == [3]
    with pytest.raises(IndexError):
        samples[COUNT]
    with pytest.raises(IndexError):
        samples[-COUNT - 1]


def test_a_batch_is_a_list_of_samples(samples):
    batch = samples.__getitems__([5, 1, 5])
    for sample, index in zip(batch, [5, 1, 5], strict=True):
        check(sample, index)
    assert decoded(samples) == [1, 5]


def test_arrays_lie_in_the_arena_and_are_read_only(samples, arena_name):
    for _ in range(2):
        picture, _ = samples[1]
        assert not picture.flags.writeable and not picture.flags.owndata
        with pytest.raises(ValueError, match="read-only"):
            picture += 1
    own = SharedSamples(samples.dataset, arena=arena_name, key="pictures", copy=True)
    picture, _ = own[1]
    picture += 1
    check(samples[1], 1)
    assert decoded(samples) == [1]


def test_a_transform_comes_after_what_is_kept(samples, arena_name):
    calls = []

    def transform(sample):
        calls.append(sample[1])
        return sample[0].sum() + len(calls)

    changed = SharedSamples(samples.dataset, arena=arena_name, key="pictures", transform=transform)
    assert changed[1] == 257 and changed[1] == 258 and changed.__getitems__([1]) == [259] and decoded(samples) == [1]
    check(samples[1], 1)


def test_another_key_is_another_dataset(samples, arena_name):
    other = SharedSamples([b"a", b"b"], arena=arena_name, key="letters")
    check(samples[1], 1)
    assert bytes(other[1]) == b"b" and bytes(other[-2]) == b"a"
    names = SharedSamples({"x": 1}, arena=arena_name, key=("by", "name"))
    assert names["x"] == 1
    with pytest.raises(KeyError):
        names["y"]


def read_all(n, samples):
    for index in range(COUNT):
        check(samples[(index + n) % COUNT], (index + n) % COUNT)


def test_processes_decode_each_sample_once(samples):
    assert run_together(8, read_all, samples) == [0] * 8
    assert decoded(samples) == list(range(COUNT))


def test_spawned_processes_do_too(samples):
    check(samples[0], 0)
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=read_all, args=(n, samples)) for n in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0] and decoded(samples) == list(range(COUNT))


def test_a_pickle_is_the_same_samples(samples):
    again = pickle.loads(pickle.dumps(samples))
    check(again[2], 2)
    check(samples[2], 2)
    assert decoded(samples) == [2]


class Dying(Pictures):
    def __getitem__(self, index):
        os.kill(os.getpid(), signal.SIGKILL)


def test_a_worker_that_is_killed_while_it_decodes_holds_up_nobody(samples, arena_name):
    dying = SharedSamples(Dying(samples.dataset.log), arena=arena_name, key="pictures")
    assert in_child(lambda: dying[1]) == -signal.SIGKILL
    check(samples[1], 1)


def test_a_sample_that_cannot_be_decoded_is_tried_again(samples, arena_name):
    broken = SharedSamples(collections.UserDict(), arena=arena_name, key="pictures")
    with pytest.raises(KeyError):
        broken[1]
    check(samples[1], 1)


def test_it_is_opened_when_it_is_used_and_made_again(samples, arena_name):
    with pytest.raises(engine.ArenaNotFound):
        engine.attach(arena_name)
    check(samples[1], 1)
    with engine.attach(arena_name) as eng:
        assert eng.capacity == 4 << 20
    engine.unlink(arena_name)
    time.sleep(0.07)            # after which a cache looks again
    check(samples[1], 1)
    assert decoded(samples) == [1, 1]


def test_samples_without_room_come_as_they_are(tmp_path, arena_name):
    class Large:
        def __len__(self):
            return 2

        def __getitem__(self, index):
            return np.full(1 << 20, index)

    with engine.create(arena_name, capacity="1MiB"):
        samples = SharedSamples(Large(), arena=arena_name, key="large")
        for index in (0, 1, 0, 1):
            assert (samples[index] == index).all()


def test_bad_arguments_are_named(arena_name):
    for argument, dataset, more in (
        ("dataset", iter([]), {"key": "k"}), ("key", [], {}), ("transform", [], {"key": "k", "transform": 5}),
        ("copy", [], {"key": "k", "copy": 1}), ("options", [], {"key": "k", "capacty": 1}),
    ):
        with pytest.raises(TypeError, match=f"^{argument}: "):
            SharedSamples(dataset, arena=arena_name, **more)
    with pytest.raises(TypeError, match="^arena: "):
        SharedSamples([], key="k")


def test_importing_it_imports_neither_numpy_nor_torch():
    code = "import sys, tmem.data; print(sorted({'numpy', 'torch'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=child_env())
    assert done.stdout == "[]\n", done.stderr


# --- PyTorch --------------------------------------------------------------------------------------


def as_tensors(sample):
    """What PyTorch asks for: an array that may be written."""
    torch = sys.modules["torch"]
    return torch.from_numpy(sample[0].copy()), sample[1]


@pytest.mark.parametrize("method, keep", [("fork", False), ("spawn", True)])
def test_the_workers_of_a_data_loader_decode_each_sample_once(samples, arena_name, method, keep):
    torch = pytest.importorskip("torch")
    from torch.utils.data import DataLoader

    shared = SharedSamples(samples.dataset, arena=arena_name, key="pictures", transform=as_tensors)
    loader = DataLoader(
        shared, batch_size=4, shuffle=True, num_workers=2, persistent_workers=keep, multiprocessing_context=method
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(2):
            seen = []
            for pictures, labels in loader:
                assert pictures.shape == (4, 8, 32) and (pictures == labels.reshape(4, 1, 1)).all()
                assert isinstance(labels, torch.Tensor)
                seen.extend(labels.tolist())
            assert sorted(seen) == list(range(COUNT))
    del loader
    assert decoded(samples) == list(range(COUNT))

"""Owns zarr's tests of stores, run on our store in front of a local one and of one in memory, and
its state machines, on the latter."""
import os

import pytest
import zarr
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test
from zarr.core.buffer import Buffer, cpu
from zarr.storage import LocalStore, MemoryStore
from zarr.testing.stateful import ZarrHierarchyStateMachine, ZarrStoreStateMachine
from zarr.testing.store import StoreTests

from tmem.zarr import TmemStore

ARENA = os.environ["TMEM_ARENA"]


class Suite(StoreTests[TmemStore, Buffer]):
    store_cls = TmemStore
    buffer_cls = cpu.Buffer

    def test_store_repr(self, store):
        assert repr(store) == f"TmemStore({store._store!r}, arena={ARENA!r})"

    def test_store_supports_writes(self, store):
        assert store.supports_writes

    def test_store_supports_listing(self, store):
        assert store.supports_listing


class TestLocal(Suite):
    async def set(self, store, key, value):
        path = store._store.root / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(value.to_bytes())

    async def get(self, store, key):
        return self.buffer_cls.from_bytes((store._store.root / key).read_bytes())

    @pytest.fixture
    def store_kwargs(self, tmp_path):
        return {"store": LocalStore(tmp_path), "arena": ARENA}

    @pytest.fixture
    def open_kwargs(self, tmp_path):
        return {"store_cls": LocalStore, "root": tmp_path, "arena": ARENA}


class TestMemory(Suite):
    async def set(self, store, key, value):
        store._store._store_dict[key] = value

    async def get(self, store, key):
        return store._store._store_dict[key]

    @pytest.fixture
    def store_kwargs(self):
        return {"store": MemoryStore(), "arena": ARENA}

    @pytest.fixture
    def open_kwargs(self):
        return {"store_cls": MemoryStore, "arena": ARENA}

    def test_store_eq(self, store, open_kwargs):
        assert store == store and store == TmemStore(MemoryStore(), arena=ARENA)


# Not in front of a LocalStore: it lists folders in which nothing is left, and the machines excuse
# that by its class.
@pytest.fixture(params=[None, "named"])
def sync_store(request):
    return TmemStore(MemoryStore(), arena=ARENA, namespace=request.param)


def few(examples):
    return settings(max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)


def test_the_machine_of_stores(sync_store):
    run_state_machine_as_test(lambda: ZarrStoreStateMachine(sync_store), settings=few(40))


@pytest.mark.filterwarnings("ignore")
def test_the_machine_of_hierarchies(sync_store):
    with zarr.config.set({"async.concurrency": 4}):
        run_state_machine_as_test(lambda: ZarrHierarchyStateMachine(sync_store), settings=few(10))

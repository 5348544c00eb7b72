"""Owns our backend in the test classes that dogpile.cache has for every backend."""
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor

from dogpile.testing.fixtures import (
    _GenericBackendFixture,
    _GenericBackendTestSuite,
    _GenericMutexTestSuite,
    _GenericSerializerTestSuite,
)


class _Tmem:
    backend = "dogpile.cache.tmem"
    config_args = {"arguments": {"arena": os.environ["TMEM_ARENA"], "capacity": "16MiB"}}


class BackendTest(_Tmem, _GenericBackendTestSuite):
    pass


class SerializerTest(_GenericSerializerTestSuite, BackendTest):
    pass


class MutexTest(_Tmem, _GenericMutexTestSuite):
    pass


class ThreadLockTest(_GenericBackendTestSuite):
    backend = "dogpile.cache.tmem"
    config_args = {"arguments": {**_Tmem.config_args["arguments"], "distributed_lock": False}}


class AsyncCreationTest(_Tmem, _GenericBackendFixture):
    def test_another_thread_gives_the_lock_back(self):
        done = threading.Event()

        def runner(cache, key, creator, mutex):
            def make():
                cache.set(key, creator())
                mutex.release()
                done.set()

            pool.submit(make)

        with ThreadPoolExecutor(1) as pool:
            region = self._region(region_args={"async_creation_runner": runner})
            region.get_or_create("k", lambda: 1)
            time.sleep(0.02)
            assert region.get_or_create("k", lambda: 2, expiration_time=0.01) == 1
            done.wait()
        assert region.get("k") == 2 and not region.key_is_locked("k")

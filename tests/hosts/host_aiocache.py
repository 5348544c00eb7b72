"""Owns the check of tmem.aiocache by aiocache's acceptance tests, those of its cache in memory."""

LEFT_OUT = {
    "TestNullSerializer": "asks for the very object that was put; what other processes may have put comes as a copy",
    "TestMemoryOptimisticLock::test_acquire_key_builder": "takes the value for the lock's token; ours is its version",
    "TestHitMissRatioPlugin": "puts a dict of its own in place of the values",
    "TestTimingPlugin": "puts a dict of its own in place of the values",
    "test_factory.py::": "asks which classes of aiocache its addresses stand for",
}


def check(host):
    host.install("aiocache==0.12.3", "pytest-asyncio", "pytest-mock", "marshmallow")
    host.pytest(
        ["tests/acceptance", "-m", "not redis and not memcached", "-o", "addopts=",
         "-o", "asyncio_default_fixture_loop_scope=function"],
        cwd=host.source("aiocache==0.12.3"), left_out=LEFT_OUT, plugins=["asyncio", "pytest_mock", "aiocache_plugin"],
    )

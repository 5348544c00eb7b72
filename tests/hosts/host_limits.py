"""Owns the check of tmem.limits: the tests of limits' storages and strategies, with ours alone."""
VERSION = "5.8.0"

NEEDS = [
    f"limits=={VERSION}", "pytest-asyncio>=1", "pytest-lazy-fixtures>=1.4", "flaky>=3.8",
    # What its conftest and test modules import: the clients of all storages.
    "redis>=5", "valkey>=6", "pymemcache>=4", "pymongo>=4",
]
SUITE = [
    "tests/test_storage.py", "tests/test_strategy.py", "tests/aio/test_storage.py", "tests/aio/test_strategy.py",
    "tests/integration/test_concurrency.py",
]


def check(host):
    host.install(*NEEDS)
    host.pytest(
        # Its own options report what the tests cover of limits, and its warnings are errors.
        ["-o", "addopts=", "-o", "asyncio_default_fixture_loop_scope=function", *SUITE],
        cwd=host.source(f"limits=={VERSION}"),
        plugins=["limits_plugin", "pytest_asyncio.plugin", "pytest_lazy_fixtures.plugin", "flaky.flaky_pytest_plugin"],
    )

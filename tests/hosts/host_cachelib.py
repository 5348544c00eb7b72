"""Owns the check of tmem.cachelib by the suites of cachelib and of Flask-Caching; that of
Flask-Session is not in its distribution."""

FLASK_CACHING = {
    "test_backend_cache.py::": "the backends of Flask-Caching itself; its generic tests run in our suite",
    "test_app_redis_cache_backend_url": "Flask-Caching's back end for Redis",
    "test_init_app_multi_apps": "Flask-Caching's back end for Redis",
    "test_cache_unlink": "Flask-Caching's back end for Redis",
    "test_init_nullcache": "the backends of Flask-Caching itself",
    "test_dict_config_initapp": "asks whether the class is SimpleCache",
    "test_dict_config_both": "asks whether the class is SimpleCache",
    "test_cachelib_class_as_cache_type": "asks whether the class is SimpleCache",
    "test_cachelib_backend_gets_cache_options": "looks at an option of SimpleCache",
    "test_backend_uses_cachelib_serializer": "asks for the serializer of SimpleCache; ours pickles without one",
    "test_default_keeps_the_cachelib_serializer": "asks for the serializer of SimpleCache; ours pickles without one",
    "test_values_are_stored_in_the_configured_format": "looks into the dict of SimpleCache",
}


def check(host):
    host.install("cachelib==0.17.0", "flask-caching==2.5.1", "flask[async]", "pytest-asyncio", "pytest-xprocess")
    tests = host.source("cachelib==0.17.0") / "tests"
    host.pytest([host.add("cachelib_suite.py", tests)], cwd=tests)
    flask_caching = host.source("flask-caching==2.5.1")
    host.add("flask_caching_suite.py", flask_caching / "tests")
    host.pytest(
        ["tests", "-o", "asyncio_default_fixture_loop_scope=function"], cwd=flask_caching, left_out=FLASK_CACHING,
        plugins=["asyncio", "xprocess", "flask_caching_plugin"],
    )

"""Owns the check of tmem.django by Django's own tests of caches, and of the sessions on them."""
import sys

SESSIONS = [f"sessions_tests.tests.{name}" for name in ("CacheSessionTests", "CacheDBSessionTests")]


def check(host):
    host.install("django==5.2.19")
    tests = host.source("django==5.2.19") / "tests"
    host.add("django_suite.py", tests / "cache")
    host.unittest(
        [sys.executable, "runtests.py", "--settings", "django_settings", "--parallel", "1", "-v", "1",
         "cache.test_tmem_django_suite", *SESSIONS],
        cwd=tests,
    )

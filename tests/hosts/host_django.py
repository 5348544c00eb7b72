"""Owns the check of tmem.django by Django's own tests of caches, and of the sessions on them."""
import sys

SESSIONS = [f"sessions_tests.tests.{name}" for name in ("CacheSessionTests", "CacheDBSessionTests")]


# Django 6 needs Python 3.12.
RELEASES = ["django==5.2.19", "django==6.1.3"] if sys.version_info >= (3, 12) else ["django==5.2.19"]


def check(host):
    for release in reversed(RELEASES):      # the older one stays, for the adapter's own tests
        host.install(release)
        tests = host.source(release) / "tests"
        host.add("django_suite.py", tests / "cache")
        host.unittest(
            [sys.executable, "runtests.py", "--settings", "django_settings", "--parallel", "1", "-v", "1",
             "cache.test_tmem_django_suite", *SESSIONS],
            cwd=tests,
        )

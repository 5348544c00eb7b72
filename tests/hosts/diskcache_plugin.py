"""Owns putting tmem.diskcache in place of diskcache in diskcache's own tests: a plug-in of pytest.

Those tests make caches without a name, which here need one; and name, where they are loaded, a few
things of diskcache that no test which is run uses. Their Django settings and models are not in its
source distribution: they are written beside the tests."""
import itertools
import os
import sys
import types
from pathlib import Path

import pytest

import engine
import tmem.diskcache as ours

ARENA = os.environ["TMEM_ARENA"]
_numbers = itertools.count()
_made = set()

SETTINGS = '''
SECRET_KEY = "tests"
ALLOWED_HOSTS = ["*"]
USE_TZ = False
INSTALLED_APPS = ["tests"]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
DEFAULT_AUTO_FIELD = "django.db.models.AutoField"
CACHES = {"default": {"BACKEND": "django.core.cache.backends.dummy.DummyCache"}}
'''
MODELS = '''
import datetime

from django.db import models


def expensive_calculation():
    expensive_calculation.num_runs += 1
    return datetime.datetime.now()


expensive_calculation.num_runs = 0


class Poll(models.Model):
    question = models.CharField(max_length=200)
    answer = models.CharField(max_length=200)
    pub_date = models.DateTimeField("date published", default=expensive_calculation)
'''


def _named(kind):
    class Named(kind):
        def __init__(self, directory=None, *args, **settings):
            directory = directory or f"{ARENA}-{next(_numbers)}"
            _made.add(ours.arena_of(directory))
            super().__init__(directory, *args, **settings)

    Named.__name__ = Named.__qualname__ = kind.__name__
    return Named


class DjangoCache(ours.DjangoCache):
    def __init__(self, directory, params):
        _made.add(ours.arena_of(directory))
        super().__init__(directory, params)


class EmptyDirWarning(UserWarning):
    pass


stand_in = types.ModuleType("diskcache")
stand_in.__dict__.update(vars(ours))
stand_in.__dict__.update(
    Cache=_named(ours.Cache), FanoutCache=_named(ours.FanoutCache), DjangoCache=DjangoCache, Disk=object,
    UNKNOWN=None, EmptyDirWarning=EmptyDirWarning,
)
globals().update(Cache=stand_in.Cache, FanoutCache=stand_in.FanoutCache)
for one in (stand_in.Cache, stand_in.FanoutCache):
    one.__module__ = __name__           # what a pickle of it names
sys.modules["diskcache"] = stand_in


def pytest_configure(config):
    tests = Path.cwd() / "tests"
    (tests / "__init__.py").touch()
    (tests / "settings.py").write_text(SETTINGS)
    (tests / "models.py").write_text(MODELS)
    os.environ["DJANGO_SETTINGS_MODULE"] = "tests.settings"
    sys.path.insert(0, str(Path.cwd()))


@pytest.fixture(scope="session", autouse=True)
def _tables():
    from django.core.management import call_command

    call_command("migrate", run_syncdb=True, verbosity=0)


@pytest.fixture(autouse=True)
def _no_arena_left():
    yield
    for name in _made:
        try:
            engine.unlink(name)
        except engine.ArenaNotFound:
            pass
    _made.clear()

"""Owns our backend in the tests of caches of Django's suite, beside which it is put: in those that
each backend of its own passes, and in those of what is built on a cache."""
from django.conf import settings
from django.test import TestCase, override_settings

from . import tests

OURS = settings.CACHES["default"]
OTHER = {**OURS, "OPTIONS": {"name": "other"}}


@override_settings(CACHES=tests.caches_setting_for_tests(base=OURS))
class TmemCacheTests(tests.BaseCacheTests, TestCase):
    """Those of culling skip themselves: an alias that asks for it is refused."""


@override_settings(CACHES={"default": OURS})
class TmemCacheUtils(tests.CacheUtils):
    pass


@override_settings(CACHES={"default": {**OURS, "KEY_PREFIX": "cacheprefix"}})
class TmemPrefixedCacheUtils(tests.PrefixedCacheUtils):
    pass


@override_settings(CACHES={"default": OURS})
class TmemCacheHEADTest(tests.CacheHEADTest):
    pass


@override_settings(CACHES={"default": OURS})
class TmemCacheI18nTest(tests.CacheI18nTest):
    pass


@override_settings(CACHES={"default": OURS, "other": {**OTHER, "TIMEOUT": "1"}})
class TmemCacheMiddlewareTest(tests.CacheMiddlewareTest):
    pass


@override_settings(CACHES={"default": OURS})
class TmemTestWithTemplateResponse(tests.TestWithTemplateResponse):
    pass

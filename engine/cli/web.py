"""Owns the command `tmem web`: a page in the browser that shows an arena live, for people on this
machine.

It is read-only: there are GET and HEAD, of the page and of the figures. The page is one file
without anything from elsewhere, and its policy lets it load nothing but the figures; names of pools
are put in as text, never as HTML. A request must name the host it is for as we do: else a page of a
stranger, whose name leads to this machine, could read the figures (DNS rebinding).
One thread looks, once an interval, however many browsers ask.
"""
import base64
import hashlib
import http.server
import importlib.resources
import ipaddress
import json
import re
import socket
import threading
from collections import deque
from http import HTTPStatus
from typing import Any

import click

import engine
from engine.cli.addresses import Address, listening_at, serve_until_ended
from engine.cli.basics import Seconds, ended_by_signals, name_argument
from engine.cli.looks import Watcher, rates

PORT = 9478
PAGE = "page.html"
KEPT = 120                  # intervals that a browser gets when it comes
HISTORY_KEYS = ("gets_per_s", "hit_rate", "puts_per_s", "evicted_per_s")


class Looker(threading.Thread):
    """Looks at the arena in intervals, and has the last answer ready as JSON."""

    def __init__(self, watcher: Watcher, interval: float):
        super().__init__(daemon=True)
        self._watcher, self._interval = watcher, interval
        self._history: deque[dict[str, Any]] = deque(maxlen=KEPT)
        self._end = threading.Event()
        self._before = watcher.look()
        self.body = self._told(rates(self._before, self._before), "")

    def _told(self, found: dict[str, Any], notice: str) -> bytes:
        return json.dumps({**found, "history": list(self._history), "interval": self._interval,
                           "notice": notice}).encode()

    def run(self) -> None:
        found = rates(self._before, self._before)
        while not self._end.wait(self._interval):
            try:
                after = self._watcher.look()
                found = rates(self._before, after)
                self._before = after
                self._history.append({key: found["total"][key] for key in HISTORY_KEYS})
                self.body = self._told(found, "")
            except engine.ArenaNotFound:
                self.body = self._told(found, "the arena was removed; this is what it was like")
            except engine.TmemError as error:
                self.body = self._told(found, " ".join(str(error).split()))

    def stop(self) -> None:
        self._end.set()
        self.join()


def page() -> bytes:
    """The page as it is sent."""
    return importlib.resources.files("engine.cli").joinpath(PAGE).read_bytes()


def policy(html: bytes) -> str:
    """The policy that lets this page run its own script, and nothing else."""
    def hashes(tag: bytes) -> str:
        return " ".join(f"'sha256-{base64.b64encode(hashlib.sha256(text).digest()).decode()}'"
                        for text in re.findall(rb"<%b>(.*?)</%b>" % (tag, tag), html, re.DOTALL))

    return (f"default-src 'none'; connect-src 'self'; script-src {hashes(b'script')}; style-src {hashes(b'style')}; "
            "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")


def is_ours(told: str | None, host: str, port: int) -> bool:
    """Whether the Host of a request is a name of this server: the one it was started with, an
    address by number, or localhost."""
    found = re.fullmatch(r"(\[[0-9a-fA-F:.]+\]|[^:\[\]]+)(?::(\d+))?", told or "")
    if found is None or int(found[2] or 80) != port:
        return False
    name = found[1].strip("[]").lower()
    if name in (host.lower(), "localhost"):
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True                         # no name is behind a number, so nobody can have turned it round


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers one request."""

    server: "Server"
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "tmem", ""
    timeout = 30                        # seconds that a connection may be silent

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if not is_ours(self.headers.get("Host"), self.server.host, self.server.server_port):
            self._refuse(HTTPStatus.MISDIRECTED_REQUEST, "this is no name of this server")
        elif path == "/":
            self._answer(HTTPStatus.OK, "text/html; charset=utf-8", self.server.html)
        elif path == "/stats.json":
            self._answer(HTTPStatus.OK, "application/json", self.server.looker.body)
        else:
            self._refuse(HTTPStatus.NOT_FOUND, "there are / and /stats.json")

    do_HEAD = do_GET

    def _not_allowed(self) -> None:
        self.close_connection = True    # what the request brings along is not read
        self._refuse(HTTPStatus.METHOD_NOT_ALLOWED, "there are GET and HEAD")

    do_POST = do_PUT = do_DELETE = do_PATCH = do_OPTIONS = do_TRACE = do_CONNECT = _not_allowed

    def _refuse(self, status: HTTPStatus, why: str) -> None:
        self._answer(status, "text/plain; charset=utf-8", f"{status.value} {status.phrase}: {why}\n".encode())

    def _answer(self, status: HTTPStatus, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("Content-Security-Policy", self.server.policy)
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Referrer-Policy", "no-referrer")
        self.send_header("Cross-Origin-Resource-Policy", "same-origin")
        if status == HTTPStatus.METHOD_NOT_ALLOWED:
            self.send_header("Allow", "GET, HEAD")
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


class Server(http.server.ThreadingHTTPServer):
    """The server, with what all requests share."""

    daemon_threads = True

    def __init__(self, host: str, port: int, looker: Looker):
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        super().__init__((host, port), Handler)
        self.host, self.looker, self.html = host, looker, page()
        self.policy = policy(self.html)

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass                            # a browser that went away


@click.command()
@name_argument
@click.option("--port", default=PORT, show_default=True, type=click.IntRange(0, 65535), help="0: any that is free.")
@click.option("--host", default="127.0.0.1", show_default=True, type=Address(),
              help="The address that it listens at. Whoever reaches it sees the names of all pools.")
@click.option("--interval", default=1.0, show_default=True, type=Seconds(0.05),
              help="Seconds from one look to the next.")
@click.option("--json", "as_json", is_flag=True, help="Say in JSON where it listens.")
def web(name: str, port: int, host: str, interval: float, as_json: bool) -> None:
    """Show the arena NAME live in the browser, until interrupted."""
    watcher = Watcher(name)
    try:
        looker = Looker(watcher, interval)
        with listening_at(host, port):
            server = Server(host, port, looker)
        with ended_by_signals():
            looker.start()
            answering = threading.Thread(target=server.serve_forever, daemon=True)
            answering.start()
            try:
                serve_until_ended(name, host, server.server_port, "/", as_json)
            finally:
                server.shutdown()
                server.server_close()
                looker.stop()
    finally:
        watcher.close()

"""`tmem web`: what it answers, whom it refuses, and the page in a browser."""
import html
import http.client
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from urllib.parse import urlsplit

import pytest

import engine
from engine.cli import web
from engine.cli.looks import Watcher
from tests.support import ROOT, child_env

EVIL = "<img src=x onerror='document.title=1'>"


@pytest.fixture
def server(eng):
    eng.new_pool(EVIL)
    watcher = Watcher(eng.name)
    looker = web.Looker(watcher, 0.05)
    made = web.Server("127.0.0.1", 0, looker)
    looker.start()
    thread = threading.Thread(target=made.serve_forever, args=(0.01,))
    thread.start()
    yield made
    made.shutdown()
    made.server_close()
    looker.stop()
    thread.join()
    watcher.close()


def ask(server, path="/", method="GET", **headers):
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=30)
    try:
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read()
    finally:
        connection.close()


def test_the_page_needs_nothing_from_elsewhere(server):
    status, headers, body = ask(server)
    text = body.decode()
    assert status == 200 and headers["Content-Type"] == "text/html; charset=utf-8"
    assert "https://" not in text and text.count("http://") == 1 and "http://www.w3.org/2000/svg" in text
    assert "innerHTML" not in text and " on" + "click=" not in text and ' style="' not in text
    told = headers["Content-Security-Policy"]
    assert told.startswith("default-src 'none'") and told.count("'sha256-") == 2 and "unsafe" not in told
    assert ask(server, "/?x")[0] == 200


def test_the_figures(server):
    status, headers, body = ask(server, "/stats.json")
    told = json.loads(body)
    assert status == 200 and headers["Cache-Control"] == "no-store" and EVIL in told["pools"]
    assert told["interval"] == 0.05 and told["notice"] == "" and len(told["workers"]) == 2
    end = time.monotonic() + 30
    while not json.loads(ask(server, "/stats.json")[2])["history"]:
        assert time.monotonic() < end


@pytest.mark.parametrize("path", ["/", "/stats.json", "/nothing"])
def test_head_is_get_without_a_body(server, path):
    got, head = ask(server, path), ask(server, path, "HEAD")
    assert head[0] == got[0] and head[2] == b"" and head[1]["Content-Type"] == got[1]["Content-Type"]
    assert int(head[1]["Content-Length"]) > 0


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_nothing_but_reading_is_allowed(server, method):
    status, headers, _ = ask(server, "/", method)
    assert status == 405 and headers["Allow"] == "GET, HEAD"


def test_what_is_not_there(server):
    for path in ("/favicon.ico", "/../page.html", "/stats.json/"):
        assert ask(server, path)[0] == 404


@pytest.mark.parametrize("host, ours", [
    ("127.0.0.1:{}", True), ("localhost:{}", True), ("LOCALHOST:{}", True), ("[::1]:{}", True),
    ("evil.example:{}", False),
    ("127.0.0.1:1", False), ("localhost", False), ("", False), ("127.0.0.1.evil.example:{}", False), ("a b:{}", False),
    ("localhost:{}:{}", False), ("[evil]:{}", False),
])
def test_a_request_must_name_this_host(server, host, ours):
    told = host.replace("{}", str(server.server_port))
    for path in ("/", "/stats.json"):
        assert ask(server, path, Host=told)[0] == (200 if ours else 421)


def test_the_name_that_it_was_told_is_its_own():
    assert web.is_ours("box.example:80", "box.example", 80) and web.is_ours("box.example", "box.example", 80)
    assert not web.is_ours(None, "localhost", 80)


def test_an_arena_that_is_removed_is_said(server, eng):
    engine.unlink(eng.name)
    end = time.monotonic() + 30
    while "was removed" not in json.loads(ask(server, "/stats.json")[2])["notice"]:
        assert time.monotonic() < end


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_command(eng, number):
    command = [sys.executable, "-u", "-m", "engine.cli", "web", eng.name, "--port", "0", "--json"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as run:
        url = urlsplit(json.loads(run.stdout.readline())["url"])
        connection = http.client.HTTPConnection(url.hostname, url.port, timeout=30)
        connection.request("GET", "/stats.json")
        assert json.loads(connection.getresponse().read())["arena"]["name"] == eng.name
        run.send_signal(number)
        assert run.wait(30) == 0
        connection.close()
    assert eng.stats()["arena"]["workers"] == 1


def test_a_port_that_is_taken_is_usage(server, eng):
    run = subprocess.run([sys.executable, "-m", "engine.cli", "web", eng.name, "--port", str(server.server_port)],
                         cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 2 and "cannot listen at 127.0.0.1" in run.stderr


def test_in_a_browser(server, tmp_path):
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if browser is None:
        pytest.skip("no Chromium here")
    shown = subprocess.run(
        [browser, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
         f"--user-data-dir={tmp_path}", "--virtual-time-budget=2000", "--dump-dom", "--enable-logging=stderr",
         f"http://127.0.0.1:{server.server_port}/"],
        env=child_env(HOME=os.fspath(tmp_path)), capture_output=True, text=True, timeout=100)
    dom = shown.stdout
    assert f"<td>{html.escape(EVIL, quote=False)}</td>" in dom and "<img" not in dom
    assert "<title>1" not in dom and "CONSOLE" not in shown.stderr
    for word in ("gets", "ephemeral", "sleeping", "16.0 MiB"):
        assert word in dom

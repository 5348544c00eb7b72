"""The benchmark at its smoke size, with every store that is installed, so that it cannot rot; and
what it leaves: nothing."""
import json
import os
import random
import signal
import subprocess
import sys
from collections import Counter
from contextlib import ExitStack

import pytest
from click.testing import CliRunner

from stress.bench import caches, growth, limits, rounds, tables, values
from stress.bench.peers import CACHE, OURS, PAGES, RAW, all_caches, all_peers
from stress.bench.peers.base import Peer
from stress.commands import bench_command
from tests.support import ROOT

PEERS, CACHES = all_peers(), all_caches()


def left_behind(pid):
    return [name for name in os.listdir("/dev/shm") if f"tmem-bench-{pid}-" in name]


def test_a_smoke_run_measures_all_that_is_installed(tmp_path):
    result = CliRunner().invoke(
        bench_command, ["--smoke", "--pages", "256", "--contest", "64", "--out", str(tmp_path), "--json"]
    )
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert report == json.loads((tmp_path / "result.json").read_text())
    one, = report["sets"]
    assert one["pages"] == 256 and one["cases"]["get hit"]["ratio"] > 0 and one["memory"]["pages"] == 256
    contest, = report["contests"]
    installed = {name for name, kind in PEERS.items() if not kind.absent()}
    assert set(contest["peers"]) == installed and set(contest["absent"]) == set(PEERS) - installed
    assert {OURS, RAW, "SQLite", "file per page", "Manager().dict()"} <= installed
    assert all(
        set(found) >= installed
        for case, found in contest["cases"].items()
        if case in ("put over", "get hit", "Zipf 90/10")
    )
    assert report["workers"]["cases"]["get hot"][OURS]["2"]["median"] > 0 and not report["memory"]["absent"]
    assert len(report["limits"]) == len(limits.LIMITS) and any(limit["met"] is not None for limit in report["limits"])
    cached = {name for name, kind in CACHES.items() if not kind.absent()}
    assert set(report["caches"]["peers"]) == cached and set(report["caches"]["absent"]) == set(CACHES) - cached
    assert set(report["caches"]["cases"]["get 1 KiB"]) == cached
    assert report["caches"]["memory"]["bytes_a_value"][CACHE] > 130
    text = (tmp_path / "result.md").read_text()
    assert "| get hit |" in text and "Several processes" in text
    assert not left_behind(os.getpid())


@pytest.mark.parametrize("name", PEERS)
def test_a_store_gives_back_what_it_was_given(name):
    kind = PEERS[name]
    if kind.absent():
        pytest.skip(kind.absent())
    pages = [random.Random(number).randbytes(4096) for number in range(4)]
    with ExitStack() as stack:
        peer = rounds.open_peer(stack, kind, 64, 4 << 20)
        peer.fill(enumerate(pages))
        assert [peer.get(*peer.key(number)) for number in range(4)] == pages
        peer.put_span(*peer.span(0, 16), pages[0] * 16)
        assert peer.get_span(*peer.span(0, 16)) == pages[0] * 16
        peer.put(*peer.key(1), pages[2])
        assert peer.get(*peer.key(1)) == pages[2]
        if peer.drop is not None:
            peer.drop(*peer.key(1))
            assert peer.get(*peer.key(1)) is None
        assert peer.memory() > 0
    assert not left_behind(os.getpid())


@pytest.mark.parametrize("name", CACHES)
def test_the_calls_of_a_cache_do_what_they_are_measured_for(name):
    kind = CACHES[name]
    if kind.absent():
        pytest.skip(kind.absent())
    with ExitStack() as stack:
        stack.enter_context(rounds.one_core())
        cache = rounds.open_peer(stack, kind, 64, 4 << 20)
        one, two = cache.word(1), cache.word(2)
        cache.put(*one, b"value")
        if cache.add and name != PAGES:
            cache.add(*one, b"other")
        assert cache.get(*one) == b"value"
        if cache.add:
            cache.add(*two, b"new")
            assert cache.get(*two) == b"new"
            cache.drop(*two)
            assert cache.get(*two) is None
        if cache.cas:
            token = cache.token(*one)
            assert cache.cas(*one, b"swapped", token) and cache.get(*one) == b"swapped"
            assert not cache.cas(*one, b"too late", token) and cache.get(*one) == b"swapped"
        if cache.incr:
            cache.start(*two)
            assert [cache.incr(*two) for _ in range(2)] in ([1, 2], [2, 3], [None, None])
        begun = caches.cpu_ns(cache.servers())
        for _ in range(100):
            cache.get(*one)
        assert begun < caches.cpu_ns(cache.servers())
    assert not left_behind(os.getpid())


class Missing(Peer):
    name = "missing"
    packages = modules = ("no_such_package",)
    programs = ("no-such-server",)


class Broken(Peer):
    name = "broken"

    def connect(self, handle=None):
        raise OSError("no")


def test_what_is_missing_or_broken_is_reported(monkeypatch):
    monkeypatch.setattr(rounds, "all_peers", lambda: {"missing": Missing, "broken": Broken})
    absent = {}
    with ExitStack() as stack:
        assert rounds.open_peers(stack, ["missing", "broken"], 64, absent) == {}
    assert absent == {"missing": "not installed: pip install no_such_package, apt-get install no-such-server",
                      "broken": "failed: OSError: no"}
    assert not left_behind(os.getpid())


def interrupted(number):
    """A run that was sent a signal while its workers were at work, and has ended."""
    run = subprocess.Popen(
        [sys.executable, "-m", "engine.cli", "bench", "--smoke", "--pages", "64", "--contest", "64"],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    with run:
        for line in run.stderr:
            if line.startswith("workers"):
                run.send_signal(number)
                break
        run.stderr.read()                       # also held by its servers: at the end all are gone
    return run


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_leaves_nothing(number):
    run = interrupted(number)
    while run.returncode == 0:
        run = interrupted(number)               # on a busy machine it may be over before the signal comes
    assert run.returncode == 1
    assert not left_behind(run.pid)


def test_zipf_prefers_few_and_is_seeded():
    drawn = rounds.Zipf(1000, 0.99, random.Random(5)).draw(5000)
    assert drawn == rounds.Zipf(1000, 0.99, random.Random(5)).draw(5000)
    counts = sorted(Counter(drawn).values(), reverse=True)
    assert set(drawn) <= set(range(1000)) and counts[0] > 500 and sum(counts[:100]) > 3000


def test_a_limit_is_met_missed_or_not_measured():
    verdicts = {one["what"]: one for one in limits.judge(
        {"sets": [], "contests": [], "workers": {"cases": {}}, "memory": {"stores": {OURS: {"times_content": 1.03}}},
         "objects": {"cases": {"put over": {"ratio": 9.0}}}})}
    assert verdicts["memory for random pages, against their bytes"]["met"] is True
    assert verdicts["put over of many small objects, against few large"]["met"] is False
    assert verdicts["get, 200,000 pages, against a raw copy"]["met"] is None


def test_growth_compares_two_sizes_in_turns():
    found = growth.measure(64, 4096, 3, 1, 32, 0)
    assert set(found["cases"]) == {"put over", "get hit", "raw write", "raw read"}
    assert all(one["ratio"] > 0 and len(one["small"]["rounds"]) == 3 for one in found["cases"].values())
    verdicts = {
        one["what"]: one["measured"]
        for one in limits.judge(
            {
                "sets": [],
                "contests": [],
                "workers": {"cases": {}},
                "memory": {"stores": {}},
                "objects": {"cases": {}},
                "growth": found,
            }
        )
    }
    assert verdicts["get, 4,000,000 pages against 200,000"] == found["cases"]["get hit"]["ratio"]
    assert "4,096 pages against 64" in tables.growth(found)
    assert not left_behind(os.getpid())


@pytest.mark.parametrize("length", [64 << 10, 1 << 20])
def test_long_values_are_measured_in_every_store_there_is(length):
    found = values.measure(length, 2, 4 << 20)
    assert set(found) >= {values.OURS, values.SMALL, values.RAW}
    assert all(len(times) == 2 and min(times) > 0 for cases in found.values() for times in cases.values())
    rows = values.table(found, "a value").splitlines()
    assert rows[2].startswith("| put: tmem |") and " | 1.00 | " in rows[2] and all(row.count("|") == 5 for row in rows)

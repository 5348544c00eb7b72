"""The collector for prometheus_client, its server, and the dashboard that is made of it."""
import json
import os
import re
import signal
import subprocess
import sys
import threading
import urllib.request
from pathlib import Path

import pytest

pytest.importorskip("prometheus_client")
pytest.importorskip("click")

from click.testing import CliRunner
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

import engine
import tmem.metrics
from tests.support import ROOT, child_env
from tmem.metrics import TmemCollector

ODD = 'a"b\\c\nd <\u65e5>'


@pytest.fixture
def filled(eng):
    pool = eng.new_pool("thumbs", persistent=True)
    for index in range(3):
        assert pool.put((1, 2, 3), index, b"x" * 100)
    assert pool.put((1, 2, 3), 0, b"y" * 100) and pool.get((1, 2, 3), 0) and pool.get((1, 2, 3), 9) is None
    eng.new_pool(ODD)
    return eng


def registry_of(*names):
    registry = CollectorRegistry()
    registry.register(TmemCollector(*names))
    return registry


def test_figures_are_those_of_stats(filled):
    registry, name = registry_of(filled.name), filled.name

    def value(metric, **labels):
        return registry.get_sample_value(metric, {"arena": name, **labels})

    stats = filled.stats()
    assert value("tmem_up") == 1 and value("tmem_workers") == 1 and value("tmem_pools") == 2
    assert value("tmem_pool_gets_total", pool="thumbs", result="hit") == 1
    assert value("tmem_pool_gets_total", pool="thumbs", result="miss") == 1
    assert value("tmem_pool_puts_total", pool="thumbs", result="stored") == stats["pools"]["thumbs"]["puts_ok"] == 4
    assert value("tmem_pool_overwrites_total", pool="thumbs") == 1
    assert value("tmem_pool_used_bytes", pool="thumbs") == stats["pools"]["thumbs"]["bytes_used"]
    assert value("tmem_pool_pages", pool=ODD) == 0
    kinds = ("free", "stuck", "evictable", "persistent", "overhead", "leaving")
    assert sum(value("tmem_memory_bytes", kind=kind) for kind in kinds) == value("tmem_capacity_bytes")


def test_names_are_as_prometheus_wants_them(filled):
    for family in registry_of(filled.name).collect():
        assert re.fullmatch(r"tmem_[a-z_]+", family.name) and family.documentation.endswith(".")
        assert {sample.name for sample in family.samples} == {
            f"{family.name}_total" if family.type == "counter" else family.name}


def test_what_is_scraped_can_be_parsed(filled, make_arena):
    other = make_arena()
    text = generate_latest(registry_of(filled.name, other.name, filled.name)).decode()
    families = {family.name: family for family in text_string_to_metric_families(text)}
    assert {sample.labels["arena"] for sample in families["tmem_up"].samples} == {filled.name, other.name}
    assert {sample.labels["pool"] for sample in families["tmem_pool_pages"].samples} == {"thumbs", ODD}


def test_an_arena_that_goes_and_comes_back(arena_name):
    registry = registry_of(arena_name)
    assert registry.get_sample_value("tmem_up", {"arena": arena_name}) == 0
    for name in ("first", "second"):
        with engine.create(arena_name, capacity="8MiB") as eng:
            eng.new_pool(name)
        text = generate_latest(registry).decode()
        assert f'pool="{name}"' in text and text.count("tmem_pool_pages{") == 1
        engine.unlink(arena_name)
        assert generate_latest(registry).decode().count(f'"{arena_name}"') == 1      # tmem_up alone


def test_it_leaves_no_worker_behind(filled):
    registry = registry_of(filled.name)
    threads = [threading.Thread(target=generate_latest, args=(registry,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert filled.stats()["arena"]["workers"] == 1


def test_it_works_in_a_forked_child(filled):
    registry = registry_of(filled.name)
    generate_latest(registry)
    pid = os.fork()
    if pid == 0:
        os._exit(0 if b"thumbs" in generate_latest(registry) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_two_collectors_of_one_registry_are_refused(eng):
    registry = registry_of(eng.name)
    with pytest.raises(ValueError, match="Duplicated"):
        registry.register(TmemCollector(eng.name))


@pytest.mark.parametrize("arenas", [(), (1,), ("",), (None,)])
def test_bad_arguments(arenas):
    with pytest.raises(TypeError, match="arenas: "):
        TmemCollector(*arenas)


def test_every_metric_of_the_dashboard_exists(filled):
    dashboard = json.loads((Path(tmem.metrics.__file__).parent / "dashboard.json").read_text())
    told = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    named = set(re.findall(r"\btmem_\w+", " ".join(told) + json.dumps(dashboard["templating"])))
    there = {sample.name for family in registry_of(filled.name).collect() for sample in family.samples}
    assert named and named <= there, named - there
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])
    labels = set(re.findall(r"\b(\w+)=~?\"", " ".join(told)))
    assert labels <= {"arena", "pool", "result", "kind"}


# --- the command ----------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_serve_metrics(filled, number):
    code = "from engine.cli import main; main(prog_name='tmem')"
    command = [sys.executable, "-c", code, "serve-metrics", filled.name, "--port", "0", "--json"]
    with subprocess.Popen(command, cwd=ROOT, env=child_env(), stdout=subprocess.PIPE, text=True) as server:
        url = json.loads(server.stdout.readline())["url"]
        assert url.startswith("http://127.0.0.1:")
        with urllib.request.urlopen(url, timeout=30) as page:
            assert b'tmem_pool_pages{arena="' in page.read()
        server.send_signal(number)
        assert server.wait(30) == 0


def test_serve_metrics_of_what_is_not_there(arena_name):
    from tmem.serving import serve_metrics

    result = CliRunner().invoke(serve_metrics, [arena_name])
    assert isinstance(result.exception, engine.ArenaNotFound)
    assert CliRunner().invoke(serve_metrics, [arena_name, "--port", "x"]).exit_code == 2

"""`tmem report` and --out: one page of a result, that needs nothing from elsewhere."""
import io
import json
import re
from html.parser import HTMLParser

import pytest
from click.testing import CliRunner
from rich.console import Console

from stress import html, report, supervisor
from stress.bench import measure
from stress.commands import report_command, stress_command
from stress.scenarios import load_all
from tests.support import ROOT

BENCH = ROOT / "stress/results/result.json"
VOID = {"meta", "br", "link", "path", "use"}


class Whole(HTMLParser):
    """Every element is closed, in its order; and what would be loaded."""

    def __init__(self, text):
        super().__init__()
        self.open, self.loaded = [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.loaded += [value for name, value in attrs if name in ("src", "srcset", "data") or
                        (name.endswith("href") and not value.startswith("#"))]
        assert tag not in ("script", "iframe", "img")
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        pass

    def handle_endtag(self, tag):
        assert tag in VOID or self.open.pop() == tag


@pytest.fixture(scope="module")
def stressed(tmp_path_factory):
    """The folder of a run, and what it printed."""
    folder = tmp_path_factory.mktemp("out") / "stress"
    result = CliRunner().invoke(stress_command, ["frontswap", "--ops", "300", "--seed", "3", "--out", str(folder)])
    assert result.exit_code == 0, result.output
    return folder, result.stderr


def test_a_stress_run_leaves_its_result_and_its_page(stressed):
    folder, told = stressed
    assert f"report: {folder / 'report.html'}" in told.splitlines()[-1]
    assert json.loads((folder / "result.json").read_text())["ok"] is True
    text = (folder / "report.html").read_text()
    assert not Whole(text).loaded and "frontswap" in text and "good" in text


def test_a_violation_is_shown_as_text(stressed):
    result = json.loads((stressed[0] / "result.json").read_text())
    result["ok"] = result["scenarios"][0]["ok"] = False
    violation = {"kind": "damaged", "where": "pool <b>", "what": "<script>alert(1)</script>"}
    result["scenarios"][0]["violations"] = [violation]
    text = html.page(result)
    Whole(text)
    assert "VIOLATION" in text and "&lt;script&gt;alert(1)" in text and "pool &lt;b&gt;" in text


@pytest.mark.skipif(not BENCH.exists(), reason="no result of a benchmark beside the source")
def test_a_bench_result(tmp_path):
    page = tmp_path / "report.html"
    result = CliRunner().invoke(report_command, [str(BENCH), "-o", str(page)])
    assert result.exit_code == 0, result.output
    text = page.read_text()
    assert not Whole(text).loaded and "<h2>Several processes</h2>" in text and "get hit" in text
    assert "|--" not in text and "**" not in text


def test_pictures(stressed):
    pytest.importorskip("matplotlib")
    text = html.page(json.loads((stressed[0] / "result.json").read_text()))
    assert text.count("<svg") == 2 and not [one for one in Whole(text).loaded if not one.startswith("#")]


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"scenarios": [{}], "ok": true}', "no json"])
def test_what_is_no_result_is_usage(tmp_path, text):
    (tmp_path / "r.json").write_text(text)
    result = CliRunner().invoke(report_command, [str(tmp_path / "r.json"), "-o", str(tmp_path / "o.html")])
    assert result.exit_code == 2 and "r.json: " in result.stderr and not (tmp_path / "o.html").exists()


def test_from_markdown():
    text = "\n".join(html.from_markdown("# A <b>\n\n| x | y |\n|---|--:|\n| `a` | **1** |\n\n- one\n- *two*\n\nplain"))
    assert text == ("<h1>A &lt;b&gt;</h1>\n" '<div class="scroll"><table><tr><th>x</th><th>y</th></tr>\n'
                    "<tr><td><code>a</code></td><td><strong>1</strong></td></tr></table></div>\n"
                    "<ul><li>one</li><li><em>two</em></li></ul>\n<p>plain</p>")


# --- progress -------------------------------------------------------------------------------------


class Running:
    """As much of a run as progress looks at."""

    def __init__(self, scenario, bug="", seconds=2.0):
        self.scenario = scenario
        self.plan = type("Plan", (), {"bug": bug, "seconds": seconds})


def test_the_time_that_is_left():
    scenarios = load_all()
    chosen = [scenarios[name] for name in ("frontswap", "ranges", "canary")]
    shares = [one.share for one in chosen]
    progress = report.LiveProgress(Console(file=io.StringIO()), chosen, supervisor.Options(seconds=6.0))
    progress._began -= 3_000_000_000
    assert progress.left(Running(chosen[0]), 0.0, 0) == 6.0
    fraction = (shares[0] + shares[1] / 2) / sum(shares)
    left = progress.left(Running(chosen[1]), 1.0, 0)
    assert left == pytest.approx(3 * (1 - fraction) / fraction, rel=0.1)
    assert progress.left(Running(chosen[0], bug="flipped"), 2.0, 0) < 0.2


def test_without_a_terminal_progress_is_a_line_for_each_scenario():
    result = CliRunner().invoke(stress_command, ["frontswap", "--ops", "300", "--seed", "3"])
    assert len(re.findall(r"^frontswap", result.stderr, re.MULTILINE)) <= 1 and "\x1b" not in result.stderr


def test_a_benchmark_says_how_long_the_rest_takes(monkeypatch):
    lines, clock = [], [0]
    monkeypatch.setattr(measure, "perf_counter_ns", lambda: clock[0])
    step = measure._Steps(measure.Plan([256], [256], ["raw"], [], [1]), lines.append)
    step("first", step._all / 4)
    clock[0] = 10 * 10**9
    step("second", step._all / 4)
    clock[0] = 400 * 10**9
    step("third", step._all / 2)
    assert lines == ["first ...", "second ... (about 30 s left)", "third ... (about 7 min left)"]

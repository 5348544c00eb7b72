"""`tmem stress` and `tmem bench` as commands: exit status, JSON, the replay line."""
import json
import shlex

import pytest
from click.testing import CliRunner

from stress import supervisor
from stress.commands import bench_command, stress_command
from stress.scenarios import load_all


def run(command, *arguments):
    return CliRunner().invoke(command, arguments)


def test_list_names_every_scenario():
    result = run(stress_command, "--list")
    assert result.exit_code == 0
    assert all(name in result.stdout for name in load_all())
    assert set(json.loads(run(stress_command, "--list", "--json").stdout)) == set(load_all())


@pytest.mark.parametrize("arguments", [
    ["no-such-scenario"], ["--seconds", "0"], ["--seconds", "x"], ["--ops", "0"], ["--workers", "0"], ["--seed", "-1"],
    ["--capacity", "much", "ranges"], ["--no-such-option"],
])
def test_usage_errors_are_2(arguments):
    result = run(stress_command, *arguments)
    assert result.exit_code == 2 and "Error" in result.stderr


def test_good_is_0_and_json_is_whole():
    result = run(stress_command, "frontswap", "--ops", "500", "--seed", "3", "--json")
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert report["ok"] and report["seed"] == 3
    scenario, = report["scenarios"]
    assert scenario["ops"]["put"] and scenario["latency_ns"]["put"]["p99.9"] and scenario["ops_total"] >= 500


def test_the_summary_names_the_scenario():
    result = run(stress_command, "ranges", "--ops", "100", "--seed", "3")
    assert result.exit_code == 0 and "ranges" in result.stdout and "good" in result.stdout


def test_a_violation_is_1_with_one_line_that_replays_it(monkeypatch):
    real = supervisor.run_scenario
    monkeypatch.setattr(supervisor, "run_scenario", lambda scenario, options, progress=None: real(
        scenario, supervisor.replace(options, bug="flipped", seconds=20), progress))
    result = run(stress_command, "frontswap", "--ops", "20000", "--seed", "3", "--workers", "2")
    assert result.exit_code == 1 and "VIOLATION" in result.stdout and "damaged" in result.stderr
    line, = [line for line in result.stderr.splitlines() if line.startswith("replay: ")]
    words = shlex.split(line.removeprefix("replay: "), comments=True)
    assert words[:2] == ["tmem", "stress"]
    monkeypatch.undo()
    assert run(stress_command, *words[2:]).exit_code == 0       # the line is a command; the bug is gone


@pytest.mark.parametrize("arguments", [["--pages", "0"], ["--rounds", "1"], ["--workers", "1"], ["--peer", "nothing"]])
def test_bench_usage_errors_are_2(arguments):
    assert run(bench_command, *arguments).exit_code == 2

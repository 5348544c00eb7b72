"""Every scenario for a moment, with real processes; and that the planted bugs are caught."""
import dataclasses
import os

import pytest

from stress import sabotage
from stress.scenarios import load_all
from stress.supervisor import SHM, Options, Run, run_canary, run_scenario
from stress.worker import Plan
from stress.workloads import scaling

SCENARIOS = load_all()
PLAIN = sorted(set(SCENARIOS) - {"canary"})


def test_names_and_questions():
    assert {"cleancache", "frontswap", "shared", "ranges", "churn", "fork", "crash", "scaling", "pressure", "fairness",
            "balloon", "linearizable", "drift", "canary"} <= set(SCENARIOS)
    assert all(scenario.question.endswith("?") and scenario.share > 0 for scenario in SCENARIOS.values())


@pytest.mark.parametrize("name", PLAIN)
def test_a_moment_of(name, tmp_path):
    scenario = SCENARIOS[name]
    if name == "cleancache":                # a tree that is the same on every machine
        for number in range(20):
            (tmp_path / f"file{number}").write_bytes(bytes([number]) * (number * 3000 + 1))
        scenario = dataclasses.replace(scenario, settings=scenario.settings | {"tree": str(tmp_path), "lru_pages": 8})
    # Where others have the processor a moment may be too short for anything to leave, or come back.
    for seconds in (0.7, 4, 30):
        outcome = run_scenario(scenario, Options(seconds=seconds, workers=2, seed=7))
        wrong = [one for one in outcome.violations if one["kind"] != "idle" or seconds == 30]
        assert wrong == [], "\n".join(f"{one['where']}: {one['what']}" for one in wrong)
        if outcome.bytes_verified > 0 and not outcome.violations:
            break
    assert outcome.ops_total > 0 and outcome.bytes_verified > 0
    assert not [path.name for path in SHM.iterdir() if f"tmem-stress-{os.getpid()}-" in path.name]
    FACTS.get(name, lambda outcome: None)(outcome)


@pytest.mark.parametrize("name", ["churn", "fork", "pressure", "linearizable"])
def test_a_moment_of_many(name):
    """More guests than cores: a scenario makes its arena, and what each guest does, as large as
    their number asks."""
    outcome = run_scenario(SCENARIOS[name], Options(seconds=0.4, workers=8, seed=7))
    assert outcome.violations == [] and len(outcome.ops_per_worker) >= 8


def test_an_arena_grows_with_the_guests():
    scenario = dataclasses.replace(SCENARIOS["ranges"], arena={"capacity": "1MiB", "max_pools": 3, "buckets": 4},
                                   each={"capacity": "2 MiB", "max_pools": 5})
    assert scenario.arena_for(4) == {"capacity": 9 << 20, "max_pools": 23, "buckets": 4}
    assert all(each.arena_for(64)["max_workers"] > 64 for each in SCENARIOS.values() if "max_workers" in each.each)


def test_scaling_measures_powers_of_two_up_to_the_cores(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(6)))
    assert [scaling.counts(workers) for workers in (1, 2, 3, 4, 64)] == [[1], [1, 2], [1, 2], [1, 2, 4], [1, 2, 4]]


@pytest.mark.parametrize("together, found", [(190, []), (120, ["slow"])])
def test_scaling_is_judged_by_the_raw_copy(monkeypatch, together, found):
    """Windows in turns: one guest, two, one that copies, two that copy; two copy twice as much as
    one."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1})
    scenario = SCENARIOS["scaling"]
    plan = Plan("scaling", "scaling", 1, 2, 1.0, 0, "", 4096, scenario.settings)
    run = Run(scenario, plan, None, None)
    done = (100,), (together // 2,) * 2, (300,), (300,) * 2
    run.history = [(number, ops, 1000) for number in range(48) for ops in done[number % 4]]
    scaling.verdict(run)
    assert [violation["kind"] for violation in run.violations] == found
    assert run.facts["ratio_2"] == together / 100 and run.facts["raw_ratio_2"] == 2.0


def _cleancache(outcome):
    assert outcome.facts["file_reads_saved"] > 0


def _shared(outcome):
    assert outcome.facts["recorded"] > 100


def _crash(outcome):
    assert outcome.facts["kills"] > 0 and outcome.facts["recoveries"] > 0


def _fairness(outcome):
    facts = outcome.facts
    assert (
        facts["sweeps"] > 0 and facts["light_pages"] > 1000 and facts["frozen_refused"] > 0 and facts["capped_most"] > 0
    )


def _fork(outcome):
    assert outcome.facts["children"] > 0


def _linearizable(outcome):
    facts = outcome.facts
    assert (
        facts["histories"] > 50
        and facts["operations"] > 1000
        and facts["kills"] > 0
        and facts["swapped_refused"] > 0
        and facts["revived_refused"] > 0
        and facts["clears"] > 0
        and facts["longest"] < 120
    )


FACTS = {
    "linearizable": _linearizable,
    "cleancache": _cleancache,
    "shared": _shared,
    "crash": _crash,
    "fork": _fork,
    "fairness": _fairness,
}


def test_operations_end_a_run():
    outcome = run_scenario(SCENARIOS["frontswap"], Options(seconds=60, ops=2000, workers=2, seed=7))
    assert outcome.ok and 2000 <= outcome.ops_total < 20_000 and outcome.work_s < 30


@pytest.mark.parametrize("bug", sorted(SCENARIOS["canary"].settings))
def test_a_planted_bug_is_noticed(bug):
    scenario = SCENARIOS[SCENARIOS["canary"].settings[bug]]
    seconds = 0.6 if scenario.name == "linearizable" else 1.0
    outcome = run_scenario(scenario, Options(seconds=seconds, workers=2, seed=7, bug=bug))
    kinds = {violation["kind"] for violation in outcome.violations}
    assert kinds & sabotage.KINDS, outcome.violations


@pytest.mark.parametrize("bug", ["stale", "zombie", "lost"])
def test_the_search_notices_a_planted_bug(bug):
    outcome = run_scenario(SCENARIOS["linearizable"], Options(seconds=1.0, workers=2, seed=7, bug=bug))
    assert "history" in {violation["kind"] for violation in outcome.violations}


def test_a_working_set_above_its_share_rings_the_alarm():
    """The alarm of *fairness* with nothing planted: a light guest that is not light loses pages, as
    it must."""
    scenario = SCENARIOS["fairness"]
    scenario = dataclasses.replace(scenario, settings=scenario.settings | {"light_part": 2.0})
    outcome = run_scenario(scenario, Options(seconds=1.5, seed=7))
    assert [violation["kind"] for violation in outcome.violations] == ["unfair"]
    assert "pool light" in outcome.violations[0]["where"]
    # A segment that has to change its class takes along what it holds, whoever's that is.
    assert outcome.facts["frozen_missing"] <= 0.01 * scenario.settings["frozen_pages"]


def test_a_canary_that_stays_silent_is_a_violation():
    silent = dataclasses.replace(SCENARIOS["canary"], settings={"torn": "scaling"})      # scaling has no ranges
    outcome = run_canary(silent, Options(seconds=0.3, workers=2, seed=7), SCENARIOS)
    assert [violation["kind"] for violation in outcome.violations] == ["canary"]


def test_an_engine_that_can_not_be_made_is_a_violation_not_a_traceback():
    scenario = dataclasses.replace(SCENARIOS["ranges"], arena={"capacity": "64MiB", "buckets": 3})
    outcome = run_scenario(scenario, Options(seconds=0.2, workers=2, seed=7))
    assert [violation["kind"] for violation in outcome.violations] == ["exception"]

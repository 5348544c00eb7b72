"""`tmem health`: good or not, and why."""
import json
import os
import time

from click.testing import CliRunner

import engine
from engine.cli import commands as cli
from engine.cli import health
from tests.stopped import Stopped
from tests.support import page


def answer(name, *more):
    result = CliRunner().invoke(cli.main, ["health", name, "--json", *more])
    told = json.loads(result.output)
    assert result.exit_code == (0 if told["ok"] else 1) and told["ok"] == (not told["problems"])
    return told["problems"]


def test_a_good_one(eng):
    assert answer(eng.name) == []
    assert CliRunner().invoke(cli.main, ["health", eng.name]).output == f"{eng.name}: ok\n"


def test_one_that_is_not_there(arena_name):
    problem, = answer(arena_name)
    assert "no arena" in problem


def test_one_that_is_full(make_arena):
    eng = make_arena(capacity="1MiB")
    pool, number = eng.new_pool("p", persistent=True), 0
    while pool.put((number, 0, 0), 0, os.urandom(512)):
        number += 1
    assert "puts of new pages are refused" in answer(eng.name)[0]


def test_one_that_waits_for_a_process_that_is_stopped(eng):
    eng.new_pool("p")
    problems, point = [], 0
    while not problems:
        point += 1
        with Stopped(eng.name, lambda other: other.pool("p").put((1, 2, 3), 0, page(1)), point) as stopped:
            assert stopped.stopped
            problems = answer(eng.name)
            assert not problems or f"process {stopped.pid} is stopped and holds" in problems[0]
        eng.recover()


def test_one_that_does_not_answer(eng, monkeypatch):
    monkeypatch.setattr(health, "attach", lambda name: time.sleep(60))
    assert "no answer within 0.05 s" in answer(eng.name, "--timeout", "0.05")[0]


def test_one_that_is_damaged(eng, monkeypatch):
    def damaged(name):
        raise engine.ArenaCorrupted("not\nan arena")

    monkeypatch.setattr(health, "attach", damaged)
    assert answer(eng.name) == ["not an arena"]

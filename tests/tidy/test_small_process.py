"""Owns the promise that a test in the small process fails as loudly as anywhere else."""
import contextlib
import os
import sys
import time

import pytest

from tests.small import SmallProcess


@pytest.fixture
def run():
    with contextlib.closing(SmallProcess()) as small:
        yield lambda function, **arguments: small.run(__name__, function.__name__, arguments)


def good(answer, record_property):
    record_property("answer", answer)
    print(f"printed {answer}")
    print("and told", file=sys.stderr)


def raises():
    raise ValueError("this is wrong")


def ends(status):
    os._exit(status)


def leaves_a_child():
    if os.fork() == 0:
        time.sleep(60)


def test_what_it_says_comes_back(run):
    recorded, printed, wrong = run(good, answer=42, record_property=None)
    assert recorded == [("answer", 42)] and wrong is None
    assert sorted(printed.splitlines()) == ["and told", "printed 42"]


def test_what_goes_wrong_is_told_and_the_next_one_runs(run):
    assert "this is wrong" in run(raises)[2] and "raises" in run(raises)[2]
    assert run(ends, status=3)[2] == "the process of the test ended with 3"
    assert run(leaves_a_child)[2] == "children are still alive"
    assert run(good, answer=1, record_property=None)[2] is None

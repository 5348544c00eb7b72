"""Owns the promise that a call goes on when the holder of its lock dies, whether it came before the
death or after."""
from tests.crash.bounded_wait import measure


def test_a_call_survives_the_death_of_the_holder(arena_name):
    found = measure(arena_name, 8)
    assert {case: len(ms) for case, ms in found.items()} == {"asleep": 8, "late": 8}
    assert max(max(ms) for ms in found.values()) < 10_000       # a hang; how long it takes is measured, not tested

"""Owns the balloon: what it reads of the system, what follows from it, and an arena that
follows."""
import pytest

import engine
from engine.capacity.balloon import QUIET_TICKS, Sample, decide, follow, read_cgroup, read_pressure

MIB = 1 << 20
SHORT, PLENTY, MIDDLING = Sample(20.0, None), Sample(0.0, 0.9), Sample(2.0, 0.9)


def test_pressure_is_read(tmp_path):
    file = tmp_path / "memory"
    file.write_text("some avg10=12.34 avg60=1.00 avg300=0.00 total=1\nfull avg10=5.00 avg60=0.00 avg300=0.00 total=1\n")
    assert read_pressure(file) == 12.34
    file.write_text("nonsense")
    assert read_pressure(file) is None and read_pressure(tmp_path / "none") is None


def test_the_tightest_limit_above_is_read(tmp_path):
    own = tmp_path / "cgroup"
    own.write_text("0::/a/b\n")
    for folder, limit, used in (("", "max", 5), ("a", "1000", 900), ("a/b", "500", 100)):
        (tmp_path / folder).mkdir(exist_ok=True)
        (tmp_path / folder / "memory.max").write_text(f"{limit}\n")
        (tmp_path / folder / "memory.current").write_text(f"{used}\n")
    assert read_cgroup(own, tmp_path) == pytest.approx(0.1)
    (tmp_path / "a" / "memory.max").write_text("max")
    assert read_cgroup(own, tmp_path) == pytest.approx(0.8)
    (tmp_path / "a/b/memory.max").write_text("max")
    assert read_cgroup(own, tmp_path) is None and read_cgroup(tmp_path / "none", tmp_path) is None
    own.write_text("3:memory:/old\n")
    assert read_cgroup(own, tmp_path) is None


def test_short_of_memory_is_a_quarter_less_at_once_and_never_below_the_least():
    assert decide(SHORT, 64 * MIB, 8 * MIB, 64 * MIB, 3) == (48 * MIB, 0)
    assert decide(Sample(None, 0.01), 64 * MIB, 8 * MIB, 64 * MIB, 3) == (48 * MIB, 0)
    assert decide(SHORT, 9 * MIB, 8 * MIB, 64 * MIB, 0) == (8 * MIB, 0)
    assert decide(SHORT, 8 * MIB, 8 * MIB, 64 * MIB, 0) == (8 * MIB, 0)


def test_plenty_for_a_while_is_an_eighth_more_and_never_above_the_most():
    capacity, quiet, steps = 32 * MIB, 0, 0
    while capacity < 64 * MIB:
        after, quiet = decide(PLENTY, capacity, MIB, 64 * MIB, quiet)
        assert after in (capacity, min(64 * MIB, capacity + capacity // 8))
        capacity, steps = after, steps + 1
    assert steps == 6 * (QUIET_TICKS + 1) and decide(PLENTY, 64 * MIB, MIB, 64 * MIB, 99)[0] == 64 * MIB


def test_between_the_two_nothing_moves_and_the_quiet_time_begins_anew():
    assert decide(MIDDLING, 32 * MIB, MIB, 64 * MIB, 4) == (32 * MIB, 0)


def test_an_arena_follows(make_arena):
    eng = make_arena(capacity="16MiB", page_size=4096)
    store = eng.new_pool("store", persistent=True)
    for n in range(700):
        assert store.put((n, 0, 0), 0, b"%d/" % n * 700)
    said = [SHORT] * 12 + [PLENTY] * 200
    ticks, steps = iter(range(len(said))), []
    follow(
        eng,
        MIB,
        eng.max_capacity,
        lambda: next(ticks, None) is not None,
        lambda *step: steps.append(step),
        lambda: said.pop(0),
    )
    down = [after for before, after, error in steps if error is None and after < before]
    assert down and min(down) < 8 * MIB
    assert any(isinstance(error, engine.TmemError) for *_, error in steps)      # persistent pages need more than 1 MiB
    assert eng.capacity == 16 * MIB and eng.check().ok
    assert all(store.get((n, 0, 0), 0) == b"%d/" % n * 700 for n in range(700))

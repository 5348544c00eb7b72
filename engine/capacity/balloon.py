"""Owns following the memory of the machine: when it is short, an arena gets smaller, and when there
is plenty, larger again.

What the system says is read by `read_pressure` and `read_cgroup` from files; what follows from it
is `decide`, which is arithmetic. A step down is made at once and is a quarter, a step up is an
eighth and comes after a quiet time, so that two arenas on one machine do not swing against each
other.
Source of the idea: Waldspurger, "Memory Resource Management in VMware ESX Server", OSDI 2002
(ballooning); pressure: Linux PSI.
"""
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import engine
from engine.errors import TmemError

PRESSURE_FILE = Path("/proc/pressure/memory")
CGROUP_ROOT = Path("/sys/fs/cgroup")
CGROUP_SELF = Path("/proc/self/cgroup")
SHORT_PERCENT = 5.0         # of the last ten seconds in which some task waited for memory
PLENTY_PERCENT = 0.5
SHORT_FREE = 0.05           # of a cgroup's limit
PLENTY_FREE = 0.20
STEP_DOWN = 4               # a quarter
STEP_UP = 8                 # an eighth
QUIET_TICKS = 5             # without shortage before it grows


@dataclass
class Sample:
    """What the system says of memory, as far as it says anything."""

    pressure: float | None      # percent of the last ten seconds in which some task waited for memory
    free: float | None          # part of the cgroup's limit that is free, 0 to 1


def read_pressure(path: Path = PRESSURE_FILE) -> float | None:
    """The `some avg10` of a pressure file, in percent; None if the system has none."""
    try:
        found = re.search(r"^some .*?avg10=([\d.]+)", Path(path).read_text(), re.MULTILINE)
    except OSError:
        return None
    return float(found[1]) if found else None


def read_cgroup(own: Path = CGROUP_SELF, root: Path = CGROUP_ROOT) -> float | None:
    """The part of the tightest memory limit (cgroup v2) above this process that is free, 0 to 1;
    None without a limit."""
    tightest = None
    try:
        found = re.search(r"^0::/(.*)$", Path(own).read_text(), re.MULTILINE)
    except OSError:
        return None
    if not found:
        return None
    folder = Path(root) / found[1]
    for level in (folder, *folder.parents):
        try:
            limit = (level / "memory.max").read_text().strip()
            used = int((level / "memory.current").read_text())
        except (OSError, ValueError):
            limit = "max"
        if limit != "max":
            free = max(0.0, 1 - used / max(1, int(limit)))
            tightest = free if tightest is None else min(tightest, free)
        if level == Path(root):
            break
    return tightest


def decide(sample: Sample, capacity: int, low: int, high: int, quiet: int) -> tuple[int, int]:
    """(the capacity to have now, quiet ticks so far): one tick of the balloon.

    sample: a Sample. capacity: bytes now. low, high: what it may become. quiet: what the last tick
    answered, 0 at first.
    """
    short = ((sample.pressure is not None and sample.pressure >= SHORT_PERCENT)
             or (sample.free is not None and sample.free <= SHORT_FREE))
    plenty = ((sample.pressure is None or sample.pressure <= PLENTY_PERCENT)
              and (sample.free is None or sample.free >= PLENTY_FREE))
    if short:
        return max(low, capacity - capacity // STEP_DOWN), 0
    if not plenty:
        return capacity, 0
    quiet += 1
    if quiet > QUIET_TICKS and capacity < high:
        return min(high, capacity + max(capacity // STEP_UP, 1 << 20)), 0
    return capacity, quiet


def look() -> Sample:
    """What the system says now."""
    return Sample(read_pressure(), read_cgroup())


def follow(
    eng: "engine.Engine", low: int, high: int, tick: Callable[[], bool],
    on_step: Callable[[int, int, TmemError | None], object] | None = None, sample: Callable[[], Sample] = look,
) -> None:
    """Resize an arena after what the system says, until `tick` answers False.

    eng: an Engine. low, high: bounds in bytes. tick() -> bool: waits for the next look.
    on_step(before, after, error): told of every step; error is None, or the TmemError that kept it
    from being made (persistent pages may need more).
    """
    quiet = 0
    error: TmemError | None
    while tick():
        before = eng.capacity
        wanted, quiet = decide(sample(), before, low, high, quiet)
        if wanted == before:
            continue
        try:
            after, error = eng.resize(wanted), None
        except TmemError as reason:
            after, error = eng.capacity, reason
        if on_step is not None and (after != before or error is not None):
            on_step(before, after, error)

"""Owns the question how long a snapshot takes: a save against a sparse copy of the arena's file, a
restore against a copy back, a save to a disk against as many zeroes, and what a save does to who
puts and gets meanwhile.

All in turns within each round; the ratios are of medians. Called by `measure`.
"""
from __future__ import annotations

import functools
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median, quantiles

import engine

SHM = Path("/dev/shm")
PAGE_BYTES = 4096
VALUE_PAGES = 64
CALLS = 20_000


def _timed(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def _copy(source: Path, target: Path) -> None:
    subprocess.run(["cp", "--sparse=always", source, target], check=True)


def _zeroes(target: Path, mebibytes: int) -> None:
    command = ["dd", "if=/dev/zero", f"of={target}", "bs=1M", f"count={mebibytes}", "conv=fsync", "status=none"]
    subprocess.run(command, check=True)


def measure(mebibytes: int, rounds: int, smoke: bool) -> dict:
    """Seconds of each, and the ratios; so many MiB of pages."""
    if smoke:
        mebibytes, rounds = 8, 1
    name = f"tmem-bench-{os.getpid()}-snapshots"
    copy, back, saved = (SHM / f"{name}-{what}" for what in ("copy", "back", "saved"))
    times: dict[str, list[float]] = {what: [] for what in ("cp", "save", "cp back", "restore", "disk", "save to disk")}
    eng = engine.create(name, f"{2 * mebibytes}MiB")
    try:
        pool = eng.new_pool("p", persistent=True)
        value = os.urandom(VALUE_PAGES * PAGE_BYTES)
        for number in range(mebibytes * 256 // VALUE_PAGES):
            pool.put_range((number, 0, 0), 0, value)
        with tempfile.TemporaryDirectory() as folder:
            for _ in range(rounds):
                for path in (copy, back, saved):
                    path.unlink(missing_ok=True)
                times["cp"].append(_timed(lambda: _copy(SHM / name, copy)))
                times["save"].append(_timed(lambda: eng.save(saved)))
                times["cp back"].append(_timed(lambda: _copy(copy, back)))
                back.unlink()
                times["restore"].append(_timed(lambda: engine.restore(saved, f"{name}-restored")))
                engine.unlink(f"{name}-restored")
                times["disk"].append(_timed(lambda: _zeroes(Path(folder) / "zeroes", mebibytes)))
                times["save to disk"].append(_timed(lambda: eng.save(Path(folder) / "saved")))
        beside = _beside(name, pool, saved, smoke)
    finally:
        eng.close()
        engine.unlink(name)
        for path in (copy, back, saved):
            path.unlink(missing_ok=True)
    seconds = {what: median(found) for what, found in times.items()}
    return {
        "mebibytes": mebibytes, "seconds": seconds,
        "save": seconds["cp"] / seconds["save"], "restore": seconds["cp back"] / seconds["restore"],
        "to_disk": seconds["disk"] / seconds["save to disk"], "beside": beside,
    }


def _put_and_get(pool: engine.Pool, number: int, page: bytes) -> None:
    pool.put((number % 100, 0, 0), number % VALUE_PAGES, page)
    pool.get((number % 97, 0, 0), number % VALUE_PAGES)


def _beside(name: str, pool: engine.Pool, saved: Path, smoke: bool) -> float:
    """The 99th percentile of a put and a get while another process saves, by that of the same while
    another process reads and writes as much."""
    calls = 500 if smoke else CALLS
    page = os.urandom(PAGE_BYTES)

    def slowest(other: list[str]) -> float:
        found: list[float] = []
        process = subprocess.Popen(other, stdout=subprocess.DEVNULL)
        try:
            while process.poll() is None and len(found) < calls:
                found.append(_timed(functools.partial(_put_and_get, pool, len(found), page)))
        finally:
            process.wait()
        return quantiles(found, n=100)[98] if len(found) > 1 else 0.0

    save = ["sh", "-c", f"for i in 1 2 3; do {sys.executable} -m engine.cli save {name} {saved}; done"]
    copy = ["sh", "-c", f"for i in 1 2 3; do cp --sparse=always {SHM / name} {saved}; done"]
    pairs = [(slowest(save), slowest(copy)) for _ in range(1 if smoke else 5)]
    return median(one for one, _ in pairs) / max(1e-9, median(other for _, other in pairs))


if __name__ == "__main__":
    print(measure(300, 5, False))

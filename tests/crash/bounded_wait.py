"""Owns the measurement of how long a call waits for a holder that dies: `python -m
tests.crash.bounded_wait [--deaths N] [--json]`.

Two cases. *asleep*: the caller sleeps on the lock already when the holder is killed; counted from
the kill to the answer. *late*: the holder is dead before the caller comes; the whole call is
counted. The holder is caught in a back end written in Python, which is called under the bucket's
lock. Exit status 1 if a limit is passed: 50 ms in the middle, 250 ms at worst.
"""
import argparse
import json
import os
import signal
import statistics
import sys
import threading
import time

import engine

PAM = "holds-on"
MEDIAN_MS, WORST_MS = 50, 250


class Holding:
    """A back end that keeps nothing; in the process that sets `told`, a put never comes back from
    it."""

    told = None

    def create(self, pool, oid, index, data):
        if self.told is not None:
            os.write(self.told, b"h")
            signal.pause()
        return 7

    def get_data(self, pool, oid, index, token):
        return b"page"

    def get_data_and_free(self, pool, oid, index, token):
        return b"page"

    def free(self, pool, oid, index, token):
        pass

    def new_obj(self, pool, oid):
        pass

    def free_obj(self, pool, oid):
        pass

    def is_remote(self, token):
        return False

    def replace_in_obj(self, pool, oid, index, old, new):
        return False


def holder(name):
    """Pid of a worker that has the bucket's lock and will not give it back."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            pool = engine.attach(name).pool("p")
            Holding.told = write
            pool.put((1, 0, 0), 0, b"x")
        finally:
            os._exit(3)
    os.close(write)
    try:
        if os.read(read, 1) != b"h":
            raise AssertionError("the holder did not come to hold the lock")
    finally:
        os.close(read)
    return pid


def kill(pid):
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def blocked(eng, before):
    """True once the other thread's call has slept on the lock."""
    return eng.stats()["total"]["lock_waits"] > before


def one(eng, watcher, case):
    """Milliseconds of one death."""
    pool = eng.pool("p")
    pid = holder(eng.name)
    if case == "late":
        kill(pid)
        began = time.perf_counter_ns()
        pool.put((1, 0, 0), 0, b"y")
        return (time.perf_counter_ns() - began) / 1e6
    ended = []
    before = watcher.stats()["total"]["lock_waits"]
    caller = threading.Thread(target=lambda: (pool.put((1, 0, 0), 0, b"y"), ended.append(time.perf_counter_ns())))
    caller.start()
    while not blocked(watcher, before):
        os.sched_yield()
    began = time.perf_counter_ns()
    kill(pid)
    caller.join()
    return (ended[0] - began) / 1e6


def measure(name, deaths):
    """Milliseconds by case."""
    engine.register_pam(PAM, Holding)
    try:
        with engine.create(name, "2MiB", buckets=1, max_workers=8) as eng, engine.attach(name) as watcher:
            eng.new_pool("p", persistent=True, pam=PAM)
            found = {case: [one(eng, watcher, case) for _ in range(deaths)] for case in ("asleep", "late")}
            report = eng.check()
            if not report.ok:
                raise AssertionError(str(report.problems[:3]))
    finally:
        engine.unlink(name)
    return found


def main():
    parser = argparse.ArgumentParser(prog="python -m tests.crash.bounded_wait", description=__doc__.splitlines()[0])
    parser.add_argument("--deaths", type=int, default=300, help="of each case")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    found = measure(f"tmem-wait-{os.getpid()}", options.deaths)
    figures = {
        case: {
            "deaths": len(ms),
            "median_ms": round(statistics.median(ms), 3),
            "p99_ms": round(sorted(ms)[int(len(ms) * 0.99)], 3),
            "worst_ms": round(max(ms), 3),
        }
        for case, ms in found.items()
    }
    print(json.dumps(figures) if options.json else "\n".join(f"{case}: {of}" for case, of in figures.items()))
    return int(any(of["median_ms"] > MEDIAN_MS or of["worst_ms"] > WORST_MS for of in figures.values()))


if __name__ == "__main__":
    sys.exit(main())

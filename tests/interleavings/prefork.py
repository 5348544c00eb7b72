"""Owns preload and threads: a parent with an engine forks children, and in each four threads use
the inherited engine at once for the first time.

    python -m tests.interleavings.prefork --rounds N

It is what a web server does that loads its application, forks its workers and serves from threads.
After each round every child has exactly one slot, and so does the parent; `check` is clean, all
pages put are there; and when the children have gone, so have their slots. Calls the public API.
"""
import argparse
import os
import sys
import threading
import time
import traceback

import engine
from tests.interleavings.verbs import content, oid, tag_of

CHILDREN, THREADS, PAGES = 3, 4, 6


def _serve(pool, child, ready, go, faults):
    """The threads of one child: all begin at the same moment."""
    barrier = threading.Barrier(THREADS)

    def serve(thread):
        try:
            barrier.wait()
            for n in range(PAGES):
                tag = (child * THREADS + thread) * PAGES + n + 1
                if not pool.put(oid(tag), 0, content(tag, 700)) or tag_of(pool.get(oid(tag), 0)) != tag:
                    raise AssertionError(f"page {tag} is not as it was put")
        except BaseException:
            faults.append(traceback.format_exc())

    threads = [threading.Thread(target=serve, args=(n,)) for n in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    os.write(ready, b"x" if not faults else b"!")
    os.read(go, 1)


def _fork(pool, child, ready, go):
    pid = os.fork()
    if pid == 0:
        faults = []
        try:
            _serve(pool, child, ready[1], go[0], faults)
        finally:
            print("".join(faults), end="", file=sys.stderr, flush=True)
            os._exit(bool(faults))
    return pid


def one_round(eng, pool):
    """What is wrong after a round."""
    ready, go = os.pipe(), os.pipe()
    pids = [_fork(pool, child, ready, go) for child in range(CHILDREN)]
    faults = []
    try:
        told = b""
        while len(told) < CHILDREN:
            told += os.read(ready[0], CHILDREN)
        if b"!" in told:
            faults.append("a thread's call failed")
        workers = eng.stats()["arena"]["workers"]
        if workers != 1 + CHILDREN:
            faults.append(f"{workers} slots for {CHILDREN} children and their parent")
        faults += [str(problem) for problem in eng.check().problems[:3]]
    finally:
        os.write(go[1], b"x" * CHILDREN)
        for pid in pids:
            os.waitpid(pid, 0)
        for fd in (*ready, *go):
            os.close(fd)
    eng.recover()
    if eng.stats()["arena"]["workers"] != 1:
        faults.append(f"{eng.stats()['arena']['workers']} slots are left when all children have gone")
    faults += [str(problem) for problem in eng.check().problems[:3]]
    for tag in range(1, CHILDREN * THREADS * PAGES + 1):
        if tag_of(pool.get(oid(tag), 0) or b"") != tag:
            faults.append(f"page {tag} is not there")
        pool.flush_object(oid(tag))
    return faults


def play(rounds, name):
    """[(round, what is wrong)]."""
    found = []
    for n in range(rounds):
        # An arena of its own for each: a slot that was used before is entered another way.
        eng = engine.create(name, "2MiB", buckets=2, max_workers=32, max_pools=2, huge_pages=False)
        try:
            pool = eng.new_pool("p", persistent=True)
            found += [(n, fault) for fault in one_round(eng, pool)]
            found += [(n, f"the second time: {fault}") for fault in one_round(eng, pool)]
            eng.close()
        finally:
            engine.unlink(name)
    return found


def main():
    parser = argparse.ArgumentParser(prog="python -m tests.interleavings.prefork", description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=50)
    options = parser.parse_args()
    began = time.monotonic()
    found = play(options.rounds, f"tmem-prefork-{os.getpid()}")
    for n, fault in found:
        print(f"FAULT round {n}: {fault}")
    print(
        f"{options.rounds} rounds of {CHILDREN} children with {THREADS} threads, twice each; "
        f"{len({n for n, _ in found})} with a fault; "
        f"{time.monotonic() - began:.1f} s"
    )
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())

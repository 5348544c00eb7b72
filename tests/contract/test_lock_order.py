"""Owns the proof that the check of the lock order rings: the suite runs with it, and it ends a
process that breaks the order."""
import os
import subprocess
import sys

from tests.support import ROOT, SHM

SCRIPT = """
import sys
import engine
from engine.member import ranks
with engine.create(sys.argv[1], "1MiB") as eng:
    pool = eng.new_pool("p")
    assert pool.put((1, 0, 0), 0, b"x") and pool.get((1, 0, 0), 0) == b"x"
    print("in order", flush=True)
    ranks.turn_over_for_tests()
    pool.put((1, 0, 0), 1, b"x")
    print("not reached")
"""


def test_a_lock_out_of_order_ends_the_process(arena_name):
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, arena_name],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "TMEM_CHECK_LOCKS": "1"},
    )
    try:
        assert done.stdout == "in order\n" and done.returncode == -6, done
        assert "(rank -3) taken with" in done.stderr
    finally:
        (SHM / arena_name).unlink(missing_ok=True)

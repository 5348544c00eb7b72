"""Owns the promise that a full /dev/shm is a refused put or a clear error, never a SIGBUS.

A child with a mount namespace of its own gets a /dev/shm of 16 MiB and fills it to the last block. Skipped where such a
namespace cannot be had (it takes root).
"""
import os
import shutil
import subprocess
import sys

import pytest

SCRIPT = """
import multiprocessing, os
import engine

def refused(call):
    try:
        call()
    except engine.TmemError as error:
        assert type(error) is engine.TmemError and "no memory" in str(error), error
        return True
    return False

eng = engine.create("full", "64MiB", max_workers=8)
pool = eng.new_pool("p", persistent=True)
page = lambda n: bytes([n & 255]) * 4096

def hammer(attached, go):
    assert pool.get((9, 9, 9), 0) is None
    attached.release()
    go.poll(None)
    for n in range(3000):
        assert pool.put((1, 0, 0), n % 3, page(n))

# Workers that have their slots before it is full; later they contend for one bucket with no room for its semaphore.
fork = multiprocessing.get_context("fork")
listen, tell = fork.Pipe(duplex=False)
attached = fork.Semaphore(0)
children = [fork.Process(target=hammer, args=(attached, listen)) for _ in range(3)]
for child in children:
    child.start()
for child in children:
    attached.acquire()
held = 0
while pool.put((1, 0, 0), held, page(held)):
    held += 1
assert 1000 < held < 4096
with open("/dev/shm/filler", "wb", buffering=0) as filler:
    try:
        while True:
            filler.write(bytes(4096))
    except OSError:
        pass
assert os.statvfs("/dev/shm").f_bavail == 0

assert not pool.put((2, 0, 0), 0, page(0)) and pool.get((2, 0, 0), 0) is None
assert not pool.put_range((3, 0, 0), 0, bytes(100 * 4096)) and pool.object_info((3, 0, 0)) is None
for n in range(held):
    assert pool.put((1, 0, 0), n, page(n + 1))
assert all(pool.get((1, 0, 0), n) == page(n + 1) for n in range(held))
assert refused(lambda: engine.attach("full")) and refused(lambda: engine.create("other", "1MiB"))
assert refused(lambda: pool.put_range((1, 0, 0), 0, bytes(4000 * 4096)))

tell.send(True)
for child in children:
    child.join()
assert [child.exitcode for child in children] == [0, 0, 0]
eng.recover()
report = eng.check()
assert report.ok, report.problems[:3]
print("held", held)
"""


def test_a_full_file_system_refuses(tmp_path):
    unshare = shutil.which("unshare")
    mount = "mount -t tmpfs -o size=16M tmpfs /dev/shm"
    if unshare is None or subprocess.run([unshare, "-m", "sh", "-c", mount], capture_output=True).returncode != 0:
        pytest.skip("needs root and a mount namespace of its own")
    script = tmp_path / "full.py"
    script.write_text(SCRIPT)
    done = subprocess.run(
        [unshare, "-m", "sh", "-c", f'{mount} && exec "$0" "$1"', sys.executable, str(script)],
        capture_output=True, text=True, timeout=100, env={**os.environ, "PYTHONPATH": os.getcwd()},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.startswith("held ")

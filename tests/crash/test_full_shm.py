"""Owns the promise that a full /dev/shm is an eviction, a refused put or a clear error, never a
SIGBUS.

A child with a mount namespace of its own gets a small /dev/shm: one of 16 MiB, which it fills to
the last block, or one of 64 MiB as containers have it, with an arena that would be four times as
large. Skipped where such a namespace cannot be had (it takes root).
"""
import subprocess
import sys

import pytest

from tests.support import can_mount, child_env, mount_over

COMMON = """
import os

def fill_up():
    with open("/dev/shm/filler", "wb", buffering=0) as filler:
        try:
            while True:
                filler.write(bytes(4096))
        except OSError:
            pass
    assert os.statvfs("/dev/shm").f_bavail == 0
"""

PERSISTENT = """
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
fill_up()

assert not pool.put((2, 0, 0), 0, page(0)) and pool.get((2, 0, 0), 0) is None
assert not pool.put_range((3, 0, 0), 0, bytes(100 * 4096)) and pool.object_info((3, 0, 0)) is None
for n in range(held):
    assert pool.put((1, 0, 0), n, page(n + 1))
assert all(pool.get((1, 0, 0), n) == page(n + 1) for n in range(held))
# The first view needs memory for its pin; a worker that has some goes on.
assert refused(lambda: pool.view((1, 0, 0), 0)) and pool.get((1, 0, 0), 0) == page(1)
assert eng.stats()["arena"]["pinned_bytes"] == 0
# Of the slot after its own each worker has taken the memory along: one more can come.
with engine.attach("full") as late:
    assert late.pool("p").get((1, 0, 0), 0) == page(1)
    assert refused(lambda: engine.attach("full"))
assert refused(lambda: engine.create("other", "1MiB"))
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

EPHEMERAL = """
import multiprocessing, os, random, sys
import engine

eng = engine.create("full", "256MiB", max_workers=8, huge_pages=sys.argv[1] == "huge")
kept = eng.new_pool("kept", persistent=True)
cache = eng.new_pool("cache")
page = lambda n, length: (b"%d/" % n + bytes([n & 255]) * 4096)[:length]
KEPT, HANDLES, PUTS = 600, 30000, 25000

def keep(first, count):
    for n in range(first, first + count):
        assert kept.put((n % 9, 0, 0), n, page(n, 4096)), n

def load(worker):
    rnd, refused, lengths = random.Random(worker), 0, {}
    for i in range(PUTS):
        n = rnd.randrange(HANDLES)
        if rnd.random() < 0.3:
            got = cache.get((worker, n // 100, 0), n % 100)
            assert got is None or got == page(n, lengths[n]), (worker, n)
        else:
            lengths[n] = rnd.choice((4096, 4096, 4096, 700, 2000))
            refused += not cache.put((worker, n // 100, 0), n % 100, page(n, lengths[n]))
        if i % 100 == 0:
            assert kept.get((i % 9, 0, 0), i % 9) == page(i % 9, 4096)
    found = 0
    for n, length in lengths.items():
        got = cache.get((worker, n // 100, 0), n % 100)
        assert got is None or got == page(n, length), (worker, n)
        found += got is not None
    assert found and refused < PUTS // 100, (found, refused)

keep(0, KEPT)
fork = multiprocessing.get_context("fork")
children = [fork.Process(target=load, args=(worker,)) for worker in range(3)]
for child in children:
    child.start()
for child in children:
    child.join()
assert [child.exitcode for child in children] == [0, 0, 0]
free = os.statvfs("/dev/shm")
assert free.f_bavail * free.f_bsize < 4 << 20, free         # it is full, and not by what somebody else has in it
stats = eng.stats()
assert stats["pools"]["cache"]["evicted"] > 10000 and stats["arena"]["bytes_backed"] > 56 << 20
keep(KEPT, KEPT)                                            # new ones make old ones of the other pool go
assert all(kept.get((n % 9, 0, 0), n) == page(n, 4096) for n in range(2 * KEPT))
report = eng.check()
assert report.ok, report.problems[:3]
print("held", stats["pools"]["cache"]["pages"])
"""


# What the arena gives back is taken by somebody else at once, so that whoever still reads there has
# no page to get: readers without a lock, evictors that guess, a sweep through descriptors.
RESIZING = """
import multiprocessing, os, random, sys
import engine

eng = engine.create("moving", "40MiB", max_workers=8, huge_pages=False)
kept = eng.new_pool("kept", persistent=True)
cache = eng.new_pool("cache")
twins = eng.new_pool("twins", dedup=True)
page = lambda n: b"%d/" % n + bytes([n & 255]) * 4090
KEPT, HANDLES, ROUNDS = 500, 9000, 12
for n in range(KEPT):
    assert kept.put((n % 9, 0, 0), n, page(n))

def load(worker, stop):
    rnd = random.Random(worker)
    with engine.attach("moving") as mine:
        attached.release()
        pools = [mine.pool("cache"), mine.pool("twins")]
        kept = mine.pool("kept")
        while not stop.is_set():
            n = rnd.randrange(HANDLES)
            pool = pools[n % 4 == 0]
            name = n if n % 4 else n % 64
            got = pool.get((n // 60, 0, 0), n % 60)
            assert got is None or got == page(name), n
            if got is None and rnd.random() < 0.5:
                pool.put((n // 60, 0, 0), n % 60, page(name))
            n = rnd.randrange(KEPT)
            assert kept.get((n % 9, 0, 0), n) == page(n)

def fill(stop):
    # Takes every page of the file system that becomes free.
    with open("/dev/shm/filler", "wb", buffering=0) as filler:
        while not stop.is_set():
            try:
                filler.write(bytes(4096))
            except OSError:
                pass

for n in range(HANDLES):
    cache.put((n // 60, 0, 0), n % 60, page(n if n % 4 else n % 64))
fork = multiprocessing.get_context("fork")
stop = fork.Event()
attached = fork.Semaphore(0)
children = [fork.Process(target=load, args=(worker, stop)) for worker in range(2)]
for child in children:
    child.start()
for child in children:
    attached.acquire()          # before the file system is full: a newcomer needs memory for its slot
for turn in range(ROUNDS):
    full = fork.Event()
    filler = fork.Process(target=fill, args=(full,))
    filler.start()
    for capacity in ("30MiB", "20MiB", "10MiB", "5MiB"):
        eng.resize(capacity)
    eng.resize("40MiB")                     # on paper: there is no memory to be had
    full.set()
    filler.join()
    assert filler.exitcode == 0
    os.unlink("/dev/shm/filler")
stop.set()
for child in children:
    child.join()
assert [child.exitcode for child in children] == [0, 0], [child.exitcode for child in children]
assert all(kept.get((n % 9, 0, 0), n) == page(n) for n in range(KEPT))
report = eng.check()
assert report.ok, report.problems[:3]
print("held", eng.stats()["pools"]["cache"]["pages"])
"""


# Memory that pages of one length had becomes descriptors for more pages of another, with no memory
# to be had for anything.
SHORTER = """
import os
import engine

eng = engine.create("shorter", "64MiB", max_workers=4, huge_pages=False)
cache = eng.new_pool("cache")
n = 0
while eng.stats()["total"]["evicted"] == 0:
    assert cache.put((n // 50, 0, 0), n % 50, os.urandom(4096))
    n += 1
fill_up()
for n in range(30000):
    assert cache.put((n // 50, 1, 0), n % 50, b"%d short " % n * 9), n
held = eng.stats()["pools"]["cache"]["pages"]
assert held > 25000, held
report = eng.check()
assert report.ok, report.problems[:3]
print("held", held)
"""

# A worker that attached when there was memory for its slot, and none for its counters but those of
# the first pools.
COUNTERS = """
import os, signal
import engine

def sound():
    report = eng.check()
    assert report.ok, report.problems[:3]

eng = engine.create("counted", "8MiB", max_workers=6, max_pools=128, huge_pages=False)
assert eng.new_pool("low").put((1, 0, 0), 0, b"low")
for n in range(100):
    eng.new_pool(f"p{n}")
last, doomed = eng.pool("p99"), eng.pool("p98")
rnd = os.urandom
for n in range(600):
    assert doomed.put((n % 9, 0, 0), n, rnd(3000))
n = 0
while eng.stats()["total"]["evicted"] == 0:
    assert last.put((n % 9, 0, 0), n, rnd(3000))
    n += 1
# Whoever destroys a pool is killed on the way, and leaves it to the others.
(attached, ready), (full, go) = os.pipe(), os.pipe()
pid = os.fork()
if pid == 0:
    mine = engine.attach("counted")
    dying = mine.pool("p98")
    os.write(ready, b"r")
    os.read(full, 1)
    mine.set_kill_point(60)
    dying.destroy()
    os._exit(1)
os.read(attached, 1)
fill_up()
third = engine.attach("counted")        # has the slot that was kept ready, with its counters
early = None
while early is None:
    os.truncate("/dev/shm/filler", os.stat("/dev/shm/filler").st_size - 4096)
    try:
        early = engine.attach("counted")
    except engine.TmemError:
        pass
assert os.statvfs("/dev/shm").f_bavail == 0
os.truncate("/dev/shm/filler", os.stat("/dev/shm/filler").st_size - 4096)
low = early.pool("low")
assert os.statvfs("/dev/shm").f_bavail == 0
os.write(go, b"g")
assert os.WTERMSIG(os.waitpid(pid, 0)[1]) == signal.SIGKILL
before = eng.stats()["pools"]["p99"]
answers = [low.put((2, i, 0), 0, rnd(3000)) for i in range(300)]
after = eng.stats()["pools"]["p99"]
# It cannot count what would go, so nothing of the others goes, neither for its pages nor for
# those of the pool that is being destroyed.
assert after["pages"] == before["pages"] and after["evicted"] == before["evicted"], (before, after)
assert answers[-1] == (low.get((2, 299, 0), 0) is not None) and eng.stats()["pools"]["low"]["pages"] < 300
assert early.recover() == 1 and early.recover() == 1
early.check()
# Whoever can count may let them go; the dead one's heir, too.
assert last.put((50, 0, 0), 0, rnd(3000))
sound()
assert eng.recover() == 0
os.unlink("/dev/shm/filler")
assert all(low.put((3, i, 0), 0, rnd(3000)) for i in range(300))
assert eng.stats()["pools"]["p99"]["pages"] <= after["pages"] + 1       # what the dead one left is room enough
assert "p98" not in eng.stats()["pools"]
sound()
early.close()
sound()
print("held", eng.stats()["total"]["pages"])
"""

# Whatever gives memory back must not need any, in whatever worker: one that came before there were
# so many pools, the one who comes now, a forked child, the heir of the dead, of whom all slots are.
FREEING = """
import os, signal, sys, time
import engine

def free():
    found = os.statvfs("/dev/shm")
    return found.f_bavail * found.f_bsize

def full_arena():
    eng = engine.create("freed", "8MiB", max_workers=6, max_pools=128, huge_pages=False)
    early = engine.attach("freed")
    pools = [eng.new_pool(f"p{n}", dedup=n % 2 == 0) for n in range(100)][90:]
    for n in range(2200):
        pools[n % 10].put((n % 9, 0, 0), n, os.urandom(3000))
    assert eng.stats()["total"]["evicted"] > 0
    return eng, early

def in_child(act):
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            act()
            code = 0
        except BaseException:
            import traceback
            traceback.print_exc()
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

def fill_and_die():
    global eng, early
    eng, early = full_arena()
    fill_up()
    engine.attach("freed")              # has the memory that was kept ready for it
    os.kill(os.getpid(), signal.SIGKILL)

def destroyer(go):
    # A child that attaches now, and dies in the middle of destroying a pool when told to.
    attached, ready = os.pipe()
    pid = os.fork()
    if pid == 0:
        dying = engine.attach("freed")
        pool = dying.pool("p98")
        os.write(ready, b"r")
        os.read(go, 1)
        dying.set_kill_point(60)
        pool.destroy()
        os._exit(1)
    os.read(attached, 1)
    return pid

def verbs(mine):
    assert mine.check().ok and mine.check(gentle=True).ok
    pool = mine.pool("p95")
    held = mine.stats()["pools"]["p95"]["pages"]
    index = next(n for n in range(5, 2200, 10) if pool.get((n % 9, 0, 0), n, free=False) is not None)
    assert pool.flush_page((index % 9, 0, 0), index)
    assert any(pool.flush_object((n, 0, 0)) for n in range(9))
    assert mine.stats()["pools"]["p95"]["pages"] < held
    os.write(tell, b"g")
    if sys.argv[1] == "heir":
        destroyer(go)
    while mine.recover() == 0:
        time.sleep(0.001)
    assert "p98" not in mine.stats()["pools"]
    fill_up()
    assert mine.check(repair=True).ok
    assert free() == 0
    for capacity in (6 << 20, 4 << 20):
        mine.resize(capacity)
    assert free() > 3 << 20, free()
    fill_up()
    pool.destroy()
    mine.resize("2MiB")
    assert free() > 1 << 20, free()
    assert mine.check().ok
    print("held", mine.stats()["total"]["pages"])
    mine.close()
    sys.stdout.flush()

go, tell = os.pipe()
if sys.argv[1] == "heir":
    assert in_child(fill_and_die) == -signal.SIGKILL
    verbs(engine.attach("freed"))
else:
    eng, early = full_arena()
    destroyer(go)
    fill_up()
    if sys.argv[1] == "early":
        verbs(early)
    elif sys.argv[1] == "newcomer":
        verbs(engine.attach("freed"))
    else:
        assert in_child(lambda: verbs(eng)) == 0
"""

# To move an obj takes a journal as long as the object, and so memory: of segments that are empty by
# then.
LONG_OBJECT = """
import os
import engine

eng = engine.create("long", "24MiB", max_workers=6, huge_pages=False, buckets=4)
kept, cache = eng.new_pool("kept", persistent=True), eng.new_pool("cache")
page = lambda n: b"%d/" % n * 9
PAGES = 6000
# Two segments of objs, and the long object's in the one with less in it.
for n in range(1022):
    if n == 611:
        for index in range(PAGES):
            assert kept.put((5000, 0, 0), index, page(index))
    assert kept.put((n, 0, 0), 0, page(n))
index = 0
while eng.stats()["total"]["evicted"] == 0:
    cache.put((0, 0, 1), index, os.urandom(4000))
    index += 1
for n in (*range(400), *range(511, 1022)):
    assert kept.flush_page((n, 0, 0), 0)
fill_up()
assert eng.resize("20MiB") == 20 << 20
free = os.statvfs("/dev/shm")
assert free.f_bavail * free.f_bsize > 3 << 20
assert all(kept.get((5000, 0, 0), index) == page(index) for index in range(PAGES))
report = eng.check()
assert report.ok, report.problems[:3]
print("held", eng.stats()["total"]["pages"])
"""


GIVING = """
import multiprocessing, random, time
import engine

PAGES = 3000
page = lambda n: random.Random(n).randbytes(4000)
eng = engine.create("giving", "16MiB", max_workers=8, buckets=4)
kept = eng.new_pool("kept", persistent=True)
for n in range(300):
    assert kept.put((n, 0, 0), 0, page(n))

def read(attached, stop):
    # Looks for pages that come and go, and for their objects, by what it remembers of them.
    with engine.attach("giving") as mine:
        attached.release()
        while not stop.is_set():
            for name in ("p", "kept"):
                try:
                    pool = mine.pool(name)
                    for n in range(0, 300):
                        got = pool.get((n, 0, 0), 0)
                        assert got is None or got == page(n)
                        assert got or name == "p"
                except (engine.PoolNotFound, engine.PoolDestroyed):
                    pass

fork = multiprocessing.get_context("fork")
attached, stop = fork.Semaphore(0), fork.Event()
readers = [fork.Process(target=read, args=(attached, stop)) for _ in range(2)]
for reader in readers:
    reader.start()
for reader in readers:
    attached.acquire()
for turn in range(6):
    with engine.attach("giving") as mine:       # a new one each time: it has not seen what comes back
        pool = mine.new_pool("p", persistent=True)
        for n in range(PAGES):
            assert pool.put((n, 0, 0), 0, page(n)), (turn, n)
        full = eng.stats()["arena"]["bytes_backed"]
        pool.destroy()
        now = eng.stats()["arena"]["bytes_backed"]
        assert now < full // 2, (full, now)
    fill_up()
    pool = eng.new_pool("p", persistent=True)
    held = 0
    while pool.put((held, 0, 0), 0, page(held)):
        held += 1
    assert 100 < held < PAGES, held              # what has memory still, and no more
    assert all(pool.get((n, 0, 0), 0) == page(n) for n in range(held))
    os.unlink("/dev/shm/filler")
    pool.destroy()
stop.set()
for reader in readers:
    reader.join()
assert [reader.exitcode for reader in readers] == [0, 0], [reader.exitcode for reader in readers]
report = eng.check()
assert report.ok, report.problems[:3]
print("held", held)
"""


PREALLOCATED = """
import os
import engine

def left():
    return sorted(os.listdir("/dev/shm"))

before = left()
for capacity in ("64MiB", "24MiB", "16MiB"):
    for huge_pages in (False, True):
        try:
            engine.create("all", capacity, preallocate=True, huge_pages=huge_pages)
        except engine.TmemError as error:
            assert type(error) is engine.TmemError, error
            assert "no memory" in str(error) and "preallocate" in str(error) and "/dev/shm has" in str(error), error
        else:
            raise AssertionError(capacity)
        assert left() == before and os.statvfs("/dev/shm").f_bavail == os.statvfs("/dev/shm").f_blocks
# What fits has all of its memory, whatever else is put there afterwards.
with engine.create("all", "12MiB", preallocate=True) as eng:
    kept = eng.new_pool("kept", persistent=True)
    with engine.create("bare", "12MiB", max_workers=8) as bare:
        bare.new_pool("kept", persistent=True)
        fill_up()
        held = 0
        while kept.put((held >> 6, 0, 0), held & 63, b"%d/" % held * 700):
            held += 1
        assert held * 3500 > 9 << 20, held
        assert not bare.pool("kept").put((0, 0, 0), 0, b"x" * 4096)
    assert eng.check().ok
print("held", held)
"""


CACHE = """
import asyncio
import engine

cache = engine.Cache("full", capacity="64MiB")
cache["k"], cache["n"], cache["s"] = 1, 1, "text" * 1000
fill_up()
# What is there can be read, replaced and counted; what is computed is the caller's, if nobody can keep it.
assert cache["k"] == 1 and cache.set("k", 2) and cache.incr("n") == 2 and cache["s"] == "text" * 1000
assert cache.set("long", b"x" * 3_000_000) is False and "long" not in cache
assert [cache.get_or_compute(("c", n), lambda: n) for n in range(300)] == list(range(300))
assert asyncio.run(cache.aget_or_compute("async", lambda: 5)) == 5
try:
    engine.attach("full").lease("name").acquire()
except engine.ArenaFull as error:
    assert "no memory left for a table of leases" in str(error)
held = sum(cache.set(n, b"x" * 3000) for n in range(1000))
assert held == 1000         # others made room
cache.clear()
cache.expire()
assert len(cache) == 0, (len(cache), list(cache)[:5])
assert cache.set("k", 1)
os.unlink("/dev/shm/filler")
assert cache.set("long", b"x" * 3_000_000) and cache.get_or_compute("c", lambda: 7) == 7
with engine.attach("full") as eng:
    assert eng.check().ok
print("held", held)
"""


def run(tmp_path, size, text, *arguments):
    """Run a script where /dev/shm is a file system of `size`."""
    if not can_mount():
        pytest.skip("needs root, for mounts of its own")
    script = tmp_path / "full.py"
    script.write_text(COMMON + text)
    done = subprocess.run(
        [sys.executable, str(script), *arguments], capture_output=True, text=True, timeout=100, env=child_env(),
        preexec_fn=lambda: mount_over("/dev/shm", f"size={size}"),
    )
    assert done.returncode == 0, done.stderr[-2000:] + done.stdout
    assert done.stdout.startswith("held ")


def test_a_full_file_system_refuses(tmp_path):
    run(tmp_path, "16M", PERSISTENT)


@pytest.mark.parametrize("pages", ["small", "huge"])
def test_an_arena_larger_than_its_file_system_evicts(tmp_path, pages):
    run(tmp_path, "64M", EPHEMERAL, pages)


def test_pages_may_become_shorter_and_more(tmp_path):
    run(tmp_path, "16M", SHORTER)


def test_a_worker_lets_no_page_go_that_it_cannot_count(tmp_path):
    run(tmp_path, "24M", COUNTERS)


def test_what_a_resize_gives_up_is_gone_for_everybody(tmp_path):
    run(tmp_path, "48M", RESIZING)


@pytest.mark.parametrize("worker", ["early", "newcomer", "fork", "heir"])
def test_what_gives_memory_back_needs_none(tmp_path, worker):
    run(tmp_path, "16M", FREEING, worker)


def test_what_was_given_back_is_a_refused_put_where_others_have_taken_it(tmp_path):
    run(tmp_path, "40M", GIVING)


def test_a_long_object_can_be_moved(tmp_path):
    run(tmp_path, "28M", LONG_OBJECT)


def test_memory_that_is_to_be_there_from_the_start_is_an_error_where_it_is_not(tmp_path):
    run(tmp_path, "16M", PREALLOCATED)


def test_a_cache_goes_on_where_no_memory_is_left(tmp_path):
    run(tmp_path, "16M", CACHE)

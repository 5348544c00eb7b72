"""Owns the promise that a semaphore's file with anything in it is a lost semaphore, and never the
end of the process, nor a sleep that does not end.

What the C library passes to futex(2) is a word of the file: an unknown one makes it abort, and one
that means FUTEX_WAIT makes sem_post(3) sleep for ever.
"""
import os
import random
import struct
import time

import pytest

import engine
from shm.kernel.semaphores import Semaphores
from tests.stopped import Stopped, in_child
from tests.support import SHM, page, semaphores_of

SLEEPERS = 5
LOCK, GENERATION = 64, 7
SHARED = 128        # what glibc writes for processes that share a semaphore; FUTEX_WAIT is then 129
WORDS = [
    (value, sleeping, private)
    for value in (0, 1, 3, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
    for sleeping in (0, 1, 0xFFFFFFFF)
    for private in (SHARED, 0, 1, SHARED | 1, SHARED | 2, SHARED | 6, 512, 0x12345678, 0xDEADBEEF)
]


def noise(seed):
    """The words of a semaphore's file, or what a stray write leaves of them."""
    rnd = random.Random(seed)
    words = [rnd.choice((0, 1, SHARED, rnd.getrandbits(32), rnd.getrandbits(8))) for _ in range(8)]
    return struct.pack("<8I", *words)


def write_over(file, data):
    with open(SHM / file, "r+b") as stream:
        stream.write(data)


@pytest.fixture
def file_of(make_arena):
    """(Semaphores, the path of its one semaphore, which is there)."""
    eng = make_arena()
    nonce = int(next(SHM.glob(f"alive.{eng.name}@*")).name.partition("@")[2], 16)
    semaphores = Semaphores(eng.name, nonce, 0o600, os.getuid(), os.getgid(), SLEEPERS)
    semaphores.post(LOCK, GENERATION)
    yield semaphores, SHM / semaphores_of(eng.name)[0]
    semaphores.unlink(LOCK, GENERATION)
    semaphores.close()


def used(semaphores):
    """Post and sleep: neither takes long, whatever the file says."""
    began = time.monotonic()
    for _ in range(2):
        semaphores.post(LOCK, GENERATION)
        semaphores.sleep(LOCK, GENERATION, 0.001)
    assert time.monotonic() - began < 5.0


@pytest.mark.timeout(60)        # a sleep that does not end is a child that does not
def test_no_words_end_a_process_or_keep_it(file_of):
    semaphores, path = file_of

    def act():
        for words in WORDS:
            write_over(path, struct.pack("<3I", *words) + bytes(20))
            used(semaphores)
        for seed in range(300):
            write_over(path, noise(seed))
            used(semaphores)
    assert in_child(act) == 0


def cut_off(file):
    os.truncate(SHM / file, 0)


def held(e):
    """Stop in the middle of a put, with the bucket's lock."""
    pool = e.pool("p")
    for tag in (1, 2):              # then it has at hand what it needs, and as many kill points as the one before
        e.set_kill_point(1 << 40)
        assert pool.put((1, 0, 0), 0, page(tag))
    e.set_kill_point(e.kill_points() // 2, True)
    assert pool.put((1, 0, 0), 0, page(3))


@pytest.mark.parametrize(
    "damage", [cut_off, *(lambda file, seed=seed: write_over(file, noise(seed)) for seed in range(5))]
)
def test_who_sleeps_on_a_damaged_one_has_a_new_one_next(arena_name, damage):
    with engine.create(arena_name, "1MiB", page_size=512, buckets=1, max_workers=4) as eng:
        pool = eng.new_pool("p", persistent=True)
        assert pool.put((1, 0, 0), 0, page(1))
        with Stopped(arena_name, held) as holder:
            assert holder.stopped
            pid = os.fork()
            if pid == 0:
                code = 1
                try:
                    assert pool.put((1, 0, 0), 0, page(4))
                    code = 0
                finally:
                    os._exit(code)
            damaged = set()
            deadline = time.monotonic() + 20
            while len(damaged) < 3:
                assert time.monotonic() < deadline, damaged
                for file in set(semaphores_of(arena_name)) - damaged:
                    if "~" not in file:
                        damage(file)
                        damaged.add(file)
                time.sleep(0.001)
            assert holder.go_on() == 0
            assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        assert pool.get((1, 0, 0), 0) == page(4)
        assert eng.check().ok
    engine.unlink(arena_name)
    assert not semaphores_of(arena_name)

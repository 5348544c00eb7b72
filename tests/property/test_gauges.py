"""Owns what the gauges of fullness promise, in states that a seed makes: they add up to the
capacity, they say of pages what a model of them says, and what is free can really be put."""
import os
import random
import signal

import pytest

import engine
from shm.segments import sizes
from tests.support import text

PARTS = ("free", "stuck", "evictable", "persistent", "overhead", "leaving")
CHUNKS = sorted(size for size in sizes()[1:-1] if size and size % 64 == 0)      # of a small arena
STRUCTS = 64 + 64       # a descriptor, and an object without a stem
SEGMENT = 65536
ROUNDING = 3 * SEGMENT  # one for the page, one for its descriptor, one for its object
LENGTHS = (80, 300, 700, 1500, 2300, 3000, 4000)


def chunk(length):
    return next(size for size in CHUNKS if size >= length)


def gauges(eng):
    """{part: bytes}, which are all there is."""
    arena = eng.stats()["arena"]
    found = {part: arena[f"bytes_{part}"] for part in PARTS}
    assert sum(found.values()) == arena["capacity"] and min(found.values()) >= 0, found
    return found


class State:
    """An arena with pages of several pools, put by several workers, and a model of what may not
    go."""

    def __init__(self, make_arena, seed, persistent=True, ephemeral=True, workers=1):
        self.rnd = random.Random(seed)
        self.eng = make_arena(capacity="12MiB", max_capacity="16MiB", buckets=16, page_size=4096)
        self.pools = {}
        if persistent:
            self.pools["kept"] = self.eng.new_pool("kept", persistent=True)
        if ephemeral:
            self.pools["cache"] = self.eng.new_pool("cache")
        if ephemeral and seed % 2:
            self.pools["equal"] = self.eng.new_pool("equal", dedup=True)
        self.engines = [self.eng, *(engine.attach(self.eng.name) for _ in range(workers - 1))]
        self.kept = {}
        self.number = 0

    def close(self):
        for eng in self.engines[1:]:
            eng.close()

    def put(self, name, length, content=None):
        self.number += 1
        oid = (self.number // 3, 0, len(name))
        data = self.rnd.randbytes(length) if content is None else content
        went = self.rnd.choice(self.engines).pool(name).put(oid, self.number % 3, data)
        if went and name == "kept":
            self.kept[oid, self.number % 3] = length
        return went

    def turn(self):
        """Something happens to many pages."""
        name = self.rnd.choice(list(self.pools))
        length = self.rnd.choice(LENGTHS)
        act = self.rnd.randrange(4)
        if act < 2:
            for n in range(self.rnd.randrange(4_000_000 // (length + 200))):
                self.put(name, length, text(n % 50, length) if name == "equal" else None)
        elif act == 2:
            for oid, index in self.rnd.sample(list(self.kept), len(self.kept) // 2):
                assert self.pools["kept"].flush_page(oid, index)
                del self.kept[oid, index]
        else:
            self.eng.resize(self.rnd.choice((12, 14, 16)) << 20)

    def compare(self):
        found = gauges(self.eng)
        pools = self.eng.stats()["pools"]
        assert found["persistent"] == sum(chunk(length) for length in self.kept.values())
        cached = sum(pools[name]["bytes_used"] for name in pools if name != "kept")
        assert found["evictable"] == cached + self.eng.stats()["arena"]["twin_bytes"]
        assert found["leaving"] == 0
        return found


def fill(state, name, length, tag):
    """Put pages of a length, each an object of its own, as long as they are taken and nothing goes.
    How many."""
    pool = state.pools[name]
    evicted = state.eng.stats()["total"]["evicted"]
    count = 0
    while pool.put((count, 7, tag), 0, state.rnd.randbytes(length)):
        if state.eng.stats()["total"]["evicted"] != evicted:
            break
        count += 1
    return count


@pytest.mark.parametrize("seed", range(8))
def test_they_add_up_and_agree_with_a_model_in_any_state(make_arena, seed):
    state = State(make_arena, seed, workers=1 + seed % 3)
    for _ in range(12):
        state.turn()
        state.compare()
    assert state.eng.check().ok
    state.close()


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("name", ["kept", "cache"])
@pytest.mark.parametrize("seed", range(4))
def test_what_is_free_can_be_put_and_nothing_goes(make_arena, seed, name, workers):
    state = State(make_arena, seed, name == "kept", name == "cache", workers)
    for _ in range(6):
        state.turn()
    length = state.rnd.choice(LENGTHS)
    # The size that memory was last short for: until something went, or was refused.
    count = fill(state, name, length, 7)
    for n in range(0, count, 2):
        state.pools[name].flush_page((n, 7, 7), 0)
    said = gauges(state.eng)
    count = fill(state, name, length, 8)
    put = count * (chunk(length) + STRUCTS)
    assert put >= said["free"] - ROUNDING, (said, count, chunk(length))
    if name == "kept":
        # Nothing but moving is in the way of what is free.
        assert put <= said["free"] + ROUNDING, (said, count, chunk(length))
    state.close()


def test_an_empty_arena_takes_what_it_says_before_anything_goes(make_arena):
    eng = make_arena(capacity="8MiB", buckets=16, page_size=4096)
    said = gauges(eng)
    assert said["free"] > 0.98 * eng.capacity and said["stuck"] < ROUNDING
    pool = eng.new_pool("p")
    count = 0
    while eng.stats()["total"]["evicted"] == 0:
        assert pool.put((count, 0, 0), 0, os.urandom(4000))
        count += 1
    assert count * (4096 + STRUCTS) >= said["free"] - ROUNDING
    assert gauges(eng)["free"] < ROUNDING


def test_pages_that_only_others_sizes_could_use_are_stuck(make_arena):
    eng = make_arena(capacity="8MiB", buckets=16, page_size=4096)
    pool = eng.new_pool("p")
    for n in range(9000):
        pool.put((n, 0, 0), 0, os.urandom(500))
    for n in range(9000):
        if n % 4:
            pool.flush_page((n, 0, 0), 0)
    pool.put_many([((n, 1, 0), 0) for n in range(1500)], [os.urandom(4000) for _ in range(1500)])
    for n in range(9000):
        pool.flush_page((n, 0, 0), 0)
    assert eng.check().ok
    assert gauges(eng)["evictable"] == eng.stats()["pools"]["p"]["pages"] * 4096


def test_a_viewed_page_that_was_flushed_is_leaving(make_arena):
    eng = make_arena(capacity="8MiB", buckets=16, page_size=4096)
    pool = eng.new_pool("p", persistent=True)
    pool.put((1, 0, 0), 0, os.urandom(4000))
    with pool.view((1, 0, 0), 0):
        pool.flush_page((1, 0, 0), 0)
        assert gauges(eng)["leaving"] == 4096 + 64
    eng.recover()
    pool.put((2, 0, 0), 0, b"x")
    eng.resize("8MiB")
    assert gauges(eng)["leaving"] == 0


@pytest.mark.parametrize("stop", [3, 50, 400, 3000])
def test_after_a_kill_they_add_up_again(make_arena, stop):
    eng = make_arena(capacity="4MiB", buckets=16, page_size=4096)
    kept, cache = eng.new_pool("kept", persistent=True), eng.new_pool("cache", dedup=True)
    children = []
    for n in range(3):
        child = os.fork()
        if child == 0:
            try:
                mine = engine.attach(eng.name)
                mine.set_kill_point(stop + 17 * n)
                for i in range(100_000):
                    mine.pool("kept" if i % 8 == 0 else "cache").put((n, i % 500, 0), 0, text(i % 700, 300 + i % 3000))
            finally:
                os._exit(1)
        children.append(child)
    for child in children:
        assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
    arena = eng.stats()["arena"]
    assert arena["workers"] == 1
    # What each of the dead was moving between depot and magazine is not undone yet.
    assert abs(sum(arena[f"bytes_{part}"] for part in PARTS) - arena["capacity"]) <= 3 * arena["segment_bytes"]
    eng.recover()
    assert gauges(eng)["leaving"] == 0 and eng.check().ok
    pools = eng.stats()["pools"]
    assert gauges(eng)["persistent"] == pools["kept"]["bytes_used"]
    assert kept.persistent and not cache.persistent


def touched():
    """Bytes of shared memory that this process has looked at."""
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) << 10 for line in status if line.startswith("RssShmem"))


def test_asking_looks_at_no_table_that_grows_with_the_capacity(make_arena):
    """The table of equal pages has 32 MiB here, that of segments 1 MiB: what is looked at would
    show in this process's memory."""
    eng = make_arena(capacity="4MiB", max_capacity="4GiB", page_size=4096)
    eng.new_pool("p", dedup=True).put((1, 0, 0), 0, os.urandom(3000))
    eng.stats()
    before = touched()
    assert eng.stats()["arena"]["twins"] == 1
    assert touched() - before < 1 << 16
    with engine.attach(eng.name) as other:
        before = touched()
        assert other.stats()["arena"]["twins"] == 1
        assert touched() - before < 1 << 19

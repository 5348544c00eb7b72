"""Owns seeded runs of random calls on pools of long pages, in an arena that is too small for all of
them: a persistent page is what was put last, an ephemeral one that or gone."""
import contextlib
import os
import random

import pytest

import engine

KIB, MIB = 1 << 10, 1 << 20
SEEDS = 300 if os.environ.get("EVERY_POINT") else 16
NOISE = random.Random(1).randbytes(9 * MIB)
KINDS = (
    dict(persistent=True),
    dict(persistent=True, pam="lz4"),
    dict(shared=True),
    dict(shared=False),
    dict(dedup=True),
    dict(cap="1MiB"),
    dict(pam="zstd"),
)
STAYS = "stays"         # said of a page that was there before by an error that leaves it


class Run:
    """An arena, some pools of it as two workers see them, and what is under their handles."""

    def __init__(self, name, seed):
        self.rnd = rnd = random.Random(seed)
        self.capacity = rnd.choice([2, 4, 8]) * MIB
        self.eng = engine.create(name, self.capacity, page_size=4 * KIB, max_workers=4, max_pools=8, buckets=4)
        self.other = engine.attach(name)
        self.segment = self.capacity // self.eng.stats()["arena"]["segments_total"]
        self.kinds = rnd.sample(KINDS, rnd.randrange(1, 4))
        sizes = [rnd.choice([4 * KIB, 64 * KIB, 64 * KIB + 1, MIB, 16 * MIB]) for _ in self.kinds]
        self.pools = [self.eng.new_pool(f"p{i}", page_size=size, **kind)
                      for i, (kind, size) in enumerate(zip(self.kinds, sizes, strict=True))]
        self.seen_by = [self.pools, [self.other.pool(pool.name) for pool in self.pools]]
        self.model = [{} for _ in self.pools]
        self.views = []

    def data(self, i):
        rnd, most = self.rnd, min(self.pools[i].page_size, self.capacity)
        granule = self.segment // 64
        length = rnd.choice([
            rnd.choice([1, 64, 512, 4096, 64 * KIB - 1, 64 * KIB, 64 * KIB + 1]),
            granule * rnd.randrange(1, 300) + rnd.choice([-1, 0, 1]),
            self.segment * rnd.randrange(1, 8) + rnd.choice([-1, 0, 1]),
            int(rnd.random() ** 4 * self.capacity / 3) + 1,
            int(self.capacity / rnd.choice([2, 3, 4, 8, 16])),
        ])
        length = max(1, min(length, most))
        start = rnd.randrange(MIB)
        return rnd.choice([
            NOISE[start:start + length], NOISE[start:start + length], bytes([start & 3]) * length,
            (b"number %d; " % (start & 63) * (length // 8 + 1))[:length],
        ])

    def note(self, i, key, data, there):
        if there:
            self.model[i][key] = data
        else:
            self.model[i].pop(key, None)

    def compare(self, i, key, found):
        wanted = self.model[i].get(key)
        gone = found is None and not self.kinds[i].get("persistent")
        assert gone or found == wanted, (self.kinds[i], key, found and len(found), wanted and len(wanted))
        if found is None or not (self.kinds[i].get("persistent") or self.kinds[i].get("shared", True)):
            self.model[i].pop(key, None)

    def step(self):
        rnd = self.rnd
        i = rnd.randrange(len(self.pools))
        pool = rnd.choice(self.seen_by)[i]
        key = ((rnd.randrange(3), 0, 0), rnd.randrange(12))
        verb = rnd.choices(["put", "get", "get_into", "flush", "write", "view", "look", "many", "resize", "check"],
                           [6, 4, 2, 2, 4, 3, 3, 1, 0.3, 0.2])[0]
        if verb == "put":
            data = self.data(i)
            self.note(i, key, data, pool.put(*key, data))
        elif verb == "get":
            self.compare(i, key, pool.get(*key))
        elif verb == "get_into":
            buffer = bytearray(len(self.model[i].get(key, b"x")))
            length = pool.get_into(*key, buffer)
            self.compare(i, key, bytes(buffer[:length]) if length >= 0 else None)
        elif verb == "flush":
            assert not pool.flush_page(*key) or key in self.model[i]
            self.model[i].pop(key, None)
        elif verb == "write":
            self.write(i, pool, key)
        elif verb == "view":
            with contextlib.suppress(engine.TooMuchPinned):
                view = pool.view(*key)
                if view.found:
                    self.views.append((view, self.model[i][key], view.__enter__()))
                else:
                    self.note(i, key, None, self.kinds[i].get("persistent") and key in self.model[i])
                    assert key not in self.model[i]
        elif verb == "look" and self.views:
            self.let_go(rnd.randrange(len(self.views)))
        elif verb == "many":
            keys = [(key[0], index) for index in range(rnd.randrange(1, 6))]
            pages = [self.data(i) for _ in keys]
            for one, data, there in zip(keys, pages, pool.put_many(keys, pages), strict=True):
                self.note(i, one, data, there)
        elif verb == "resize":
            with contextlib.suppress(engine.TmemError):
                if not self.views:
                    self.eng.resize(self.capacity // rnd.choice([1, 1, 2]))
        elif verb == "check":
            self.sound()

    def write(self, i, pool, key):
        data, other, index = self.data(i), self.data(i), 11 - key[1]
        try:
            with pool.writing(*key, len(data)) as buffer:
                buffer[:] = data
                if self.rnd.random() < 0.3:
                    self.note(i, (key[0], index), other, pool.put(key[0], index, other))
                if self.rnd.random() < 0.2:
                    buffer.abort()
                    return
            self.model[i][key] = data
        except engine.ArenaFull as error:
            if STAYS not in str(error):
                self.model[i].pop(key, None)
        except engine.TooMuchPinned:
            pass

    def let_go(self, n):
        view, data, seen = self.views.pop(n)
        assert seen == data
        view.__exit__(None, None, None)

    def sound(self):
        report = self.eng.check()
        assert report.ok, [str(problem) for problem in report.problems[:5]]

    def end(self):
        while self.views:
            self.let_go(0)
        self.sound()
        for i, pool in enumerate(self.pools):
            for key in list(self.model[i]):
                self.compare(i, key, pool.get(*key))
            pool.destroy()
        self.eng.resize(self.capacity)
        self.sound()
        pool = self.eng.new_pool("all", persistent=True, page_size="16MiB")
        assert pool.put((0, 0, 0), 0, NOISE[:self.capacity * 85 // 100])


@pytest.mark.parametrize("part", range(4))
def test_random_calls_on_long_pages(arena_name, part):
    for seed in range(part * SEEDS // 4, (part + 1) * SEEDS // 4):
        run = Run(arena_name, seed)
        try:
            for n in range(run.rnd.choice([60, 250])):
                try:
                    run.step()
                except Exception as error:
                    raise AssertionError(f"seed {seed}, step {n}") from error
            run.end()
        finally:
            for view, _, _ in run.views:
                view.release()
            run.other.close()
            run.eng.close()
            engine.unlink(arena_name)

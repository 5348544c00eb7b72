"""Owns seeded runs of a persistent pool whose pages leave for a far tier, against a plain
dictionary: what is under a handle is what was put last, or one of two errors, and those only when
the tier does not answer, or has lost something.
"""
import os
import random

import pytest

import engine
from tests.contract.fars import PAGE, fresh_dict_tier, stats

OBJECTS, INDEXES = 40, 30


class Run:
    """A pool, what is in it, and what the tier has done to it."""

    def __init__(self, pool, kind, seed):
        self.pool = pool
        self.kind = kind
        self.rnd = random.Random(seed)
        self.pages = {}         # {handle: bytes}
        self.doubtful = set()   # handles of which the tier may have lost something since they were put
        self.other = pool.engine.new_pool("other", far="dict:" if seed % 2 else None)

    def handle(self):
        return (self.rnd.randrange(OBJECTS), 0, 0), self.rnd.randrange(INDEXES)

    def data(self):
        return self.rnd.randbytes(self.rnd.choice((100, 700, 3000, PAGE, PAGE)))

    def judge(self, handles, act):
        """What `act` answers, or the error; None if that is one that may be."""
        try:
            return act()
        except engine.FarUnavailable:
            assert self.kind.deaf
        except engine.FarLost:
            assert self.doubtful & set(handles)
        return None

    def put(self):
        handle, data = self.handle(), self.data()
        if self.pool.put(*handle, data):
            self.pages[handle] = data
        else:
            self.pages.pop(handle, None)
        self.doubtful.discard(handle)

    def put_range(self):
        oid, first = self.rnd.randrange(OBJECTS), self.rnd.randrange(INDEXES - 3)
        data = self.rnd.randbytes(3 * PAGE)
        done = self.pool.put_range((oid, 0, 0), first, data)
        for i in range(3):
            handle = (oid, 0, 0), first + i
            if done:
                self.pages[handle] = data[i * PAGE : (i + 1) * PAGE]
            elif handle in self.pages and not self.pool.flush_page(*handle):
                del self.pages[handle]          # refused: some are gone
            else:
                self.pages.pop(handle, None)
            self.doubtful.discard(handle)

    def get(self):
        handle = self.handle()
        free = self.rnd.random() < 0.1
        found = self.judge([handle], lambda: (self.pool.get(*handle, free=free),))
        if found is not None:
            assert found[0] == self.pages.get(handle)
            if free:
                self.pages.pop(handle, None)
                self.doubtful.discard(handle)

    def get_range(self):
        oid, first = self.rnd.randrange(OBJECTS), self.rnd.randrange(INDEXES - 4)
        handles = [((oid, 0, 0), first + i) for i in range(4)]
        free = self.rnd.random() < 0.1
        found = self.judge(handles, lambda: (self.pool.get_range((oid, 0, 0), first, 4, free=free),))
        if found is not None:
            whole = [self.pages.get(handle) for handle in handles]
            assert found[0] == (None if None in whole else b"".join(whole))
            if free and found[0] is not None:
                for handle in handles:
                    del self.pages[handle]

    def get_many(self):
        handles = [self.handle() for _ in range(30)]
        try:
            found, failed = self.pool.get_many(handles), []
        except engine.FarError as error:
            found, failed = error.pages, error.failed
            assert self.kind.deaf if type(error) is engine.FarUnavailable else self.doubtful & set(failed)
            assert self.kind.deaf or set(failed) <= self.doubtful
        for handle, page in zip(handles, found, strict=True):
            assert page == (None if handle in failed else self.pages.get(handle))

    def flush(self):
        handle = self.handle()
        assert self.pool.flush_page(*handle) == (handle in self.pages)
        self.pages.pop(handle, None)
        self.doubtful.discard(handle)

    def flush_object(self):
        oid = self.handle()[0]
        mine = [handle for handle in self.pages if handle[0] == oid]
        assert self.pool.flush_object(oid) == bool(mine)
        for handle in mine:
            del self.pages[handle]
            self.doubtful.discard(handle)

    def spill(self):
        self.pool.engine.tend() if self.rnd.random() < 0.2 else self.pool.engine.spill()

    def press(self):
        """Others want memory."""
        for _ in range(60):
            self.other.put((self.rnd.randrange(900), 1, 0), 0, self.data())

    def tier(self):
        """It does not answer for a while, or answers again; or it loses some."""
        act = self.rnd.random()
        if act < 0.5:
            self.kind.deaf = not self.kind.deaf and self.rnd.random() < 0.5
        elif act < 0.6 and self.kind.kept:
            for name in self.rnd.sample(sorted(self.kind.kept), min(10, len(self.kind.kept))):
                if self.rnd.random() < 0.5:
                    del self.kind.kept[name]
                else:
                    self.kind.kept[name] = os.urandom(len(self.kind.kept[name]))
            self.doubtful |= set(self.pages)

    def move(self):
        self.pool.engine.resize(self.rnd.choice(("2MiB", "3MiB")))


@pytest.mark.parametrize("seed", range(6))
def test_what_was_put_last_or_an_error(make_arena, monkeypatch, seed):
    kind = fresh_dict_tier(monkeypatch, durable=True)
    eng = make_arena(page_size=PAGE, capacity="2MiB", max_capacity="3MiB", huge_pages=False, shards=4)
    policy = ("s3fifo", "sieve", "clock", "fifo")[seed % 4]
    pool = eng.new_pool("p", far="dict:", persistent=True, far_persistent=True, policy=policy)
    run = Run(pool, kind, seed)
    acts = [run.put] * 40 + [run.get] * 30 + [run.put_range] * 4 + [run.get_range, run.get_many] * 3 + [
        run.flush] * 6 + [run.flush_object] + [run.spill] * 6 + [run.press] * 2 + [run.tier] * 2
    far = 0
    for step in range(6000):
        run.rnd.choice(acts)()
        if step % 500 == 499:
            try:
                run.move()
            except engine.TmemError as error:
                assert "persistent pages" in str(error) or "cannot" in str(error)
            report = eng.check()
            assert report.ok, [str(problem) for problem in report.problems[:4]]
            assert report.counts["far_lost"] <= len(run.doubtful)
        far = max(far, stats(pool)["far_pages"])
    assert far > 100 and stats(pool)["evicted"] == 0 and stats(pool)["pages"] == len(run.pages)
    kind.deaf = False
    for handle, data in run.pages.items():
        assert run.judge([handle], lambda handle=handle: pool.get(*handle)) in (data, None)

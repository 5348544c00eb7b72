"""Owns seeded runs of random puts of values, against a plain model of which pages go together.

The model has, of each page that is there, what it holds, whether it came with the page before it,
and a mark: pages of one mark lie in one shard. Pages next to each other that came together and have
the same mark are a run: what goes without being flushed goes by whole runs. Two workers act in
turn, under caps and with memory short.
"""
import random

import pytest

import engine
from tests.property.policies import MODELS
from tests.support import SMALL

PAGE = SMALL["page_size"]
OBJECTS, PLACES, LONGEST = 30, 60, 40


class Page:
    def __init__(self, data, prior, mark):
        self.data, self.prior, self.mark = data, prior, mark


class Values:
    """A pool as two workers see it, and what is in it."""

    def __init__(self, pools, base, rnd):
        self.pools, self.base, self.rnd = pools, base, rnd
        self.objects = {n: {} for n in range(OBJECTS)}
        self.marks = 0
        self.edges = set()          # of puts since the last look, the page behind

    @property
    def pool(self):
        return self.rnd.choice(self.pools)

    def content(self, pages):
        """A value whose last page may be shorter, and some of which are one word over and over."""
        if self.rnd.randrange(8) == 0:
            return b"the same" * (PAGE // 8) * pages
        return self.rnd.randbytes(pages * PAGE - self.rnd.randrange(PAGE))

    def put(self, n, index, pages):
        data = self.content(pages)
        single = pages == 1 and self.rnd.randrange(2)
        verb = self.pool.put if single else self.pool.put_range
        if not verb((n, 0, 0), self.base + index, data):
            for at in range(index, index + pages):
                self.objects[n].pop(at, None)
            return
        there = self.objects[n]
        self.edges.add((n, index + pages))
        self.marks += 1
        mark = self.marks
        for i in range(pages):
            content = data[i * PAGE:(i + 1) * PAGE]
            page = there.get(index + i)
            if page is None:
                page = there[index + i] = Page(content, i > 0, mark)
            elif page.prior is not (i > 0):
                page.prior = None       # it may have gone for this very put, and come anew
            page.data, mark = content, page.mark

    def get(self, n, index, pages):
        found = self.pool.get_range((n, 0, 0), self.base + index, pages, free=False)
        there = [self.objects[n].get(at) for at in range(index, index + pages)]
        assert found is None or found == b"".join(page.data for page in there)

    def flush(self, n, index):
        found = self.pool.flush_page((n, 0, 0), self.base + index)
        assert not found or index in self.objects[n]
        self.objects[n].pop(index, None)

    def look(self):
        """Take out of the model what has gone: of each run all pages or none. How many there
        are."""
        count = 0
        for n, there in self.objects.items():
            held = (self.pools[0].object_info((n, 0, 0)) or (0,))[0]
            count += held
            if held == len(there):
                continue            # gets would be hits
            found = {at: self.pools[0].get((n, 0, 0), self.base + at, free=False) for at in there}
            assert all(data in (None, there[at].data) for at, data in found.items())
            gone = {at for at, data in found.items() if data is None}
            for at in sorted(there):
                before = there.get(at - 1)
                if at in gone and (n, at) in self.edges:
                    # All went for a put over the first pages of it, which are new.
                    for other in there.values():
                        other.prior = None
                elif before is not None and there[at].prior and there[at].mark == before.mark:
                    assert (at in gone) == (at - 1 in gone), (n, at, sorted(there), sorted(gone))
            for at in gone:
                del there[at]
            assert held == len(there)
        self.edges.clear()
        return count


def press(kept, rnd):
    """Put persistent pages, or take some back."""
    first = rnd.randrange(40)
    for n in range(first * 16, first * 16 + 16):
        if rnd.randrange(2):
            kept.put((n, 0, 0), 0, rnd.randbytes(rnd.choice((PAGE, 100))))
        else:
            kept.flush_object((n, 0, 0))


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("policy", list(MODELS))
def test_values_are_there_as_wholes_or_not_at_all(make_arena, policy, shared):
    rnd = random.Random(f"{policy} {shared}")
    eng = make_arena(**{**SMALL, "capacity": "1MiB", "max_capacity": "2MiB"}, shards=4)
    with engine.attach(eng.name) as other:
        kept = eng.new_pool("kept", persistent=True)
        pools = []
        for name, base, cap, pam, dedup in (
            ("plain", 0, 0, "raw", False), ("capped", 2**64 - PLACES, 130, "raw", False),
            ("twins", 1 << 40, 0, "raw", True), ("packed", 62, 90, "lz4", True),
        ):
            made = eng.new_pool(name, policy=policy, cap=cap, pam=pam, dedup=dedup, shared=shared)
            pools.append(Values((made, other.pool(name)), base, rnd))
        for step in range(1500):
            values, n, index = rnd.choice(pools), rnd.randrange(OBJECTS), rnd.randrange(PLACES)
            verb = rnd.randrange(20)
            if verb < 8:
                values.put(n, index, rnd.randrange(1, min(LONGEST, PLACES - index) + 1))
            elif verb < 14:
                values.get(n, index, rnd.randrange(1, PLACES - index + 1))
            elif verb < 16:
                values.flush(n, index)
            elif verb == 16:
                press(kept, rnd)
            elif verb == 17 and step % 7 == 0:
                eng.resize(rnd.choice(("1MiB", "1280KiB", "2MiB")))
            elif verb == 18 and step % 7 == 0:
                assert eng.check(repair=rnd.randrange(2) == 0).ok
            with values.pool.view((n, 0, 0), values.base + index) as page:
                # While it is viewed, others come; what is viewed stays.
                if page is not None and rnd.randrange(3) == 0:
                    values.put((n + 1) % OBJECTS, 0, LONGEST)
                    assert index in values.objects[n] and page == values.objects[n][index].data
            counts = [one.look() for one in pools]
            stats = eng.stats()["pools"]
            assert counts == [stats[name]["pages"] for name in ("plain", "capped", "twins", "packed")]
            assert counts[1] <= 130 and counts[3] <= 90, counts
        assert eng.stats()["total"]["evicted"] > 1000 and eng.check().ok

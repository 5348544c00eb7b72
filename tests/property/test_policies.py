"""Owns the promise that the engine's policies are the published ones: with one shard they agree
with a plain reference to the last miss."""
import random

import pytest

from engine.eviction.policies import POLICIES
from tests.property.policies import MODELS


def zipf(rnd, pages, count):
    """Requests of which few pages get most, with a scan of new pages now and then."""
    weights = [1 / (rank + 1) ** 0.9 for rank in range(pages)]
    found = rnd.choices(range(pages), weights, k=count)
    for start in range(0, count, 900):
        found[start:start] = range(10 ** 6 + start, 10 ** 6 + start + 60)
    return found


def loop(rnd, pages, count):
    """Round and round, a little more than fits, which is where FIFO and CLOCK miss everything."""
    return [n % pages if rnd.random() < 0.9 else rnd.randrange(pages) for n in range(count)]


def shift(rnd, pages, count):
    """A working set that moves."""
    return [n // 40 + int(rnd.expovariate(1 / 25)) % pages for n in range(count)]


def test_every_policy_has_a_model():
    """And no model is of a policy that there is not; both count as many hits."""
    assert {name: row.hits for name, row in POLICIES.items()} == {name: one.hits_max for name, one in MODELS.items()}


@pytest.mark.parametrize("trace", [zipf, loop, shift])
@pytest.mark.parametrize("policy", list(POLICIES))
@pytest.mark.parametrize("frames", [1, 7, 50, 128])
def test_the_same_misses_as_the_reference(make_arena, policy, trace, frames):
    eng = make_arena(capacity="4MiB", shards=1)
    pool = eng.new_pool("p", shared=True, policy=policy, cap=frames)
    reference = MODELS[policy](frames)
    missed = 0
    for number, page in enumerate(trace(random.Random(5), 150, 5000)):
        oid, index = (page // 16, 0, 0), page % 16
        hit = pool.get(oid, index) is not None
        assert hit == reference.request(page), f"request {number}, page {page}"
        if not hit:
            missed += 1
            assert pool.put(oid, index, b"%d" % page)
    stats = eng.stats()["pools"]["p"]
    assert stats["gets_miss"] == missed and stats["pages"] == len(reference.hits) == frames
    assert stats["evicted"] == missed - frames
    report = eng.check()
    assert report.ok, report.problems[:3]
